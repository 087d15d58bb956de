#!/usr/bin/env bash
# Builds the OpenTelemetry Collector of builder.yaml. Prints only the path of its binary on stdout:
#
#     otelcol=$(tests/collector/build.sh)
#
# The binary is outside the source tree, below ${AUDITWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auditwatch}, in a
# folder named by the content of builder.yaml. The first build takes minutes. Later calls return at once. Two builds at
# the same time do not disturb each other: each has its own folder, and its last step is one atomic rename. Exit codes:
# 3 if Go is missing or too old (nothing was tried), otherwise that of the step that failed.
set -euo pipefail

builder=go.opentelemetry.io/collector/cmd/builder@v0.165.0
go_minor=26 # go.mod of the builder asks for Go 1.26

manifest=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)/builder.yaml
cache=${AUDITWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auditwatch}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
key=$(sha256 <"$manifest")
mkdir -p -- "$cache"
home=$(cd -- "$cache" && pwd)/collector-${key:0:16}

if [[ -x $home/otelcol ]]; then
    printf '%s\n' "$home/otelcol"
    exit 0
fi

version=$(go env GOVERSION 2>/dev/null) || version=none # as in go1.26.8
if ! [[ $version =~ go1\.([0-9]+) ]] || ((BASH_REMATCH[1] < go_minor)); then
    echo "build.sh: the OpenTelemetry Collector needs Go 1.$go_minor or newer to build; found: $version" >&2
    exit 3
fi

work=$(mktemp -d "$home.building.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The manifest's output_path is relative to the current folder, so it lands in $work.
echo "build.sh: building the OpenTelemetry Collector into $home, this takes some minutes" >&2
(cd -- "$work" && GOWORK=off go run "$builder" --config "$manifest") >&2

mkdir -p -- "$home"
mv -f -- "$work/build/otelcol" "$home/otelcol"
printf '%s\n' "$home/otelcol"
