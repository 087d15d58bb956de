"""Every search of the add-on parses; and the parser refuses what it should."""

import re
import unittest

import addon
from commands import Pipeline
from spl import Eval, Search, SplError

REFUSED = {
    "an unknown command": "sourcetype=auditwatch:finding | tabel src",
    "an unknown macro": "`auditwatch_nothing`",
    "an unknown function": "`auditwatch_findings` | eval a=mvfirst(paths)",
    "too few arguments": "`auditwatch_findings` | eval a=if(true(), 1)",
    "case in halves": '`auditwatch_findings` | eval a=case(state="closed", 1, 2)',
    "an unknown field in a term": "`auditwatch_findings` stat=opened",
    "an unknown field in an expression": "`auditwatch_findings` | where counts > 5",
    "a field that is gone": "`auditwatch_findings` | table src | where count > 5",
    "a field that stats took": "`auditwatch_findings` | stats count BY src | table src state",
    "a field of another sourcetype": "`auditwatch_kube_audit` finding_id=x",
    "the name JSON extraction would give": "`auditwatch_findings` | mvexpand paths{}",
    "an open quote": '`auditwatch_findings` src="x',
    "an open bracket": "`auditwatch_findings` (state=opened OR state=closed",
    "a closing bracket": "`auditwatch_findings` state=opened)",
    "crossed brackets": "| tstats count WHERE `auditwatch_findings` BY state | append [search (`auditwatch_findings` ] )",
    "an open backtick": "`auditwatch_findings",
    "an empty command": "`auditwatch_findings` | | table src",
    "a pipe at the end": "`auditwatch_findings` | table src |",
    "nothing": "",
    "an operator without a value": "`auditwatch_findings` state=",
    "a single equals sign too many": "`auditwatch_findings` | eval a==1",
    "two expressions": "`auditwatch_findings` | eval a=1 b=2",
    "a dotted name without quotes": "`auditwatch_kube_audit` | eval a='user.username' . (user.username",
    "stats without an aggregate": "`auditwatch_findings` | stats BY src",
    "an unknown aggregate": "`auditwatch_findings` | stats average(count) BY src",
    "BY without a field": "`auditwatch_findings` | stats count BY",
    "rename without as": "`auditwatch_findings` | rename src to address",
    "sort without a number": "`auditwatch_findings` | sort src",
    "a sign that holds for all": "`auditwatch_findings` | sort 0 - src count",
    "the wrong name of an option": "`auditwatch_findings` | geostats latfield=lat lonfield=lon count",
    "tstats over what is not indexed": "| tstats count WHERE `auditwatch_findings` BY severity",
    "tstats in the middle": "`auditwatch_findings` | tstats count WHERE `auditwatch_findings` BY state",
    "a search at the start after a pipe": "| stats count",
    "an unknown time": "`auditwatch_findings` earliest=yesterday",
    "a bare word": "`auditwatch_findings` error",
    "no sourcetype": "index=main | table host",
}


class Searches(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = addon.world()

    def test_each_search_of_the_add_on_parses(self):
        found = 0
        for name, text in addon.queries():
            with self.subTest(name):
                Pipeline(text, self.world)
                found += 1
        self.assertGreater(found, 18)

    def test_no_search_is_left_out(self):
        files = [path for path in addon.ADDON.rglob("*") if path.suffix in (".conf", ".xml")]
        text = "\n".join(path.read_text(encoding="utf-8") for path in files)
        written = len(re.findall(r"^search = |<query>|\"search\": ", text, re.MULTILINE))
        eventtypes = len(addon.conf("default/eventtypes.conf"))
        self.assertEqual(written, len(list(addon.queries())) + eventtypes)

    def test_what_is_wrong_is_refused(self):
        for name, text in REFUSED.items():
            with self.subTest(name), self.assertRaises(SplError):
                Pipeline(text, self.world)


class Meaning(unittest.TestCase):
    def test_or_binds_before_and(self):
        search = Search.of("a=1 OR a=2 b=1")
        self.assertEqual([search({"a": a, "b": b}) for a, b in ((1, 1), (2, 1), (1, 2), (3, 1))], [True, True, False, False])

    def test_values_of_search_have_no_case_and_wildcards(self):
        for value, wanted in (("System:Unauthenticated", True), (["x", "system:unauthenticated"], True), (None, False)):
            self.assertEqual(Search.of('g="system:unauth*"')({"g": value}), wanted)
        self.assertTrue(Search.of("c=403")({"c": "403.0"}))
        self.assertFalse(Search.of("c!=403")({}))
        self.assertTrue(Search.of("NOT c=403")({}))

    def test_null_makes_null(self):
        for text in ('a . "x"', "a + 1", "a = 1", "round(a)"):
            self.assertIsNone(Eval.of(text)({}), text)

    def test_expressions(self):
        for text, wanted in (
            ("1 + 2 * 3", 7), ('"a" . 1 + 1', None), ("(1 + 2) * 3", 9), ('if(1 < 2 AND NOT 2 < 1, "y", "n")', "y"),
            ('coalesce(null(), "b")', "b"), ('case(1=2, "x", true(), "y")', "y"), ('mvindex(m, -1)', "c"), ('mvjoin(m, "+")', "a+b+c"),
            ('json_extract(j, "k.l")', 3), ('json_array_to_mv(json_extract(j, "m"))', ["p", "q"]), ('replace("abc", "^a\\x62", "")', "c"),
        ):  # fmt: skip
            self.assertEqual(Eval.of(text)({"m": ["a", "b", "c"], "j": '{"k":{"l":3},"m":["p","q"]}'}), wanted, text)


if __name__ == "__main__":
    unittest.main()
