"""Loads reports in Chromium and says what is wrong with them. See check.sh."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright

import hostile

CORPUS = "tests/data/corpus/"
GEO = ["--geo-db", CORPUS + "test-geo.mmdb"]
WIDTHS = (360, 1280)
# Widths at which nothing may stick out besides, and the width of A4 less its margins.
OTHER_WIDTHS = (320, 500, 736, 768, 928, 929, 1024, 1920)
PAPER = 718
SCHEMES = ("light", "dark")

# Everything that a page is made of. What a log says can add none, so it is enough to name them.
ELEMENTS = set(
    "html head meta title style body header main footer section h1 h2 h3 p a strong span code bdi time ul ol li dl dt dd div"
    " table caption thead tbody tr th td details summary svg g rect line text desc".split()
)
ATTRIBUTES = set(
    "lang charset http-equiv content name id class href scope data-label data-list datetime open role aria-hidden aria-labelledby"
    " width height x y x1 x2 y1 y2 text-anchor".split()
)

STRUCTURE = """() => [...document.querySelectorAll('*')].map(e => [
    e.localName, [...e.attributes].map(a => a.name), e.getAttribute('href')])"""

ROWS = """() => [...document.querySelectorAll('section[aria-labelledby=addresses] tbody tr')].map(tr => {
    const of = name => tr.querySelector(`td[data-label="${name}"]`);
    const number = e => e && Number(e.textContent.replaceAll(',', ''));
    const time = e => e && (e.querySelector('time')?.dateTime ?? null);
    const codes = {};
    for (const td of tr.querySelectorAll('td.n')) if (/^[0-9]+$/.test(td.dataset.label) && number(td)) codes[td.dataset.label] = number(td);
    return {src_ip: tr.querySelector('th').textContent, count: number(of('Requests')), codes, first: time(of('First')), last: time(of('Last')),
        alert: time(of('Above since')), most: number(of('Most in window')), window: time(of('Window from'))};
})"""

DETAILS = """() => [...document.querySelectorAll('details')].map(d => ({address: d.querySelector('summary .address').textContent,
    lists: Object.fromEntries([...d.querySelectorAll('ul[data-list]')].map(
        ul => [ul.dataset.list, [...ul.children].map(li => li.textContent)]))}))"""

# The contrast of each text that is seen with what is behind it; and of each bar.
CONTRAST = """() => {
    const parse = c => c.match(/[0-9.]+/g).map(Number);
    const light = c => parse(c).slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; const p = parse(c);
        if (p.length < 4 || p[3] > 0) return c; } return 'rgb(255, 255, 255)'; };
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
    const seen = {};
    for (const e of document.querySelectorAll('body *')) {
        const own = [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim());
        const bar = e.localName == 'rect';
        if (!(own || bar) || ['title', 'desc'].includes(e.localName) || !e.getClientRects().length) continue;
        const style = getComputedStyle(e);
        const colour = e.namespaceURI.endsWith('svg') ? style.fill : style.color;
        const key = [bar ? 'bar' : 'text', colour, behind(e)].join(' ');
        seen[key] ??= [bar, ratio(colour, behind(e)), e.localName + '.' + (e.className.baseVal ?? e.className)];
    }
    return Object.values(seen);
}"""

OVERFLOW = """() => [document.documentElement.scrollWidth, innerWidth,
    [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('svg, thead'))
        .slice(0, 3).map(e => e.localName + '.' + e.className)]"""

problems = []


def check(condition, *what):
    if not condition:
        problems.append(" ".join(str(part)[:400] for part in what))
        print("check.py: WRONG:", problems[-1])


def scan(binary, *flags):
    ran = subprocess.run([binary, "scan", *flags], capture_output=True, check=True)
    return ran.stdout


def as_rows(found):
    """Rows of --output json as the table of the page shows them."""
    rows = []
    for row in found:
        escu = "window_start" in row
        rows.append({
            "src_ip": hostile.shown(row["src_ip"]), "count": row["count"],
            "codes": {"403": row["count"]} if escu else row["count_by_code"],
            "first": None if escu else row["first_time"], "last": None if escu else row["last_time"],
            "alert": row.get("alert_at"), "most": row.get("max_in_window"), "window": row.get("window_start"),
        })
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


class Browser:
    """A page that tells on everything that happens to it."""

    def __init__(self, browser, path, width=1280, scheme="light", base=None):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        url = base or pathlib.Path(path).as_uri()
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url) if request.url != url else None)
        self.page.goto(url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


def quiet(name, seen):
    seen.page.wait_for_timeout(150)
    check(seen.page.evaluate("window.marker ?? 0") == 0, name, "a script ran")
    check(not seen.said, name, "the console says", seen.said)
    check(not seen.asked, name, "asked the network for", seen.asked)


def content(name, seen, found, sections):
    for element, attributes, href in seen.page.evaluate(STRUCTURE):
        check(element in ELEMENTS, name, "a foreign element:", element)
        check(set(attributes) <= ATTRIBUTES, name, element, "has foreign attributes:", attributes)
        check(href is None or href.startswith("#a"), name, "a foreign link:", href)
    titles = seen.page.eval_on_selector_all("h2", "all => all.map(e => e.textContent)")
    check(titles == sections, name, "has sections", titles)
    rows = seen.page.evaluate(ROWS)
    if found and "window_start" in found[0]:
        # Rows of --output json do not hold these.
        for row in rows:
            row["first"] = row["last"] = None
    rows.sort(key=lambda row: json.dumps(row, sort_keys=True))
    check(rows == as_rows(found), name, "has rows", rows, "and should have", as_rows(found))
    if found:
        total = seen.page.inner_text("#requests-total").replace(",", "")
        check(int(total) == sum(row["count"] for row in found), name, "has", total, "requests")
    missing = seen.page.evaluate("[...document.querySelectorAll('a')].filter(a => !document.getElementById(a.hash.slice(1))).length")
    check(missing == 0, name, "has links that lead nowhere:", missing)


def fits(case, seen):
    full, inner, wide = seen.page.evaluate(OVERFLOW)
    check(full <= inner, case, "is wider than the window:", full, wide)
    check(not wide, case, "something sticks out:", wide)


def looks(name, browser, path, work):
    pictures = {}
    for width in WIDTHS:
        for scheme in SCHEMES:
            with Browser(browser, path, width, scheme) as seen:
                case = f"{name} {width} {scheme}"
                pictures[width, scheme] = seen.page.screenshot(path=work / f"{name}-{width}-{scheme}.png")
                # As somebody would, without a script of the page.
                for summary in seen.page.locator("summary").all()[:1]:
                    was = seen.page.evaluate("document.querySelector('details').open")
                    summary.click()
                    check(seen.page.evaluate("document.querySelector('details').open") != was, case, "details do not open")
                seen.page.eval_on_selector_all("details", "all => all.slice(0, 60).forEach(d => d.open = true)")
                fits(case, seen)
                for bar, ratio, what in seen.page.evaluate(CONTRAST):
                    check(ratio >= (3 if bar else 4.5), case, what, f"has a contrast of {ratio:.2f}")
                quiet(case, seen)
                if scheme == "light" and width == 1280:
                    for other in OTHER_WIDTHS:
                        seen.page.set_viewport_size({"width": other, "height": 900})
                        fits(f"{name} {other}", seen)
    for width in WIDTHS:
        check(pictures[width, "light"] != pictures[width, "dark"], name, width, "light and dark look the same")


def prints(name, browser, path):
    """On paper everything is unfolded, and fits."""
    count = "[...document.querySelectorAll('details li')].filter(e => !e.checkVisibility()).length"
    with Browser(browser, path) as seen:
        folded = seen.page.locator("details:not([open])").count()
        check((seen.page.evaluate(count) > 0) == (folded > 0), name, "values are seen though folded")
        seen.page.emulate_media(media="print")
        check(seen.page.evaluate(count) == 0, name, "not all values are printed")
        seen.page.set_viewport_size({"width": PAPER, "height": 1000})
        fits(f"{name} on paper", seen)


def attacks(name, seen):
    """Each text of the hostile log is on the page as text, whole, and as what it is."""
    details = seen.page.evaluate(DETAILS)
    texts = {hostile.shown(text) for text in hostile.TEXTS}
    of = {detail["address"]: detail["lists"] for detail in details}
    lists = of.get("192.0.2.66", {})
    for label in ("Verbs", "User agents", "Users", "Reasons", "Messages"):
        check(set(lists.get(label, ())) == texts, name, label, "differ:", texts ^ set(lists.get(label, ())))
    check(set(lists.get("Groups", ())) == texts | {"system:unauthenticated"}, name, "groups differ")
    for number, text in enumerate(hostile.TEXTS):
        paths = of.get(f"198.51.100.{number}", {}).get("Paths")
        wanted = {hostile.shown(text + (f"?{repeat}" if repeat else "")) for repeat in range(6)}
        check(paths is not None and set(paths) == wanted, name, "paths of", number, "are", paths)


def sabotage(browser, page, work):
    """The check itself: a page that lets the attacks through is found out."""
    attack = "".join(hostile.TEXTS[:2])
    inside = page.replace("<main>", "<main>" + attack)
    naked = inside.replace("Content-Security-Policy", "x")
    for name, text, ran in (("naked", naked, True), ("held by its policy", inside, False)):
        path = work / "sabotage.html"
        path.write_text(text)
        with Browser(browser, path) as seen:
            seen.page.wait_for_timeout(300)
            check((seen.page.evaluate("window.marker ?? 0") > 0) == ran, "sabotage,", name, ": whether a script ran")
            check(bool(seen.said), "sabotage,", name, ": nothing was said")
            foreign = {element for element, _, _ in seen.page.evaluate(STRUCTURE)} - ELEMENTS
            check({"script", "img"} <= foreign, "sabotage,", name, ": only", foreign, "is foreign")
    path.unlink()


def main():
    binary, work = sys.argv[1], pathlib.Path(sys.argv[2])
    log = work / "hostile <b>&amp; \u202eson.ndjson"
    log.write_text(hostile.log())
    sections = ["Timeline", "Addresses", "What each tried", "Locations", "Rule", "About this report"]
    cases = [
        ("kube-hunter", [CORPUS + "kube-hunter.ndjson.gz"]),
        ("scenario-1", [*GEO, CORPUS + "scenario-1.ndjson.gz"]),
        ("scenario-1-escu", ["--semantics", "escu", *GEO, CORPUS + "scenario-1.ndjson.gz"]),
        ("all", ["--all", CORPUS + "cloud-style.ndjson.gz"]),
        ("two-files", [CORPUS + "request-response-level.ndjson.gz", CORPUS + "webhook-1-short.ndjson.gz"]),
        ("hostile", [str(log)]),
        ("hostile-escu", ["--semantics", "escu", str(log)]),
        ("empty", ["--threshold", "5000", CORPUS + "kube-hunter.ndjson.gz"]),
    ]
    # Root may not use Chromium's own sandbox.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for name, arguments in cases:
            path = work / f"{name}.html"
            path.write_bytes(scan(binary, "--output", "html", *arguments))
            found = json.loads(scan(binary, "--output", "json", *arguments))
            with Browser(browser, path) as seen:
                content(name, seen, found, sections if found else sections[-2:])
                if name == "hostile":
                    attacks(name, seen)
                if name.startswith("hostile"):
                    files = seen.page.inner_text("footer")
                    check(hostile.shown(log.name) in files, name, "does not name its file:", files)
                quiet(name, seen)
            looks(name, browser, path, work)
            prints(name, browser, path)
            print(f"check.py: {name}: {len(found)} rows, {path.stat().st_size} bytes")
        sabotage(browser, (work / "kube-hunter.html").read_text(), work)
        print(f"check.py: Chromium {browser.version}")
        browser.close()
    if problems:
        sys.exit(f"check.py: {len(problems)} problems")
    print("check.py: all well")


main()
