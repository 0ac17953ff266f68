"""A page as a flat list of blocks, in one pass over the parser's events.

A block is the text between two block-level boundaries (a start or an end tag that is not inline, two `<br>` in a row), rendered: white
space collapsed, one line per `<br>`, `<pre>` byte for byte, a formula as its TeX once, ruby in parentheses, exponents with a caret, and
without what a reader does not see. Each block knows the element that it stands in, and each element its parent and the range of blocks
inside it, so that every measure of a region is a difference of two sums.

The parser (turbohtml) builds the tree that the HTML standard asks for and reports it without making an object of any node, so no depth of
nesting costs more than its length.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from turbohtml.saxparse import SaxHandler, sax_parse

from pipeline.ingest.main_text.formulas import Formula, MathML, is_math_image, with_delimiters
from pipeline.native import page_reader as native

MAX_ELEMENTS = 1_000_000
Ints = NDArray[np.int64]

INLINE = frozenset(
    {
        "a", "abbr", "acronym", "b", "basefont", "bdi", "bdo", "big", "blink", "button", "cite", "code", "data", "del", "dfn", "em", "font",
        "i", "img", "input", "ins", "kbd", "label", "mark", "meter", "nobr", "noscript", "output", "picture", "progress", "q", "rb", "rtc",
        "ruby", "s", "samp", "slot", "small", "source", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
    }
)  # fmt: skip
SKIPPED = frozenset(
    {
        "applet", "audio", "canvas", "datalist", "dialog", "embed", "frameset", "head", "iframe", "map", "math", "mjx-container",
        "noframes", "object", "rp", "script", "select", "style", "svg", "template", "textarea", "title", "video",
    }
)  # fmt: skip
_KINDS = dict.fromkeys(INLINE, native.INLINE) | dict.fromkeys(SKIPPED, native.SKIPPED) | {
    "a": native.LINK, "img": native.IMAGE, "button": native.RARE_INLINE, "input": native.RARE_INLINE, "noscript": native.RARE_INLINE,
    "sup": native.RARE_INLINE, "rt": native.READING, "br": native.LINE_BREAK, "script": native.SCRIPT, "math": native.RARE_SKIPPED,
    "mjx-container": native.RARE_SKIPPED, "select": native.RARE_SKIPPED, "textarea": native.RARE_SKIPPED, "html": native.ROOT,
    "body": native.ROOT, "dir": native.LIST, "dl": native.LIST, "menu": native.LIST, "ol": native.LIST, "ul": native.LIST,
    "table": native.TABLE, "tr": native.ROW, "td": native.CELL, "th": native.CELL, "listing": native.PRE, "plaintext": native.PRE,
    "pre": native.PRE, "xmp": native.PRE,
}  # fmt: skip
_ATTRIBUTES = dict.fromkeys(("class", "id", "itemprop", "role"), native.NAME) | {"hidden": native.HIDDEN, "style": native.STYLE}
_RENDERED_MATH = re.compile(r"(?:^|\s)(?:MathJax|katex-html|MJX|mjx-chtml)")  # classes of the form of a formula beside its source
_STYLE_HIDDEN = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
# Without one of these words, `hides`, `is_rendered_math`, `_start_script` and `is_math_image` find nothing. (No letter that has a fold
# beyond ASCII, such as the i and the s, stands in those that are sought without regard to case.)
_HINTS = (("none", "dden"), ("mathjax", "katex-html", "mjx"), ("math/tex",), ("tex", "math", "ee_", "\\d"))
_EXPONENT = re.compile(r"[-+−]?(?:\d{1,3}|[a-zA-Z])")  # noqa: RUF001
_BASE = re.compile(r"(?:^|[^\w])(?:\w|\d[\d.,]*|[kcmdµn]?m|ft|in|mi|sec|yd)$|[)\]}]$")


@dataclass(frozen=True)
class Page:
    """Blocks in document order, and the block-level elements they stand in, in the order of their start tags.

    Of each block: `texts`, `inline_names` (class, id … of the inline elements inside), `elements` (index), `link_chars` (characters inside
    links and buttons), `is_pre`, `has_formula`, and where it stands, as far as its last line does: the elements (-1 for none) that are its
    outermost list (`in_list`) and its innermost table, row, cell and `pre`, and the number of its cell in the row (`cell_numbers`).

    Of each element: `tags`, `names`, `parents` (index; -1 for the root), `first_block` and `end_block` (a half-open range), `depths`,
    `ended_before` (how many elements had ended before it began, in the order of `end_order`), `controls` (form controls directly or inside
    inline elements).
    """

    texts: list[str]
    inline_names: list[str]
    elements: Ints
    link_chars: Ints
    is_pre: Ints
    has_formula: Ints
    in_list: Ints
    in_table: Ints
    in_row: Ints
    in_cell: Ints
    cell_numbers: Ints
    in_pre: Ints
    tags: list[str]
    names: list[str]
    parents: Ints
    first_block: Ints
    end_block: Ints
    depths: Ints
    ended_before: Ints
    controls: Ints
    end_order: Ints


class PageTooLargeError(ValueError):
    """A page of more elements than `MAX_ELEMENTS`."""


def read_page(html: str) -> Page:
    """The blocks of a page. Raises PageTooLargeError."""
    reader = _Reader()
    sax_parse(html, reader)
    texts, inline_names = reader.texts, reader.inline_names
    blocks = np.frombuffer(reader.block_columns(), np.int64).reshape(11, -1)
    parents, first_block, end_block, depths, ended_before, *_ = np.frombuffer(reader.element_columns(), np.int64).reshape(7, -1)
    controls = np.zeros(len(parents), np.int64)
    controls[list(reader.controls.keys())] = list(reader.controls.values())
    is_hidden = blocks[4] > 0
    if is_hidden.any() and 2 * sum(len(texts[block]) for block in np.flatnonzero(is_hidden).tolist()) <= sum(map(len, texts)):
        # Left out, unless they hold more than what is shown: then a script would show them.
        shown = np.flatnonzero(~is_hidden)
        before = np.concatenate([[0], np.cumsum(~is_hidden)])
        texts, inline_names = ([column[block] for block in shown.tolist()] for column in (texts, inline_names))
        blocks = blocks[:, shown]
        first_block, end_block = before[first_block], before[end_block]
    elements, link_chars, is_pre, has_formula, _, in_list, in_table, in_row, in_cell, cell_numbers, in_pre = blocks
    return Page(
        texts, inline_names, elements, link_chars, is_pre, has_formula, in_list, in_table, in_row, in_cell, cell_numbers, in_pre,
        reader.tags, reader.element_names, parents, first_block, end_block, depths, ended_before, controls,
        np.frombuffer(reader.ended(), np.int64),
    )  # fmt: skip


class _Reader(native.PageReader, SaxHandler):
    """Collects blocks from the parser's events: what `pipeline/native/page_reader.c` leaves to Python."""

    math: MathML | None
    script: list[str] | None  # of a script that holds TeX
    formula: Formula | None  # the last piece, where that is a formula

    def __init__(self) -> None:
        super().__init__(_KINDS, _ATTRIBUTES, _HINTS, MAX_ELEMENTS)
        self.controls = Counter[int]()
        self.script_is_display = False
        self.formula_at = 0  # where in `pieces` the last formula stands

    def refuse(self) -> None:
        """An element too many."""
        raise PageTooLargeError(f"more than {MAX_ELEMENTS:,} elements")

    def hides(self, style: str) -> bool:
        """Whether a style hides its element."""
        return _STYLE_HIDDEN.search(style) is not None

    def is_rendered_math(self, names: str) -> bool:
        """Whether an element of these names is the form of a formula whose source stands beside it."""
        return _RENDERED_MATH.search(names) is not None

    def start_rare(self, tag: str, attrs: tuple[tuple[str, str | None], ...]) -> None:
        """The start of an element in a line that does more than to be in it."""
        if tag == "sup" or tag == "rt":
            self.marks.append(len(self.pieces))
        elif tag == "noscript":
            self.names.append(tag)
        elif tag == "img" and is_math_image(attrs):
            alt = next((value for name, value in attrs if name == "alt"), "") or ""
            self._formula(Formula(alt.strip(), False, is_source=True))
        elif tag == "button":
            self.links += 1
        if tag == "input" or tag == "button":
            self._add_control()

    def end_rare(self, tag: str) -> None:
        """The end of such an element."""
        if tag == "button":
            self.links = max(0, self.links - 1)
        elif tag == "rt":
            reading = "".join(self.pieces[(at := self.marks.pop()) :]).strip() if self.marks else ""
            if reading:
                self.pieces[at:] = [f"({reading})"]
        elif tag == "sup" and self.marks:
            at = self.marks.pop()
            raised = "".join(self.pieces[at:])
            if _EXPONENT.fullmatch(raised) and _BASE.search("".join(self.pieces[max(0, at - 4) : at])[-24:]):
                self.pieces[at:] = [f"^{raised}"]

    def start_skipped(self, tag: str, attrs: tuple[tuple[str, str | None], ...]) -> None:
        """The start of an element whose text is not read, but which may hold a formula or is a form control."""
        if tag == "math":
            self.is_aside, self.math = True, MathML(attrs)
            return
        if tag == "script":
            self._start_script(attrs)
        elif tag in ("select", "textarea"):
            self._add_control()
        self.is_aside, self.skipping, self.skipping_reads_math = True, 1, tag == "mjx-container"

    def start_aside(self, tag: str, attrs: tuple[tuple[str, str | None], ...]) -> None:
        """A start tag inside a formula, or inside what may hold the form of one."""
        if self.math is not None:
            self.math.start(tag, attrs)
        elif tag == "math":
            self.math = MathML(attrs)
        else:
            if tag == "script":
                self._start_script(attrs)
            self.skipping += 1

    def end_aside(self, tag: str) -> None:
        """The end of an element inside a formula or of one, or inside a script that holds TeX or of one."""
        if self.math is not None:
            if tag == "math" and self.math.depth == 0:
                self._formula(self.math.formula())
                self.math = None
            else:
                self.math.end(tag)
        else:
            self.skipping -= 1
            if self.script is not None and tag == "script":
                self._formula(Formula("".join(self.script).strip(), self.script_is_display, is_source=True))
                self.script = None
        self.is_aside = self.skipping > 0 or self.math is not None

    def aside_characters(self, data: str) -> None:
        """Text of a formula."""
        if self.math is not None:
            self.math.characters(data)
        elif self.script is not None:
            self.script.append(data)

    def _add_control(self) -> None:
        if self.element >= 0:
            self.controls[self.element] += 1

    def _start_script(self, attrs: tuple[tuple[str, str | None], ...]) -> None:
        for name, value in attrs:
            if name == "type" and value and value.startswith("math/tex"):
                self.script, self.script_is_display = [], "display" in value

    def _formula(self, formula: Formula) -> None:
        """Add a formula, once: a rendered form beside its source, or the same source twice, is one formula."""
        if not formula.tex:
            return
        last = self.formula
        if last is not None and (last.tex == formula.tex or (formula.is_source and not last.is_source)):
            if last.tex != formula.tex:
                self.pieces[self.formula_at] = with_delimiters(formula)
                self.formula = formula
            return
        self.formula, self.formula_at, self.breaks, self.any_formula = formula, len(self.pieces), 0, True
        self.pieces.append(with_delimiters(formula))
