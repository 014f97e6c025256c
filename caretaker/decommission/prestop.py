"""Whether a preStop command runs dc_util, with which flags, and whether it may fail unseen.

dc_util's flags are Go's: `-x v`, `-x=v`, and both with two hyphens; the first word that is no flag
ends them; the last of several wins (dc_util's source, kubernetes-operators.md).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from caretaker.decommission.shell import SimpleCommand, simple_commands

#: dc_util's own default.
DC_UTIL_TIMEOUT_S = 7200.0

#: A program of that name, whatever stands before or behind: /opt/dc_util-linux-amd64, dc-util.sh.
DEFAULT_PATTERN = r"(?:^|/)dc[-_]?util[^/]*$"

_TESTS = frozenset(("[", "[[", "test"))
_SHELLS = frozenset(("sh", "bash", "ash", "dash", "zsh", "ksh", "busybox"))

#: Programs that run the rest of their arguments, and their options that take a value.
_WRAPPERS: dict[str, frozenset[str]] = {
    "exec": frozenset(("-a",)),
    "env": frozenset(("-u", "--unset", "-C", "--chdir")),
    "nohup": frozenset(),
    "nice": frozenset(("-n", "--adjustment")),
    "ionice": frozenset(("-c", "-n")),
    "setsid": frozenset(),
    "stdbuf": frozenset(("-i", "-o", "-e")),
    "command": frozenset(),
    "builtin": frozenset(),
    "sudo": frozenset(("-u", "-g", "--user", "--group")),
    "timeout": frozenset(("-s", "-k", "--signal", "--kill-after")),
    "gosu": frozenset(),
    "su-exec": frozenset(),
    "tini": frozenset(),
    "xargs": frozenset(("-n", "-I", "-P")),
}

#: So many words stand between a wrapper and its program: `timeout 700 p`, `gosu crate p`.
_OPERANDS = {"timeout": 1, "gosu": 1, "su-exec": 1}

_TAKES_VALUE = frozenset(
    (
        "crate-node-prefix",
        "timeout",
        "pid",
        "proto",
        "hostname",
        "min-availability",
        "log-file",
        "lock-file",
    )
)

_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"^(?:\d+(?:\.\d*)?(?:h|ms|us|µs|ns|m|s))+$")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|us|µs|ns|m|s)")
_PLAIN_SECONDS = re.compile(r"^\d+(?:\.\d+)?$")
_DEPTH = 4


@dataclass(frozen=True, slots=True)
class DcUtilCall:
    """How a hook runs dc_util.

    Attributes:
        program: As written.
        timeout_s: Of `-timeout`; dc_util's own 7200 where it has none, and where it is a variable
            or unreadable.
        timeout_text: As written; '' where there is none.
        timeout_problem: Why the text was not used; '' where it was.
        min_availability: Of its flag, upper case; FULL where it has none.
        node_prefix: Pods whose node does not begin with it are not drained.
        fails_silently: What follows turns a failure into success, as written: "|| true".
        background: The hook does not wait for it.
        does_not_drain: The flag that makes it do something else: dry-run, reset-routing.
        doubt: Why it may not run, or not to its end; '' where it does.
    """

    program: str
    timeout_s: float = DC_UTIL_TIMEOUT_S
    timeout_text: str = ""
    timeout_problem: str = ""
    min_availability: str = "FULL"
    node_prefix: str = "data-hot"
    fails_silently: str = ""
    background: bool = False
    does_not_drain: str = ""
    doubt: str = ""


def find_dc_util(command: Sequence[str], pattern: str | None = None) -> DcUtilCall | None:
    """Return how an exec command runs dc_util, or None where it does not run it.

    Only what is run counts: `curl -O .../dc_util` and `chmod +x dc_util` run something else.

    >>> find_dc_util(["sh", "-c", "./dc_util-linux-amd64 --timeout=12m || true"]).timeout_s
    720.0
    >>> find_dc_util(["curl", "-O", "https://example.org/dc_util"]) is None
    True
    """
    wanted = re.compile(DEFAULT_PATTERN if pattern is None else pattern, re.IGNORECASE)
    return _in_words(tuple(command), "", (), wanted, 0)


def seconds(text: str) -> float | None:
    """Read a duration as dc_util's flag takes it, plain seconds too; None where it is none.

    >>> [seconds(text) for text in ("720s", "12m", "1h", "720", "1h30m", "1.5h", "soon")]
    [720.0, 720.0, 3600.0, 720.0, 5400.0, 5400.0, None]
    """
    if _PLAIN_SECONDS.match(text):
        return float(text)
    if not _DURATION.match(text):
        return None
    parts = _DURATION_PART.findall(text)
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def _in_script(script: str, wanted: re.Pattern[str], depth: int) -> DcUtilCall | None:
    if depth > _DEPTH:
        return None
    doubt, before = "", None
    for command in simple_commands(script):
        call = _in_words(command.words, command.ended_by, command.then, wanted, depth)
        here = _condition(command, before)
        if call is not None:
            return replace(call, doubt=call.doubt or doubt or here)
        if command.words[0] in {"exit", "return"}:
            if not here:
                return None
            doubt = f"the hook may end before it, with `{' '.join(command.words)}`"
        before = command
    return None


def _condition(command: SimpleCommand, before: SimpleCommand | None) -> str:
    """Say what decides whether a command runs; '' where it always does.

    `cd /x && dc_util` is none: where the folder is not there, the hook is broken, not meant so.
    """
    if command.guarded:
        return "it stands behind a condition"
    if before is None or before.ended_by not in {"&&", "||"}:
        return ""
    text = " ".join(before.words)
    if before.ended_by == "||":
        return f"it runs only where `{text}` fails"
    return f"it runs only where `{text}` holds" if before.words[0] in _TESTS else ""


def _in_words(
    words: tuple[str, ...],
    ended_by: str,
    then: tuple[str, ...],
    wanted: re.Pattern[str],
    depth: int,
) -> DcUtilCall | None:
    while words:
        program, *rest = words
        if wanted.search(program):
            return _call(program, rest, ended_by, then)
        name = posixpath.basename(program)
        if name in _SHELLS or name in {"eval", "su", "runuser"}:
            return _in_shell(name, rest, ended_by, then, wanted, depth)
        if name not in _WRAPPERS:
            return None
        words = _unwrapped(name, rest)
        if name == "timeout":
            operand = rest[len(rest) - len(words) - 1 : len(rest) - len(words)]
            call = _in_words(words, ended_by, then, wanted, depth)
            return _cut_off(call, operand[0] if operand else "")
    return None


def _cut_off(call: DcUtilCall | None, text: str) -> DcUtilCall | None:
    """Return the call under `timeout`, which may end it before its time."""
    limit_s = seconds(text) if text else None
    if call is None or (limit_s is not None and limit_s >= call.timeout_s):
        return call
    return replace(call, doubt=f"`timeout {text}` ends it before its own {call.timeout_s:g} s")


def _in_shell(
    name: str,
    rest: Sequence[str],
    ended_by: str,
    then: tuple[str, ...],
    wanted: re.Pattern[str],
    depth: int,
) -> DcUtilCall | None:
    """Look into `sh -c script`, `sh script.sh`, `eval words`, `su user -c script`."""
    call: DcUtilCall | None = None
    if name == "eval":
        call = _in_script(" ".join(rest), wanted, depth + 1)
    elif name == "busybox":
        return _in_words(tuple(rest), ended_by, then, wanted, depth + 1)
    else:
        for index, word in enumerate(rest):
            if re.fullmatch(r"-[a-zA-Z]*c|--command", word):
                scripts = [each for each in rest[index + 1 :] if not each.startswith("-")][:1]
                call = _in_script(scripts[0], wanted, depth + 1) if scripts else None
                break
            if not word.startswith(("-", "+")) and name in _SHELLS:
                # A script's file is what runs.
                return _in_words(tuple(rest[index:]), ended_by, then, wanted, depth + 1)
    if call is None or call.fails_silently or call.background:
        return call
    return _as_it_ends(call, ended_by, then)


def _unwrapped(name: str, rest: Sequence[str]) -> tuple[str, ...]:
    """Return what a wrapper runs: past its options, their values, and its own operands."""
    at = 0
    while at < len(rest) and (
        rest[at].startswith("-") or (name in {"env", "sudo"} and "=" in rest[at])
    ):
        at += 2 if rest[at] in _WRAPPERS[name] else 1
    return tuple(rest[at + _OPERANDS.get(name, 0) :])


def _call(
    program: str, arguments: Sequence[str], ended_by: str, then: tuple[str, ...]
) -> DcUtilCall:
    flags = _flags(arguments)
    text = flags.get("timeout", "")
    timeout_s, problem = _timeout(text)
    other = next((flag for flag in ("dry-run", "reset-routing") if _is_on(flags.get(flag))), "")
    call = DcUtilCall(
        program=program,
        timeout_s=timeout_s,
        timeout_text=text,
        timeout_problem=problem,
        min_availability=flags.get("min-availability", "FULL").upper(),
        node_prefix=flags.get("crate-node-prefix", "data-hot"),
        does_not_drain=other,
    )
    return _as_it_ends(call, ended_by, then)


def _as_it_ends(call: DcUtilCall, ended_by: str, then: tuple[str, ...]) -> DcUtilCall:
    silent = ""
    if ended_by == "||":
        silent = " ".join(("||", *then)).strip()
    elif ended_by in {";", "\n", "|", "|&"} and then:
        silent = " ".join((ended_by.strip() or ";", *then))
    return replace(call, fails_silently=silent, background=ended_by == "&")


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """Read Go's flags; a boolean one without a value is 'true'."""
    flags: dict[str, str] = {}
    at = 0
    while at < len(arguments):
        word = arguments[at]
        name = word[2:] if word.startswith("--") else word[1:]
        if not word.startswith("-") or not name:
            break
        name, equals, value = name.partition("=")
        if equals:
            flags[name] = value
        elif name in _TAKES_VALUE and at + 1 < len(arguments):
            at += 1
            flags[name] = arguments[at]
        else:
            flags[name] = "true"
        at += 1
    return flags


def _is_on(value: str | None) -> bool:
    return value is not None and value.lower() in {"true", "t", "1"}


def _timeout(text: str) -> tuple[float, str]:
    """Return the seconds of a flag's text, and what is wrong with it."""
    if not text:
        return DC_UTIL_TIMEOUT_S, ""
    found = seconds(text)
    if found is not None and found > 0:
        return found, ""
    if "$" in text or "`" in text:
        return DC_UTIL_TIMEOUT_S, f"its -timeout is {text!r}, known only when the hook runs"
    return DC_UTIL_TIMEOUT_S, f"its -timeout is {text!r}, which is no duration"
