"""An API server's refusals, as the Status objects that clients read."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that is answered with a Status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """Take what the Status says."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        """The Status object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def not_found(plural: str, name: str) -> ApiError:
    """404."""
    details = {"name": name, "kind": plural}
    return ApiError(404, "NotFound", f'{plural} "{name}" not found', details=details)


def conflict(plural: str, name: str, why: str) -> ApiError:
    """409."""
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {plural} "{name}": {why}')


def expired(why: str) -> ApiError:
    """410."""
    return ApiError(410, "Expired", why)


def invalid(why: str) -> ApiError:
    """422."""
    return ApiError(422, "Invalid", why)


def bad_request(why: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", why)
