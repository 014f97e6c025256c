"""Requests to one API server: reads are repeated where that helps, changes are sent once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from caretaker.backoff import exponential
from caretaker.errors import CaretakerError, TransientError
from resources.kubernetes.answers import BusyError, ExpiredError, cause_of, meaning
from resources.kubernetes.rights import Need
from resources.kubernetes.settings import KubernetesSettings, open_access
from resources.kubernetes.transport import Patience, StoppedError, Wire

#: A read is tried so often; each try has the whole request time-out.
_TRIES = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0

#: However long a busy API server asks to be left alone.
_LONGEST_RETRY_AFTER_S = 10.0

#: Objects on a page; a page is one answer of the API server.
_PAGE = "500"


class Requests:
    """Who we are, where, and what became of each request."""

    def __init__(
        self, settings: KubernetesSettings, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Load credentials; nothing is sent. InvalidSettingError names what cannot work."""
        self.settings = settings
        self.access = open_access(settings)
        self.wire = Wire(self.access.configuration)
        self.host = str(self.access.configuration.host)
        self._sleep = sleep
        #: How many requests were sent, for whoever counts.
        self.sent = 0

    def close(self) -> None:
        """Close the connections that were kept."""
        self.wire.close()

    def get(
        self, need: Need, path: str, *, query: Mapping[str, str] | None = None, target: str = ""
    ) -> Any:
        """Return what is at `path`, tried again while that may help."""
        pauses = exponential(_TRIES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S, random.random)
        while True:
            try:
                return self._ask(need, "GET", path, target, query=query)
            except ExpiredError:
                raise
            except TransientError as error:
                pause = next(pauses, None)
                if pause is None:
                    raise
                after = error.retry_after_s if isinstance(error, BusyError) else None
                self._sleep(pause if after is None else min(after, _LONGEST_RETRY_AFTER_S))

    def objects(
        self, need: Need, path: str, *, query: Mapping[str, str] | None = None
    ) -> tuple[list[Any], str]:
        """Return all objects at `path`, and the version from which a watch goes on."""
        for last in (False, False, True):
            try:
                return self._pages(need, path, dict(query or {}))
            except ExpiredError:
                # The list has changed too much while its pages were read.
                if last:
                    raise
        raise AssertionError  # pragma: no cover

    def _pages(self, need: Need, path: str, query: dict[str, str]) -> tuple[list[Any], str]:
        items: list[Any] = []
        query["limit"] = _PAGE
        while True:
            page = self.get(need, path, query=query)
            items += page.get("items") or []
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return items, str(page["metadata"].get("resourceVersion") or "")

    def change(
        self,
        need: Need,
        method: str,
        path: str,
        body: Mapping[str, Any],
        *,
        target: str,
        query: Mapping[str, str] | None = None,
        just_before: Callable[[], None] = lambda: None,
        changes: bool = True,
    ) -> Any:
        """Send what changes something, once. What `just_before` raises passes; nothing is sent."""
        just_before()
        return self._ask(need, method, path, target, query=query, body=body, changes=changes)

    def _ask(
        self,
        need: Need,
        method: str,
        path: str,
        target: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        changes: bool = False,
    ) -> Any:
        patience = Patience(self.settings.request_timeout_s)
        self.sent += 1
        try:
            return self.wire.ask(method, path, patience, query=query, body=body)
        except CaretakerError:
            raise
        except Exception as error:  # noqa: BLE001 - told as what it means
            where = target or path
            told = meaning(error, need, where, host=self.host, changes=changes)
            raise told from cause_of(error)

    def lines(
        self,
        need: Need,
        path: str,
        patience: Patience,
        *,
        query: Mapping[str, str],
        on_open: Callable[[], None] = lambda: None,
    ) -> Generator[bytes]:
        """Yield the lines of an answer as they come; ends when the API server ends it.

        `on_open` is called when the answer has begun, which may be long before its first line.
        """
        self.sent += 1
        try:
            with self.wire.opened("GET", path, patience, query=query) as response:
                on_open()
                rest = b""
                for chunk in response.stream(decode_content=True):
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from (line for line in whole if line)
        except (CaretakerError, StoppedError, GeneratorExit):
            raise
        except Exception as error:
            stopped = _stopped(error)
            if stopped is not None:
                raise stopped from error
            told = meaning(error, need, path, host=self.host, changes=False)
            raise told from cause_of(error)


def _stopped(error: BaseException) -> StoppedError | None:
    """urllib3 wraps what a read raises."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, StoppedError):
            return link
        link = link.__cause__ or link.__context__
    return None
