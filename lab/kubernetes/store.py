"""What the API server remembers: objects, their versions, and what happened lately."""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from lab.kubernetes.errors import ApiError, conflict, expired, not_found
from lab.kubernetes.kinds import BY_KEY
from lab.kubernetes.selectors import Match

Json = dict[str, Any]
Key = tuple[str, str]
_T = TypeVar("_T")

#: Changes that a watch may still ask for.
_REMEMBERED = 2000


def stamp(seconds: float | None = None) -> str:
    """A time as metadata has it: whole seconds, UTC."""
    at = time.time() if seconds is None else seconds
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Change:
    """One change: `before` is None for a new object, `after` for one that is gone."""

    version: int
    key: Key
    before: Json | None
    after: Json | None

    def event(self, matches: Match) -> Json | None:
        """What a watch with this selector is told; None for nothing."""
        was = self.before is not None and matches(self.before)
        now = self.after is not None and matches(self.after)
        if now:
            return {"type": "MODIFIED" if was else "ADDED", "object": self.after}
        if was and self.before is not None:
            last = _copy(self.after or self.before)
            last["metadata"]["resourceVersion"] = str(self.version)
            return {"type": "DELETED", "object": last}
        return None


class Store:
    """Objects by kind, namespace and name. What is returned is a copy."""

    def __init__(self) -> None:
        """Begin empty."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 1
        self._objects: dict[Key, dict[tuple[str, str], Json]] = {key: {} for key in BY_KEY}
        self._history: deque[Change] = deque(maxlen=_REMEMBERED)
        self._forgotten = 0
        #: Watches of an older epoch end: the API server was restarted, or said goodbye.
        self.epoch = 0

    # --- reading ----------------------------------------------------------------------------------

    def get(self, key: Key, namespace: str, name: str) -> Json:
        """Return one object, or raise 404."""
        with self.lock:
            found = self._objects[key].get((namespace, name))
            if found is None:
                raise not_found(key[1], name)
            return _copy(found)

    def find(self, key: Key, namespace: str, name: str) -> Json | None:
        """Return one object, or None."""
        with self.lock:
            return _copy(self._objects[key].get((namespace, name)))

    def all(self, key: Key, namespace: str = "", matches: Match | None = None) -> list[Json]:
        """Return the objects of a namespace ('': of all), by name."""
        with self.lock:
            found = [
                item
                for (where, _), item in sorted(self._objects[key].items())
                if (not namespace or where == namespace) and (matches is None or matches(item))
            ]
            return _copy(found)

    # --- writing ----------------------------------------------------------------------------------

    def create(self, key: Key, item: Json) -> Json:
        """Add an object; 409 where there is one of that name."""
        kind = BY_KEY[key]
        with self.lock:
            meta = item.setdefault("metadata", {})
            namespace = meta.get("namespace", "") if kind.namespaced else ""
            at = (namespace, meta["name"])
            if at in self._objects[key]:
                reason = f'{key[1]} "{meta["name"]}" already exists'
                raise ApiError(409, "AlreadyExists", reason)
            item = _copy(item)
            item["apiVersion"], item["kind"] = kind.api_version, kind.kind
            meta = item["metadata"]
            meta["uid"] = str(uuid.uuid4())
            meta["creationTimestamp"] = stamp()
            meta.setdefault("generation", 1)
            return self._put(key, at, None, item)

    def update(self, key: Key, item: Json, *, expected: str | None = None) -> Json:
        """Put an object in the place of its older self; 409 where that is not `expected`."""
        kind = BY_KEY[key]
        with self.lock:
            meta = item["metadata"]
            at = (meta.get("namespace", "") if kind.namespaced else "", meta["name"])
            before = self._objects[key].get(at)
            if before is None:
                raise not_found(key[1], meta["name"])
            if meta.get("uid") not in {None, before["metadata"]["uid"]}:
                why = (
                    f"Precondition failed: UID in precondition: {meta['uid']}, "
                    f"UID in object meta: {before['metadata']['uid']}"
                )
                raise conflict(key[1], meta["name"], why)
            if expected and expected != before["metadata"]["resourceVersion"]:
                why = (
                    "the object has been modified; please apply your changes to the latest "
                    "version and try again"
                )
                raise conflict(key[1], meta["name"], why)
            item = _copy(item)
            for name in ("uid", "creationTimestamp"):
                item["metadata"][name] = before["metadata"][name]
            if {**item, "metadata": {**item["metadata"], "resourceVersion": ""}} == {
                **before,
                "metadata": {**before["metadata"], "resourceVersion": ""},
            }:
                return _copy(before)
            if item["metadata"].get("deletionTimestamp") and _is_over(key, item):
                self._drop(key, at, item)
                return item
            return self._put(key, at, before, item)

    def remove(self, key: Key, namespace: str, name: str) -> None:
        """Take an object away, whatever it says."""
        with self.lock:
            item = self._objects[key].get((namespace, name))
            if item is not None:
                self._drop(key, (namespace, name), item)

    def _put(self, key: Key, at: tuple[str, str], before: Json | None, item: Json) -> Json:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self._objects[key][at] = item
        self._note(Change(self.version, key, before, item))
        return _copy(item)

    def _drop(self, key: Key, at: tuple[str, str], item: Json) -> None:
        self._objects[key].pop(at, None)
        self.version += 1
        self._note(Change(self.version, key, item, None))

    def _note(self, change: Change) -> None:
        if len(self._history) == self._history.maxlen:
            self._forgotten = self._history[0].version
        self._history.append(change)
        self.changed.notify_all()

    # --- watching ---------------------------------------------------------------------------------

    def compact(self) -> None:
        """Forget what happened: watches that go on from before meet 410."""
        with self.lock:
            self._history.clear()
            # Something has happened meanwhile, elsewhere: who was up to date is no more.
            self.version += 1
            self._forgotten = self.version

    def end_watches(self) -> None:
        """Let every watch end."""
        with self.lock:
            self.epoch += 1
            self.changed.notify_all()

    def refuse_future(self, version: int) -> None:
        """Raise 504 for a version that is still to come: another history's."""
        with self.lock:
            if version > self.version:
                why = f"Too large resource version: {version}, current: {self.version}"
                raise ApiError(504, "Timeout", why)

    def is_forgotten(self, version: int) -> bool:
        """Return whether what came after `version` is not known any more."""
        with self.lock:
            return version < self._forgotten

    def follow(
        self,
        key: Key,
        namespace: str,
        since: int | None,
        matches: Match,
        *,
        ends_at: float,
        bookmark_every_s: float,
    ) -> Iterator[Json]:
        """Yield the events after version `since`; without one, all objects first."""
        with self.lock:
            epoch = self.epoch
            first = []
            if since is None:
                first = self.all(key, namespace, matches)
                since = self.version
            elif since < self._forgotten:
                raise expired(f"too old resource version: {since} ({self._forgotten})")
        yield from ({"type": "ADDED", "object": item} for item in first)
        bookmark_at = time.monotonic() + bookmark_every_s
        while True:
            with self.lock:
                left = min(ends_at, bookmark_at) - time.monotonic()
                if self.version <= since and self.epoch == epoch and left > 0:
                    self.changed.wait(left)
                if self.epoch != epoch:
                    return
                if since < self._forgotten:
                    raise expired(f"too old resource version: {since} ({self._forgotten})")
                news = [each for each in self._history if each.version > since]
                since = self.version
                events = [
                    event
                    for each in news
                    if each.key == key and _is_in(each, namespace)
                    if (event := each.event(matches)) is not None
                ]
                events = _copy(events)
            yield from events
            if time.monotonic() >= bookmark_at:
                bookmark_at = time.monotonic() + bookmark_every_s
                yield _bookmark(key, since)
            if time.monotonic() >= ends_at:
                return

    def subscribe(self, key: Key, stopped: Callable[[], bool]) -> Iterator[None]:
        """Yield whenever objects of this kind may have changed, and at least every half second."""
        since = -1
        while not stopped():
            with self.lock:
                if self.version <= since:
                    self.changed.wait(0.5)
                since = self.version
            yield
        del key


def _copy(items: _T) -> _T:
    """A copy of JSON, four times as fast as copy.deepcopy: a hundred pods are listed often."""
    copied: _T = pickle.loads(pickle.dumps(items, pickle.HIGHEST_PROTOCOL))  # noqa: S301 - our own
    return copied


def _is_in(change: Change, namespace: str) -> bool:
    item = change.after or change.before or {}
    return not namespace or item["metadata"].get("namespace", "") == namespace


def _bookmark(key: Key, version: int) -> Json:
    kind = BY_KEY[key]
    meta = {"resourceVersion": str(version), "creationTimestamp": None}
    item = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
    return {"type": "BOOKMARK", "object": item}


def _is_over(key: Key, item: Json) -> bool:
    """Whether nothing keeps a deleted object any more."""
    if item["metadata"].get("finalizers"):
        return False
    return key[1] != "pods" or item["metadata"].get("deletionGracePeriodSeconds") == 0
