#!/usr/bin/env bash
# Looks at the report of `scan --output html` in a real browser, headless: nothing that a log says runs, loads or becomes markup,
# its numbers are those of `--output json`, and it can be read in light and dark, on a phone and on a desk.
#
#     tests/browser/check.sh [FOLDER]    also leaves the pages and pictures of them in FOLDER
#
# $AUDITWATCH is the binary to use, by default target/debug/auditwatch, which is built first. Installs what is missing: Debian's
# chromium and python3-venv, and Playwright, pinned, outside the tree. Playwright's own browsers are not used.
set -euo pipefail
out=${1:+$(realpath -m "$1")}
cd "$(dirname "$0")/../.."

install_debian() { # install_debian PACKAGE...
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    echo "check.sh: installing $*"
    "${sudo[@]}" apt-get update -q && "${sudo[@]}" apt-get install -yq --no-install-recommends "$@"
}

command -v chromium >/dev/null || install_debian chromium
python3 -c 'import ensurepip' 2>/dev/null || install_debian python3-venv

playwright=1.65.2
cache="${AUDITWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auditwatch}"
venv="$cache/playwright-$playwright"
if [ ! -x "$venv/bin/playwright" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "playwright==$playwright"
fi

if [ -z "${AUDITWATCH:-}" ]; then
    cargo build --locked --quiet
    AUDITWATCH=${CARGO_TARGET_DIR:-target}/debug/auditwatch
fi

if [ -n "$out" ]; then
    mkdir -p "$out"
else
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
"$venv/bin/python" -B tests/browser/check.py "$AUDITWATCH" "$out"
