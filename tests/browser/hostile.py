"""A log in which every text is an attack on its reader, and what a page must show for it."""

import json

MARKER = "window.marker=(window.marker||0)+1"

# What a client can write: markup, scripts, quotes, what reorders or hides, what a terminal obeys.
TEXTS = [
    f"</script><script>{MARKER}</script>",
    f"<img src=x onerror=\"{MARKER}\">",
    f"\"><svg onload={MARKER}>",
    f"' onmouseover='{MARKER}' x='",
    f"</style><style>*{{display:none}}</style><script>{MARKER}</script>",
    f"</title></head><body onload={MARKER}>",
    "<!-- a comment that never ends",
    "<![CDATA[ <textarea> <plaintext> <template> <noscript>",
    f"<iframe srcdoc='<script>parent.{MARKER}</script>'></iframe>",
    "<link rel=stylesheet href=http://127.0.0.1:9/a><img src=http://127.0.0.1:9/b>",
    "<base href=http://127.0.0.1:9/><form action=http://127.0.0.1:9/><input autofocus>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    f"<a href=\"javascript:{MARKER}\">click</a> javascript:{MARKER}",
    "&lt;script&gt; &amp;amp; &#60;b&#62; &colon;",
    "{{constructor.constructor('alert(1)')()}} ${7*7} <%= 7*7 %>",
    "left \u202egnp.exe\u202c \u2066isolate\u2069 \u200fright",
    "zero\u200bwidth\ufeff soft\u00adhyphen\u2060 blank\u00a0blank\u3000end",
    "tags \U000e0041\U000e0042 variation\ufe0f",
    "nul\u0000nul \u0007 \u001b[2J\u001b[31mred \u009b31m",
    "line\nline\r\nline\ttab\u2028sep\u2029par\u0085nel",
    "x" * 1000,
    "https://" + "a" * 900 + "/",
    "=HYPERLINK(\"http://127.0.0.1:9/\") , @SUM(1)",
    "שלום עולם مرحبا 中文 e\u0301 🦀",
    "  two  blanks  ",
    "",
    "\\u{202e} written out",
]

HIDDEN = [
    (0x00, 0x1F), (0x7F, 0xA0), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x180B, 0x180F), (0x2000, 0x200F),
    (0x2028, 0x202F), (0x205F, 0x206F), (0x2800, 0x2800), (0x3000, 0x3000), (0x3164, 0x3164), (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF), (0xE0000, 0xE0FFF),
]


def shown(text):
    """The text as it must stand on the page."""
    if not text:
        return '""'
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    out = []
    for char in text:
        if any(low <= ord(char) <= high for low, high in HIDDEN):
            out.append(short.get(char, "\\u{%x}" % ord(char)))
        else:
            out.append(char)
    return "".join(out)


def log():
    """Audit events, one a line: each text in every field that a client or a log writer can fill."""
    lines = []
    for number, text in enumerate(TEXTS):
        for source in ("192.0.2.66", "198.51.100.%d" % number):
            for repeat in range(6):
                lines.append(json.dumps({
                    "kind": "Event", "auditID": "%s#%d" % (text, repeat), "stage": "ResponseComplete",
                    "requestURI": text + ("?" + str(repeat) if repeat else ""), "verb": text, "userAgent": text,
                    "user": {"username": text, "groups": ["system:unauthenticated", text]},
                    "sourceIPs": [text, source],
                    "responseStatus": {"code": 403, "status": text, "reason": text, "message": text},
                    "requestReceivedTimestamp": "2026-11-25T10:%02d:%02d.%06dZ" % (number, repeat, len(lines)),
                }))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(log(), end="")
