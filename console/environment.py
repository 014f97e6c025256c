"""What a command needs around it before it may start, said in one sentence where it is missing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dotenv import load_dotenv

from caretaker.errors import InvalidSettingError
from ops.logs import FORMAT_VARIABLE


def load_env_file() -> None:
    """Read `.env` of the working directory; what the environment already has wins."""
    path = Path.cwd() / ".env"
    try:
        load_dotenv(path, override=False)
    except (OSError, ValueError) as error:
        # Not UTF-8 is a ValueError; neither of them quotes what may be a password.
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8, or a NUL in it"
        raise InvalidSettingError(".env", f"{path} ({reason})", "lines of NAME=value") from None


def require_dagster_home() -> Path:
    """Return DAGSTER_HOME, or say what to set: without it a run would vanish with the process."""
    found = os.environ.get("DAGSTER_HOME", "")
    allowed = "an absolute path of a writable directory, such as DAGSTER_HOME=/var/lib/caretaker"
    if not found:
        raise InvalidSettingError("DAGSTER_HOME", "nothing", allowed)
    home = Path(found)
    if not home.is_absolute():
        raise InvalidSettingError("DAGSTER_HOME", found, allowed)
    if not home.is_dir():
        raise InvalidSettingError("DAGSTER_HOME", f"{found} (no such directory)", allowed)
    try:
        # Asked by doing it: access bits say nothing about read-only mounts, or to root.
        with tempfile.NamedTemporaryFile(dir=home, prefix=".caretaker-"):
            pass
    except OSError as error:
        reason = f"{found} ({error.strerror})"
        raise InvalidSettingError("DAGSTER_HOME", reason, allowed) from None
    return home


def use_log_format(log_format: str | None) -> None:
    """Tell this process and those it starts how to write events."""
    if log_format:
        os.environ[FORMAT_VARIABLE] = log_format
