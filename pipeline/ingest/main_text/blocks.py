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
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from turbohtml.saxparse import SaxHandler, sax_parse

from pipeline.ingest.main_text.formulas import Formula, MathML, is_math_image, with_delimiters

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
PRE = frozenset({"listing", "plaintext", "pre", "xmp"})
PLACED = PRE | {"dir", "dl", "menu", "ol", "table", "td", "th", "tr", "ul"}
_ACTING_INLINE = frozenset({"a", "button", "img", "input", "noscript", "sup"})
_NAMES = frozenset({"class", "id", "itemprop", "role"})
_RENDERED_MATH = re.compile(r"(?:^|\s)(?:MathJax|katex-html|MJX|mjx-chtml)")  # classes of the form of a formula beside its source
_STYLE_HIDDEN = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_EXPONENT = re.compile(r"[-+−]?(?:\d{1,3}|[a-zA-Z])")  # noqa: RUF001
_BASE = re.compile(r"(?:^|[^\w])(?:\w|\d[\d.,]*|[kcmdµn]?m|ft|in|mi|sec|yd)$|[)\]}]$")


class Place(NamedTuple):
    """Where a block stands, as far as its line does: the elements (-1 for none) that are its outermost list, its innermost table, row, cell
    and `pre`, and the number of its cell in the row."""

    list_element: int = -1
    table: int = -1
    row: int = -1
    cell: int = -1
    cell_number: int = 0
    pre: int = -1


@dataclass(frozen=True)
class Page:
    """Blocks in document order, and the block-level elements they stand in, in the order of their start tags.

    Of each block: `texts`, `places`, `inline_names` (class, id … of the inline elements inside), `elements` (index), `link_chars`
    (characters inside links and buttons), `is_pre`, `has_formula`. Of each element: `tags`, `names`, `parents` (index; -1 for the root),
    `first_block` and `end_block` (a half-open range), `depths`, `ended_before` (how many elements had ended before it began, in the order
    of `end_order`), `controls` (form controls directly or inside inline elements).
    """

    texts: list[str]
    places: list[Place]
    inline_names: list[str]
    elements: Ints
    link_chars: Ints
    is_pre: Ints
    has_formula: Ints
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
    texts, places, inline_names = reader.texts, reader.places, reader.inline_names
    elements, link_chars, is_pre, has_formula, is_hidden = _columns(reader.block_rows, 5)
    parents, first_block, depths, ended_before = _columns(reader.element_rows, 4)
    end_block, controls = np.frombuffer(reader.end_block, np.int64), np.zeros(len(parents), np.int64)
    controls[list(reader.controls.keys())] = list(reader.controls.values())
    if is_hidden.any() and 2 * sum(len(texts[block]) for block in np.flatnonzero(is_hidden).tolist()) <= sum(map(len, texts)):
        # Left out, unless they hold more than what is shown: then a script would show them.
        shown = np.flatnonzero(is_hidden == 0)
        before = np.concatenate([[0], np.cumsum(is_hidden == 0)])
        texts, inline_names = ([column[block] for block in shown.tolist()] for column in (texts, inline_names))
        places = [places[block] for block in shown.tolist()]
        elements, link_chars, is_pre, has_formula = (column[shown] for column in (elements, link_chars, is_pre, has_formula))
        first_block, end_block = before[first_block], before[end_block]
    return Page(
        texts, places, inline_names, elements, link_chars, is_pre, has_formula, reader.tags, reader.element_names, parents, first_block,
        end_block, depths, ended_before, controls, np.frombuffer(reader.end_order, np.int64),
    )  # fmt: skip


def _columns(rows: array[int], width: int) -> list[Ints]:
    return list(np.ascontiguousarray(np.frombuffer(rows, np.int64).reshape(-1, width).T))


class _Reader(SaxHandler):
    """Collects blocks from the parser's events."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.places: list[Place] = []
        self.inline_names: list[str] = []
        self.block_rows = array("q")  # of each block: its element, characters in links, whether it is `pre`, has a formula, is hidden
        self.tags: list[str] = []
        self.element_names: list[str] = []
        self.element_rows = array("q")  # of each element: its parent, first block, depth, how many elements had ended
        self.end_block = array("q")
        self.end_order = array("q")
        self.controls = Counter[int]()
        self.open: list[int] = [-1]  # block-level elements that are open
        self.pieces: list[str] = []  # text of the line that grows
        self.lines: list[str] = []  # finished lines of the block that grows
        self.names: list[str] = []
        self.links = 0  # open links and buttons
        self.link_chars = 0
        self.is_aside = False  # inside a formula, or inside what is not read
        self.skipping = 0  # open elements since one whose text is not read
        self.skipping_reads_math = False  # whether a formula inside counts: where the skipped part may be the form of one
        self.hidden: list[int] = []  # open block-level elements that are hidden
        self.pre = 0  # open `pre` elements
        self.breaks = 0  # `<br>` since the last text
        self.math: MathML | None = None
        self.script: list[str] | None = None  # of a script that holds TeX
        self.script_is_display = False
        self.formula: Formula | None = None  # the last piece, where that is a formula
        self.formula_at = 0
        self.any_formula = False
        self.marks: list[int] = []  # where open `sup`, `rt` began in `pieces`
        self.place = Place()
        self.outer_places: list[Place] = []  # of the open elements that change the place
        self.cells_in_row: dict[int, int] = {}

    def start_element(self, tag: str, attrs: tuple[tuple[str, str | None], ...]) -> None:
        if self.is_aside:
            self._start_aside(tag, attrs)
            return
        is_inline, names, is_hidden = tag in INLINE, "", False
        for name, value in attrs:
            if name in _NAMES:
                names = f"{names} {value}"
            elif name == "hidden" or (name == "style" and value and _STYLE_HIDDEN.search(value)):
                is_hidden = tag != "body" and tag != "html" and value != "until-found"
        if is_inline:
            if is_hidden or (names and _RENDERED_MATH.search(names)):
                self._skip(reads_math=True)  # which may be the hidden or the visible form of a formula
                return
            if names:
                self.names.append(names)
            if tag in _ACTING_INLINE:
                self._start_inline(tag, attrs)
        elif tag in SKIPPED:
            self._start_skipped(tag, attrs)
        elif tag == "br":
            self._line_break()
        elif tag == "rt":
            self.marks.append(len(self.pieces))
        else:
            self._start_block(tag, names, is_hidden)

    def end_element(self, tag: str) -> None:
        if self.is_aside:
            self._end_aside(tag)
        elif tag in INLINE:
            if tag in _ACTING_INLINE:
                self._end_inline(tag)
        elif tag == "rt":
            reading = "".join(self.pieces[(at := self.marks.pop()) :]).strip() if self.marks else ""
            if reading:
                self.pieces[at:] = [f"({reading})"]
        elif tag != "br":
            self._end_block(tag)

    def characters(self, data: str) -> None:
        if self.is_aside:
            if self.math is not None:
                self.math.characters(data)
            elif self.script is not None:
                self.script.append(data)
        elif self.pieces or self.pre or not data.isspace():
            self.pieces.append(data)
            if self.links:
                self.link_chars += len(data)
            if (self.breaks or self.formula is not None) and not data.isspace():
                self.breaks, self.formula = 0, None

    def _start_block(self, tag: str, names: str, is_hidden: bool) -> None:
        if self.pieces or self.lines:
            self._flush()
        self.breaks = 0
        open_elements = self.open
        element = len(self.end_block)
        self.tags.append(tag)
        self.element_names.append(names)
        self.element_rows.extend((open_elements[-1], len(self.texts), len(open_elements) - 1, len(self.end_order)))
        self.end_block.append(0)
        open_elements.append(element)
        if is_hidden:
            self.hidden.append(element)
        if tag in PLACED:
            self._enter(tag, element)
        if element >= MAX_ELEMENTS:
            raise PageTooLargeError(f"more than {MAX_ELEMENTS:,} elements")

    def _end_block(self, tag: str) -> None:
        if self.pieces or self.lines:
            self._flush()
        self.breaks = 0
        element = self.open.pop()
        self.end_block[element] = len(self.texts)
        self.end_order.append(element)
        if self.hidden and self.hidden[-1] == element:
            self.hidden.pop()
        if tag in PLACED:
            self.place = self.outer_places.pop()
            self.pre -= tag in PRE

    def _start_aside(self, tag: str, attrs: tuple[tuple[str, str | None], ...]) -> None:
        """A start tag inside a formula, or inside what is not read."""
        if self.math is not None:
            self.math.start(tag, attrs)
        elif tag == "math" and self.skipping_reads_math:
            self.math = MathML(attrs)
        else:
            if tag == "script" and self.skipping_reads_math:
                self._start_script(attrs)
            self.skipping += 1

    def _end_aside(self, tag: str) -> None:
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

    def _enter(self, tag: str, element: int) -> None:
        """Note that the blocks to come stand in this list, table, row, cell or `pre`."""
        self.outer_places.append(place := self.place)
        if tag in PRE:
            self.pre += 1
            self.place = place._replace(pre=element)
        elif tag == "table":
            self.place = Place(place.list_element, element, pre=place.pre)
        elif tag == "tr":
            self.place = Place(place.list_element, place.table, element, pre=place.pre)
        elif tag == "td" or tag == "th":
            number = self.cells_in_row.get(place.row, 0)
            self.cells_in_row[place.row] = number + 1
            self.place = place._replace(cell=element, cell_number=number)
        elif place.list_element < 0:
            self.place = place._replace(list_element=element)

    def _skip(self, reads_math: bool) -> None:
        """Read no text to the end of this element; its formulas, where it may hold the form of one."""
        self.is_aside, self.skipping, self.skipping_reads_math = True, 1, reads_math

    def _start_skipped(self, tag: str, attrs: tuple[tuple[str, str | None], ...]) -> None:
        if tag == "math":
            self.is_aside, self.math = True, MathML(attrs)
            return
        if tag == "script":
            self._start_script(attrs)
        elif tag in ("select", "textarea") and len(self.open) > 1:
            self.controls[self.open[-1]] += 1
        self._skip(reads_math=tag == "mjx-container")

    def _start_script(self, attrs: tuple[tuple[str, str | None], ...]) -> None:
        for name, value in attrs:
            if name == "type" and value and value.startswith("math/tex"):
                self.script, self.script_is_display = [], "display" in value

    def _start_inline(self, tag: str, attrs: tuple[tuple[str, str | None], ...]) -> None:
        if tag == "a" or tag == "button":
            self.links += 1
        elif tag == "sup":
            self.marks.append(len(self.pieces))
        elif tag == "noscript":
            self.names.append(tag)
        elif tag == "img" and is_math_image(attrs):
            alt = next((value for name, value in attrs if name == "alt"), "") or ""
            self._formula(Formula(alt.strip(), False, is_source=True))
        if (tag == "input" or tag == "button") and len(self.open) > 1:
            self.controls[self.open[-1]] += 1

    def _end_inline(self, tag: str) -> None:
        if tag == "a" or tag == "button":
            self.links = max(0, self.links - 1)
        elif tag == "sup" and self.marks:
            at = self.marks.pop()
            raised = "".join(self.pieces[at:])
            if _EXPONENT.fullmatch(raised) and _BASE.search("".join(self.pieces[max(0, at - 4) : at])[-24:]):
                self.pieces[at:] = [f"^{raised}"]

    def _line_break(self) -> None:
        if self.pre:
            self.pieces.append("\n")
            return
        self.breaks += 1
        if self.breaks == 2:
            self._flush()
        else:
            self._end_line()

    def _end_line(self) -> None:
        if self.pieces:
            if line := " ".join("".join(self.pieces).split()):
                self.lines.append(line)
            self.pieces, self.marks = [], []
        self.formula = None

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

    def _flush(self) -> None:
        """End the block that grows."""
        if self.pre and not self.lines:
            text = "".join(self.pieces).strip("\n")
            text = text if not text.isspace() else ""
            self.pieces, self.marks = [], []
        else:
            self._end_line()
            text = "\n".join(self.lines)
            self.lines = []
        if text:
            self.texts.append(text)
            self.places.append(self.place)
            self.inline_names.append(" ".join(self.names) if self.names else "")
            self.block_rows.extend((self.open[-1], self.link_chars, self.pre > 0, self.any_formula, bool(self.hidden)))
        if self.names:
            self.names = []
        self.link_chars, self.breaks, self.formula, self.any_formula = 0, 0, None, False
