#!/usr/bin/env python3
"""Lints the chart, renders it with each file of its ci folder, and writes manifests and configurations to a folder.

    deploy/helm/render.py FOLDER

Uses the SDK of Helm (helm-python-sdk), so it needs no helm. Checks also that wrong values are refused, and that a
configuration is merged as documented.
"""

import pathlib
import sys

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
            (OUT / f"{name}.manifests.yaml").write_text("---\n".join(manifests))
            objects = [o for text in manifests for o in yaml.safe_load_all(text) if o]
            config = next(o for o in objects if o["kind"] == "ConfigMap")["data"]["config.yaml"]
            (OUT / f"{name}.config.yaml").write_text(config)
            check(name, objects, yaml.safe_load(config))
            print(f"{name}: {', '.join(o['kind'] for o in objects)}")
        refused(chart, "splunk.endpoint is required", {"splunk": {"existingSecret": "auditwatch"}})
        refused(chart, "splunk.existingSecret is required", {"splunk": {"endpoint": "https://splunk.example.com:8088"}})
        refused(chart, "replicas", with_(replicas=2))
        refused(chart, "endpoint", {"splunk": {"endpoint": "splunk:8088", "existingSecret": "auditwatch"}})
        refused(chart, "digest", with_(image={"digest": "latest"}))
        refused(chart, "trustedProxies", with_(trustedProxies=["balancer"]))
        # Helm would write them as they are, and the API server would refuse them later, in words of Go.
        refused(chart, "podAnnotations", with_(podAnnotations={"prometheus.io/scrape": True}))
        refused(chart, "extraEnv", with_(extraEnv=[{"name": "N", "value": 1}]))
        # Names that YAML would take for something else.
        odd = {"splunk": MINIMAL["splunk"] | {"existingSecret": "12345", "existingSecretKey": "yes"}, "priorityClassName": "1"}
        text = chart.render(odd, name="auditwatch", namespace="auditwatch")
        pod = next(yaml.safe_load(t) for path, t in text.items() if path.endswith("deployment.yaml"))["spec"]["template"]["spec"]
        assert pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "12345", "key": "yes"}, pod
        assert pod["priorityClassName"] == "1", pod


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
