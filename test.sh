#!/usr/bin/env bash
# Runs the tests on a new Debian machine with Rust: installs what they need, then runs them.
#
# The tests with the real OpenTelemetry Collector need Go 1.26 or newer. Without Go they are
# skipped, and this script says so. With CI=true it fails instead.
set -euo pipefail
cd "$(dirname "$0")"

# Debian packages: a linker and a C compiler for the crates that contain C.
missing=()
command -v cc >/dev/null || missing+=(build-essential)
if [ "${#missing[@]}" -gt 0 ]; then
    sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    echo "test.sh: installing ${missing[*]}"
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" apt-get install -yq --no-install-recommends "${missing[@]}"
fi

# The Collector is built before the tests, so that its progress is visible and no test waits for it.
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

# The client of the API server, for the audit webhook.
if [ "$code" -eq 0 ]; then tests/webhook/build.sh; fi

cargo test --locked "$@"

if [ "$code" -ne 0 ]; then
    echo "test.sh: *** all passed, but WITHOUT the tests with the real Collector: install Go 1.26 or newer ***" >&2
fi
