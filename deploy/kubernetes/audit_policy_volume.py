#!/usr/bin/env python3
"""What audit-policy.yaml keeps of the recordings in tests/data, and that no finding is missed.

    deploy/kubernetes/audit_policy_volume.py [--check docs/kubernetes.md] [--auditwatch BINARY]

Applies the policy to each event as the API server would: the first rule that matches decides, and an event without a user
matches no rule with users or groups. Prints events and bytes before and after. With --auditwatch, scans both and compares
the results. With --check, fails if the table is not in that page. Needs PyYAML.
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import yaml

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = HERE.parent.parent / "tests/data/corpus"
KNOWN = {"level", "users", "userGroups", "verbs", "omitStages"}


def events(path):
    """The events of a recording, one by one, EventLists opened."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            value = json.loads(line)
            yield from value["items"] if "items" in value else [value]


def matches(rule, event):
    if unknown := set(rule) - KNOWN:
        sys.exit(f"this script does not know {unknown} of a rule")
    user = event.get("user") or None
    if "users" in rule and (user is None or user.get("username") not in rule["users"]):
        return False
    if "userGroups" in rule and (user is None or not set(user.get("groups", [])) & set(rule["userGroups"])):
        return False
    return "verbs" not in rule or event.get("verb") in rule["verbs"]


def left_of(policy, event):
    """The event as it would be logged, or None."""
    for rule in policy["rules"]:
        if matches(rule, event):
            omitted = policy.get("omitStages", []) + rule.get("omitStages", [])
            if rule["level"] == "None" or event["stage"] in omitted:
                return None
            if rule["level"] != "Metadata":
                sys.exit(f"this script does not know the level {rule['level']}")
            bodies = ("requestObject", "responseObject")
            return {key: value for key, value in event.items() if key not in bodies} | {"level": "Metadata"}
    return None


def size(event):
    return len(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()) + 1


def rows(binary, semantics, path):
    scan = [binary, "scan", "--output", "ndjson", "--semantics", semantics, str(path)]
    return subprocess.run(scan, check=True, capture_output=True, text=True).stdout


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check")
    arguments.add_argument("--auditwatch")
    options = arguments.parse_args()
    policy = yaml.safe_load((HERE / "audit-policy.yaml").read_text())

    table = ["| recording | events | kept | bytes | kept |", "|---|---|---|---|---|"]
    total = [0, 0, 0, 0]
    for path in sorted(CORPUS.glob("*.ndjson.gz")):
        name = path.name.removesuffix(".ndjson.gz")
        everything = list(events(path))
        rest = [left for event in everything if (left := left_of(policy, event))]
        numbers = [len(everything), len(rest), sum(map(size, everything)), sum(map(size, rest))]
        total = [a + b for a, b in zip(total, numbers)]
        table.append(row(f"`{name}`", numbers))
        if options.auditwatch:
            with tempfile.NamedTemporaryFile("w", suffix=".ndjson") as left:
                for event in rest:
                    left.write(json.dumps(event, ensure_ascii=False) + "\n")
                left.flush()
                for semantics in ("native", "escu"):
                    if rows(options.auditwatch, semantics, path) != rows(options.auditwatch, semantics, left.name):
                        sys.exit(f"{name}: what {semantics} finds is not the same under the policy")
    table.append(row("all", total))
    print("\n".join(table))
    if options.check and "\n".join(table) not in pathlib.Path(options.check).read_text():
        sys.exit(f"{options.check} does not have this table")


def row(name, numbers):
    of, left, before, after = numbers
    return f"| {name} | {of:,} | {left:,} ({left / of:.0%}) | {before:,} | {after:,} ({after / before:.0%}) |"


main()
