#!/usr/bin/env python3
"""Makes configurations for the Collector of the tests from otel-config/feeds, with what it does not have replaced.

    deploy/feeds.py FOLDER

A receiver of a cloud becomes otlp, and transform and text_encoding are left out: they are not in that Collector
(tests/collector/README.md). That of aks-kafka.yaml is there, and tests/it/collector_feeds.rs runs it.
"""

import pathlib
import sys

import yaml

FEEDS = pathlib.Path(__file__).resolve().parent.parent / "otel-config/feeds"
OUT = pathlib.Path(sys.argv[1])


def merged(into, values):
    into = dict(into)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(into.get(key), dict)
        into[key] = merged(into[key], value) if both else value
    return into


def main():
    shared = yaml.safe_load((FEEDS / "to-auditwatch.yaml").read_text())
    for file in sorted(FEEDS.glob("*.yaml")):
        feed = yaml.safe_load(file.read_text())
        if file.name == "to-auditwatch.yaml" or "kind" in feed:
            continue
        config = merged(feed, shared)
        (receiver,) = config["receivers"]
        settings = config["receivers"].pop(receiver)
        assert settings.get("storage", "file_storage") in config["extensions"], f"{file.name}: storage"
        (pipeline,) = config["service"]["pipelines"].values()
        assert pipeline["receivers"] == [receiver] and pipeline["exporters"] == ["otlp_grpc/auditwatch"]
        if receiver.startswith("kafka"):
            config["receivers"][receiver] = settings
        else:
            config["receivers"]["otlp"] = {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}
            pipeline["receivers"] = ["otlp"]
        config["extensions"].pop("text_encoding", None)
        config["service"]["extensions"] = [one for one in config["service"]["extensions"] if one in config["extensions"]]
        pipeline["processors"] = [one for one in pipeline["processors"] if not one.startswith("transform")]
        config["processors"] = {one: config["processors"][one] for one in pipeline["processors"]}
        names = [step["key"] for one in config["processors"].values() for step in one["attributes"]]
        assert "k8s.cluster.name" in names, f"{file.name}: names no cluster"
        queue = config["exporters"]["otlp_grpc/auditwatch"]["sending_queue"]
        assert queue["storage"] in config["service"]["extensions"], f"{file.name}: queue"
        (OUT / file.name).write_text(yaml.safe_dump(config, sort_keys=False))


main()
