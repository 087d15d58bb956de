#!/usr/bin/env bash
# The chain of docker-compose.yml without containers: the same configurations, on loopback.
#
#     demo/by-hand.sh [RECORDING]       default: scenario-1
#
# Prints the findings, and fails if their addresses are not those of the golden file, or those of a scan, where a
# recording has no golden file with the proxy. $AUDITWATCH is the binary to use,
# by default target/debug/auditwatch, which is built first. SPEED is the speed of the feeder.
set -euo pipefail
cd "$(dirname "$0")/.."

recording=${1:-scenario-1}
if [ -z "${AUDITWATCH:-}" ]; then
    cargo build --locked --quiet
    AUDITWATCH=target/debug/auditwatch
fi
otelcol=$(tests/collector/build.sh)

if [ ! -e "tests/data/corpus/$recording.ndjson.gz" ]; then
    echo "by-hand.sh: there is no recording $recording, but: $(cd tests/data/corpus && echo *.ndjson.gz)" >&2
    exit 2
fi
work=$(mktemp -d)
golden=tests/data/corpus/$recording.native-proxy.json
if [ ! -e "$golden" ]; then
    golden=$work/$recording.scan.json
    "$AUDITWATCH" scan --all --trusted-proxies 10.20.0.0/24 --output ndjson "tests/data/corpus/$recording.ndjson.gz" \
        >"$golden"
fi
started=()
finish() {
    # In reverse order: a sender ends before its receiver.
    local at
    for ((at = ${#started[@]} - 1; at >= 0; at--)); do
        kill "${started[at]}" 2>/dev/null || true
        wait "${started[at]}" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
answers() { python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=1)' "$1" 2>/dev/null; }
wait_for() {
    for _ in $(seq 150); do
        if answers "$1"; then return; fi
        sleep 0.2
    done
    echo "by-hand.sh: nothing answers at $1" >&2
    cat "$work"/*.log >&2
    exit 1
}

hec=$(free_port) otlp=$(free_port) health=$(free_port) otelcol_health=$(free_port)

# 1. The HEC server in place of Splunk.
python3 demo/hec_sink.py "$hec" "$work/findings.ndjson" >/dev/null &
started+=($!)
wait_for "http://127.0.0.1:$hec/services/collector/health"

# 2. auditwatch, with the configuration of the compose file and free ports.
mkdir "$work/state"
SPLUNK_HEC_URL=http://127.0.0.1:$hec SPLUNK_HEC_TOKEN=a0d17a7c-0000-4000-8000-000000000000 \
    AUDITWATCH_STATE=$work/state AUDITWATCH_OTLP_ENDPOINT=127.0.0.1:$otlp \
    "$AUDITWATCH" --config demo/auditwatch.yaml --set "extensions.health_check.endpoint=127.0.0.1:$health" \
    --set service.telemetry.metrics.level=none \
    >"$work/auditwatch.log" 2>&1 &
started+=($!)
wait_for "http://127.0.0.1:$health/"

# 3. The Collector, with the configuration and the feature gate of the compose file.
AUDIT_LOG=$work/audit.log AUDITWATCH_ENDPOINT=127.0.0.1:$otlp OTELCOL_STORAGE=$work/storage OTELCOL_FSYNC=false \
    OTELCOL_HEALTH=127.0.0.1:$otelcol_health OTELCOL_METRICS_LEVEL=none \
    K8S_CLUSTER_NAME=demo K8S_NODE_NAME=demo-control-plane \
    "$otelcol" --config=otel-config/splunk-otel-collector.yaml --feature-gates=stanza.synchronousLogEmitter \
    >"$work/otelcol.log" 2>&1 &
started+=($!)
wait_for "http://127.0.0.1:$otelcol_health/"

# 4. The feeder, with the command of the compose file.
"$AUDITWATCH" replay "tests/data/corpus/$recording.ndjson.gz" --output "$work/audit.log" \
    --speed "${SPEED:-60}" --shift-to-now

# 5. The findings, until all expected addresses are there.
python3 - "$golden" "$work/findings.ndjson" <<'PYTHON'
import json, os, sys, time

expected = {row["src_ip"] for row in map(json.loads, open(sys.argv[1])) if row["alert_at"]}
found, members = {}, set()
for _ in range(150):
    if os.path.exists(sys.argv[2]):
        events = [json.loads(line) for line in open(sys.argv[2]) if line.endswith("\n")]
        # The latest state of each, as in the search of docs/containers.md.
        found = {event["fields"]["src_ip"]: event for event in events}
        # Of a network with more than five scanners, the later ones are members of one finding.
        members = {
            member["source"]
            for event in events
            for member in event["event"].get("members", [])
            if "/" in event["fields"]["src_ip"]
        }
    if expected <= set(found) | members:
        break
    time.sleep(0.2)
print(f"{'src_ip':20} {'count':>5}  {'country':20} agent")
for address, event in sorted(found.items()):
    assert event["sourcetype"] == "auditwatch:finding", event
    assert event["index"] == "k8s_findings" and event["host"] == "demo", event
    fields = event["fields"]
    agents = ", ".join(fields.get("userAgent", []))
    print(f"{address:20} {event['event']['count']:5}  {fields.get('Country', '-'):20} {agents[:60]}")
addresses = {source for source in found if "/" not in source}
missing = expected - addresses - members
# An address with one finding of another kind, such as an anonymous success, need not have scanned.
scans = "f9cadf4e-df22-4f4e-a08f-9d3344c2165d"
others = {source for source in addresses - expected if found[source]["event"]["rule_id"] == scans}
if missing or others:
    sys.exit(f"missing: {sorted(missing)}, not expected: {sorted(others)}")
print(f"by-hand.sh: {len(expected)} addresses, as in {os.path.basename(sys.argv[1])}")
PYTHON
