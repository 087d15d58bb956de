#!/usr/bin/env python3
"""Lints the chart, renders it with each file of its ci folder, and writes manifests and configurations to a folder.

    deploy/helm/render.py FOLDER

Uses the SDK of Helm (helm-python-sdk), so it needs no helm. Checks also that wrong values are refused, and that a
configuration is merged as documented.
"""

import pathlib
import shutil
import sys
import tempfile

import helm_python as helm
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE / "auditwatch"
OUT = pathlib.Path(sys.argv[1])
MINIMAL = {"splunk": {"endpoint": "https://splunk.example.com:8088", "existingSecret": "auditwatch"}}


def refused(chart, why, values):
    try:
        chart.validate_schema(values)
        chart.render(values, name="auditwatch", namespace="auditwatch")
    except helm.HelmError as error:
        if why not in str(error):
            sys.exit(f"refused for another reason than {why!r}: {error}")
        return
    sys.exit(f"these values should be refused: {values}")


def with_(**more):
    return MINIMAL | more


def main():
    # An icon is all that Helm may miss.
    lint = helm.lint(str(CHART), values=MINIMAL, strict=True)
    if lint["errors"] or [m for m in lint["messages"] if "icon is recommended" not in m["error"]]:
        sys.exit(f"lint: {lint}")
    with helm.Chart.load(str(CHART)) as chart:
        for file in sorted((CHART / "ci").glob("*-values.yaml")):
            values = yaml.safe_load(file.read_text())
            chart.validate_schema(values)
            rendered = chart.render(values, name="auditwatch", namespace="auditwatch")
            name = file.name.removesuffix("-values.yaml")
            manifests = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml") and text.strip()]
            objects = [o for text in manifests for o in yaml.safe_load_all(text) if o]
            # Schemas of Kubernetes have nothing of operators.
            own = [o for o in objects if not o["apiVersion"].startswith(("monitoring.coreos.com/", "cilium.io/"))]
            (OUT / f"{name}.manifests.yaml").write_text(yaml.safe_dump_all(own))
            config = next(o for o in objects if o["kind"] == "ConfigMap")["data"]["config.yaml"]
            (OUT / f"{name}.config.yaml").write_text(config)
            check(name, objects, yaml.safe_load(config))
            print(f"{name}: {', '.join(o['kind'] for o in objects)}")
        parents()
        refused(chart, "splunk.endpoint is required", {"splunk": {"existingSecret": "auditwatch"}})
        refused(chart, "splunk.existingSecret is required", {"splunk": {"endpoint": "https://splunk.example.com:8088"}})
        refused(chart, "replicas", with_(replicas=2))
        refused(chart, "endpoint", {"splunk": {"endpoint": "splunk:8088", "existingSecret": "auditwatch"}})
        refused(chart, "digest", with_(image={"digest": "latest"}))
        refused(chart, "trustedProxies", with_(trustedProxies=["balancer"]))
        # Helm would write them as they are, and the API server would refuse them later, in words of Go.
        refused(chart, "podAnnotations", with_(podAnnotations={"prometheus.io/scrape": True}))
        refused(chart, "extraEnv", with_(extraEnv=[{"name": "N", "value": 1}]))
        odd_names(chart)
        families_and_ports(chart)
        # Names that YAML would take for something else.
        odd = {"splunk": MINIMAL["splunk"] | {"existingSecret": "12345", "existingSecretKey": "yes"}, "priorityClassName": "1"}
        text = chart.render(odd, name="auditwatch", namespace="auditwatch")
        pod = next(yaml.safe_load(t) for path, t in text.items() if path.endswith("deployment.yaml"))["spec"]["template"]["spec"]
        assert pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "12345", "key": "yes"}, pod
        assert pod["priorityClassName"] == "1", pod


def rendered(chart, values, name="auditwatch", namespace="auditwatch"):
    chart.validate_schema(values)
    texts = chart.render(values, name=name, namespace=namespace)
    objects = [o for path, text in texts.items() if path.endswith(".yaml") for o in yaml.safe_load_all(text) if o]
    return {o["kind"]: o for o in objects}


def everything(value):
    """Every name, namespace and label value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("matchLabels", "labels", "selector") and isinstance(inner, dict):
                yield from (v for v in inner.values() if not isinstance(v, (dict, list)))
            if key in ("name", "namespace", "claimName", "image", "type", "imagePullPolicy") and not isinstance(inner, (dict, list)):
                yield inner
            yield from everything(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything(inner)


def odd_names(chart):
    """Whatever a user names stays a text."""
    on = {"enabled": True}
    for odd in ("12345", "1e3", "0x1f", "true", "on", "null", "2026-11-27", "1.0"):
        values = MINIMAL | {"fullnameOverride": odd, "nameOverride": odd, "image": {"repository": odd, "tag": odd}}
        values |= {"splunk": MINIMAL["splunk"] | {"existingSecret": odd, "existingSecretKey": odd, "index": odd}}
        values |= {"clusterName": odd, "priorityClassName": odd, "persistence": {"storageClass": odd}}
        values |= {"podLabels": {"a": odd}, "podAnnotations": {"a": odd}, "networkPolicy": {"cilium": True}}
        values |= {"serviceMonitor": on | {"labels": {"a": odd}}, "prometheusRule": on, "grafanaDashboard": on}
        objects = rendered(chart, values, name=odd if odd[0].isdigit() and "." not in odd else "auditwatch", namespace=odd)
        wrong = [(kind, text) for kind, o in objects.items() for text in everything(o) if not isinstance(text, str)]
        assert not wrong, f"{odd}: no texts: {wrong}"
        config = yaml.safe_load(objects["ConfigMap"]["data"].get("config.yaml", "{}"))
        assert not config or config["processors"]["detection"]["cluster"] == odd


def families_and_ports(chart):
    def ports(**values):
        policy = rendered(chart, values)["NetworkPolicy"]["spec"]["egress"]
        return [port["port"] for rule in policy[1:] for port in rule["ports"]]

    def splunk(endpoint):
        return {"endpoint": endpoint, "existingSecret": "auditwatch"}

    assert ports(splunk=splunk("https://splunk.example.com:9088")) == [9088]
    assert ports(splunk=splunk("https://http-inputs.example.com/services/collector")) == [443]
    assert ports(splunk=splunk("https://[2001:db8::9]:9088")) == [9088]
    assert ports(splunk=splunk("http://splunk")) == [80]
    other = {"otlp_grpc": {"endpoint": "collector:4317"}, "splunk_hec/risk": {"endpoint": "${env:URL}"}}
    assert ports(**with_(config={"exporters": other})) == [4317, 8088, 443]
    assert ports(**with_(extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}])) == [8088, 3128]
    assert ports(**with_(networkPolicy={"splunk": {"ports": [1]}})) == [1, 8088]

    grpc = rendered(chart, with_(otlp={"http": {"enabled": False}}, networkPolicy={"cilium": True}))
    assert [port["name"] for port in grpc["Service"]["spec"]["ports"]] == ["otlp-grpc", "metrics"]
    container = grpc["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert "otlp-http" not in [port["name"] for port in container["ports"]]
    assert [port["port"] for port in grpc["NetworkPolicy"]["spec"]["ingress"][0]["ports"]] == ["otlp-grpc"]
    cilium = grpc["CiliumNetworkPolicy"]["spec"]["ingress"][0]
    assert cilium["fromEntities"] == ["host", "remote-node"]
    assert [port["port"] for port in cilium["toPorts"][0]["ports"]] == ["4317", "13133"]
    assert grpc["Service"]["spec"]["ipFamilyPolicy"] == "PreferDualStack"
    refused(chart, "otlp", with_(otlp={"grpc": {"enabled": False}, "http": {"enabled": False}}))
    refused(chart, "config.service.pipelines.logs.exporters is required", {"splunk": {"enabled": False}})

    rules = rendered(chart, with_(prometheusRule={"enabled": True, "without": ["AuditwatchNoLogs"]}))["PrometheusRule"]
    names = [rule["alert"] for rule in rules["spec"]["groups"][0]["rules"]]
    assert "AuditwatchNotDelivering" in names and "AuditwatchNoLogs" not in names
    assert all(isinstance(rule["expr"], str) for rule in rules["spec"]["groups"][0]["rules"])


def parents():
    """What a parent chart takes away is gone, or the rendering fails: Helm loses null on its way from its values."""
    tls = {"tls": {"cert_file": "/a/tls.crt", "key_file": "/a/tls.key"}, "auth": {"authenticator": "bearertokenauth"}}
    extension = {"bearertokenauth": {"filename": "/a/tokens"}}
    service = {"extensions": ["health_check", "bearertokenauth", "file_storage"]}

    def config(http):
        protocols = {"grpc": tls} | http
        return {"extensions": extension, "receivers": {"otlp": {"protocols": protocols}}, "service": service}

    own = {"exporters": {"splunk_hec": None, "debug": {}}, "service": {"pipelines": {"logs": {"exporters": ["debug"]}}}}
    for values, wanted in [
        (with_(config=config({"http": None})), "otlp.http.enabled: false"),
        (with_(config=config({"http": False})), ["grpc"]),
        (with_(config=config({}), otlp={"http": {"enabled": False}}), ["grpc"]),
        (with_(config=config({"http": tls})), ["grpc", "http"]),
        ({"splunk": {"existingSecret": "auditwatch"}, "config": own}, ["debug"]),
        ({"splunk": {"enabled": False}, "config": own}, ["debug"]),
    ]:
        with tempfile.TemporaryDirectory() as folder:
            parent = pathlib.Path(folder) / "parent"
            shutil.copytree(CHART, parent / "charts/auditwatch")
            (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 0.1.0\n")
            (parent / "values.yaml").write_text(yaml.safe_dump({"auditwatch": values}))
            with helm.Chart.load(str(parent)) as chart:
                try:
                    texts = chart.render({}, name="parent", namespace="auditwatch")
                except helm.HelmError as error:
                    assert isinstance(wanted, str) and wanted in str(error), (values, error)
                    continue
            config_map = next(text for path, text in texts.items() if path.endswith("configmap.yaml"))
            made = yaml.safe_load(yaml.safe_load(config_map)["data"]["config.yaml"])
            got = list(made["exporters"]) if wanted == ["debug"] else sorted(made["receivers"]["otlp"]["protocols"])
            assert got == wanted, (values, got)
    print("parent charts: what is taken away is gone")


def check(name, objects, config):
    kinds = [o["kind"] for o in objects]
    assert "Secret" not in kinds, "the chart makes no Secret"
    deployment = next(o for o in objects if o["kind"] == "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    pod = deployment["template"]["spec"]
    container = pod["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]
    if name == "minimal":
        assert config["exporters"]["splunk_hec"]["token"] == "${env:SPLUNK_HEC_TOKEN}"
        assert "NetworkPolicy" in kinds
    if name == "full":
        detection = config["processors"]["detection"]
        assert detection["threshold"] == 10 and detection["cluster"] == "prod", detection
        assert detection["trusted_proxies"] == ["10.0.0.0/8", "2001:db8::/32"]
        assert config["service"]["pipelines"]["logs"]["exporters"] == ["splunk_hec", "splunk_hec/risk"]
        assert config["exporters"]["splunk_hec"]["index"] == "k8s_findings"
        assert container["image"].endswith("auditwatch:0.1.0@sha256:" + "0" * 64)
    if name == "own-exporter":
        assert list(config["exporters"]) == ["debug"] and list(config["receivers"]["otlp"]["protocols"]) == ["grpc"]
        assert "trusted_proxies" not in config["processors"]["detection"]
        assert "NetworkPolicy" not in kinds


main()
