#!/usr/bin/env bash
# Checks the report of `scan --output html` in a real browser, headless: no text of a log runs, loads or becomes markup,
# its numbers are those of `--output json`, and it is readable in light and dark, on a phone and on a desktop.
#
#     tests/browser/check.sh [FOLDER]    also leaves the pages and pictures of them in FOLDER
#
# $AUDITWATCH is the binary to use, by default target/debug/auditwatch, which is built first. Installs what is missing:
# chromium and python3-venv of Debian, and a pinned Playwright outside the tree. The browsers of Playwright are not
# used.
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
