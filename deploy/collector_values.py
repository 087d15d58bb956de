#!/usr/bin/env python3
"""Makes of otel-config/splunk-chart-values.yaml what the chart makes of it, as far as our pipeline goes: a Collector configuration.

    deploy/collector_values.py > FILE

The chart itself is not here. What it adds (file_storage, memory_limiter, resource, the pipeline logs/host with every receiver of
extraFileLogs) stands below in its least form, as read in the chart's templates.
"""

import pathlib

import yaml

values = yaml.safe_load((pathlib.Path(__file__).resolve().parent.parent / "otel-config/splunk-chart-values.yaml").read_text())
own = values["agent"]["config"]
receivers = values["logsCollection"]["extraFileLogs"]
mounts = {mount["name"] for mount in values["agent"]["extraVolumeMounts"]}
assert mounts == {volume["name"] for volume in values["agent"]["extraVolumes"]}, "each volume is mounted"
assert set(own["service"]["pipelines"]) == {"logs/auditwatch"}, "no pipeline of the chart is touched"
assert not set(own) - {"exporters", "service"}, "nothing of the chart is touched"

config = {
    "extensions": {"file_storage": {"directory": "/tmp", "create_directory": True}},
    "receivers": receivers,
    "processors": {
        "memory_limiter": {"check_interval": "2s", "limit_mib": 400},
        "batch": {},
        "resource": {"attributes": [{"action": "upsert", "key": "k8s.cluster.name", "value": "check"}]},
    },
    "exporters": own["exporters"] | {"debug/platform_logs": {}},
    "service": {
        "extensions": ["file_storage"],
        "pipelines": own["service"]["pipelines"]
        | {
            "logs/host": {
                "receivers": list(receivers),
                "processors": ["memory_limiter", "batch", "resource"],
                "exporters": ["debug/platform_logs"],
            }
        },
    },
}
print(yaml.safe_dump(config, sort_keys=False))
