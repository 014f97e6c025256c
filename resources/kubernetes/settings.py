"""Which Kubernetes, and who we are there, as the environment says it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from caretaker.errors import InvalidSettingError, RefusedError

KUBECONFIG = "KUBECONFIG"
CONTEXT = "CARETAKER_KUBE_CONTEXT"

#: Where kubectl looks when it is told nothing.
DEFAULT_KUBECONFIG = "~/.kube/config"

#: What a token may not have: as a header it would be two, or none at all.
_NOT_IN_A_TOKEN = re.compile(r"[^\x21-\x7e]")

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """How to reach one Kubernetes cluster.

    Attributes:
        kubeconfig: The text of `KUBECONFIG`: one path, or several with ':' between them.
        context: '' for the file's current one.
        context_from: What said so, to be named where there is no such context.
        namespace: '' for the context's own, else 'default'.
        request_timeout_s: From the first byte sent to the last received, however it drips.
        watch_idle_s: A watch that says nothing for so long is taken for dead; the API server sends
            a bookmark once a minute.
    """

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    request_timeout_s: float = 30.0
    watch_idle_s: float = 75.0
    context_from: str = CONTEXT

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, namespace: str = ""
    ) -> KubernetesSettings:
        """Read the variables; whether they lead anywhere is seen when they are used.

        >>> KubernetesSettings.from_environment({"CARETAKER_KUBE_CONTEXT": "prod"}).context
        'prod'
        """
        return cls(
            kubeconfig=environ.get(KUBECONFIG, "").strip(),
            context=environ.get(CONTEXT, "").strip(),
            namespace=namespace,
        )


@dataclass(frozen=True, slots=True)
class Access:
    """A way in.

    Attributes:
        context: Its name; 'in-cluster' for a pod's own service account.
    """

    configuration: Any
    context: str
    namespace: str


def open_access(settings: KubernetesSettings) -> Access:
    """Load credentials, without a request; InvalidSettingError names what cannot work.

    In-cluster credentials count where neither a file nor a context is named and there are some.
    """
    client, config = _official()
    # Always a Configuration of our own: a copied default one keeps the hook of another
    # kubeconfig, and with it the other user's token (seen live).
    configuration = client.Configuration()
    if not settings.kubeconfig and not settings.context and _in_a_pod():
        return _in_cluster(settings, configuration)
    files = settings.kubeconfig or str(Path(DEFAULT_KUBECONFIG).expanduser())
    _refuse_missing(settings, files)
    name, namespace = _context(settings, files)
    try:
        config.load_kube_config(
            files, context=name, client_configuration=configuration, persist_config=False
        )
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(files, error) from error
    _own(configuration, KUBECONFIG, files, f"a token for context {name}")
    return Access(configuration, name, settings.namespace or namespace or "default")


def _official() -> tuple[Any, Any]:
    """The official client, imported by whoever needs it: that takes two seconds."""
    from kubernetes import client, config  # noqa: PLC0415

    return client, config


def _in_a_pod() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_SERVICE_ACCOUNT / "token").exists()


def _in_cluster(settings: KubernetesSettings, configuration: Any) -> Access:
    _, config = _official()
    try:
        config.load_incluster_config(client_configuration=configuration)
        own = (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    except (config.ConfigException, OSError) as error:
        raise RefusedError(
            f"this pod's service account cannot be used: {error}", target="in-cluster"
        ) from error
    _own(configuration, "in-cluster", str(_SERVICE_ACCOUNT / "token"), "a token")
    return Access(configuration, "in-cluster", settings.namespace or own or "default")


def _own(configuration: Any, key: str, origin: str, what: str) -> None:
    """Make a configuration ours; InvalidSettingError where its token cannot be sent."""
    # urllib3 would send a DELETE again by itself when its answer is lost.
    configuration.retries = False
    read_anew = configuration.refresh_api_key_hook

    def refresh(found: Any) -> None:
        if read_anew is not None:
            read_anew(found)
        for name, header in found.api_key.items():
            scheme, _, token = header.partition(" ")
            # A block in YAML and a file that was pasted end with a line break.
            token = token.removesuffix("\n").removesuffix("\r")
            if _NOT_IN_A_TOKEN.search(token):
                expected = f"{what} without blanks or control characters"
                raise InvalidSettingError(key, origin, expected)
            found.api_key[name] = f"{scheme} {token}"
        # The official one sets itself again.
        found.refresh_api_key_hook = refresh

    refresh(configuration)


def _refuse_missing(settings: KubernetesSettings, files: str) -> None:
    paths = [path for path in files.split(os.pathsep) if path]
    if any(Path(path).expanduser().is_file() for path in paths):
        return
    if settings.kubeconfig:
        raise InvalidSettingError(KUBECONFIG, settings.kubeconfig, "a kubeconfig file that exists")
    raise InvalidSettingError(
        KUBECONFIG,
        None,
        f"a kubeconfig file (there is no {DEFAULT_KUBECONFIG} either, and this is no pod)",
    )


def _context(settings: KubernetesSettings, files: str) -> tuple[str, str]:
    """Return the context's name and its namespace."""
    _, config = _official()
    try:
        contexts, current = config.list_kube_config_contexts(files)
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as e:
        raise _broken(files, e) from e
    known = {each["name"]: each for each in contexts}
    if not settings.context:
        return str(current["name"]), str(current["context"].get("namespace") or "")
    if settings.context not in known:
        allowed = f"one of the contexts in {files}: {', '.join(sorted(known)) or 'none'}"
        raise InvalidSettingError(settings.context_from, settings.context, allowed)
    return settings.context, str(known[settings.context]["context"].get("namespace") or "")


def _broken(files: str, error: Exception) -> InvalidSettingError:
    said = " ".join(str(error).split()).rstrip(".")
    return InvalidSettingError(KUBECONFIG, files, f"a kubeconfig that can be used ({said:.200})")
