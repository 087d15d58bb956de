#!/usr/bin/env bash
# Passes the tests on a fresh Debian machine with Rust: installs what they need, then runs them.
#
# The tests with the real OpenTelemetry Collector need Go 1.26 or newer. Without it they are
# skipped and say so; with CI=true that fails.
set -euo pipefail
cd "$(dirname "$0")"

# Debian packages: a linker and C compiler for the crates with C inside.
missing=()
command -v cc >/dev/null || missing+=(build-essential)
if [ "${#missing[@]}" -gt 0 ]; then
    sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    echo "test.sh: installing ${missing[*]}"
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" apt-get install -yq --no-install-recommends "${missing[@]}"
fi

# Built before the tests, so that its progress is seen and no test waits for it.
code=0
tests/collector/build.sh || code=$?
case "$code" in
    0) ;;
    3)
        if [ "${CI:-}" = true ]; then
            echo "test.sh: CI needs Go for the tests with the real Collector" >&2
            exit 1
        fi
        echo "test.sh: *** the tests with the real Collector will be skipped: no Go 1.26 or newer ***" >&2
        ;;
    *)
        echo "test.sh: the Collector cannot be built, see above" >&2
        exit "$code"
        ;;
esac

cargo test --locked "$@"

if [ "$code" -ne 0 ]; then
    echo "test.sh: *** all passed, but WITHOUT the tests with the real Collector: install Go 1.26 or newer ***" >&2
fi
