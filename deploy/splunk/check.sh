#!/usr/bin/env bash
# Checks the Splunk add-on: its own tests (fields against the code, searches parse), then AppInspect of Splunk on the
# package. Fails on every failure or error of AppInspect and prints its warnings. Needs Python 3.9 or newer, and
# installs the rest.
set -euo pipefail
cd "$(dirname "$0")"

python3 -B -m unittest discover -s tests -t tests

# Kept outside the tree, by version.
appinspect=4.3.1
cache="${AUDITWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auditwatch}"
venv="$cache/splunk-appinspect-$appinspect"

install_debian() { # install_debian PACKAGE...
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    echo "check.sh: installing $*"
    "${sudo[@]}" apt-get update -q && "${sudo[@]}" apt-get install -yq --no-install-recommends "$@"
}

python3 -c 'import ensurepip' 2>/dev/null || install_debian python3-venv
if [ ! -x "$venv/bin/splunk-appinspect" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "splunk-appinspect==$appinspect"
fi
# AppInspect uses it to find the type of a file.
"$venv/bin/python" -c 'import magic' 2>/dev/null || install_debian libmagic1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=$(./package.sh "$work/one")
again=$(./package.sh "$work/two")
cmp "$package" "$again"

for tags in "" "--included-tags cloud" "--included-tags private_victoria"; do
    report="$work/report.json"
    rm -f "$report"
    echo "check.sh: AppInspect ${tags:-(all checks)}"
    # shellcheck disable=SC2086 # one or two words
    if ! "$venv/bin/splunk-appinspect" inspect "$package" --mode precert $tags \
        --data-format json --output-file "$report" >"$work/log" 2>&1; then
        cat "$work/log" >&2
    fi
    python3 -B tests/appinspect_report.py "$report"
done
