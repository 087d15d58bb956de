"""The commands of SPL that the add-on uses: each reads its arguments, says which fields it needs and leaves, and runs."""

import re

from spl import (
    ARGS_TOKEN,
    DEFAULT_FIELDS,
    Eval,
    Search,
    SplError,
    Tokens,
    expand,
    multi,
    number,
    split,
    text,
    unquote,
    values,
)

AGGREGATES = {"count", "dc", "values", "min", "max", "sum", "median", "perc95", "latest"}


class Command:
    """One command. `reads`: fields that must exist. `leaves(fields)`: fields afterwards. `run(rows, world)`. A command that
    takes terms or expressions reads its text itself."""

    has_tokens = True

    def __init__(self, args, world):
        self.reads = set()
        if not args:
            raise SplError(f"{type(self).__name__} without arguments")
        self.read(Tokens(args, ARGS_TOKEN) if self.has_tokens else None, args, world)

    def need(self, name):
        self.reads.add(name)
        return name

    def leaves(self, fields):
        return fields

    def run(self, rows, world):
        raise NotImplementedError(type(self).__name__)


def name_of(tokens):
    kind, value = tokens.next()
    if kind not in ("word", "string"):
        raise SplError(f"not the name of a field: {value}")
    return unquote(value) if kind == "string" else value


def names_of(tokens):
    names = [name_of(tokens)]
    while tokens.peek()[0] in ("word", "string") or tokens.take(","):
        names.append(name_of(tokens))
    return names


def options(tokens, known):
    """Leading or trailing key=value pairs."""
    found = {}
    while tokens.peek()[0] == "word" and tokens.peek(1)[1] == "=":
        key = tokens.next()[1]
        tokens.next()
        if key not in known:
            raise SplError(f"no option {key}")
        kind, value = tokens.next()
        found[key] = unquote(value) if kind == "string" else value
    return found


class SearchCommand(Command):
    has_tokens = False

    def read(self, tokens, args, world):
        self.terms = Search.of(args)
        self.reads = self.terms.reads

    def run(self, rows, world):
        return [row for row in rows if self.terms(row)]


class Where(Command):
    has_tokens = False

    def read(self, tokens, args, world):
        self.condition = Eval.of(args)
        self.reads = self.condition.reads

    def run(self, rows, world):
        return [row for row in rows if self.condition(row) is True]


class EvalCommand(Command):
    """Assignments, separated by commas, each seeing those before it."""

    has_tokens = False

    def read(self, tokens, args, world):
        self.sets = []
        made = set()
        for part in top_level_commas(args):
            match = re.match(r"""\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z_]\w*))\s*=(?!=)""", part)
            if not match:
                raise SplError(f"no assignment: {part}")
            name = next(filter(None, match.groups()))
            value = Eval.of(part[match.end() :])
            self.reads |= value.reads - made
            made.add(name)
            self.sets.append((name, value))

    def leaves(self, fields):
        return fields | {name for name, _ in self.sets}

    def run(self, rows, world):
        for row in rows:
            for name, value in self.sets:
                row[name] = value(row)
        return rows


class FieldFormat(EvalCommand):
    """How a field is shown. It must exist, and its value stays."""

    def read(self, tokens, args, world):
        super().read(tokens, args, world)
        self.reads |= {name for name, _ in self.sets}

    def run(self, rows, world):
        return rows


class Stats(Command):
    split_by_most = 99

    def read(self, tokens, args, world):
        self.options = options(tokens, getattr(self, "known", {}))
        self.aggregates, self.by = [], []
        while tokens.peek()[0] is not None and not tokens.word("by"):
            tokens.take(",")
            self.aggregates.append(self.aggregate(tokens))
        if not self.aggregates:
            raise SplError("nothing to aggregate")
        if tokens.at and str(tokens.items[tokens.at - 1][1]).lower() == "by":
            self.by = [self.need(name) for name in names_of(tokens)]
        tokens.end()
        if len(self.by) > self.split_by_most:
            raise SplError("too many fields after BY")

    def aggregate(self, tokens):
        kind, value = tokens.next()
        function, field, condition = value, None, None
        if kind == "call":
            function, inner = value[:-1].split("(", 1)
            inner = inner.strip()
            if inner.startswith("eval("):
                condition = Eval.of(inner[5:-1])
                self.reads |= condition.reads
            else:
                field = self.need(unquote(inner) if inner.startswith('"') else inner)
        if function not in AGGREGATES or (kind == "word" and function != "count"):
            raise SplError(f"no aggregate {value}")
        return (name_of(tokens) if tokens.word("as") else value, function, field, condition)

    def leaves(self, fields):
        return {name for name, *_ in self.aggregates} | set(self.by)

    def run(self, rows, world):
        groups = {} if self.by else {(): []}
        for row in rows:
            # A row without one of the fields is in no group; one with several values is in several.
            keys = [()]
            for name in self.by:
                keys = [(*key, value) for key in keys for value in values(row.get(name))]
            for key in keys:
                groups.setdefault(key, []).append(row)
        out = []
        for key in sorted(groups, key=lambda key: tuple(map(text, key))):
            row = dict(zip(self.by, key))
            for name, function, field, condition in self.aggregates:
                row[name] = aggregated(groups[key], function, field, condition)
            out.append(row)
        return out


def aggregated(rows, function, field, condition):
    if field is None:
        return sum(1 for row in rows if condition is None or condition(row) is True)
    found = [value for row in rows for value in values(row.get(field))]
    if function == "count":
        return len(found)
    if function == "dc":
        return len(set(map(text, found)))
    if function == "values":
        return multi(sorted(set(map(text, found)), key=lambda value: value.encode()))
    numbers = sorted(n for n in map(number, found) if n is not None)
    if not numbers:
        return None
    return {
        "min": numbers[0], "max": numbers[-1], "sum": sum(numbers), "median": numbers[len(numbers) // 2],
        "perc95": numbers[min(len(numbers) - 1, len(numbers) * 95 // 100)], "latest": found[-1],
    }[function]  # fmt: skip


class TimeChart(Stats):
    """One field to split by, whose values become columns."""

    split_by_most = 1

    def leaves(self, fields):
        return {"_time", "*"}


class GeoStats(Stats):
    known = {"latfield", "longfield", "globallimit"}
    split_by_most = 1

    def read(self, tokens, args, world):
        super().read(tokens, args, world)
        self.reads |= {self.options["latfield"], self.options["longfield"]}

    def leaves(self, fields):
        return {"geobin", "latitude", "longitude", "*"}


class TStats(Stats):
    """Aggregates over indexed fields, WHERE, BY. What is searched comes from WHERE alone."""

    has_tokens, metrics = False, False

    def read(self, tokens, args, world):
        parts = re.split(r"\s(WHERE|BY)\s", args)
        if len(parts) != 5 or parts[1] != "WHERE" or parts[3] != "BY":
            raise SplError("wanted: aggregates WHERE terms BY fields")
        self.terms = Search.of(parts[2])
        super().read(Tokens(f"{parts[0]} BY {parts[4]}", ARGS_TOKEN), args, world)
        have = {"_value", "metric_name", "index", "host"} if self.metrics else world.indexed(parts[2])
        if missing := (self.reads | self.terms.reads) - have:
            raise SplError(f"not indexed: {sorted(missing)}")
        self.reads = set()


class MStats(TStats):
    metrics = True


class From(Command):
    """A data set of a data model. Of those of Enterprise Security, the one that drill-downs use."""

    has_tokens = False
    # What the model adds to the events of index=risk.
    added = {"normalized_risk_object", "calculated_risk_score"}

    def read(self, tokens, args, world):
        if args != 'datamodel:"Risk.All_Risk"':
            raise SplError(f"no such data set: {args}")
        self.made = world.fields("index=risk") | self.added

    def leaves(self, fields):
        return set(self.made)


class Table(Command):
    def read(self, tokens, args, world):
        self.names = [self.need(name) for name in names_of(tokens)]
        tokens.end()

    def leaves(self, fields):
        return set(self.names)

    def run(self, rows, world):
        return [{name: row.get(name) for name in self.names} for row in rows]


class Fields(Command):
    """`fields a b`, `fields - a b`. _time and _raw stay unless taken away."""

    def read(self, tokens, args, world):
        self.away = bool(tokens.take("-"))
        self.names = [self.need(name) for name in names_of(tokens)]
        tokens.end()

    def keeps(self, name):
        return (name in self.names) != self.away or (not self.away and name in ("_time", "_raw"))

    def leaves(self, fields):
        return {name for name in fields if self.keeps(name)}

    def run(self, rows, world):
        return [{name: value for name, value in row.items() if self.keeps(name)} for row in rows]


class Rename(Command):
    def read(self, tokens, args, world):
        self.pairs = []
        while tokens.peek()[0] is not None:
            old = self.need(name_of(tokens))
            if not tokens.word("as"):
                raise SplError("rename without as")
            self.pairs.append((old, name_of(tokens)))
            tokens.take(",")

    def leaves(self, fields):
        return fields - {old for old, _ in self.pairs} | {new for _, new in self.pairs}

    def run(self, rows, world):
        for row in rows:
            for old, new in self.pairs:
                row[new] = row.pop(old, None)
        return rows


class Sort(Command):
    """`sort 0 -a b`: the number of rows, 0 for all, then fields, each with its own minus or none. A minus with a space behind
    it would turn the order of all fields, so it is refused."""

    def read(self, tokens, args, world):
        kind, most = tokens.next()
        if kind != "word" or not most.isdigit():
            raise SplError("sort without a number cuts at 10,000 rows")
        self.most, self.keys = int(most), []
        for name in names_of(tokens):
            self.keys.append((self.need(name.removeprefix("-")), name.startswith("-")))
        tokens.end()

    def run(self, rows, world):
        for name, down in reversed(self.keys):
            rows = sorted(rows, key=lambda row: order(row.get(name)), reverse=down)
        return rows[: self.most] if self.most else rows


def order(value):
    return number(value) is None, number(value) or 0, text(value)


class Dedup(Command):
    def read(self, tokens, args, world):
        self.names = [self.need(name) for name in names_of(tokens)]
        tokens.end()

    def run(self, rows, world):
        seen, out = set(), []
        for row in rows:
            key = tuple(text(row.get(name)) for name in self.names)
            # A row without one of the fields is left out.
            if key not in seen and all(row.get(name) is not None for name in self.names):
                seen.add(key)
                out.append(row)
        return out


class FillNull(Command):
    def read(self, tokens, args, world):
        self.value = options(tokens, {"value"})["value"]
        self.names = [self.need(name) for name in names_of(tokens)]
        tokens.end()

    def run(self, rows, world):
        for row in rows:
            for name in self.names:
                if row.get(name) is None:
                    row[name] = self.value
        return rows


class MvExpand(Command):
    def read(self, tokens, args, world):
        self.name = self.need(name_of(tokens))
        tokens.end()

    def run(self, rows, world):
        return [{**row, self.name: value} for row in rows for value in values(row.get(self.name))]


class IpLocation(Command):
    def read(self, tokens, args, world):
        self.name = self.need(name_of(tokens))
        tokens.end()

    def leaves(self, fields):
        return fields | {"City", "Country", "Region", "lat", "lon"}

    def run(self, rows, world):
        for row in rows:
            row.update(world.locate(row.get(self.name)))
        return rows


class Append(Command):
    has_tokens = False

    def read(self, tokens, args, world):
        if not (args.startswith("[") and args.endswith("]")):
            raise SplError("append wants a search in brackets")
        self.pipeline = Pipeline(args[1:-1].strip(), world, inner=True)

    def leaves(self, fields):
        return fields | self.pipeline.fields


COMMANDS = {
    "from": From,
    "append": Append, "dedup": Dedup, "eval": EvalCommand, "fieldformat": FieldFormat, "fields": Fields, "fillnull": FillNull,
    "geostats": GeoStats, "iplocation": IpLocation, "mstats": MStats, "mvexpand": MvExpand, "rename": Rename,
    "search": SearchCommand, "sort": Sort, "stats": Stats, "table": Table, "timechart": TimeChart, "tstats": TStats,
    "where": Where,
}  # fmt: skip
GENERATING = {"from", "tstats", "mstats"}


def top_level_commas(args):
    parts, depth, begin = [], 0, 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[(),]', args):
        if match.group() == ",":
            if not depth:
                parts.append(args[begin : match.start()])
                begin = match.end()
        elif match.group() in "()":
            depth += 1 if match.group() == "(" else -1
    return [*parts, args[begin:]]


class World:
    """What searches find: macros, the fields of events, which of them are indexed, and where addresses are."""

    def __init__(self, macros, events, indexed, locate=lambda address: {}):
        self.macros, self.events, self.indexed_fields, self.locate = macros, events, indexed, locate

    def kinds(self, terms):
        return [kind for kind in self.events if kind in terms]

    def fields(self, terms):
        """Fields of the events that the first command of a search finds, by the sourcetype it names."""
        kinds = self.kinds(terms)
        if not kinds:
            raise SplError(f"no sourcetype in: {terms}")
        return set().union(DEFAULT_FIELDS, *(self.events[kind] for kind in kinds))

    def indexed(self, terms):
        return set().union(DEFAULT_FIELDS, *(self.indexed_fields[kind] for kind in self.kinds(terms)))


class Pipeline:
    """A search, read and checked. `fields`: the fields of its results."""

    def __init__(self, source, world, inner=False):
        # The text inside an append has its macros written out already.
        source = source if inner else expand(source, world.macros)
        parts = split(source)
        generating = parts[0] == ""
        if generating:
            parts.pop(0)
        elif parts[0].split()[0] != "search":
            parts[0] = f"search {parts[0]}"
        if not parts:
            raise SplError("no search")
        self.commands, self.fields = [], set()
        for place, part in enumerate(parts):
            name, _, args = part.partition(" ")
            if name not in COMMANDS:
                raise SplError(f"no command {name!r}")
            if (name in GENERATING) != (generating and place == 0):
                raise SplError(f"{name} cannot stand here")
            if place == 0 and not generating:
                self.fields = world.fields(args)
            command = COMMANDS[name](args.strip(), world)
            missing = command.reads - self.fields
            if missing and "*" not in self.fields:
                raise SplError(f"{name} reads what is not there: {sorted(missing)}")
            self.fields = command.leaves(self.fields)
            self.commands.append(command)

    def run(self, rows, world):
        rows = [dict(row) for row in rows]
        for command in self.commands:
            rows = command.run(rows, world)
        return rows
