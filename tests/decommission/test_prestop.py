"""What a preStop hook is taken for: whatever the command line, what is run counts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretaker.decommission.prestop import DcUtilCall, find_dc_util, seconds
from caretaker.decommission.shell import simple_commands

SH = ("/bin/sh", "-c")
DOWNLOAD = "curl -sLO https://x.io/dc_util-linux-$(uname -m) && chmod u+x ./dc_util-linux-*"


def found(command: Sequence[str], pattern: str | None = None) -> DcUtilCall:
    """The call that must be there."""
    call = find_dc_util(command, pattern)
    assert call is not None
    return call


TIMEOUTS = {
    "-timeout 720s": 720,
    "-timeout=720s": 720,
    "--timeout 720s": 720,
    "--timeout=12m": 720,
    "-timeout 1h": 3600,
    "-timeout 720": 720,
    "--timeout=1h30m": 5400,
    "-timeout 1.5h": 5400,
    "-timeout 60s -timeout 90s": 90,
    "-min-availability PRIMARIES -timeout 720s": 720,
    "-dry-run=false -timeout 720s": 720,
    "": 7200,
    "-min-availability FULL": 7200,
    "-- -timeout 5s": 7200,
    "now -timeout 5s": 7200,
    "-log-file -timeout -pid 1": 7200,
}


@pytest.mark.parametrize(("flags", "expected"), TIMEOUTS.items())
def test_the_time_out_is_read_in_every_form_that_dc_util_takes(flags, expected):
    assert found((*SH, f"./dc_util-linux-amd64 {flags}")).timeout_s == expected


RUNS = {
    "by its name": ("dc_util", "-timeout", "720s"),
    "by its path": ("/usr/local/bin/dc_util", "-timeout=720s"),
    "with a hyphen": ("/opt/dc-util-0.3", "-timeout=720s"),
    "in one word": ("./dcutil-linux-amd64", "-timeout=720s"),
    "in capitals": ("/opt/DC_UTIL", "-timeout=720s"),
    "in a shell": (*SH, "./dc_util-linux-amd64 -min-availability PRIMARIES -timeout 720s"),
    "in a shell with more flags": ("bash", "-ec", "dc_util -timeout 720s"),
    "behind a shell's own option": ("bash", "-x", "-c", "dc_util -timeout 720s"),
    "after a download": (
        *SH,
        DOWNLOAD + " && ./dc_util-linux-amd64 -timeout 720s",
    ),
    "with assignments": (*SH, "PROTO=http HOST=$(hostname) dc_util -timeout 720s"),
    "exported and executed": (*SH, "export X=1; exec /opt/dc_util -timeout 720s"),
    "under env": ("env", "-u", "HOME", "A=b", "dc_util", "-timeout", "720s"),
    "under timeout": (*SH, "timeout -s KILL 800 dc_util -timeout 720s"),
    "as another user": (*SH, "gosu crate /opt/dc_util -timeout 720s"),
    "under su": (*SH, "su crate -c 'dc_util -timeout 720s'"),
    "in an if": (*SH, "if [ -x /opt/dc_util ]; then /opt/dc_util -timeout 720s; fi"),
    "after a test": (*SH, "[ -x ./dc_util ] && ./dc_util -timeout 720s"),
    "negated": (*SH, "! dc_util -timeout 720s"),
    "in braces": (*SH, "{ dc_util -timeout 720s; }"),
    "in a subshell": (*SH, "(cd /opt && ./dc_util -timeout 720s)"),
    "over lines": (*SH, "set -e\n# drain first\n./dc_util \\\n  -timeout 720s\n"),
    "redirected": (*SH, "dc_util -timeout 720s > /proc/1/fd/1 2>&1"),
    "quoted": (*SH, '"/opt/my tools/dc_util" \'-timeout\' "720s"'),
    "shell in a shell": ("sh", "-c", "sh -c 'dc_util -timeout 720s'"),
    "a script's file": ("/bin/sh", "/scripts/dc_util.sh", "-timeout", "720s"),
    "evaluated": (*SH, "eval 'dc_util -timeout 720s'"),
    "by busybox": ("busybox", "sh", "-c", "dc_util -timeout 720s"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_hook_that_runs_dc_util_is_recognised(name):
    assert found(RUNS[name]).timeout_s == 720


DOES_NOT_RUN = {
    "nothing": (),
    "something else": ("sleep", "30"),
    "a download": (*SH, "curl -sLO https://cdn.crate.io/dc_util && chmod +x dc_util"),
    "a word about it": (*SH, "echo dc_util -timeout 720s"),
    "a comment": (*SH, "sleep 5 # dc_util -timeout 720s"),
    "a file of its": (*SH, "cat /var/log/dc_util.log"),
    "a process to be killed": (*SH, "pkill dc_util"),
    "a variable": (*SH, "$DC -timeout 720s"),
    "a folder of that name": ("/opt/dc_util/drain.sh",),
    "a shell without a script": ("sh", "-c"),
}


@pytest.mark.parametrize("name", DOES_NOT_RUN)
def test_a_hook_that_only_names_dc_util_does_not_drain_the_node(name):
    assert find_dc_util(DOES_NOT_RUN[name]) is None


SILENT = {
    "./dc_util -timeout 720s || true": "|| true",
    "./dc_util || :": "|| :",
    "(./dc_util) || exit 0": "|| exit 0",
    "{ ./dc_util; } || true": "|| true",
    "if [ -x dc_util ]; then ./dc_util; fi || true": "|| true",
    "sh -c './dc_util' || true": "|| true",
    "./dc_util; exit 0": "; exit 0",
    "./dc_util | tee /tmp/log": "| tee /tmp/log",
    "./dc_util -timeout 720s": "",
    "./dc_util && echo done": "",
}


@pytest.mark.parametrize(("script", "behind"), SILENT.items())
def test_a_failure_that_nobody_hears_of_is_noticed(script, behind):
    call = found((*SH, script))
    assert call.fails_silently == behind


def test_a_hook_that_does_not_wait_for_dc_util_is_noticed():
    assert found((*SH, "dc_util -timeout 720s & sleep 1")).background


@pytest.mark.parametrize(
    ("flags", "other"),
    [("-dry-run", "dry-run"), ("--reset-routing=true", "reset-routing"), ("-dry-run=0", "")],
)
def test_a_call_that_does_not_drain_is_noticed(flags, other):
    assert found((*SH, f"dc_util {flags}")).does_not_drain == other


@pytest.mark.parametrize("text", ["$TIMEOUT", "${T}s", "$(cat /t)", "soon", "-5s", "0", "5 s"])
def test_a_time_out_that_cannot_be_read_is_dc_utils_own_and_said(text):
    call = found((*SH, f"dc_util -timeout '{text}'"))
    assert call.timeout_s == 7200
    assert text in call.timeout_problem


def test_another_utility_is_found_by_its_pattern():
    command = (*SH, "/opt/drain-crate --timeout=5m || true")
    assert find_dc_util(command) is None
    assert found(command, r"drain-crate$").timeout_s == 300


# --- the language ---------------------------------------------------------------------------------

paths = st.sampled_from(["", "./", "/usr/local/bin/", "../x/", "/opt/my tools/"])
names = st.sampled_from(["dc_util", "dc-util", "dcutil", "dc_util-linux-amd64", "dcutil-0.0.1"])
whole = st.integers(1, 9999)
durations = st.one_of(
    whole.map(lambda n: (f"{n}s", n)),
    whole.map(lambda n: (f"{n}m", n * 60)),
    whole.map(lambda n: (f"{n}h", n * 3600)),
    whole.map(lambda n: (str(n), n)),
    st.tuples(whole, whole).map(lambda n: (f"{n[0]}h{n[1]}m", n[0] * 3600 + n[1] * 60)),
)
hyphens = st.sampled_from(["-", "--"])
others = st.lists(
    st.sampled_from(
        [
            ["-min-availability", "PRIMARIES"],
            ["--min-availability=FULL"],
            ["-proto", "http"],
            ["-crate-node-prefix=data-hot"],
            ["-log-file", "/var/a b.log"],
            ["-dry-run=false"],
        ]
    ),
    max_size=3,
).map(lambda lists: [word for each in lists for word in each])
before = st.sampled_from(
    ["", "cd /x && ", "set -e; ", "curl -sO http://x/dc_util && ", "A=1 ", "exec ", "nohup "]
)
behind = st.sampled_from(["", " || true", " && echo ok", " 2>&1", " >/dev/null || :"])
shells = st.sampled_from([["sh", "-c"], ["/bin/bash", "-ec"], ["/bin/dash", "-x", "-c"]])


@given(paths, names, hyphens, st.booleans(), durations, others, others, before, behind, shells)
def test_any_way_to_write_the_call_is_read_the_same(
    path, name, hyphen, equals, duration, left, right, prefix, suffix, shell
):
    text, expected = duration
    flag = [f"{hyphen}timeout={text}"] if equals else [f"{hyphen}timeout", text]
    words = [path + name, *left, *flag, *right]
    script = prefix + shlex.join(words) + suffix

    in_shell = found((*shell, script))
    assert in_shell.timeout_s == expected
    assert bool(in_shell.fails_silently) == ("||" in suffix)
    assert found(words).timeout_s == expected


@given(st.lists(st.text(max_size=60), max_size=5))
def test_no_command_whatever_is_too_odd(words):
    find_dc_util(words)
    find_dc_util(("sh", "-c", " ".join(words)))


@given(st.text(alphabet="dc_util -sh'\"\\$()`;&|<>#\n{}=", max_size=60))
def test_no_script_whatever_is_too_odd(script):
    find_dc_util(("sh", "-c", script))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1))
def test_quoting_brings_back_every_word(words):
    """What a shell would hand to the program is what is read, whatever the words contain."""
    [command] = simple_commands("run " + shlex.join(words))
    plain = [word for word in words if word.lstrip("0123456789&")[:1] not in {"<", ">"}]
    if plain == words:
        assert command.words == ("run", *words)


@given(st.text(max_size=12))
def test_a_duration_is_a_positive_number_or_none(text):
    length_s = seconds(text)
    assert length_s is None or length_s >= 0
