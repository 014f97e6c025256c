"""Run one of our jobs in this process: `python run_job.py translog_reset '{"percentage": 200}'`.

Prints one JSON object at the end: whether it succeeded, its exit code, and the outcomes.
"""

from __future__ import annotations

import json
import sys

import dagster as dg


def translog_reset() -> dg.JobDefinition:
    from definitions import defs  # noqa: PLC0415

    return defs.resolve_job_def("translog_reset")


def translog_restore() -> dg.JobDefinition:
    from definitions import defs  # noqa: PLC0415

    return defs.resolve_job_def("translog_restore")


JOBS = {
    "translog_reset": (translog_reset, "record_resets"),
    "translog_restore": (translog_restore, "record_restores"),
}


def main(name: str, options: str) -> None:
    job, last = JOBS[name]
    printed: dict[str, object] = {"interrupted": True}
    with dg.DagsterInstance.get() as instance:
        try:
            with dg.execute_job(
                dg.reconstructable(job),
                instance=instance,
                run_config=json.loads(options),
                raise_on_error=False,
            ) as result:
                printed = _told(result, last)
        except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
            pass
    print(json.dumps(printed))


def _told(result: dg.JobExecutionResult, last: str) -> dict[str, object]:
    try:
        report = result.output_for_node(last)
    except (dg.DagsterInvariantViolationError, FileNotFoundError, KeyError):
        return {"success": result.success}
    return {
        "success": result.success,
        "exit_code": report.exit_code,
        "outcomes": {str(one.target): one.outcome for one in report.results},
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
