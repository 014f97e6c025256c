"""Run by test_supervisor.py in a process of its own: three children that do next to nothing."""

import os
import sys
import time
from pathlib import Path

from lab.supervisor import Child, NotReadyError, Supervisor, interrupt_on_signals, keep

BEATS = "import pathlib,os,time; pathlib.Path({0!r}).write_text(str(os.getpid())); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
# What escapes a process group: a grandchild in a session of its own.
ESCAPES = (
    "import subprocess, sys; "
    "subprocess.Popen([sys.executable, '-c', {0!r}], start_new_session=True); "
)


def supervise() -> int:
    """Start the three, say so, and look after them until a signal comes."""
    interrupt_on_signals()
    folder = Path(sys.argv[1])
    supervisor = Supervisor(logs=folder / "logs", say=lambda line: print(line, flush=True))

    def child(name: str, program: str = "", **more: object) -> Child:
        beat = folder / name
        code = program + BEATS.format(str(beat))
        command = [sys.executable, "-c", code]
        return Child(name, command, beat.exists, f"the file {name}", **more)  # type: ignore[arg-type]

    escaped = BEATS.format(str(folder / "escaped"))
    try:
        if "never" in sys.argv:
            hopeless = [sys.executable, "-c", "import time; time.sleep(600)"]
            supervisor.start(Child("late one", hopeless, lambda: False, "a miracle", 0.5))
        if "broken" in sys.argv:
            supervisor.start(Child("broken one", ["false"], lambda: False, "a miracle", 60))
        for each in (
            child("first"),
            child("deaf", DEAF, ends_within_s=0.5),
            child("last", ESCAPES.format(escaped)),
        ):
            supervisor.start(each)
        (folder / "supervisor").write_text(str(os.getpid()))
        print("ready", flush=True)
        while True:
            supervisor.tick()
            time.sleep(0.05)
    except NotReadyError as error:
        print(f"error: {error}", flush=True)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.stop()


if __name__ == "__main__":
    sys.exit(keep(supervise))
