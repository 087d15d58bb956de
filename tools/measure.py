#!/usr/bin/env python3
"""How heavy auditwatch is: crates, size of the binary, time of a cold release build, lines of code.

    tools/measure.py               crates and lines
    tools/measure.py --build       also a cold release build on two cores, and the binary it makes

Prints a table in Markdown; docs/decisions/ keeps such tables from before and after a change. The
build goes into a temporary target folder. Lines are those of src/ that hold code: no comments, no
blank lines, no tests, no generated code. For another checkout: --root PATH. CPU per record is
compared by `cargo test --release --test load`.
"""

import argparse
import os
import pathlib
import re
import subprocess
import tempfile
import time


def run(command, root, **options):
    return subprocess.run(command, cwd=root, check=True, text=True, **options)


def crates(root, edges):
    """Crates by name and version that a build compiles, without our own."""
    tree = run(
        ["cargo", "tree", "--locked", "-e", edges, "--prefix", "none"], root, capture_output=True
    ).stdout
    found = {" ".join(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    return len(found) - 1


def duplicates(root):
    """Crates that are there in more than one version."""
    tree = run(
        ["cargo", "tree", "--locked", "-e", "normal,build", "--prefix", "none"],
        root,
        capture_output=True,
    ).stdout
    found = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    names = [name for name, _ in found]
    return sorted({name for name in names if names.count(name) > 1})


def code_lines(path):
    text = path.read_text(encoding="utf-8")
    text = text.split("#[cfg(test)]\nmod tests {")[0]
    lines = (line.strip() for line in text.splitlines())
    return sum(1 for line in lines if line and not line.startswith("//"))


def is_test(path):
    return path.name == "tests.rs" or "tests" in path.parent.parts


def rooms(root):
    """Lines of code for each room of src/: a folder with the file beside it, or a file."""
    found = {}
    source = root / "src"
    for path in sorted(source.rglob("*.rs")):
        inner = path.relative_to(source)
        if is_test(inner) or (inner.parts[0] == "proto" and len(inner.parts) > 1):
            continue
        room = re.sub(r"\.rs$", "", inner.parts[0])
        files, lines = found.get(room, (0, 0))
        found[room] = (files + 1, lines + code_lines(path))
    return found


def build(root):
    """Seconds of wall clock and of CPU for a cold release build on two cores, and bytes."""
    with tempfile.TemporaryDirectory(prefix="measure-") as target:
        environment = dict(os.environ, CARGO_TARGET_DIR=target, CARGO_INCREMENTAL="0")
        run(["cargo", "fetch", "--locked"], root)
        before, begin = os.times(), time.monotonic()
        cores = sorted(os.sched_getaffinity(0))[:2]
        run(
            ["cargo", "build", "--locked", "--offline", "--release", "--jobs", "2"],
            root,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        seconds, after = time.monotonic() - begin, os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])
        size = (pathlib.Path(target) / "release" / "auditwatch").stat().st_size
    return seconds, cpu, size


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--build", action="store_true", help="measure a cold release build")
    arguments.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent)
    arguments = arguments.parse_args()
    root = arguments.root.resolve()

    print("| measure | value |\n|---|---|")
    print(f"| crates of a build, with those of build scripts and macros | {crates(root, 'normal,build')} |")
    print(f"| crates in the binary and their macros | {crates(root, 'normal')} |")
    print(f"| crates in two versions | {', '.join(duplicates(root)) or 'none'} |")
    if arguments.build:
        seconds, cpu, size = build(root)
        print(f"| cold release build on two cores | {seconds:.0f} s ({cpu:.0f} s of CPU) |")
        print(f"| release binary | {size / 1e6:.1f} MB |")
    found = rooms(root)
    print("\n| room | files | lines of code |\n|---|---|---|")
    for room, (files, lines) in sorted(found.items(), key=lambda item: -item[1][1]):
        print(f"| {room} | {files} | {lines} |")
    files, lines = (sum(column) for column in zip(*found.values()))
    print(f"| all | {files} | {lines} |")


if __name__ == "__main__":
    main()
