# The two set-up commands: `make demo` and `make test`. Both make .venv first, once.
# PYTHON=/path/to/python3.12 chooses an interpreter, TESTS="tests/ops -k restore" a part of the suite.

PYTHON ?=
export PYTHON
# A shell, or an image, may have it set: each of the hundreds of processes would then compile all that it
# imports, which takes 7 s instead of 2.
unexport PYTHONDONTWRITEBYTECODE
BIN = .venv/bin
# Tests wait more than they work; each worker has real servers of its own.
WORKERS ?= 2
# In the order of the folders: by number of tests, the proofs that are one long test each came last.
SPREAD = --dist loadfile --no-loadscope-reorder

.PHONY: help demo test lint format lock clean

help:
	@echo 'make demo    a laboratory and the Dagster UI against it; Ctrl-C ends both'
	@echo 'make test    the whole suite, with every real server this machine can start'
	@echo 'make lint    what CI checks before the tests'
	@echo 'make format  let ruff put the source in order'
	@echo 'make lock    take newer versions into both lock files'
	@echo 'make clean   remove .venv, caches and what the demo left'

# exec: a signal reaches the demo itself, not a shell in front of it.
demo:
	@scripts/bootstrap.sh lab && exec $(BIN)/python -m lab.demo

test:
	@scripts/bootstrap.sh dev && exec $(BIN)/python -m pytest -n $(WORKERS) $(SPREAD) $(TESTS)

lint:
	@scripts/bootstrap.sh dev && scripts/lint.sh

format:
	@scripts/bootstrap.sh dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Two files from one resolution: the smaller one is held to the versions of the larger.
COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --quiet --upgrade --group bootstrap
lock:
	@scripts/bootstrap.sh dev
	$(COMPILE) --extra lab --extra dev -o requirements-dev.lock
	$(COMPILE) --extra lab -c requirements-dev.lock -o requirements.lock

clean:
	rm -rf .venv .caretaker .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
