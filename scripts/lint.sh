#!/bin/sh
# Every check that runs no test. All of them run; one that failed is named at the end.
set -u
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
failed=

check() {
    echo "+ $*"
    "$@" || failed="$failed, $1 $2"
}

check ruff check --quiet .
check ruff format --quiet --check .
check mypy --no-error-summary
check lint-imports --no-logo
check validate-pyproject pyproject.toml
check codespell .

if [ -n "$failed" ]; then
    echo "not in order: ${failed#, }" >&2
    exit 1
fi
