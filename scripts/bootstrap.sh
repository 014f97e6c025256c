#!/bin/sh
# Make .venv from a lock file; do nothing when it is made already.
#
#   scripts/bootstrap.sh lab    what `make demo` needs (requirements.lock)
#   scripts/bootstrap.sh dev    that and the tools of `make test` (requirements-dev.lock)
#
# PYTHON=/path/to/python3.12 chooses an interpreter. What the installers say goes to
# .caretaker/bootstrap.log; a failure is one sentence on stderr and exit code 1.
set -eu
cd "$(dirname "$0")/.."
log=.caretaker/bootstrap.log

# Settings of another Python must not leak into ours.
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX || true

stop() {
    echo "caretaker: $1" >&2
    exit 1
}

profile=${1:-dev}
case $profile in
    lab) lock=requirements.lock ;;
    dev) lock=requirements-dev.lock ;;
    *) stop "no profile '$profile'; there are lab and dev" ;;
esac

# --- an interpreter -----------------------------------------------------------------------------

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# The same bounds as requires-python.
is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

# A venv of another version than the one that PYTHON names is not what was asked for.
is_asked_for() {
    is_supported "$1" && { [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$1")" ]; }
}

# A version manager leaves commands on the PATH that only print an error: ask, do not look.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.14 python3.11; do
        if is_supported "$candidate"; then
            command -v "$candidate"
            return
        fi
        if [ -n "${PYTHON:-}" ]; then
            break
        fi
    done
}

# --- made already? ------------------------------------------------------------------------------

# A moved checkout, another lock or other metadata make another stamp. cksum is in POSIX, sha256sum is not.
stamp_of() {
    echo "$1 $(pwd) $(cat "$2" pyproject.toml | cksum)"
}

# Everything in requirements.lock is in requirements-dev.lock too, so a dev venv serves the demo.
is_made() {
    [ -f .venv/caretaker.stamp ] && is_asked_for .venv/bin/python || return 1
    made=$(cat .venv/caretaker.stamp)
    [ "$made" = "$(stamp_of dev requirements-dev.lock)" ] || [ "$made" = "$(stamp_of "$profile" "$lock")" ]
}

if is_made; then
    exit 0
fi

# --- the virtual environment --------------------------------------------------------------------

# Whoever has a dev venv keeps its tools when only the lock has changed.
if [ "$profile" = lab ] && grep -q '^dev ' .venv/caretaker.stamp 2>/dev/null; then
    profile=dev
    lock=requirements-dev.lock
fi

mkdir -p .caretaker 2>/dev/null && : >"$log" 2>/dev/null ||
    stop "cannot write to $(pwd): the virtual environment is made there"

if ! is_asked_for .venv/bin/python; then
    python=$(find_python)
    if [ -z "$python" ]; then
        found="$(version_of "${PYTHON:-python3}")" && found="${PYTHON:-python3} is Python $found" ||
            found="${PYTHON:-python3} is missing or does not run"
        stop "Python 3.11 to 3.14 is needed, but $found; install one, or name one: make demo PYTHON=/path/to/python3.12"
    fi
    # A half-made or broken .venv is replaced.
    "$python" -m venv --clear .venv >>"$log" 2>&1 ||
        stop "$python cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv); see $log"
fi
rm -f .venv/caretaker.stamp

# --- packages -----------------------------------------------------------------------------------

echo "installing $(grep -c '^[a-z]' "$lock") packages into .venv (once; up to a few minutes)" >&2

pip() {
    .venv/bin/python -m pip --disable-pip-version-check --no-input "$@" >>"$log" 2>&1
}

no_packages() {
    if grep -qiE 'name resolution|name or service|nodename nor|dns error|connection (refused|reset|error)|connectionerror|proxyerror|timed out|network is unreachable|unreachable|error sending request|certificate' "$log"; then
        stop "the Python packages could not be downloaded: check the network, and HTTPS_PROXY if there is a proxy; see $log"
    fi
    stop "the Python packages could not be installed; see the end of $log"
}

# uv is five to ten times faster than pip, and comes from the lock like everything else.
# A source release would need a Rust compiler: without a wheel for this platform pip does it all.
uv_only=.caretaker/uv.lock
awk '/^[a-z]/ { ours = /^uv==/ } ours' "$lock" >"$uv_only"
if pip install --require-hashes --only-binary :all: --retries 2 -r "$uv_only"; then
    # A service account may have no home to keep a cache in.
    cache=$(.venv/bin/uv cache dir)
    { mkdir -p "$cache" && [ -w "$cache" ]; } 2>/dev/null || export UV_CACHE_DIR="$PWD/.caretaker/uv"
    # --system-certs: behind a company's proxy the machine's certificates count, as they do for pip.
    .venv/bin/uv pip sync --python .venv/bin/python --require-hashes --quiet "$lock" >>"$log" 2>&1 ||
        .venv/bin/uv pip sync --python .venv/bin/python --require-hashes --quiet --system-certs "$lock" >>"$log" 2>&1 ||
        no_packages
    .venv/bin/uv pip install --python .venv/bin/python --offline --quiet --no-deps --no-build-isolation -e . >>"$log" 2>&1 ||
        stop "the project itself could not be installed; see $log"
else
    grep -qi 'no matching distribution' "$log" && ! grep -qi 'retrying' "$log" || no_packages
    awk '/^[a-z]/ { others = !/^uv==/ } others' "$lock" >.caretaker/others.lock
    # --no-deps: the lock is complete, and pip takes "gql[requests]" for something without a hash.
    pip install --require-hashes --no-deps -r .caretaker/others.lock || no_packages
    pip install --no-deps --no-build-isolation -e . ||
        stop "the project itself could not be installed; see $log"
fi
stamp_of "$profile" "$lock" >.venv/caretaker.stamp
