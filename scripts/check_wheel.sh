#!/bin/sh
# Build the wheel, install it without any extra in a venv of its own, and load it from elsewhere.
#   scripts/check_wheel.sh FOLDER    (an empty or missing one)
set -eu
folder=$1
mkdir -p "$folder/elsewhere"
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin

"$bin/python" -m hatchling build -t wheel -d "$folder/dist" >/dev/null
"$bin/uv" venv --quiet --python "$bin/python" "$folder/venv"
# The lock constrains but does not choose: what the wheel forgets to require is not there.
# --system-certs: behind a company's proxy the machine's certificates count.
"$bin/uv" pip install --quiet --system-certs --python "$folder/venv/bin/python" -c requirements.lock "$folder"/dist/*.whl

# From another folder the checkout is not on the path, and -I keeps it so.
cd "$folder/elsewhere"
unset PYTHONPATH
"$folder/venv/bin/dagster" definitions validate -m definitions
"$folder/venv/bin/caretaker" --help >/dev/null
"$folder/venv/bin/python" -I - <<'PYTHON'
import importlib.util
import sys
from pathlib import Path

here = Path(sys.prefix)
for name in ("caretaker", "resources", "ops", "assets", "sensors", "schedules", "definitions", "console", "lab"):
    spec = importlib.util.find_spec(name)
    if spec is None or not Path(spec.origin).is_relative_to(here):
        sys.exit(f"{name} is not in the wheel: {spec}")
if importlib.util.find_spec("tests") is not None:
    sys.exit("tests is in the wheel")
PYTHON
echo "the wheel loads"
