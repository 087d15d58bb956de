#!/usr/bin/env python3
"""Renders the Splunk OpenTelemetry Collector chart with our values, for many installations, and checks the agents.

    deploy/splunk_chart.py CHART FOLDER

CHART is the chart itself, unpacked (helm pull --untar splunk-otel-collector-chart/splunk-otel-collector). FOLDER gets
a configuration for each installation: the pipeline logs/auditwatch of the agent with all it refers to, as far as the
Collector of the tests has the components.
"""

import itertools
import pathlib
import shutil
import sys
import tempfile

import helm_python as helm
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CHART, OUT = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
PLATFORM = {"endpoint": "https://splunk.example.com:8088/services/collector", "token": "check"}
OBSERVABILITY = {"realm": "us0", "accessToken": "check"}
# Components that the Collector of the tests does not have (tests/collector/builder.yaml).
MISSING = ("resource_detection/",)


def ours(name):
    return yaml.safe_load((REPOSITORY / f"otel-config/{name}").read_text())


def merged(into, values):
    """As Helm merges values files: maps key by key, anything else is replaced."""
    into = dict(into)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(into.get(key), dict)
        into[key] = merged(into[key], value) if both else value
    return into


def installations():
    distributions = ["", "openshift", "eks", "eks/auto-mode", "aks", "gke", "gke/autopilot"]
    options = {
        "plain": {},
        "rename": {"splunkPlatform": {"fieldNameConvention": {"renameFieldsSck": True, "keepOtelConvention": False}}},
        "queue": {"splunkPlatform": {"sendingQueue": {"persistentQueue": {"enabled": True}}}},
        "gateway": {"gateway": {"enabled": True}},
        "non-root": {"agent": {"securityContext": {"runAsUser": 20000, "runAsGroup": 20000}}},
        "no-drop": {"featureGates": {"noDropLogsPipeline": True}},
    }
    for distribution, (option, more), logs in itertools.product(distributions, options.items(), [True, False]):
        if not logs and option in ("rename", "queue", "non-root", "no-drop"):
            continue
        for named in (True, False) if distribution == "openshift" else (True,):
            values = {"distribution": distribution} | ({"clusterName": "prod"} if named else {})
            if logs:
                values["splunkPlatform"] = PLATFORM | {"logsEnabled": True}
            else:
                values["splunkObservability"] = OBSERVABILITY
            files = ["splunk-chart-values.yaml"]
            files += ["splunk-chart-values-without-logs.yaml"] if not logs else []
            files += ["splunk-chart-values-openshift.yaml"] if distribution == "openshift" else []
            if not distribution and logs:
                yield f"rancher-{option}", merged(values, more), [*files, "splunk-chart-values-rancher.yaml"]
            values = merged(values, more)
            name = "-".join(["other" if not distribution else distribution.replace("/", "."), option])
            name += ("" if logs else "-without-logs") + ("" if named else "-unnamed")
            yield name, values, files


def agent(chart, values):
    texts = chart.render(values, name="splunk", namespace="splunk")
    objects = [o for path, text in texts.items() if path.endswith(".yaml") for o in yaml.safe_load_all(text) if o]
    config = next(o for o in objects if o["kind"] == "ConfigMap" and "relay" in o["data"] and "agent" in o["metadata"]["name"])
    pod = next(o for o in objects if o["kind"] == "DaemonSet")["spec"]["template"]["spec"]
    return yaml.safe_load(config["data"]["relay"]), pod


def check(name, values, config, pod, before, pod_before):
    pipeline = config["service"]["pipelines"]["logs/auditwatch"]
    for kind in ("receivers", "processors", "exporters"):
        missing = [one for one in pipeline[kind] if one not in config[kind]]
        assert not missing, f"{name}: {kind} that are not there: {missing}"
    receiver = config["receivers"]["file_log/kube-audit"]
    assert receiver["retry_on_failure"]["enabled"] and receiver["retry_on_failure"]["max_elapsed_time"] == "0s"
    for storage in (receiver["storage"], config["exporters"]["otlp_grpc/auditwatch"]["sending_queue"]["storage"]):
        assert storage in config["extensions"] and storage in config["service"]["extensions"], f"{name}: {storage}"
    # What was there is there, unchanged, but for the receiver in logs/host.
    assert set(before["service"]["extensions"]) <= set(config["service"]["extensions"]), f"{name}: extensions {before['service']['extensions']}"
    for pipe, parts in before["service"]["pipelines"].items():
        assert config["service"]["pipelines"][pipe] == parts, f"{name}: {pipe}"
    assert pod.get("tolerations") == pod_before.get("tolerations"), f"{name}: tolerations"
    # The log and the positions are mounted, once.
    mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    assert len(mounts) == len(set(mounts)), f"{name}: mounted twice: {mounts}"
    directory = config["extensions"]["file_storage"]["directory"]
    for path in (receiver["include"][0], directory):
        assert any(path == mount or path.startswith(mount + "/") for mount in mounts), f"{name}: {path} is not mounted"
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(volumes) == len(set(volumes)), f"{name}: {volumes}"
    # The name of the cluster arrives.
    named = attributes(config, pipeline["processors"], "prod" if "clusterName" in values else "detected")
    wanted = values.get("clusterName", "detected")
    assert named.get("k8s.cluster.name") == wanted, f"{name}: {named}"


def attributes(config, processors, detected):
    """What the processors of the pipeline make of a resource, as far as they are about names of clusters."""
    resource = {}
    for processor in processors:
        settings = config["processors"][processor]
        if processor.startswith("resource_detection"):
            resource["k8s.cluster.name"] = detected
        for step in settings.get("attributes", []) if processor.startswith("resource") else []:
            value = step.get("value", resource.get(step.get("from_attribute")))
            if step["action"] == "delete":
                resource.pop(step["key"], None)
            elif value is not None and (step["action"] == "upsert" or step["key"] not in resource):
                resource[step["key"]] = value
    return resource


def cut(config):
    """The pipeline alone, with what it refers to and what the Collector of the tests has."""
    pipeline = dict(config["service"]["pipelines"]["logs/auditwatch"])
    pipeline["processors"] = [one for one in pipeline["processors"] if not one.startswith(MISSING)]
    storage = dict(config["extensions"]["file_storage"])
    small = {kind: {one: config[kind][one] for one in pipeline[kind]} for kind in ("receivers", "processors", "exporters")}
    small["extensions"] = {"file_storage": storage | {"directory": "/tmp"}}
    small["service"] = {"extensions": ["file_storage"], "pipelines": {"logs/auditwatch": pipeline}}
    return small


def main():
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        # Charts within charts are not rendered, and are not always there.
        copy = pathlib.Path(folder) / "chart"
        shutil.copytree(CHART, copy, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
        about = yaml.safe_load((copy / "Chart.yaml").read_text())
        about.pop("dependencies", None)
        (copy / "Chart.yaml").write_text(yaml.safe_dump(about))
        with helm.Chart.load(str(copy)) as chart:
            for name, values, files in installations():
                before, pod_before = agent(chart, values)
                whole = values
                for file in files:
                    whole = merged(whole, ours(file))
                chart.validate_schema(whole)
                config, pod = agent(chart, whole)
                with_host = before["service"]["pipelines"]
                if "logs/host" in config["service"]["pipelines"]:
                    with_host = {key: value for key, value in with_host.items() if key != "logs/host"}
                before["service"]["pipelines"] = with_host
                check(name, values, config, pod, before, pod_before)
                (OUT / f"{name}.yaml").write_text(yaml.safe_dump(cut(config), sort_keys=False))
                count += 1
    print(f"splunk chart {about['version']}: {count} installations are in order")


main()
