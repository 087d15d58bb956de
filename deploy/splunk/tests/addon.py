"""Reads the add-on, and the code it must agree with."""

import functools
import gzip
import json
import pathlib
import re
from datetime import datetime
from xml.etree import ElementTree

from commands import World
from spl import Eval, multi

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
ADDON = HERE.parent / "TA-auditwatch"
FINDING, AUDIT, RISK = "auditwatch:finding", "kube:apiserver-audit", "index=risk"
RISK_FIELDS = {"risk_object", "risk_object_type", "risk_score", "risk_message", "search_name", "threat_object"}


def conf(name):
    """A .conf file: stanza -> key -> value. A backslash at the end of a line goes on with the next one."""
    stanzas, stanza, lines = {}, None, (ADDON / name).read_text(encoding="utf-8").replace("\\\n", " ").split("\n")
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            stanza = line.strip()[1:-1]
            if stanza in stanzas:
                raise ValueError(f"{name}: [{stanza}] stands twice")
            stanzas[stanza] = {}
            continue
        key, equals, value = line.partition("=")
        if not equals or key.strip() in stanzas[stanza]:
            raise ValueError(f"{name}: not a setting, or there twice: {line}")
        stanzas[stanza][key.strip()] = value.strip()
    return stanzas


MACROS = {name: stanza["definition"] for name, stanza in conf("default/macros.conf").items()}
PROPS = conf("default/props.conf")
SAVED = conf("default/savedsearches.conf")
DASHBOARD = ElementTree.parse(ADDON / "default/data/ui/views/auditwatch.xml").getroot()


def proto():
    """Fields of the message Finding, in order: name -> whether it is a list."""
    text = (REPOSITORY / "proto/auditwatch/v1/finding.proto").read_text(encoding="utf-8")
    message = text.split("message Finding {")[1].split("\n}")[0]
    found = re.findall(r"^  (repeated |optional )?(?:map<.+>|[\w.]+) (\w+) = \d+;", message, re.MULTILINE)
    return {name: label == "repeated " for label, name in found}


def indexed():
    """HEC `fields` of a finding, from the exporter and the table of fields: name -> field of the finding."""
    text = (REPOSITORY / "src/exporter/splunk_hec/event.rs").read_text(encoding="utf-8").split("#[cfg(test)]")[0]
    found = dict(re.findall(r'\("([^"]+)", (?:&?finding\.)?(\w+)(?:\.as_str\(\))?\)', text))
    if len(found) != 6:
        raise ValueError(f"event.rs is not understood any more: {found}")
    table = (REPOSITORY / "src/audit/fields.rs").read_text(encoding="utf-8").split("macro_rules! table")[0]
    columns = re.findall(r'list \[(\w+)\], sample \[\w*\], column \["([^"]+)"\]', table)
    if len(columns) < 9:
        raise ValueError(f"fields.rs is not understood any more: {columns}")
    found |= {name: field for field, name in columns}
    return {name: {"Country": "country", "City": "city"}.get(name, field) for name, field in found.items()}


def aliases(props):
    """(field, alias) of a stanza, in order."""
    word = r'(?:"([^"]+)"|(\S+))'
    return [
        (a or b, c or d)
        for key, value in props.items()
        if key.startswith("FIELDALIAS-")
        for a, b, c, d in re.findall(rf"{word} (?:AS|ASNEW) {word}", value)
    ]


def calculated(props):
    return {key[5:]: Eval.of(value) for key, value in props.items() if key.startswith("EVAL-")}


def looked_up(props):
    """(look-up, field it is found by, field it makes, whether it leaves what is there)."""
    found = []
    for key, value in props.items():
        if key.startswith("LOOKUP-"):
            table, by, how, out = re.fullmatch(r"(\w+) (\w+) (OUTPUT|OUTPUTNEW) (\w+)", value).groups()
            found.append((table, by, out, how == "OUTPUTNEW"))
    return found


def names(props):
    """What a stanza of props.conf adds to the fields of an event."""
    return {alias for _, alias in aliases(props)} | set(calculated(props)) | {out for _, _, out, _ in looked_up(props)}


def searched(event, props):
    """An event with the fields that search time adds, in Splunk's order: aliases, calculated fields, look-ups."""
    for name, alias in aliases(props):
        if event.get(alias) is None:
            event[alias] = event.get(name)
    before = dict(event)
    event.update({name: value(before) for name, value in calculated(props).items()})
    for table, by, out, new in looked_up(props):
        if not (new and event.get(out) is not None):
            event[out] = lookup(table).get(str(event.get(by)).lower(), {}).get(out)
    return event


def lookup(table):
    rows = (ADDON / "lookups" / conf("default/transforms.conf")[table]["filename"]).read_text(encoding="utf-8").split()
    head = rows[0].split(",")
    return {row.split(",")[0]: dict(zip(head, row.split(","))) for row in rows[1:]}


def seconds(timestamp):
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def finding_event(raw):
    """A finding as it is found in Splunk: the text, the indexed fields, and what search time adds."""
    finding = json.loads(raw)
    event = {"_raw": raw, "sourcetype": FINDING, "source": "auditwatch", "host": finding.get("cluster") or "hec.example"}
    state = "alert_at" if finding["state"] == "opened" and finding["semantics"] != "escu" else "last_time"
    event["_time"] = seconds(finding[state])
    event["_indextime"] = event["_time"] + 2
    for name, field in indexed().items():
        value = finding.get(field)
        event[name] = multi(v for v in value if v) if isinstance(value, list) else value or None
    return searched(event, PROPS[FINDING])


def flat(value, name="", out=None):
    """The fields that Splunk makes of JSON: a dot between names, {} behind the name of a list."""
    out = {} if out is None else out
    if isinstance(value, dict):
        for key, inner in value.items():
            flat(inner, f"{name}.{key}" if name else key, out)
    elif isinstance(value, list):
        for inner in value:
            flat(inner, f"{name}{{}}", out)
    elif value is not None:
        out.setdefault(name, []).append(str(value).lower() if isinstance(value, bool) else value)
    return out


def audit_event(line):
    event = {name: multi(found) for name, found in flat(json.loads(line)).items()}
    event.update({"_raw": line, "sourcetype": AUDIT, "host": "node-1", "k8s.cluster.name": "prod"})
    event["_time"] = seconds(event["requestReceivedTimestamp"])
    return searched(event, PROPS[AUDIT])


@functools.cache
def recording(name):
    with gzip.open(REPOSITORY / f"tests/data/corpus/{name}.ndjson.gz", "rt", encoding="utf-8", errors="replace") as file:
        return [audit_event(line) for line in file]


def recorded(name):
    return [dict(event) for event in recording(name)]


def findings(name="findings"):
    """Findings as auditwatch sent them: of recorded logs (findings), or of every kind, which a test in Rust writes (states)."""
    lines = (HERE / f"data/{name}.ndjson").read_text(encoding="utf-8").splitlines()
    return [finding_event(line) for line in lines]


def world(locate=lambda address: {}):
    """The resource attributes of the documented pipeline are indexed fields of an audit event."""
    recordings = recorded("scenario-1-messages") + recorded("cloud-style")
    audit = set().union(*recordings)
    events = {FINDING: set(indexed()) | names(PROPS[FINDING]), AUDIT: audit, RISK: RISK_FIELDS}
    return World(MACROS, events, {FINDING: set(indexed()), AUDIT: {"k8s.cluster.name"}, RISK: set()}, locate)


def queries():
    """Every search of the add-on that may have pipes: (where it stands, text)."""
    for name, stanza in SAVED.items():
        yield name, stanza["search"]
        for drilldown in json.loads(stanza["action.notable.param.drilldown_searches"]):
            yield drilldown["name"], re.sub(r"\$\w+\$", "x", drilldown["search"])
    for place, search in enumerate(DASHBOARD.iter("query")):
        yield f"query {place} of the dashboard", with_tokens(search.text)


def with_tokens(query, **tokens):
    """A query of the dashboard with its tokens filled in; `|s` puts quotes around a value."""
    return re.sub(r"\$(\w+)\|s\$", lambda token: json.dumps(tokens.get(token[1], "*"), ensure_ascii=False), query)
