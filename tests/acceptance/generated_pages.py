"""Generated pages for the extractor: nested, broken, cut, of mixed charsets; what is asked is a text or none, within bounds."""

from __future__ import annotations

import random
from collections.abc import Iterator

TAGS = (
    *("div", "p", "span", "a", "ul", "ol", "li", "table", "tr", "td", "th", "pre", "code", "h1", "h2", "nav", "main", "article", "aside"),
    *("footer", "header", "section", "form", "button", "select", "option", "textarea", "math", "mfrac", "msup", "mi", "svg", "ruby", "rt"),
    *("sup", "br", "img", "script", "style", "noscript", "template", "iframe", "details", "dl", "dt", "dd", "b", "i", "custom-element"),
)
ATTRIBUTES = (
    *("", ' class="content"', ' class="MathJax x"', " hidden", ' style="display:none"', ' id="S:0"', " class", ' role="navigation"'),
    *(
        ' alttext="x_1"',
        ' type="math/tex"',
        ' class="a b c d e f g"',
        " =\"'<",
        ' style="visibility: hidden',
        " \x00",
        ' alt="\\frac{a}{b}"',
    ),
)
WORDS = (
    "kettle",
    "the",
    "Straße",
    "чайник",
    "やかん",
    "水壶",
    "غلاية",
    "x^2",
    "&amp;",
    "&#x110000;",
    "&nbsp",
    "<",
    ">",
    "\x00",
    "\ufffd",
    "٣",
    "e\u0301",
)
CHARSETS = ("utf-8", "windows-1252", "windows-1251", "shift_jis", "gb18030", "utf-16-le", "koi8-r")
NESTED = ("<div>", "<b><p>", "<ul><li>", "<table><tr><td>", "<math><msqrt>", "<span>", "<sup>", "<a><div>", "<pre>")
MAX_DEPTH = 8000


def generated_pages(seed: int, n: int) -> Iterator[bytes]:
    """The bytes of `n` pages."""
    rng = random.Random(seed)
    for number in range(n):
        if number % 10 == 0:
            body = rng.choice(NESTED) * rng.randrange(1, MAX_DEPTH) + rng.choice(WORDS)
        else:
            body = "".join(_pieces(rng, rng.randrange(1, 400)))
        charset = rng.choice(CHARSETS)
        page = f"<!DOCTYPE html><html><head><meta charset={charset}><title>{rng.choice(WORDS)}</title></head><body>{body}"
        data = page.encode(rng.choice((charset, "utf-8")), "replace")
        yield data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.3 else data


def _pieces(rng: random.Random, n: int) -> Iterator[str]:
    for _ in range(n):
        kind = rng.random()
        if kind < 0.4:
            yield f"<{rng.choice(TAGS)}{rng.choice(ATTRIBUTES)}>"
        elif kind < 0.7:
            yield f"</{rng.choice(TAGS)}>"
        else:
            yield " ".join(rng.choices(WORDS, k=rng.randrange(1, 30))) + rng.choice((".", "", "\n"))
