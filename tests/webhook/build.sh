#!/usr/bin/env bash
# Builds auditsender, which sends audit events with the client code of the API server. Prints only the path of its
# binary on stdout:
#
#     auditsender=$(tests/webhook/build.sh)
#
# The binary is outside the source tree, below ${AUDITWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auditwatch}, in a
# folder named by the content of this folder. The first build takes a minute or two. Later calls return at once. Two
# builds at the same time do not disturb each other. Exit codes: 3 if Go is missing or too old (nothing was tried),
# otherwise that of the step that failed.
set -euo pipefail

go_minor=24 # as go.mod says

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${AUDITWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auditwatch}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
key=$(cat -- "$here/go.mod" "$here/go.sum" "$here/main.go" | sha256)
mkdir -p -- "$cache"
home=$(cd -- "$cache" && pwd)/auditsender-${key:0:16}

if [[ -x $home/auditsender ]]; then
    printf '%s\n' "$home/auditsender"
    exit 0
fi

version=$(go env GOVERSION 2>/dev/null) || version=none # as in go1.26.8
if ! [[ $version =~ go1\.([0-9]+) ]] || ((BASH_REMATCH[1] < go_minor)); then
    echo "build.sh: auditsender needs Go 1.$go_minor or newer to build; found: $version" >&2
    exit 3
fi

work=$(mktemp -d "$home.building.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "build.sh: building auditsender into $home, this takes a minute or two" >&2
(cd -- "$here" && GOWORK=off go build -mod=readonly -trimpath -o "$work/auditsender" .) >&2

mkdir -p -- "$home"
mv -f -- "$work/auditsender" "$home/auditsender"
printf '%s\n' "$home/auditsender"
