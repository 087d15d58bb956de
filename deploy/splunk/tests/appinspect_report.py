"""Prints the findings of an AppInspect report; fails on failures and errors, and on a report without checks."""

import json
import sys

BAD = ("failure", "error")
SHOWN = (*BAD, "warning", "future", "manual_check")


def main(path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)["reports"][0]
    for group in report["groups"]:
        for check in group["checks"]:
            if check["result"] in SHOWN:
                for message in check["messages"]:
                    print(f"  {check['result']}: {check['name']}: {message['message']}")
    summary = report["summary"]
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(summary.items())))
    if any(summary.get(name) for name in BAD) or not summary.get("success"):
        sys.exit("  AppInspect refuses the add-on")


if __name__ == "__main__":
    main(sys.argv[1])
