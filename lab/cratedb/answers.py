"""What a statement is answered with: a result, or one of CrateDB's errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# The HTTP status follows from the first three digits of the code, with one exception:
# 5031 and its family are 503, every other 5xxx is 500 (HttpErrorStatus.java).
_STATUS_OF_FAMILY = {
    400: 400,
    401: 401,
    403: 403,
    404: 404,
    409: 409,
    429: 429,
    500: 500,
    503: 503,
}


class CrateError(Exception):
    """An error as CrateDB words it: `Class[text]` and a four-digit code."""

    def __init__(self, code: int, kind: str, text: str) -> None:
        """Keep the code, and the message in CrateDB's own form."""
        super().__init__(f"{kind}[{text}]")
        self.code = code
        self.message = f"{kind}[{text}]"

    @property
    def status(self) -> int:
        """Return the HTTP status of this code's family."""
        return _STATUS_OF_FAMILY.get(self.code // 10, 500)

    def body(self) -> dict[str, Any]:
        """Return the JSON body CrateDB sends with it."""
        return {"error": {"message": self.message, "code": self.code}}


def invalid(text: str) -> CrateError:
    """400/4000: understood, and wrong."""
    return CrateError(4000, "SQLParseException", text)


def unknown_relation(name: str) -> CrateError:
    """404/4041."""
    return CrateError(4041, "RelationUnknown", f"Relation '{name}' unknown")


def unknown_schema(name: str) -> CrateError:
    """404/4045: no such schema, or none this user may know of."""
    return CrateError(4045, "SchemaUnknownException", f"Schema '{name}' unknown")


def unknown_column(name: str) -> CrateError:
    """404/4043."""
    return CrateError(4043, "ColumnUnknownException", f"Column {name} unknown")


def no_master() -> CrateError:
    """503/5031: what a cluster without a quorum says to everything that needs the master."""
    return CrateError(
        5031, "MasterNotDiscoveredException", "blocked by: [SERVICE_UNAVAILABLE/2/no master];"
    )


@dataclass(slots=True)
class Answer:
    """Columns and rows, or the row count of a statement that has none (cols [], rows [[]])."""

    rowcount: int = 1
    cols: list[str] = field(default_factory=list)
    col_types: list[Any] = field(default_factory=list)
    rows: list[list[Any]] | None = None
    bulk: list[dict[str, Any]] | None = None

    def body(self, *, types: bool = False, duration_ms: float = 0.0) -> dict[str, Any]:
        """Return the JSON body, key order as CrateDB sends it."""
        out: dict[str, Any] = {"cols": self.cols}
        if types:
            out["col_types"] = self.col_types
        if self.bulk is not None:
            out["duration"] = duration_ms
            out["results"] = self.bulk
            return out
        out["rows"] = [[]] if self.rows is None else self.rows
        out["rowcount"] = self.rowcount
        out["duration"] = duration_ms
        return out
