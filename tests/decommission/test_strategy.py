"""Which strategy a StatefulSet gets, what it is given in time, and what is said about it."""

from __future__ import annotations

import pytest

from caretaker.decommission.model import (
    ContainerSpec,
    DecommissionStrategy,
    MinAvailability,
    PodSeen,
    StatefulSetSeen,
)
from caretaker.decommission.policy import RestartPolicy
from caretaker.decommission.strategy import detect

MANAGED, MANUAL = DecommissionStrategy.KUBERNETES_MANAGED, DecommissionStrategy.MANUAL
SETS = "crate-data-hot-prod"


def hook(script: str) -> ContainerSpec:
    return ContainerSpec("crate", ("/bin/sh", "-c", script))


def found(*containers: ContainerSpec, policy=None, pod=None, **changes):
    statefulset = StatefulSetSeen(
        "db", SETS, **{"containers": containers, "replicas": 3, **changes}
    )
    return detect(statefulset, RestartPolicy.checked(**(policy or {})), pod)


def managed(flags: str = "-timeout 720s", **changes):
    return found(hook(f"./dc_util-linux-amd64 {flags}"), **changes)


def test_a_hook_with_dc_util_drains_by_itself():
    detection = managed()
    assert detection.strategy is MANAGED
    assert detection.has_prestop_hook
    assert detection.has_dc_util
    assert (detection.timeout_s, detection.grace_s) == (720, 780)
    assert detection.min_availability is MinAvailability.FULL


def test_without_a_hook_we_drain():
    detection = found(ContainerSpec("crate"))
    assert detection.strategy is MANUAL
    assert not detection.has_prestop_hook
    assert (detection.timeout_s, detection.grace_s) == (720, 30)


@pytest.mark.parametrize(
    "container",
    [hook("sleep 10"), ContainerSpec("crate", None, "httpGet"), ContainerSpec("crate", ())],
)
def test_a_hook_without_dc_util_does_not_drain_so_we_do(container):
    detection = found(container)
    assert detection.strategy is MANUAL
    assert detection.has_prestop_hook
    assert not detection.has_dc_util


def test_a_sidecars_dc_util_drains_nobody():
    sidecar = ContainerSpec("backup", ("dc_util", "-timeout", "720s"))
    detection = found(ContainerSpec("crate"), sidecar)
    assert detection.strategy is MANUAL
    assert any("backup" in line for line in detection.explanation)


def test_of_several_containers_the_one_that_is_named_counts():
    sets = (ContainerSpec("exporter"), ContainerSpec("db", ("dc_util",)))
    assert found(*sets, policy={"container": "db"}).strategy is MANAGED


def test_a_missing_container_is_no_strategy_and_names_what_is_there():
    detection = found(ContainerSpec("exporter"), ContainerSpec("db"))
    assert detection.strategy is DecommissionStrategy.UNKNOWN
    assert "exporter, db" in detection.problem
    assert "--container" in detection.problem


@pytest.mark.parametrize(
    ("grace_s", "timeout_s", "effective_s", "delete_s"),
    [
        (None, 720, 720, 780),
        (30, 720, 720, 780),
        (1200, 720, 1080, 1200),
        (800, 720, 680, 800),
        (60, 720, 360, 780),
        (7200, 720, 7080, 7200),
        (200, 100, 360, 420),
    ],
)
def test_both_time_outs_are_told_and_the_grace_is_enough_for_either(
    grace_s, timeout_s, effective_s, delete_s
):
    detection = managed(f"-timeout {timeout_s}s", grace_s=grace_s)
    assert detection.timeout_s == timeout_s
    assert detection.dc_util_timeout_s == effective_s
    assert detection.grace_s == delete_s
    if timeout_s != effective_s:
        assert any(f"{effective_s} s" in line for line in detection.explanation)


@pytest.mark.parametrize("grace_s", [None, 30, 60, 400, 1200, 9000])
@pytest.mark.parametrize("timeout_s", [None, 10, 720, 5000])
def test_a_pods_own_grace_is_never_shortened(grace_s, timeout_s):
    policy = {"timeout_s": timeout_s}
    detection = managed(grace_s=grace_s, policy=policy)
    assert detection.grace_s >= (grace_s or 30)
    assert detection.grace_s >= detection.drain_limit_s + 60 or detection.grace_s == grace_s


def test_an_override_replaces_the_hooks_time_out_but_not_the_pods_grace():
    assert managed(policy={"timeout_s": 900}).timeout_s == 900
    assert managed(policy={"timeout_s": 60}, grace_s=1200).timeout_s == 1200
    assert found(ContainerSpec("crate"), policy={"timeout_s": 60}).timeout_s == 60


def test_a_hook_without_the_flag_has_dc_utils_own_two_hours():
    detection = managed("")
    assert (detection.timeout_s, detection.grace_s) == (7200, 7260)


def test_a_silenced_failure_is_warned_about():
    [warning] = managed("-timeout 720s || true").warnings
    assert "|| true" in warning


@pytest.mark.parametrize("flags", ["-dry-run", "-reset-routing", "-timeout soon", "-timeout 9s &"])
def test_a_hook_that_would_not_drain_is_not_relied_on(flags):
    detection = managed(flags)
    assert detection.strategy is MANUAL
    assert detection.has_dc_util


def test_a_label_that_switches_dc_util_off_leaves_the_drain_to_us():
    assert managed(labels={"dc-util-disabled": "true"}).strategy is MANUAL
    assert managed(labels={"dc-util-disabled": "false"}).strategy is MANAGED


def test_what_the_hook_keeps_is_known():
    assert managed("-min-availability PRIMARIES").min_availability is MinAvailability.PRIMARIES
    assert managed("-min-availability none").min_availability is MinAvailability.NONE
    assert managed("-min-availability $X").min_availability is MinAvailability.NONE
    by_label = managed(labels={"dc-util-min-availability": "PRIMARIES"})
    assert by_label.min_availability is MinAvailability.PRIMARIES


@pytest.mark.parametrize("label", ["primaries", "None", "ALL", ""])
def test_a_label_that_dc_util_does_not_read_leaves_the_flag(label):
    """It takes FULL, PRIMARIES and NONE, and only so written (its source)."""
    labels = {"dc-util-min-availability": label}
    assert managed(labels=labels).min_availability is MinAvailability.FULL
    flag = managed("-min-availability PRIMARIES", labels=labels)
    assert flag.min_availability is MinAvailability.PRIMARIES


def test_a_pod_that_dc_util_does_not_drain_counts_as_undrained():
    """Master and data-cold pods have a "malformed hostname" for it."""
    pod = PodSeen("db", "crate-master-prod-0", "u", "crate-master-prod")
    detection = managed(pod=pod)
    assert detection.min_availability is MinAvailability.NONE
    assert any("ends without a drain" in warning for warning in detection.warnings)


def test_the_pods_own_hook_counts_where_its_template_has_changed():
    pod = PodSeen("db", f"{SETS}-0", "u", SETS, containers=(ContainerSpec("crate"),))
    assert managed(pod=pod).strategy is MANUAL


def test_the_explanation_names_every_finding():
    text = "\n".join(managed("-timeout 12m || true", grace_s=1200).explanation)
    for words in ("has a preStop hook", "./dc_util-linux-amd64", "12m: 720 s", "1080 s"):
        assert words in text
    for words in ("with grace 1200", "strategy kubernetes_managed"):
        assert words in text


def test_a_choice_that_loses_availability_is_warned_about():
    crate = ContainerSpec("crate")
    assert "RED" in found(crate, policy={"allocation_mode": "new_primaries"}).warnings[0]
    vacuous = {"allocation_mode": "primaries", "min_availability": "full"}
    assert "YELLOW" in found(crate, policy=vacuous).warnings[0]
    assert found(crate).warnings == ()


def test_a_shorter_timeout_of_ours_does_not_cut_the_hook_off():
    """The hook goes on for as long as its own flag says; killed before that, its node is lost."""
    detection = managed("-timeout 7200s", policy={"timeout_s": 60})
    assert detection.timeout_s == 60
    assert detection.grace_s >= 7260
    assert detection.drain_limit_s >= 7200


@pytest.mark.parametrize("replicas", [0, 1])
def test_dc_util_does_not_drain_the_only_pod_of_a_statefulset(replicas):
    detection = managed(replicas=replicas)
    assert detection.min_availability is MinAvailability.NONE
    assert any("drains no node" in text for text in detection.warnings)


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("timeout 60 ./dc_util -timeout 720s", "`timeout 60` ends it"),
        ("timeout -k 5 1m ./dc_util -timeout 720s", "`timeout 1m` ends it"),
        ('[ "$DRAIN" = 1 ] && ./dc_util -timeout 720s', "`[ $DRAIN = 1 ]` holds"),
        ("pgrep java || ./dc_util -timeout 720s", "`pgrep java` fails"),
        ("if test -f /x; then ./dc_util -timeout 720s; fi", "behind a condition"),
        ("for i in 1; do ./dc_util -timeout 720s; done", "behind a condition"),
        ("case $X in a) ./dc_util -timeout 720s;; esac", "behind a condition"),
        ("[ -f /no ] && exit 0; ./dc_util -timeout 720s", "may end before it, with `exit 0`"),
    ],
)
def test_a_hook_that_may_not_drain_is_not_relied_on(script, word):
    detection = found(hook(script))
    assert detection.strategy is MANAGED
    assert detection.min_availability is MinAvailability.NONE
    assert any(word in text for text in detection.warnings)


@pytest.mark.parametrize(
    "script",
    [
        "timeout 900 ./dc_util -timeout 720s",
        "cd /x && ./dc_util -timeout 720s",
        "if test -f /x; then echo x; fi; ./dc_util -timeout 720s",
        "if ! ./dc_util -timeout 720s; then echo failed; exit 1; fi",
    ],
)
def test_a_hook_that_drains_whatever_stands_around_it_is_relied_on(script):
    assert found(hook(script)).min_availability is MinAvailability.FULL


def test_what_stands_behind_an_exit_does_not_run():
    assert found(hook("exit 0; ./dc_util -timeout 720s")).strategy is MANUAL
