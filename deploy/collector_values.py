#!/usr/bin/env python3
"""Makes a Collector configuration of otel-config/splunk-chart-values.yaml, as the chart does it for our pipeline.

    deploy/collector_values.py > FILE

Where the chart itself is at hand, deploy/splunk_chart.py renders it. This script adds the smallest form of what the templates of the chart add: file_storage,
memory_limiter, resource, and the pipeline logs/host with every receiver of extraFileLogs.
"""

import pathlib

import yaml

repository = pathlib.Path(__file__).resolve().parent.parent
values = yaml.safe_load((repository / "otel-config/splunk-chart-values.yaml").read_text())
own = values["agent"]["config"]
receivers = values["logsCollection"]["extraFileLogs"]
assert "tolerations" not in values and "extraVolumes" not in values["agent"], "no list of the chart is replaced"
assert set(own["service"]["pipelines"]) == {"logs/auditwatch"}, "no pipeline of the chart is touched"
assert not set(own) - {"exporters", "processors", "service"}, "nothing of the chart is touched"

config = {
    "extensions": {"file_storage": {"directory": "/tmp", "create_directory": True}},
    "receivers": receivers,
    "processors": {
        "memory_limiter": {"check_interval": "2s", "limit_mib": 400},
        "batch": {},
        "resource": {"attributes": [{"action": "upsert", "key": "k8s.cluster.name", "value": "check"}]},
    }
    | own["processors"],
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
