#!/usr/bin/env bash
# Builds the stage `runtime` of the Dockerfile from an existing binary, without a container engine and without a
# registry, and runs it. Checks the content of the image, its user, and that it validates its own configuration.
#
#     deploy/container/check.sh [BINARY]      default: target/debug/auditwatch
#
# The base image is not downloaded. Files of this machine replace it: the libraries that the binary needs, the TLS
# roots, and the files that name lookups need, as in distroless cc. So this checks our stage, not the base. Needs
# buildah of Debian, and root or sudo.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" -eq 0 ] || exec sudo -E deploy/container/check.sh "$@"

binary=${1:-${AUDITWATCH:-target/debug/auditwatch}}
command -v buildah >/dev/null || {
    echo "check.sh: needs buildah: apt-get install --no-install-recommends buildah" >&2
    exit 1
}

work=$(mktemp -d)
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
tool=(buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs)
trap 'rm -rf "$work"' EXIT
# No registry is used.
printf 'unqualified-search-registries = []\n' >"$work/registries.conf"
printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$work/policy.json"
export CONTAINERS_REGISTRIES_CONF=$work/registries.conf

fail() { echo "check.sh: $*" >&2; exit 1; }

# 1. The replacement of the base.
base=$work/base
mkdir -p "$base/etc/ssl/certs" "$base/tmp"
ldd "$binary" | grep -o '/[^ ]*' | sort -u >"$work/libraries"
# glibc loads these by name when it looks up a host.
for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
    dirname "$(grep -m 1 'libc\.so' "$work/libraries")" | sed "s|$|/$library|" >>"$work/libraries"
done
while read -r library; do
    [ -e "$library" ] || continue
    mkdir -p "$base$(dirname "$library")"
    cp -L "$library" "$base$library"
done <"$work/libraries"
cp -L /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin \
    >"$base/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$base/etc/group"
printf 'hosts: files dns\n' >"$base/etc/nsswitch.conf"
printf 'FROM scratch\nCOPY . /\nUSER 65532:65532\n' >"$work/Base"
"${tool[@]}" bud --signature-policy "$work/policy.json" --quiet -f "$work/Base" -t localhost/base "$base" >/dev/null

# 2. The stage itself. A build context with the name of the stage `build` replaces that stage.
mkdir -p "$work/build/out"
cp "$binary" "$work/build/out/auditwatch"
chmod 0755 "$work/build/out/auditwatch"
"${tool[@]}" bud --signature-policy "$work/policy.json" --pull-never --quiet --format docker --target runtime \
    --build-context "build=$work/build" --build-arg RUNTIME_BASE=localhost/base --build-arg VERSION=check \
    --build-arg BUILDARCH=none --build-arg TARGETARCH=none \
    -t localhost/auditwatch . >/dev/null

# 3. Its properties.
inspect() { "${tool[@]}" inspect --type image --format "$1" localhost/auditwatch; }
expect() { [ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"; }
expect user "$(inspect '{{.Docker.Config.User}}')" 65532:65532
expect "entry point" "$(inspect '{{.Docker.Config.Entrypoint}}')" '[/auditwatch]'
expect command "$(inspect '{{.Docker.Config.Cmd}}')" '[--config /etc/auditwatch/config.yaml]'
expect "health check" "$(inspect '{{.Docker.Config.Healthcheck.Test}}')" '[CMD /auditwatch health]'
expect version "$(inspect '{{index .Docker.Config.Labels "org.opencontainers.image.version"}}')" check

# 4. Its content, and that it runs as that user with a file system it cannot write to.
container=$("${tool[@]}" from --signature-policy "$work/policy.json" --pull-never localhost/auditwatch)
root=$("${tool[@]}" mount "$container")
for shell in bin/sh bin/bash bin/busybox usr/bin/sh; do
    [ ! -e "$root/$shell" ] || fail "the image holds $shell"
done
[ "$(find "$root" -xdev -perm /6000 | wc -l)" -eq 0 ] || fail "the image holds setuid files"
[ -s "$root/licenses/NOTICE" ] || fail "the image lacks NOTICE"

run() { "${tool[@]}" run --user 65532:65532 --cap-drop all "$container" -- "$@"; }
run /auditwatch --version
run /auditwatch validate --config /etc/auditwatch/config.yaml \
    --set exporters.splunk_hec.token=check --set exporters.splunk_hec.endpoint=https://splunk.example.com:8088
# Wrong on purpose: the exit code must be passed on.
if run /auditwatch validate --config /etc/auditwatch/none.yaml 2>/dev/null; then
    fail "a missing configuration is valid"
fi

# 5. The service, as the image starts it: it looks up a name, asks for the health of HEC, and ends with 0 at SIGTERM.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
hec=$(port) otlp=$(port) health=$(port)
python3 demo/hec_sink.py "$hec" "$work/findings" >/dev/null &
sink=$!
trap 'kill "$sink" 2>/dev/null; rm -rf "$work"' EXIT
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$hec") 2>/dev/null && break
    sleep 0.1
done
run_service() {
    "${tool[@]}" run --user 65532:65532 --cap-drop all --env "AUDITWATCH_OTLP_ENDPOINT=127.0.0.1:$otlp" \
        --env SPLUNK_HEC_TOKEN=check --env "SPLUNK_HEC_URL=http://localhost:$hec" "$container" -- \
        /auditwatch --config /etc/auditwatch/config.yaml --set exporters.splunk_hec.health_check_enabled=true \
        --set "extensions.health_check.endpoint=127.0.0.1:$health" --set "service.extensions=[health_check]" \
        --set service.telemetry.metrics.level=none
}
: >"$work/log"
run_service >"$work/log" 2>&1 &
service=$!
# The program is a descendant of the process that was started here.
program() {
    local child
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        case $(tr '\0' ' ' <"/proc/$child/cmdline") in
            /auditwatch\ *) echo "$child" && return ;;
            *) program "$child" ;;
        esac
    done
}
for _ in $(seq 100); do
    grep -q listening "$work/log" || ! kill -0 "$service" 2>/dev/null && break
    sleep 0.1
done
grep -q listening "$work/log" || fail "the service did not start: $(cat "$work/log")"
# The health check of the image.
run /auditwatch health --endpoint "http://127.0.0.1:$health" || fail "the service is not healthy: $(cat "$work/log")"
kill -TERM "$(program "$service")"
wait "$service" || fail "the service did not end with 0: $(cat "$work/log")"
if run /auditwatch health --endpoint "http://127.0.0.1:$health" 2>/dev/null; then fail "an ended service is healthy"; fi

echo "check.sh: the runtime stage was built and run: $(du -h "$root/auditwatch" | cut -f 1) binary, user 65532," \
    "no shell, configuration valid, started, healthy, stopped"
