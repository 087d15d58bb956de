"""The add-on against the code of auditwatch, against itself, and run over real findings and recorded audit logs."""

import json
import re
import sys
import unittest
from xml.etree import ElementTree

import addon
import spl
from addon import ADDON, AUDIT, DASHBOARD, FINDING, MACROS, PROPS, REPOSITORY, SAVED
from commands import Pipeline

RULE = "auditwatch - Kubernetes Scanning by Unauthenticated IP Address"
REPAIRED = "auditwatch - Kubernetes Scanning over Raw Audit Logs"


def setUpModule():
    global WORLD
    WORLD = addon.world()


class Fields(unittest.TestCase):
    def test_each_field_of_a_finding_is_there_once(self):
        indexed, made = addon.indexed(), addon.names(PROPS[FINDING])
        self.assertEqual(set(addon.proto()) - set(indexed) - made, set(), "fields of finding.proto without a name in Splunk")
        self.assertEqual(set(indexed) & made, set(), "an indexed field that search time makes again")
        self.assertEqual(set(indexed.values()) - set(addon.proto()), set())

    def test_each_indexed_field_is_searched_as_one_for_findings_alone(self):
        wanted = {f"sourcetype::{FINDING}::{name}": {"INDEXED": "true"} for name in addon.indexed()}
        self.assertEqual(addon.conf("default/fields.conf"), wanted)

    def test_drill_downs_to_risk_go_by_the_normalized_object(self):
        for name, stanza in addon.SAVED.items():
            searches = [one["search"] for one in json.loads(stanza["action.notable.param.drilldown_searches"])]
            risk = [search for search in searches if "isk" in search and "auditwatch_" not in search]
            self.assertEqual(len(risk), 1, name)
            self.assertIn(' | search normalized_risk_object="$', risk[0], name)

    def test_no_search_needs_a_macro_of_another_app(self):
        for place, query in addon.queries():
            for macro in re.findall(r"`(\w+)", query):
                self.assertIn(macro, MACROS, place)

    def test_every_kind_of_finding_has_its_fields(self):
        for event in addon.findings("states"):
            raw = json.loads(event["_raw"])
            for name, is_list in addon.proto().items():
                value = event.get(name) if name not in ("country", "city") else raw.get(name)
                if is_list and name in raw:
                    self.assertEqual(len(spl.values(value)), len(raw[name]), name)
                else:
                    self.assertEqual(value is None, raw.get(name) in (None, "", []), name)
            self.assertTrue(event["subject"])
        succeeded = [event["action"] for event in addon.findings("states") if event.get("outcome") == "success"]
        self.assertEqual(set(succeeded), {"allowed"})

    def test_automatic_extraction_is_off(self):
        props = PROPS[FINDING]
        self.assertEqual((props["KV_MODE"], props["AUTO_KV_JSON"], props["TRUNCATE"]), ("none", "false", "0"))
        self.assertNotIn("INDEXED_EXTRACTIONS", props)

    def test_lists_become_multivalue_fields_and_the_rest_does_not(self):
        for name, is_list in addon.proto().items():
            wanted = f'json_extract(_raw, "{name}")'
            wanted = f"json_array_to_mv({wanted})" if is_list else wanted
            value = PROPS[FINDING].get(f"EVAL-{name}")
            if value is None:
                self.assertIn(name, {*addon.indexed(), *(alias for _, alias in addon.aliases(PROPS[FINDING]))}, name)
            else:
                self.assertEqual(value, wanted)

    def test_calculated_fields_read_no_calculated_fields(self):
        # Splunk computes them side by side.
        for stanza, raw in ((FINDING, set(addon.indexed())), (AUDIT, WORLD.events[AUDIT])):
            made = addon.calculated(PROPS[stanza])
            for name, value in made.items():
                self.assertEqual(value.reads - raw - {"_raw", "host"}, set(), name)
                if stanza == FINDING:
                    self.assertEqual(value.reads & set(made), set(), name)

    def test_aliases_are_of_fields_that_exist(self):
        for name, _ in addon.aliases(PROPS[FINDING]):
            self.assertIn(name, addon.indexed())
        for name, _ in addon.aliases(PROPS[AUDIT]):
            self.assertTrue(name in WORLD.events[AUDIT], name)

    def test_the_words_of_the_common_information_model(self):
        event = addon.findings()[0]
        for name, value in {
            "src": event["src_ip"], "dest": "unknown", "signature": "Kubernetes Scanning by Unauthenticated IP Address",
            "signature_id": "f9cadf4e-df22-4f4e-a08f-9d3344c2165d", "severity": "low", "severity_id": 2, "type": "alert",
            "user": "system:anonymous", "app": "kubernetes", "ids_type": "application", "action": "blocked",
            "category": "Discovery", "mitre_technique_id": "T1046", "vendor_product": "auditwatch", "id": event["finding_id"],
        }.items():  # fmt: skip
            self.assertEqual(event[name], value, name)

    def test_a_long_finding_keeps_its_last_fields(self):
        event = max(addon.findings(), key=lambda event: len(event["_raw"]))
        self.assertGreater(len(event["_raw"]), 5000)
        self.assertTrue(event["drilldown_search"].startswith("`kube_audit` "))
        self.assertEqual(len(event["paths"]), len(json.loads(event["_raw"])["paths"]))
        self.assertEqual([json.loads(sample)["stage"] for sample in event["samples"]][0], "ResponseComplete")

    def test_the_audit_log_has_who_what_and_whether(self):
        refused = next(e for e in addon.recorded("scenario-1") if e.get("responseStatus.code") == 403)
        wanted = {"user": "system:anonymous", "http_status": 403, "status": "failure", "action": "read", "cluster": "prod"}
        self.assertEqual({name: refused[name] for name in wanted}, wanted)
        forged = next(e for e in addon.recorded("scenario-1") if isinstance(e.get("sourceIPs{}"), list))
        self.assertEqual(forged["src"], forged["sourceIPs{}"][-1])
        failed = next(e for e in addon.recorded("anonymous-auth-off") if e.get("responseStatus.code") == 401)
        self.assertEqual(failed["action"], "failure")
        verbs = {str(e["verb"]).lower() for e in addon.recorded("scenario-1") if e.get("verb")}
        self.assertLessEqual({"get", "list", "watch", "create"} & verbs, set(addon.lookup("auditwatch_kubernetes_verbs")))


class Files(unittest.TestCase):
    def test_eventtypes_have_no_pipes_and_tags_have_eventtypes(self):
        eventtypes = addon.conf("default/eventtypes.conf")
        for name, stanza in eventtypes.items():
            self.assertEqual(len(Pipeline(stanza["search"], WORLD).commands), 1, name)
        for stanza in addon.conf("default/tags.conf"):
            self.assertIn(stanza.removeprefix("eventtype="), eventtypes)

    def test_only_opened_findings_are_alerts(self):
        search = Pipeline(addon.conf("default/eventtypes.conf")["auditwatch_finding_opened"]["search"], WORLD)
        self.assertEqual({row["state"] for row in search.run(addon.findings(), WORLD)}, {"opened"})

    def test_failed_authentication_is_authentication(self):
        search = Pipeline(addon.conf("default/eventtypes.conf")["auditwatch_audit_authentication"]["search"], WORLD)
        recorded = addon.recorded("anonymous-auth-off")
        failed = [event for event in recorded if event.get("responseStatus.code") == 401]
        self.assertTrue(failed)
        self.assertEqual(len(search.run(recorded, WORLD)), len(failed))

    def test_macros_are_ours_and_used(self):
        used = "\n".join(text for _, text in addon.queries()) + "\n".join(MACROS.values())
        for name in MACROS:
            self.assertTrue(name.startswith("auditwatch_"), "another app may have a macro of this name")
            self.assertIn(f"`{name}`", used)

    def test_look_ups_exist(self):
        for table, by, out, _ in addon.looked_up(PROPS[AUDIT]):
            for row in addon.lookup(table).values():
                self.assertTrue(row[by] and row[out])

    def test_the_rule_has_the_name_that_the_exporter_writes(self):
        # The exporter writes "auditwatch - " and the title of the rule.
        title = RULE.removeprefix("auditwatch - ")
        self.assertNotEqual(title, RULE)
        self.assertIn('"auditwatch - ', (REPOSITORY / "src/exporter/splunk_hec/risk.rs").read_text(encoding="utf-8"))
        for name in ("scanning.yaml", "scanning-escu.yaml"):
            self.assertIn(f"title: {title}\n", (REPOSITORY / "rules" / name).read_text(encoding="utf-8"))
        self.assertIn(RULE, SAVED)

    def test_the_licence_is_that_of_the_repository(self):
        self.assertEqual((ADDON / "LICENSE").read_bytes(), (REPOSITORY / "LICENSE").read_bytes())


class Rules(unittest.TestCase):
    def test_all_are_off_and_miss_no_period(self):
        for name, stanza in SAVED.items():
            self.assertEqual((stanza["disabled"], stanza["enableSched"], stanza["realtime_schedule"]), ("1", "1", "0"), name)
            minute, *rest = stanza["cron_schedule"].split()
            self.assertRegex(minute, r"^(0|\*/5)$")
            self.assertEqual(rest, ["*"] * 4)

    def test_windows_touch(self):
        rule, repaired = SAVED[RULE], SAVED[REPAIRED]
        times = Pipeline(rule["search"], WORLD).commands[0].terms.times
        self.assertEqual(times, {"_index_earliest": "-6m@m", "_index_latest": "-1m@m"})
        self.assertEqual(rule["cron_schedule"], "*/5 * * * *")
        self.assertEqual((repaired["dispatch.earliest_time"], repaired["dispatch.latest_time"]), ("-70m@m", "-10m@m"))
        self.assertEqual(repaired["cron_schedule"], "0 * * * *")

    def test_risk_is_put_on_fields_of_the_results(self):
        for name, stanza in SAVED.items():
            results = Pipeline(stanza["search"], WORLD).fields
            objects = json.loads(stanza["action.risk.param._risk"])
            for part in objects:
                self.assertIn(part.get("risk_object_field") or part["threat_object_field"], results)
            for part in objects:
                # A field risk_N holds what is put at N points; all else is one finding of 20.
                points = re.fullmatch(r"risk_(\d+)", part.get("risk_object_field") or "")
                self.assertEqual(part.get("risk_score", 20), int(points[1]) if points else 20, name)
            drilldowns = json.loads(stanza["action.notable.param.drilldown_searches"])
            texts = stanza["action.risk.param._risk_message"] + json.dumps(drilldowns)
            self.assertEqual(set(re.findall(r"\$(\w+)\$", texts)) - results - {"info_min_time", "info_max_time"}, set())
            for field in filter(None, stanza.get("alert.suppress.fields", "").split(",")):
                self.assertIn(field, results)
            self.assertEqual(json.loads(stanza["action.correlationsearch.annotations"])["mitre_attack"], ["T1046"])

    def test_one_risk_event_for_each_finding(self):
        events = addon.findings()
        again = [dict(event) for event in events]  # delivered twice
        rows = Pipeline(SAVED[RULE]["search"], WORLD).run(events + again, WORLD)
        self.assertEqual(len(rows), len({event["finding_id"] for event in events}))
        self.assertTrue(all(row["src_ip"] and row["requestURI"] for row in rows))
        self.assertEqual(Pipeline(SAVED[RULE]["search"], WORLD).run([], WORLD), [])

    def risk_events(self, events):
        """What the risk action of Enterprise Security makes of rows: an event for each field that holds an object."""
        rows = Pipeline(SAVED[RULE]["search"], WORLD).run(events, WORLD)
        objects = json.loads(SAVED[RULE]["action.risk.param._risk"])
        for row in rows:
            for part in objects:
                if row.get(part.get("risk_object_field")) is not None:
                    yield row[part["risk_object_field"]], part["risk_object_type"], part["risk_score"], row

    def test_a_rise_in_severity_adds_the_difference_and_the_cluster_is_the_object(self):
        events = addon.findings("states")
        found = list(self.risk_events(events + [dict(event) for event in events]))
        by_finding = {}
        for object_, kind, score, row in found:
            by_finding.setdefault(row["finding_id"][-1], []).append((object_, kind, score))
        self.assertEqual(by_finding.pop("1"), [("prod", "other", 20), ("prod", "other", 60)])
        self.assertEqual(by_finding.pop("6"), [("test", "other", 20)], "another cluster is another object")
        self.assertEqual(by_finding.pop("7"), [("system:anonymous", "user", 20)], "escu keeps the object of ESCU")
        self.assertEqual(by_finding.pop("2"), [("prod", "other", 40)], "a roll-up")
        self.assertEqual(by_finding.pop("3"), [("prod", "other", 40)], "a blind spot")
        self.assertEqual(by_finding.pop("8"), [("prod", "other", 60)])
        self.assertEqual(by_finding, {}, "none for what is informational or continues another finding")
        messages = {row["finding_id"][-1]: row["risk_text"] for _, _, score, row in found if row["state"] == "updated"}
        self.assertEqual(messages["1"], "Kubernetes scanning from ip 203.0.113.7 on cluster prod: critical, was low; 2 requests succeeded; 4 requests for secrets")

    def test_six_clusters_with_one_private_address_are_six_objects(self):
        one = next(event for event in addon.findings("states") if event["cluster"] == "test")
        raw = one["_raw"].replace('"cluster":"test"', '"cluster":"test-%d"')
        events = [addon.finding_event((raw % n).replace(one["finding_id"], f"{n:032x}")) for n in range(6)]
        scores = {}
        for object_, _, score, _ in self.risk_events(events):
            scores[object_] = scores.get(object_, 0) + score
        self.assertEqual(scores, {f"test-{n}": 20 for n in range(6)})

    def test_the_message_of_a_risk_is_that_of_the_exporter(self):
        source = (REPOSITORY / "src/exporter/splunk_hec/risk.rs").read_text(encoding="utf-8")
        for part in (" on cluster ", ", was "):
            self.assertIn(part, source)
            self.assertIn(part, SAVED[RULE]["search"])

    def test_a_message_that_says_all_is_the_message_of_the_risk(self):
        one = next(event for event in addon.findings("states") if event["cluster"] == "test")
        whole = "Kubernetes scanning from ip 10.20.0.5 on cluster test (low): 6 requests refused (403)."
        raw = one["_raw"].replace("Kubernetes scanning from ip 10.20.0.5", whole)
        rows = [row for _, _, _, row in self.risk_events([addon.finding_event(raw)])]
        self.assertEqual([row["risk_text"] for row in rows], [whole])

    def test_the_filter_sees_the_columns_of_escu(self):
        filtered = {**MACROS, "auditwatch_filter": 'search NOT src_ip="203.0.113.*" NOT user="nobody" userAgent=* verb=*'}
        for name, stanza in SAVED.items():
            with self.subTest(name):
                Pipeline(stanza["search"], addon.World(filtered, WORLD.events, WORLD.indexed_fields))


class RepairedSearch(unittest.TestCase):
    """Over recorded logs, against a count made another way."""

    def rows(self, recording, locate=lambda address: {}):
        world = addon.World(MACROS, WORLD.events, WORLD.indexed_fields, locate)
        return Pipeline(SAVED[REPAIRED]["search"], world).run(recording, world)

    def test_it_counts_each_request_once_for_each_address(self):
        for name in ("scenario-1", "kube-hunter", "request-response-level", "anonymous-auth-off", "cloud-style"):
            requests = {}
            for event in addon.recorded(name):
                raw = json.loads(event["_raw"])
                groups = [group.lower() for group in raw.get("user", {}).get("groups", [])]
                if "system:unauthenticated" in groups and (raw.get("responseStatus") or {}).get("code") == 403:
                    key = (raw["auditID"], raw["requestReceivedTimestamp"], raw["verb"], raw["requestURI"])
                    for address in raw.get("sourceIPs", ["unknown"]):
                        requests.setdefault(address, set()).add(key)
            wanted = {address: len(found) for address, found in requests.items() if len(found) > 5}
            self.assertEqual({row["src_ip"]: row["count"] for row in self.rows(addon.recorded(name))}, wanted, name)

    def test_it_has_the_rows_of_escu_less_what_escu_counts_twice(self):
        golden = (REPOSITORY / "tests/data/corpus/scenario-1.escu.json").read_text(encoding="utf-8").splitlines()
        golden = {row["src_ip"]: row for row in map(json.loads, golden)}
        rows = {row["src_ip"]: row for row in self.rows(addon.recorded("scenario-1"))}
        self.assertLessEqual(set(rows), set(golden))
        for address, row in rows.items():
            self.assertLessEqual(row["count"], golden[address]["count"])
            for column in ("verb", "userAgent", "user", "user.groups{}", "responseStatus.code"):
                found = row[column] if isinstance(row[column], list) else [row[column]]
                self.assertEqual(found, golden[address][column], (address, column))
        # Requests in two stages (.50, .51), and one address written several times into one header (.201).
        self.assertEqual(set(golden) - set(rows), {"192.0.2.50", "192.0.2.51", "192.0.2.201"})

    def test_addresses_without_a_location_keep_their_rows(self):
        located = self.rows(addon.recorded("scenario-1"), lambda address: {"Country": "Romania"} if address[0] == "2" else {})
        self.assertEqual(len(located), len(self.rows(addon.recorded("scenario-1"))))
        self.assertEqual({(row["Country"], row["City"]) for row in located}, {("Romania", "unknown"), ("unknown", "unknown")})

    def test_each_cluster_counts_for_itself(self):
        events = addon.recorded("scenario-1")
        address = self.rows(events)[0]["src_ip"]
        again = [{**event, "k8s.cluster.name": "test", "cluster": "test"} for event in events]
        rows = [row for row in self.rows(events + again) if row["src_ip"] == address]
        self.assertEqual({row["cluster"] for row in rows}, {"prod", "test"})
        self.assertEqual(len({row["count"] for row in rows}), 1, "none counts requests to the other")

    def test_nothing_is_no_error(self):
        self.assertEqual(self.rows([]), [])


class Dashboard(unittest.TestCase):
    def run_query(self, title, events=None, **tokens):
        query = next(e for e in DASHBOARD.iter() if (e.findtext("title") or "").startswith(title)).find("search/query").text
        events = addon.findings() if events is None else events
        return Pipeline(addon.with_tokens(query, **tokens), WORLD).run(events, WORLD)

    def at(self, later):
        """The clock of now(): so many seconds after the last finding arrived."""
        newest = max(event["_indextime"] for event in addon.findings() + addon.findings("states"))
        spl.CLOCK[0] = newest + later

    def test_it_is_simple_xml_without_scripts(self):
        self.assertEqual((DASHBOARD.tag, DASHBOARD.get("version")), ("form", "1.1"))
        self.assertFalse({"script", "stylesheet"} & set(DASHBOARD.keys()))
        self.assertFalse([e for e in DASHBOARD.iter() if e.tag in ("script", "style", "iframe")])

    def test_tokens_are_set_and_rows_have_what_is_chosen(self):
        made = {e.get("token").removeprefix("form.") for e in DASHBOARD.iter() if e.tag in ("input", "set")}
        for element in DASHBOARD.iter():
            texts = [element.text or "", element.get("depends") or ""]
            for token in re.findall(r"\$(\w+)(?:\.(?:earliest|latest))?(?:\|s)?\$", " ".join(texts)):
                self.assertIn(token, made)
            if query := element.findtext("search/query"):
                self.assertNotRegex(query, r"\$\w+\$", "a value from outside without quotes")
                drilldown = element.find("drilldown")
                chosen = [] if drilldown is None else re.findall(r"\$row\.(\w+)", " ".join(drilldown.itertext()))
                self.assertLessEqual(set(chosen), Pipeline(addon.with_tokens(query), WORLD).fields)

    def test_each_panel_has_a_time_range(self):
        for search in DASHBOARD.iter("search"):
            self.assertTrue(search.findtext("earliest") and search.findtext("latest"))

    def test_findings_are_shown_in_their_last_state(self):
        rows = self.run_query("Findings in their latest state")
        latest = {}
        for event in addon.findings():
            latest[event["finding_id"]] = max(event["count"], latest.get(event["finding_id"], 0))
        self.assertEqual({row["finding_id"]: row["count"] for row in rows}, latest)

    def test_a_state_of_the_same_time_is_told_from_the_last_one(self):
        events = addon.findings()
        last = max((e for e in events if e["state"] == "updated"), key=lambda e: e["count"])
        closed = addon.finding_event(last["_raw"].replace('"state":"updated"', '"state":"closed"'))
        self.assertEqual(closed["_time"], last["_time"])
        for order in ([closed, *events], [*events, closed]):
            rows = Pipeline("`auditwatch_findings` | `auditwatch_latest`", WORLD).run(order, WORLD)
            self.assertEqual([r["state"] for r in rows if r["finding_id"] == last["finding_id"]], ["closed"])

    def test_a_finding_without_news_is_stale_and_no_scan_that_goes_on(self):
        events = [event for event in addon.findings("states") if event["finding_id"][-1] == "6"]
        for later, is_open in ((0, 1), (2 * 3600, 1), (2 * 3600 + 1, 0), (10**7, 0)):
            self.at(later + events[0]["_indextime"] - max(e["_indextime"] for e in addon.findings() + addon.findings("states")))
            self.assertEqual(self.run_query("Scans going on", events), [{"open": is_open}], later)
            self.assertEqual(self.run_query("Stale", events), [{"stale": 1 - is_open}], later)
            (row,) = self.run_query("Findings in their latest state", events)
            self.assertEqual(row["status"], "open" if is_open else "stale")
        closed = [addon.finding_event(event["_raw"].replace('"opened"', '"closed"')) for event in events]
        self.assertEqual(self.run_query("Stale", events + closed), [{"stale": 0}])
        blind = [event for event in addon.findings("states") if event["finding_id"][-1] == "3"]
        self.assertEqual([r["status"] for r in self.run_query("Findings in their latest state", blind)], ["open"])
        self.assertEqual(self.run_query("Scans going on", blind) + self.run_query("Stale", blind), [{"open": 0}, {"stale": 0}])
        rows = [event for event in addon.findings("states") if event["semantics"] == "escu"]
        self.assertEqual([r["status"] for r in self.run_query("Findings in their latest state", rows)], ["row"])

    def test_the_worst_comes_first_with_why_labels_outcome_and_what_it_continues(self):
        rows = self.run_query("Findings in their latest state", addon.findings("states"))
        self.assertEqual([row["severity"] for row in rows][:2], ["critical", "high"])
        worst = rows[0]
        wanted = {"status": "closed", "outcome": "success", "success_count": 2, "dest": "prod", "subject": "203.0.113.7",
                  "label": "reads_secrets, uses_curl", "why": "2 requests succeeded; 4 requests for secrets"}  # fmt: skip
        self.assertEqual({name: worst[name] for name in wanted}, wanted)
        continued = [row for row in rows if row["finding_id"].endswith("5")]
        self.assertEqual(continued[0]["continues"][-1], "9")
        self.assertEqual(self.run_query("Critical and high", addon.findings("states")), [{"findings": 3}])
        self.assertEqual(self.run_query("Findings with a request that succeeded", addon.findings("states")), [{"findings": 1}])
        self.assertEqual(len(self.run_query("Findings in their latest state", addon.findings("states"), severity="low")), 2)

    def test_what_is_new_is_shown(self):
        (row,) = self.run_query("What is new", addon.findings("states") * 2)
        wanted = {"severity_before": "low", "severity": "critical", "new_requests": 3, "new_successes": 1,
                  "new_labels": "reads_secrets", "new_verbs": "create"}  # fmt: skip
        self.assertEqual({name: row[name] for name in wanted}, wanted)
        self.assertEqual(row["new_paths"], ["/api/v1/secrets", "/api/v1/pods", "/metrics", "/version"])
        states = self.run_query("States of the finding", addon.findings("states"), finding=row["finding_id"])
        self.assertEqual([state["close_reason"] for state in states if state["state"] == "closed"], ["quiet"])

    def test_labels_successes_and_members_of_one_finding(self):
        events = addon.findings("states")
        labels = self.run_query("Labels", events, finding="00000000000000000000000000000001")
        self.assertEqual([(row["label"], row["kind"], row["severity"], row["requests"]) for row in labels],
                         [("reads_secrets", "behaviour", "high", 4), ("uses_curl", "tool", "low", 4)])  # fmt: skip
        self.assertTrue(all(row["example"].startswith("list /api") for row in labels))
        found = self.run_query("Requests that succeeded", events, finding="00000000000000000000000000000001")
        self.assertEqual([(row["path"], row["user"]) for row in found], [("/metrics", "system:anonymous"), ("/api", "eve")])
        members = self.run_query("Members", events, finding="00000000000000000000000000000002")
        self.assertEqual(len(members), 40)
        self.assertEqual(sum(1 for row in members if row["own_finding"]), 5)

    def test_roll_ups_and_blind_spots_have_panels_of_their_own(self):
        events = addon.findings("states")
        (network,) = self.run_query("Roll-ups", events, address="198.51.100.0/24")
        self.assertEqual((network["prefix"], network["member_count"], network["findings_of_members"]), ("198.51.100.0/24", 40, 5))
        (blind,) = self.run_query("Blind spots", events)
        self.assertIn("silent_seconds", blind["measures"])
        self.assertEqual(blind["finding_id"][-1], "3")

    def test_what_a_stranger_wrote_is_a_value_and_nothing_else(self):
        hostile = next(event for event in addon.findings("states") if event["finding_id"].endswith("8"))
        text = json.loads(hostile["_raw"])["labels"][0]["example"]
        self.assertIn("| delete", text)
        (label, *_) = self.run_query("Labels", [hostile], finding=hostile["finding_id"])
        self.assertEqual(label["example"], text)
        (member, *_) = self.run_query("Members", [hostile], finding=hostile["finding_id"])
        self.assertEqual(member["member"], text)
        (row,) = self.run_query("Findings in their latest state", [hostile])
        self.assertEqual(row["subject"], text)

    def test_one_finding_in_detail(self):
        event = max(addon.findings(), key=lambda event: len(event["_raw"]))
        detail = self.run_query("Finding $finding$", finding=event["finding_id"])
        self.assertEqual(len(detail), 1)
        self.assertTrue(detail[0]["requests"].startswith(' ("user.groups{}"='))
        samples = self.run_query("Sample requests", finding=event["finding_id"])
        self.assertEqual(len(samples), len(event["samples"]))
        self.assertTrue(all(row["time"] and row["verb"] and row["code"] for row in samples))
        paths = self.run_query("Paths", finding=event["finding_id"])
        self.assertGreaterEqual(len(paths), 5)

    def test_numbers_with_and_without_data(self):
        ids = {event["finding_id"] for event in addon.findings()}
        self.at(0)
        self.assertEqual(self.run_query("All findings", address="203.0.113.71"), [{"findings": 1}])
        self.assertEqual(self.run_query("All findings"), [{"findings": len(ids)}])
        self.assertEqual(self.run_query("All findings", cluster="elsewhere"), [{"findings": 0}])
        self.assertEqual(self.run_query("All findings", severity="high"), [{"findings": 0}])
        delays = self.run_query("Seconds from the request")
        self.assertEqual([row["max_delay"] for row in delays], [2.0])

    def test_dashboard_studio_has_the_same_panels_and_searches(self):
        sys.path.insert(0, str(ADDON.parent))
        import studio

        view = ADDON / "default/data/ui/views/auditwatch_studio.xml"
        self.assertEqual(view.read_text(encoding="utf-8"), studio.page(), "run deploy/splunk/studio.py")
        root = ElementTree.parse(view).getroot()
        self.assertEqual((root.tag, root.get("version")), ("dashboard", "2"))
        made = json.loads(root.findtext("definition"))
        queries = [source["options"]["query"] for source in made["dataSources"].values()]
        self.assertEqual(sorted(queries), sorted(e.text for e in DASHBOARD.iter("query")))
        # Whatever is referred to is there, and each panel has its place.
        places = [one["item"] for one in made["layout"]["structure"]]
        self.assertEqual(places, list(made["visualizations"]))
        for panel in [*made["visualizations"].values(), *made["inputs"].values()]:
            self.assertLessEqual(set(panel.get("dataSources", {}).values()), set(made["dataSources"]))
        tokens = {one["options"]["token"] for one in made["inputs"].values()} | set(made["defaults"]["tokens"]["default"])
        for query in queries:
            self.assertLessEqual(set(re.findall(r"\$(\w+)[.|$]", query)), tokens)
        for panel in made["visualizations"].values():
            for handler in panel.get("eventHandlers", []):
                self.assertLessEqual({one["token"] for one in handler["options"].get("tokens", [])}, tokens)
        boxes = [one["position"] for one in made["layout"]["structure"]]
        for n, a in enumerate(boxes):
            self.assertLessEqual(a["x"] + a["w"], made["layout"]["options"]["width"])
            for b in boxes[n + 1 :]:
                apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"]
                self.assertTrue(apart or b["y"] + b["h"] <= a["y"])


if __name__ == "__main__":
    unittest.main()
