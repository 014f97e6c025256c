"""The examples that `caretaker binlog ... --help` shows work as they are printed."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.console.examples import all_examples

EXAMPLES = [each for each in all_examples() if each.startswith("caretaker binlog ")]
#: These follow until Ctrl-C; here they end when they have all.
OTHER_SOURCE = re.compile(r"(?<!shop\.)\borders\b")
ENDLESS = re.compile(r"binlog (run|tail)\b(?!.*--until-current)")
GTID = re.compile(r"3e11fa47-71ca-11e1-9e33-c80aa9429562:[0-9-]+")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_work(caretaker, bench, example):
    """Against the shop that they speak of, followed by both sources that they name."""
    bench.setup()
    bench.sql(
        f"CREATE TABLE {bench.name}.orders (id INT PRIMARY KEY, v VARCHAR(20))",
        f"CREATE TABLE {bench.name}.items (order_id INT, line INT, PRIMARY KEY (order_id, line))",
        f"INSERT INTO {bench.name}.items VALUES (4711, 1), (4711, 2)",
        f"INSERT INTO {bench.name}.orders VALUES (4711, 'a')",
        f"UPDATE {bench.name}.orders SET v = 'b' WHERE id = 4711",
    )
    include = rf"{bench.name}\..*"
    # A trail that has an end is gone on with there: who begins at another place has none yet.
    # Of a row that two sources have, a verb wants to know which is meant.
    both = ("mysql", "orders") if OTHER_SOURCE.search(example) else ("mysql",)
    for source in () if "--from current" in example else both:
        ran = caretaker("run", "--until-current", "--include", include, "--source", source)
        assert ran.code == 0, ran.err
    gtid = next((each["src"]["gtid"] for each in bench.rows("orders")), "")
    command, _, _ = GTID.sub(gtid, example).replace("shop", bench.name).partition(" | ")
    endless = bool(ENDLESS.search(command))
    more = ["--until-current"] if endless else []
    # What other tests did to this server is not all fit for a trail.
    more += ["--table", include] if "--from earliest" in command else []

    ended = caretaker(*shlex.split(command)[2:], *more)

    # Nothing of this trail is lost, and what is not lost cannot be accepted as lost.
    refused = "accept-gap" in command
    assert ended.code == (3 if refused else 0), ended
    assert ended.out or refused or endless
