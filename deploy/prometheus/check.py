#!/usr/bin/env python3
"""Holds rules and dashboard of the chart against each other, the metrics that exist, and docs/operations.md.

    deploy/prometheus/check.py [--update] [--promtool PROMTOOL]

--update writes the list of alerts in docs/operations.md, which is that of the rule file. With promtool, the rules are
checked and tested, and every query is parsed.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FILES = ROOT / "deploy/helm/auditwatch/files"
PAGE = ROOT / "docs/operations.md"
BEGIN, END = "<!-- alerts -->\n", "<!-- end of alerts -->\n"
RULES = FILES / "rules.yaml"
# What Grafana puts in.
INTERVALS = {"$__rate_interval": "5m", "$__range": "1d", "$job": ".*", "$instance": ".*"}


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries():
    for panel in json.loads((FILES / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in INTERVALS.items():
                query = query.replace(name, value)
            yield f"dashboard: {panel['title']}", query
    for rule in rules():
        yield rule["alert"], rule["expr"]


def metrics():
    """The metrics of the page, which a test compares with those that exist, by their labels."""
    found = {}
    for entry in re.findall(r"^- `(\w+)` \((.*?)\):", PAGE.read_text(), re.M | re.S):
        name, about = entry
        if name.startswith(("auditwatch_", "otelcol_")):
            found[name] = set(re.findall(r"`([\w.]+)`", about)) | {"job", "instance"}
            if about.startswith("histogram"):
                found |= {name + end: found[name] | {"le"} for end in ("_bucket", "_sum", "_count")}
    return found


def check_names(known):
    for place, query in queries():
        bare = re.sub(r'"[^"]*"', '""', query)
        names = set(re.findall(r"\b(?:auditwatch|otelcol)_\w+", bare))
        if not names:
            sys.exit(f"{place}: asks for no metric: {query}")
        if unknown := names - set(known):
            sys.exit(f"{place}: no such metric: {', '.join(sorted(unknown))}")
        labels = set.union(*(known[name] for name in names))
        for selected in re.findall(r"\{([^}]*)\}", bare):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selected))
            if wrong := used - labels:
                sys.exit(f"{place}: no such label: {', '.join(sorted(wrong))}")
        for listed in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", bare):
            used = {label.strip() for label in listed.split(",") if label.strip()}
            if wrong := used - labels:
                sys.exit(f"{place}: no such label: {', '.join(sorted(wrong))}")


def listed():
    lines = []
    for rule in rules():
        about = f"**{rule['alert']}**, `{rule['expr']}`"
        if "for" in rule:
            about += f" for {rule['for']}"
        text = f"- {about} ({rule['labels']['severity']}): {rule['annotations']['description']}"
        lines += textwrap.wrap(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n" + "\n".join(lines) + "\n\n"


def check_page(update):
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    wanted = before + BEGIN + listed() + END + after
    if update:
        PAGE.write_text(wanted)
    elif page != wanted:
        sys.exit("docs/operations.md has other alerts than the rule file, run deploy/prometheus/check.py --update")


def run(promtool, *arguments):
    ran = subprocess.run([promtool, *arguments], capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"promtool {' '.join(arguments)}: {ran.stdout}{ran.stderr}")


def check_with(promtool):
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    with tempfile.TemporaryDirectory() as folder:
        tests = pathlib.Path(folder) / "tests.yaml"
        tests.write_text((ROOT / "deploy/prometheus/rules-test.yaml").read_text().replace("RULES", str(RULES)))
        run(promtool, "test", "rules", str(tests))
    for _, query in queries():
        run(promtool, "--experimental", "promql", "format", query)
    print(f"prometheus: promtool takes {len(rules())} rules and {len(list(queries()))} queries")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--promtool")
    arguments = parser.parse_args()
    known = metrics()
    check_names(known)
    check_page(arguments.update)
    print(f"prometheus: rules and dashboard ask for metrics that exist ({len(known)})")
    if arguments.promtool:
        check_with(arguments.promtool)


main()
