"""The bare syncer, killed -9 at every moment that matters, under load: each row once, no hole.

Source and trail are real servers; between syncer and trail a gate strikes when a command of a kind
goes by: staged, inside the transaction, at the commit, before the clean-up, during the recovery.
The source ends dumps, MongoDB is killed, stopped and steps down, two syncers want one trail. What
is compared afterwards is what the source counted as changed with what the trail holds: documents,
the sequence, each row's chain of changes, and the rows that the chains add up to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from lab.mongodb.server import LabMongoDB
from lab.servers.errors import ServerUnavailableError
from lab.servers.mariadb import MariaDB
from lab.servers.mongodb import MongoDB
from lab.servers.mysql import MySQL
from proofs.binlog_trial import StepDowns, Trial
from proofs.binlog_verdict import Verdict
from proofs.children import ROOT, Zygote

PROTOCOLS = ("staged", "direct", "idempotent")
SOURCES = {"mysql": MySQL, "mariadb": MariaDB}
_DURABLE = {"sync_binlog": 1, "innodb_flush_log_at_trx_commit": 1}
#: On each protocol and source; step-downs on each protocol.
KILLS, STEP_DOWNS = 300, 30
SHORT_KILLS, SHORT_STEP_DOWNS = {"mysql": 9, "mariadb": 4}, 2


def main(options: list[str]) -> int:
    """Kill on each protocol, compare, print the counts; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m proofs binlog_kills")
    parser.add_argument("--short", action="store_true", help="a sample, in two minutes")
    parser.add_argument("--kills", type=int, metavar="N", help="on each protocol and source")
    parser.add_argument("--step-downs", type=int, metavar="N", help="on each protocol")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is chosen")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="one instead of all")
    parser.add_argument("--source", choices=tuple(SOURCES), help="one instead of both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts here, too")
    given = parser.parse_args(options)
    folder = Path(tempfile.mkdtemp(prefix="binlog-kills-"))
    verdicts = []
    try:
        for verdict in _verdicts(given, folder):
            verdicts.append(verdict)
            print(verdict.told(), flush=True)
            if given.json:
                document = [asdict(each) for each in verdicts]
                given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except ServerUnavailableError as error:
        print(f"not run: {error}", file=sys.stderr)
        return 1
    kills = sum(verdict.kills for verdict in verdicts)
    print(f"{kills} kills, {sum(verdict.broken for verdict in verdicts)} broken promises")
    if any(verdict.broken for verdict in verdicts):
        print(f"what the last syncers said is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _verdicts(given: argparse.Namespace, folder: Path) -> Iterator[Verdict]:
    protocols = (given.protocol,) if given.protocol else PROTOCOLS
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ["PYTHONPATH"] = str(ROOT)
    with contextlib.ExitStack() as servers:
        zygote = servers.enter_context(Zygote(environ, "proofs.binlog_child"))
        # Durable, all three: what a kill -9 takes must not be what was never on the disk.
        mongodb = servers.enter_context(MongoDB(fsync=True))
        for kind in (given.source,) if given.source else tuple(SOURCES):
            with SOURCES[kind](**_DURABLE) as source:
                for protocol in protocols:
                    trial = Trial(zygote, folder, source, mongodb, kind, protocol)
                    kills = _first(given.kills, SHORT_KILLS[kind] if given.short else KILLS)
                    yield trial.run(kills, given.seed, short=given.short)
                if kind != "mysql":
                    continue
                count = SHORT_STEP_DOWNS if given.short else STEP_DOWNS
                for protocol in protocols:
                    with LabMongoDB() as lab:
                        stepping = f"{kind} and the lab"
                        trial = StepDowns(zygote, folder, source, lab, "lab", protocol)
                        trial.verdict.source = stepping
                        yield trial.run(_first(given.step_downs, count), given.seed, short=True)


def _first(given: int | None, default: int) -> int:
    return default if given is None else given
