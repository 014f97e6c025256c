"""A list that stays as it is now: listed once, then watched, through whatever ends a watch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson

from caretaker.backoff import doubling
from caretaker.errors import CaretakerError, RefusedError, TransientError
from resources.clock import monotonic
from resources.kubernetes.answers import GONE, ExpiredError
from resources.kubernetes.requests import Requests
from resources.kubernetes.rights import need
from resources.kubernetes.transport import Patience, StoppedError

#: The API server ends a watch after so long, and it is asked for again where it ended.
_WATCH_S = 290

#: Between two tries at an API server that does not answer.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

#: How often a watch is asked for where it ended before the list is.
_TRIES_FROM_THERE = 2

_ENDS_WITHIN_S = 10.0

#: Deleted objects that are kept for whoever asks how they ended.
_GONE_KEPT = 100


@dataclass(frozen=True, slots=True)
class Listing:
    """What is followed.

    Attributes:
        resource: For the rights that it takes: 'pods'.
        query: Selectors.
    """

    path: str
    resource: str
    namespace: str
    query: Mapping[str, str]


class Follower:
    """Keeps the objects of one listing current in a thread of its own, until `stop`.

    A watch that is dropped goes on where it was; one that met 410 Gone, or an API server that came
    back with another history, begins with a new list. One that was never granted is raised to
    whoever looks; one that is refused after it had worked (a token between two, an authorizer that
    hiccups) is asked for again, and meanwhile the list is read when it has grown old.
    """

    def __init__(
        self, requests: Requests, listing: Listing, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """Take what to follow; `start` begins."""
        self._requests = requests
        self._listing = listing
        self._on_change = on_change
        self._lock = threading.Lock()
        self._items: dict[str, Any] = {}
        self._gone: deque[Any] = deque(maxlen=_GONE_KEPT)
        self._heard_at = float("-inf")
        self._listed_at = self._at = 0
        self._stopped = threading.Event()
        self._worked = False
        self._refused: RefusedError | None = None
        self.lists = 0
        self.watches = 0
        self._thread = threading.Thread(
            target=self._run, name=f"follow-{listing.resource}", daemon=True
        )

    def start(self) -> None:
        """Begin, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End it; returns when the thread has ended."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_ENDS_WITHIN_S)

    def items(self, max_age_s: float) -> list[Any]:
        """Return the objects; listed anew where nothing was heard for `max_age_s`.

        TransientError where the API server cannot be reached, RefusedError where it says no.
        """
        if (refused := self._refused) is not None:
            raise refused
        if monotonic() - self._heard_at > max_age_s:
            self.look()
        with self._lock:
            return list(self._items.values())

    def gone(self) -> list[Any]:
        """Return the last objects that were deleted under the watch, as they were in the end."""
        with self._lock:
            return list(self._gone)

    def look(self) -> None:
        """List now, in the caller's thread."""
        items, version = self._list()
        with self._lock:
            # Only where the watch is not further already: it would know better.
            if _number(version) >= self._at:
                self._take(items, version)

    def _list(self) -> tuple[list[Any], str]:
        at = self._listing
        self.lists += 1
        return self._requests.objects(
            need("list", at.resource, at.namespace), at.path, query=at.query
        )

    def _take(self, items: list[Any], version: str) -> None:
        self._items = {each["metadata"]["name"]: each for each in items}
        self._heard_at = monotonic()
        self._listed_at = self._at = _number(version)

    def _run(self) -> None:
        pauses = doubling(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        version, failures = "", 0
        while not self._stopped.is_set():
            try:
                if not version:
                    items, version = self._list()
                    with self._lock:
                        self._take(items, version)
                    self._on_change()
                for seen in self._watch(version):
                    version, failures = seen, 0
                    pauses = doubling(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            except ExpiredError:
                version = ""
                self._stopped.wait(next(pauses))
            except StoppedError:
                return
            except RefusedError as error:
                if not self._worked:
                    self._refused = error
                    self._on_change()
                version = ""
                self._stopped.wait(_LONGEST_PAUSE_S)
            except CaretakerError:
                failures += 1
                if failures >= _TRIES_FROM_THERE:
                    # An API server with another history answers 504 to a version of the future.
                    version = ""
                self._stopped.wait(next(pauses))

    def _watch(self, version: str) -> Iterator[str]:
        """Follow from `version`, and yield where it has come to."""
        at = self._listing
        self.watches += 1
        settings = self._requests.settings
        patience = Patience(settings.watch_idle_s, self._stopped, idle=True)
        query = {
            **at.query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_S),
        }
        wanted = need("watch", at.resource, at.namespace)
        with closing(
            self._requests.lines(
                wanted, at.path, patience, query=query, on_open=self._watch_is_open
            )
        ) as lines:
            for line in lines:
                version = self._apply(line, version)
                yield version

    def _watch_is_open(self) -> None:
        self._worked = True
        if self._refused is not None:
            self._refused = None
            self._on_change()

    def _apply(self, line: bytes, version: str) -> str:
        try:
            event = orjson.loads(line)
            kind, item = event["type"], event["object"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise TransientError(f"a watch said {line[:80]!r}") from None
        if kind == "ERROR":
            text = str(item.get("message") or item)
            # Whatever it is, a new list is the way on: 410, or 500 "too old", or a lost history.
            if item.get("code") == GONE or item.get("reason") == "Expired":
                raise ExpiredError(text)
            raise ExpiredError(text) if version else TransientError(text)
        meta = item["metadata"]
        with self._lock:
            self._heard_at = monotonic()
            if _number(meta["resourceVersion"]) <= self._listed_at:
                # A list that was read meanwhile knows better.
                return str(meta["resourceVersion"])
            self._at = _number(meta["resourceVersion"])
            if kind == "DELETED":
                known = self._items.get(meta["name"])
                if known is not None and known["metadata"]["uid"] == meta["uid"]:
                    del self._items[meta["name"]]
                self._gone.append(item)
            elif kind != "BOOKMARK":
                self._items[meta["name"]] = item
        if kind != "BOOKMARK":
            self._on_change()
        return str(meta["resourceVersion"])


def _number(version: str) -> int:
    """A resource version, to be compared; they are decimal numbers."""
    return int(version) if version.isdecimal() else 0
