"""Parts of a page that an extractor must not lose: list items, formulas, preformatted text, rows of tables, as the page's tree has them.

They are found by selectors in a tree of their own, so that what is measured does not depend on how our extractor reads a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import turbohtml

MIN_ITEM_WORDS, MIN_PRE_LINES = 3, 2


@dataclass
class Share:
    """How many of the parts that were looked for are there."""

    found: int = 0
    parts: int = 0

    def add(self, is_there: bool) -> None:
        """Count one part."""
        self.found, self.parts = self.found + is_there, self.parts + 1

    @property
    def value(self) -> float:
        """The share, 1 of none."""
        return self.found / self.parts if self.parts else 1.0


def flat(text: str) -> str:
    """A text on one line, single spaces between words."""
    return " ".join(text.split())


def list_items(html: str) -> Iterator[str]:
    """The text of each list item of at least three words, less than half of them in links, without a list, a table, … inside."""
    for item in turbohtml.parse(html).select("li"):
        if not item.select("li, table, pre, script, style, math, svg, sup, br, noscript, [hidden], [style]"):
            text, links = flat(item.text), sum(len(flat(link.text)) for link in item.select("a"))
            if text.count(" ") + 1 >= MIN_ITEM_WORDS and 2 * links < len(text):
                yield text


def formulas(html: str) -> Iterator[str]:
    """The TeX of each formula that carries its source: an annotation, else `alttext`; a script."""
    document = turbohtml.parse(html)
    for formula in document.select("math"):
        annotation = formula.select_one("annotation[encoding*=tex], annotation[encoding*=TeX]")
        tex = annotation.text if annotation is not None else formula.attr("alttext") or ""
        if tex.strip():
            yield tex.strip()
    for script in document.select("script[type^='math/tex']"):
        if script.text.strip():
            yield script.text.strip()


def preformatted(html: str) -> Iterator[str]:
    """The text of each `<pre>` of at least two lines, without space at the ends of lines."""
    for element in turbohtml.parse(html).select("pre"):
        text = "\n".join(line.rstrip() for line in element.text.split("\n")).strip("\n")
        if text.count("\n") + 1 >= MIN_PRE_LINES and not element.select("br, table, div, li, p, sup, button, [hidden], [style]"):
            yield text


def table_rows(html: str) -> Iterator[list[str]]:
    """The cells of each row of at least two cells of plain text."""
    for row in turbohtml.parse(html).select("tr"):
        cells = [flat(cell.text) for cell in row.select("td, th")]
        if (
            len(cells) >= 2
            and all(cells)
            and not row.select("table, li, pre, p, div, h1, h2, h3, script, style, math, sup, svg, [hidden], [style]")
        ):
            yield cells


@dataclass
class Kept:
    """What of the parts of pages an extractor keeps: list items and formulas of all there are; of the items, preformatted blocks and rows
    that are in its text at all, those on a line of their own, exact to the byte, with their cells apart."""

    items: Share
    item_lines: Share
    formulas: Share
    preformatted: Share
    rows: Share

    @classmethod
    def none(cls) -> Kept:
        """Before any page."""
        return cls(Share(), Share(), Share(), Share(), Share())

    def add(self, html: str, main_text: str | None, text: str) -> None:
        """Count the parts of a page whose main text is known (parts outside it are left out), or is all of it (None)."""
        wanted, found = None if main_text is None else flat(main_text), flat(text)
        lines = {flat(line) for line in text.split("\n")}
        in_main: Callable[[str], bool] = lambda part: wanted is None or part in wanted  # noqa: E731
        for item in filter(in_main, dict.fromkeys(list_items(html))):
            self.items.add(item in found)
            if item in found:
                self.item_lines.add(item in lines)
        for tex in formulas(html):
            self.formulas.add(flat(tex) in found)
        for block in preformatted(html):
            if in_main(flat(block)) and flat(block) in found:
                self.preformatted.add(block in text)
        for cells in table_rows(html):
            is_apart = " ".join(cells) in found
            if in_main(" ".join(cells)) and (is_apart or "".join(cells) in found):
                self.rows.add(is_apart)
