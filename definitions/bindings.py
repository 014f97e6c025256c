"""Resources, bound to the environment by name: no secret is ever written down by Dagster."""

from __future__ import annotations

from resources.cratedb.resource import CrateDBResource
from resources.kubernetes.resource import KubernetesResource
from resources.materialize.resource import MaterializeResource
from resources.mongodb.resource import MongoDBResource
from resources.mysql.resource import MySQLResource
from resources.state_store.resource import StateStoreResource


def resources() -> dict[str, object]:
    """Return every resource under the name that ops ask for."""
    return {
        "cratedb": CrateDBResource.from_variables(),
        "kubernetes": KubernetesResource.from_variables(),
        "materialize": MaterializeResource.from_variables(),
        "mysql": MySQLResource.from_variables(),
        "mongodb": MongoDBResource.from_variables(),
        "state": StateStoreResource.from_variables(),
    }
