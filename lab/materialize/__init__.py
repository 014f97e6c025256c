"""A Materialize on loopback: its protocol, its catalog, its refusals, and replicas that live."""

from lab.materialize.laboratory import LabMaterialize

__all__ = ["LabMaterialize"]
