"""The API server: objects over REST, watches, evictions, tokens, exec passed on to the kubelet."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Generator, Iterator
from typing import Any
from urllib.parse import urlsplit

from lab.kubernetes import pods
from lab.kubernetes.errors import ApiError, bad_request, invalid, not_found
from lab.kubernetes.kinds import BY_KIND, NAMESPACES, NODES, PODS, Kind
from lab.kubernetes.messages import Answer, Events, Reply, Request, Route, Tunnel, route
from lab.kubernetes.rights import Rights, User, Wanted
from lab.kubernetes.selectors import matcher
from lab.kubernetes.store import Json, Store

VERSION = "v1.35.4"

#: How often a quiet watch says where it stands.
BOOKMARK_EVERY_S = 60.0

_WATCH_S = 300.0
_KUBELET_WITHIN_S = 10.0
_HEAD_LIMIT = 65536


class LabApi:
    """Answers requests from the store."""

    def __init__(self, store: Store, rights: Rights) -> None:
        """Take what it answers from."""
        self._store = store
        self._rights = rights
        self.bookmark_every_s = BOOKMARK_EVERY_S

    def user(self, request: Request) -> str:
        """Who asks; '' for nobody known."""
        try:
            user = self._rights.user(request.headers.get("authorization", ""))
        except ApiError:
            return ""
        return user.name

    def answer(self, request: Request) -> Answer:
        """Answer a request; every refusal is a Status."""
        if request.path in {"/readyz", "/livez"}:
            return Reply(200, b"ok", {"Content-Type": "text/plain"})
        user = self._rights.user(request.headers.get("authorization", ""))
        if request.path == "/version":
            return Reply.of({"major": "1", "minor": "35", "gitVersion": VERSION})
        at = route(request)
        wanted = at.wanted(request)
        if at.resource == "selfsubjectaccessreviews":
            return self._review(user, request.document())
        self._rights.check(user, wanted)
        if at.subresource:
            return self._subresource(user, at, request)
        if at.kind is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        match wanted.verb:
            case "get":
                return Reply.of(self._store.get(at.kind.key, at.namespace, at.name))
            case "list":
                return self._list(at.kind, at, request)
            case "watch":
                return self._watch(at.kind, at, request)
            case "create":
                return self._create(at.kind, at, request)
            case "update" | "patch":
                return self._update(at.kind, at, request)
            case "delete":
                return self._delete(at.kind, at, request)
        raise bad_request(f"no {request.method} here")

    # --- objects ----------------------------------------------------------------------------------

    def _list(self, kind: Kind, at: Route, request: Request) -> Reply:
        matches = matcher(request.parameter("labelSelector"), request.parameter("fieldSelector"))
        store = self._store
        with store.lock:
            items = store.all(kind.key, at.namespace, matches)
            version = str(store.version)
        meta: Json = {"resourceVersion": version}
        limit, start = int(request.parameter("limit") or 0), 0
        if token := request.parameter("continue"):
            version, _, text = token.partition(".")
            if store.is_forgotten(int(version)):
                raise ApiError(410, "Expired", "The provided continue parameter is too old")
            start = int(text)
        if limit and len(items) > start + limit:
            meta["continue"] = f"{version}.{start + limit}"
            meta["remainingItemCount"] = len(items) - start - limit
        items = items[start : start + limit] if limit else items[start:]
        return Reply.of(
            {
                "kind": f"{kind.kind}List",
                "apiVersion": kind.api_version,
                "metadata": meta,
                "items": items,
            }
        )

    def _watch(self, kind: Kind, at: Route, request: Request) -> Events:
        fields = request.parameter("fieldSelector")
        matches = matcher(request.parameter("labelSelector"), fields)
        text = request.parameter("resourceVersion")
        version = int(text) if text not in {"", "0"} else None
        if version is not None:
            self._store.refuse_future(version)
        seconds = float(request.parameter("timeoutSeconds") or _WATCH_S)
        bookmarks = request.parameter("allowWatchBookmarks") == "true"
        events = self._store.follow(
            kind.key,
            at.namespace,
            version,
            matches,
            ends_at=time.monotonic() + seconds,
            bookmark_every_s=self.bookmark_every_s if bookmarks else float("inf"),
        )
        return Events(_lines(events))

    def _create(self, kind: Kind, at: Route, request: Request) -> Reply:
        item = request.document()
        meta = item.setdefault("metadata", {})
        if kind.namespaced:
            if meta.setdefault("namespace", at.namespace) != at.namespace:
                raise bad_request("the namespace of the object does not match the request")
            if self._store.find(NAMESPACES, "", at.namespace) is None:
                raise not_found("namespaces", at.namespace)
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise invalid("name or generateName is required")
            meta["name"] = f"{meta['generateName']}{time.time_ns():x}"
        if _is_dry(request):
            return Reply.of(item, 201)
        return Reply.of(self._store.create(kind.key, item), 201)

    def _update(self, kind: Kind, at: Route, request: Request) -> Reply:
        given = request.document()
        with self._store.lock:
            before = self._store.get(kind.key, at.namespace, at.name)
            after = _merged(before, given) if request.method == "PATCH" else given
            expected = (given.get("metadata") or {}).get("resourceVersion")
            uid = (given.get("metadata") or {}).get("uid")
            after["metadata"]["uid"] = uid or before["metadata"]["uid"]
            # The status is another subresource's, and the spec's number goes up with it.
            after["status"] = before.get("status") or {}
            if after.get("spec") != before.get("spec"):
                number = int(before["metadata"].get("generation") or 1)
                after["metadata"]["generation"] = number + 1
            if _is_dry(request):
                return Reply.of(after)
            return Reply.of(self._store.update(kind.key, after, expected=expected))

    def _delete(self, kind: Kind, at: Route, request: Request) -> Reply:
        if not at.name:
            raise bad_request("the lab deletes one object at a time")
        options = request.document()
        if text := request.parameter("gracePeriodSeconds"):
            options["gracePeriodSeconds"] = int(text)
        if _is_dry(request):
            options["dryRun"] = ["All"]
        item = self._store.get(kind.key, at.namespace, at.name)
        return Reply.of(pods.delete(self._store, kind.key, item, options))

    # --- beside objects ---------------------------------------------------------------------------

    def _subresource(self, user: User, at: Route, request: Request) -> Answer:
        if at.kind is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        match (at.resource, at.subresource):
            case ("pods", "exec"):
                return self._exec(user, at, request)
            case ("pods", "eviction"):
                dry = _is_dry(request)
                pods.evict(self._store, at.namespace, at.name, request.document(), dry=dry)
                return Reply.of({"kind": "Status", "apiVersion": "v1", "status": "Success"}, 201)
            case ("serviceaccounts", "token"):
                return self._token(at, request)
            case (_, "status"):
                return self._status(at.kind, at, request)
        raise ApiError(404, "NotFound", "the server could not find the requested resource")

    def _status(self, kind: Kind, at: Route, request: Request) -> Reply:
        given = request.document()
        with self._store.lock:
            if request.method == "GET":
                return Reply.of(self._store.get(kind.key, at.namespace, at.name))
            item = self._store.get(kind.key, at.namespace, at.name)
            meta = given.get("metadata") or {}
            item["metadata"]["uid"] = meta.get("uid") or item["metadata"]["uid"]
            before, news = item.get("status") or {}, given.get("status") or {}
            item["status"] = _merged(before, news) if request.method == "PATCH" else news
            saved = self._store.update(kind.key, item, expected=meta.get("resourceVersion"))
            return Reply.of(saved)

    def _token(self, at: Route, request: Request) -> Reply:
        self._store.get(BY_KIND["ServiceAccount"].key, at.namespace, at.name)
        seconds = (request.document().get("spec") or {}).get("expirationSeconds") or 3600
        name = f"system:serviceaccount:{at.namespace}:{at.name}"
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{at.namespace}")
        token = self._rights.token(User(name, groups), float(seconds))
        return Reply.of(
            {
                "kind": "TokenRequest",
                "apiVersion": "authentication.k8s.io/v1",
                "metadata": {"name": at.name, "namespace": at.namespace},
                "status": {"token": token, "expirationTimestamp": None},
            },
            201,
        )

    def _review(self, user: User, document: dict[str, Any]) -> Reply:
        asked = (document.get("spec") or {}).get("resourceAttributes") or {}
        resource = asked.get("resource", "")
        if asked.get("subresource"):
            resource += f"/{asked['subresource']}"
        wanted = Wanted(
            asked.get("verb", ""),
            asked.get("group", ""),
            resource,
            asked.get("namespace", ""),
            asked.get("name", ""),
        )
        return Reply.of({**document, "status": {"allowed": self._rights.allows(user, wanted)}}, 201)

    def _exec(self, user: User, at: Route, request: Request) -> Tunnel:
        # A WebSocket begins as a GET; since 1.35 it takes `create` as well, and is refused without
        # a word (seen live).
        wanted = Wanted("create", "", "pods/exec", at.namespace, at.name)
        if not self._rights.allows(user, wanted):
            raise ApiError(403, "Forbidden", f'pods "{at.name}" is forbidden: ')
        pod = self._store.get(PODS, at.namespace, at.name)
        containers = [each["name"] for each in pod["spec"]["containers"]]
        container = request.parameter("container") or containers[0]
        if container not in containers:
            raise bad_request(f"container {container} is not valid for pod {at.name}")
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {at.name} does not have a host assigned")
        node = self._store.find(NODES, "", pod["spec"]["nodeName"]) or {}
        endpoint = ((node.get("status") or {}).get("daemonEndpoints") or {}).get("kubeletEndpoint")
        if not endpoint:
            raise ApiError(500, "InternalError", f"no kubelet on {pod['spec']['nodeName']}")
        query = urlsplit(request.target).query
        path = f"/exec/{at.namespace}/{at.name}/{container}?{query}"
        return _dial(int(endpoint["Port"]), path, request)


def _dial(port: int, path: str, request: Request) -> Tunnel:
    """Pass a handshake on to the kubelet, and return what it answered."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [
        f"{name}: {value}"
        for name, value in request.headers.items()
        if name not in {"authorization", "host"}
    ]
    try:
        kubelet = socket.create_connection(("127.0.0.1", port), _KUBELET_WITHIN_S)
        try:
            kubelet.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            head = read_head(kubelet)
        except BaseException:
            kubelet.close()
            raise
    except OSError as error:
        why = f"error dialing backend: dial tcp 127.0.0.1:{port}: {error.strerror or error}"
        raise ApiError(500, "InternalError", why) from error
    kubelet.settimeout(None)
    return Tunnel(kubelet, head)


def read_head(sock: socket.socket) -> bytes:
    """Return an answer's head, and what already came behind it."""
    found = b""
    while b"\r\n\r\n" not in found:
        chunk = sock.recv(4096)
        if not chunk or len(found) > _HEAD_LIMIT:
            raise OSError("it hung up before it answered")
        found += chunk
    return found


def _lines(events: Iterator[Json]) -> Generator[bytes]:
    """Events as a watch has them; what ends it early is its last one."""
    try:
        for event in events:
            yield json.dumps(event).encode() + b"\n"
    except ApiError as error:
        yield json.dumps({"type": "ERROR", "object": error.body}).encode() + b"\n"
    finally:
        with contextlib.suppress(Exception):
            events.close()  # type: ignore[attr-defined]


def _merged(before: Any, change: Any) -> Any:
    """A merge patch: objects by key, null removes, everything else is replaced."""
    if not isinstance(change, dict) or not isinstance(before, dict):
        return change
    found = dict(before)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key, {} if isinstance(value, dict) else None), value)
    return found


def _is_dry(request: Request) -> bool:
    return "All" in request.query.get("dryRun", [])
