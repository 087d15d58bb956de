"""A strict reader of the part of SPL that the add-on uses, and enough of its meaning to run it.

There is no Splunk here and no parser of SPL that could be installed, so this one is our own. It knows only the commands,
functions and forms listed below, takes each in one form only, and refuses all else: a search that passes is written the way
Splunk documents, while much that Splunk would take is refused. Names of fields must exist in the events or be made by the
search.

Values are None (no field), str, int or float, or a list of two or more of them (a multivalue field).
"""

import fnmatch
import json
import re

DEFAULT_FIELDS = {"_time", "_indextime", "_raw", "host", "source", "sourcetype", "index", "splunk_server", "eventtype", "tag"}
TIME_MODIFIERS = {"earliest", "latest", "_index_earliest", "_index_latest"}
RELATIVE_TIME = re.compile(r"now|[+-]\d+(s|m|h|d|w|mon|y)(@(s|m|h|d|w|mon|y))?|@(s|m|h|d|w|mon|y)")


class SplError(ValueError):
    """What is wrong with a search."""


# --- text ---


def quoted_end(text, start):
    """The place behind the quoted text that begins at `start`."""
    quote, at = text[start], start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == quote:
            return at + 1
        at += 1
    raise SplError(f"a quote is not closed: {text[start:start + 40]}")


def expand(text, macros, depth=0):
    """The search with its macros (name -> definition) written out. Not inside double quotes, as Splunk documents."""
    if depth > 8:
        raise SplError("macros go round in circles")
    out, at = [], 0
    while at < len(text):
        if text[at] == '"':
            end = quoted_end(text, at)
            out.append(text[at:end])
        elif text[at] == "`":
            end = text.find("`", at + 1) + 1
            if not end:
                raise SplError("a backtick is not closed")
            name = text[at + 1 : end - 1]
            if name not in macros:
                raise SplError(f"no macro {name}")
            out.append(expand(macros[name], macros, depth + 1))
        else:
            end = at + 1
            out.append(text[at])
        at = end
    return "".join(out)


def split(text):
    """The commands of a pipeline, as texts."""
    parts, at, begin, open_ = [], 0, 0, []
    pairs = {")": "(", "]": "["}
    while at < len(text):
        c = text[at]
        if c in "\"'":
            at = quoted_end(text, at)
            continue
        if c in "([":
            open_.append(c)
        elif c in ")]":
            if not open_ or open_.pop() != pairs[c]:
                raise SplError(f"brackets do not match at: {text[at:at + 20]}")
        elif c == "|" and "[" not in open_:
            if open_:
                raise SplError("a pipe inside parentheses")
            parts.append(text[begin:at].strip())
            begin = at + 1
        at += 1
    if open_:
        raise SplError("brackets are not closed")
    parts.append(text[begin:].strip())
    return parts


class Tokens:
    """Tokens of a text: (kind, value), kinds given by one regular expression with named groups."""

    def __init__(self, text, pattern):
        self.items, at = [], 0
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            match = pattern.match(text, at)
            if not match:
                raise SplError(f"cannot read: {text[at:at + 30]}")
            self.items.append((match.lastgroup, match.group()))
            at = match.end()
        self.at = 0

    def peek(self, ahead=0):
        return self.items[self.at + ahead] if self.at + ahead < len(self.items) else (None, None)

    def next(self):
        item = self.peek()
        if item[0] is None:
            raise SplError("ends too early")
        self.at += 1
        return item

    def take(self, *values):
        if self.peek()[1] in values and self.peek()[0] != "string":
            return self.next()[1]
        return None

    def want(self, value):
        if not self.take(value):
            raise SplError(f"wanted {value}, found {self.peek()[1]}")

    def word(self, *values):
        """One of these words, upper or lower case."""
        kind, value = self.peek()
        if kind == "word" and value.lower() in values:
            self.next()
            return value.lower()
        return None

    def end(self):
        if self.peek()[0] is not None:
            raise SplError(f"not understood from: {self.peek()[1]}")


STRING = r'"(?:[^"\\]|\\.)*"'
EVAL_TOKEN = re.compile(
    rf"(?P<string>{STRING})|(?P<field>'[^']+')|(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<op>==|!=|<=|>=|[-+*/%.<>=(),])"
)
SEARCH_TOKEN = re.compile(rf"(?P<string>{STRING})|(?P<op>!=|<=|>=|[()=<>,])|(?P<word>[^\s()=<>,!\"'|\[\]]+)")
ARGS_TOKEN = re.compile(
    rf"(?P<string>{STRING})|(?P<bracket>\[.*\])|(?P<call>[a-z]\w*\((?:[^()\"]|{STRING}|\([^()]*\))*\))"
    r"|(?P<op>[,=+]|-(?=\s))|(?P<word>[^\s,=\"'|()\[\]]+)",
    re.DOTALL,
)


def unquote(text):
    """Inside quotes a backslash takes the meaning of a quote or a backslash; in front of anything else it stands for itself."""
    return re.sub(r'\\(["\\])', r"\1", text[1:-1])


# --- values ---


def values(value):
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def multi(items):
    items = list(items)
    return None if not items else items[0] if len(items) == 1 else items


def number(value):
    try:
        return float(value) if not isinstance(value, (list, bool)) else None
    except (TypeError, ValueError):
        return None


def text(value):
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def json_extract(raw, path=None):
    try:
        found = json.loads(raw)
    except (TypeError, ValueError):
        return None
    for step in (path or "").split(".") if path else []:
        found = found.get(step) if isinstance(found, dict) else None
    if isinstance(found, (dict, list)):
        return json.dumps(found, ensure_ascii=False)
    return text(found).lower() if isinstance(found, bool) else found


def json_array_to_mv(array):
    try:
        items = json.loads(array)
    except (TypeError, ValueError):
        return None
    if not isinstance(items, list):
        return None
    return multi(i if isinstance(i, str) else json.dumps(i, ensure_ascii=False) for i in items)


def mvindex(value, first, last=None):
    items, first = values(value), int(first)
    last = first if last is None else int(last)
    first, last = (n + len(items) if n < 0 else n for n in (first, last))
    return multi(items[max(first, 0) : last + 1])


# What now() says, in seconds.
CLOCK = [0.0]

# Function -> fewest and most arguments, and what it does. `lazy` ones are in Eval.call.
FUNCTIONS = {
    "coalesce": (1, 99, lambda *a: next((v for v in a if v is not None), None)),
    "json_array_to_mv": (1, 1, json_array_to_mv),
    "json_extract": (2, 2, json_extract),
    "mvcount": (1, 1, lambda v: len(values(v)) or None),
    "mvdedup": (1, 1, lambda v: multi(dict.fromkeys(values(v)))),
    "mvindex": (2, 3, mvindex),
    "mvjoin": (2, 2, lambda v, by: None if v is None else by.join(text(i) for i in values(v))),
    "now": (0, 0, lambda: CLOCK[0]),
    "null": (0, 0, lambda: None),
    "replace": (3, 3, lambda v, old, new: None if v is None else re.sub(old, new, text(v))),
    "round": (1, 2, lambda v, digits=0: None if v is None else round(v, int(digits))),
    "split": (2, 2, lambda v, by: None if v is None or not by else multi(text(v).split(by))),
    "strftime": (2, 2, lambda v, form: None if v is None else f"{form}:{v}"),
    "true": (0, 0, lambda: True),
}
LAZY = {"case": (2, 99), "if": (3, 3), "mvmap": (2, 2)}


class Eval:
    """An expression of eval, where or a calculated field."""

    LEVELS = [("or",), ("and",), ("not",), ("==", "=", "!=", "<", ">", "<=", ">="), ("+", "-", "."), ("*", "/", "%")]

    def __init__(self, tokens):
        self.reads = set()
        self.tree = self.level(tokens, 0)

    @classmethod
    def of(cls, source):
        tokens = Tokens(source, EVAL_TOKEN)
        found = cls(tokens)
        tokens.end()
        return found

    def level(self, tokens, depth):
        if depth == len(self.LEVELS):
            return self.atom(tokens)
        ops = self.LEVELS[depth]
        if ops == ("not",):
            return ("not", self.level(tokens, depth)) if tokens.word("not") else self.level(tokens, depth + 1)
        left = self.level(tokens, depth + 1)
        while op := (tokens.word(*ops) if depth < 2 else tokens.take(*ops)):
            left = (op, left, self.level(tokens, depth + 1))
            if depth == 3:
                break
        return left

    def atom(self, tokens):
        kind, value = tokens.next()
        if kind == "number":
            return ("value", float(value) if "." in value else int(value))
        if kind == "string":
            return ("value", unquote(value))
        if value == "(":
            inner = self.level(tokens, 0)
            tokens.want(")")
            return inner
        if value == "-":
            return ("-", ("value", 0), self.atom(tokens))
        if kind == "word" and tokens.take("("):
            return self.call(value, tokens)
        if kind in ("word", "field"):
            name = value.strip("'")
            self.reads.add(name)
            return ("read", name)
        raise SplError(f"no expression begins with {value}")

    def call(self, name, tokens):
        if name not in FUNCTIONS and name not in LAZY:
            raise SplError(f"no function {name}")
        args = []
        while not tokens.take(")"):
            if args:
                tokens.want(",")
            args.append(self.level(tokens, 0))
        least, most = (FUNCTIONS.get(name) or LAZY[name])[:2]
        if not least <= len(args) <= most or (name == "case" and len(args) % 2):
            raise SplError(f"{name}() with {len(args)} arguments")
        if name == "mvmap" and args[0][0] != "read":
            raise SplError("mvmap wants the name of a field")
        return (name, *args)

    def __call__(self, row):
        return self.value(self.tree, row)

    def value(self, tree, row):
        op, *args = tree
        if op in ("value", "read"):
            return args[0] if op == "value" else row.get(args[0])
        if op == "if":
            return self.value(args[1] if self.value(args[0], row) is True else args[2], row)
        if op == "case":
            hit = (i for i in range(0, len(args), 2) if self.value(args[i], row) is True)
            found = next(hit, None)
            return None if found is None else self.value(args[found + 1], row)
        if op == "mvmap":
            name = args[0][1]
            found = (self.value(args[1], {**row, name: value}) for value in values(row.get(name)))
            return multi(value for value in found if value is not None)
        args = [self.value(arg, row) for arg in args]
        if op in FUNCTIONS:
            return FUNCTIONS[op][2](*args)
        if op == "not":
            return args[0] is not True
        if op in ("and", "or"):
            return (all if op == "and" else any)(arg is True for arg in args)
        return operate(op, *args)


def operate(op, left, right):
    """Null in, null out."""
    if left is None or right is None:
        return None
    if op == ".":
        return text(left) + text(right)
    both = number(left), number(right)
    if None in both:
        if op not in ("=", "==", "!=", "<", ">", "<=", ">="):
            return None
        both = text(left), text(right)
    a, b = both
    return {
        "=": lambda: a == b, "==": lambda: a == b, "!=": lambda: a != b, "<": lambda: a < b, ">": lambda: a > b,
        "<=": lambda: a <= b, ">=": lambda: a >= b, "+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b,
        "/": lambda: a / b if b else None, "%": lambda: a % b if b else None,
    }[op]()  # fmt: skip


class Search:
    """The terms of the search command, or of WHERE in tstats and mstats. OR binds before AND, as in Splunk."""

    def __init__(self, tokens):
        self.reads, self.times = set(), {}
        self.tree = self.all_of(tokens)

    @classmethod
    def of(cls, source):
        tokens = Tokens(source, SEARCH_TOKEN)
        found = cls(tokens)
        tokens.end()
        return found

    def all_of(self, tokens):
        parts = [self.any_of(tokens)]
        while tokens.peek()[0] is not None and tokens.peek()[1] != ")":
            tokens.take("AND")
            parts.append(self.any_of(tokens))
        return ("and", *parts)

    def any_of(self, tokens):
        parts = [self.term(tokens)]
        while tokens.take("OR"):
            parts.append(self.term(tokens))
        return ("or", *parts)

    def term(self, tokens):
        if tokens.take("NOT"):
            return ("not", self.term(tokens))
        if tokens.take("("):
            inner = self.all_of(tokens)
            tokens.want(")")
            return inner
        kind, name = tokens.next()
        if kind == "op" or name in ("OR", "AND", "IN"):
            raise SplError(f"a term cannot begin with {name}")
        name = unquote(name) if kind == "string" else name
        if op := tokens.take("=", "!=", "<", ">", "<=", ">="):
            return self.compared(name, op, [self.literal(tokens)])
        if tokens.take("IN"):
            tokens.want("(")
            found = [self.literal(tokens)]
            while tokens.take(","):
                found.append(self.literal(tokens))
            tokens.want(")")
            return self.compared(name, "=", found)
        if name != "*":
            raise SplError(f"a word without a field would search all of an event: {name}")
        return ("all",)

    @staticmethod
    def literal(tokens):
        kind, value = tokens.next()
        if kind == "op":
            raise SplError(f"no value: {value}")
        return unquote(value) if kind == "string" else value

    def compared(self, name, op, literals):
        if name in TIME_MODIFIERS:
            if not RELATIVE_TIME.fullmatch(literals[0]) and not literals[0].isdigit():
                raise SplError(f"no time: {literals[0]}")
            self.times[name] = literals[0]
            return ("all",)
        self.reads.add(name)
        return ("is", name, op, literals)

    def __call__(self, row):
        return self.holds(self.tree, row)

    def holds(self, tree, row):
        op, *args = tree
        if op == "all":
            return True
        if op == "is":
            name, compare, literals = args
            return any(matches(value, compare, wanted) for value in values(row.get(name)) for wanted in literals)
        parts = (self.holds(arg, row) for arg in args)
        return not next(parts) if op == "not" else all(parts) if op == "and" else any(parts)


def matches(value, op, wanted):
    """Values of search: case does not count, * is a wildcard, and numbers are numbers."""
    if op in ("=", "!=") and (number(value) is None or number(wanted) is None):
        same = fnmatch.fnmatchcase(text(value).lower(), re.sub(r"[\[?]", r"[\g<0>]", wanted.lower()))
        return same == (op == "=")
    return operate(op, value, wanted) is True
