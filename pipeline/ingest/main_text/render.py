"""Kept blocks as text: paragraphs apart by an empty line, one list item a line, the cells of a row apart by tabs, `<pre>` as it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.ingest.main_text.blocks import Page, Place


def render(page: Page, keep: Sequence[bool]) -> str:
    """The text of the blocks that `keep` names."""
    data_rows = _data_rows(page)
    parts: list[str] = []
    last: Place | None = None
    for text, place, is_kept in zip(page.texts, page.places, keep, strict=True):
        if is_kept:
            if last is not None:
                parts.append(_between(data_rows, last, place))
            parts.append(text.replace("\n", " ") if place.row in data_rows else text)
            last = place
    return "".join(parts)


def _between(data_rows: set[int], a: Place, b: Place) -> str:
    """What stands between two blocks."""
    if a.row in data_rows and b.row in data_rows:
        if a.row == b.row:
            return "\t" * max(1, b.cell_number - a.cell_number)
        if a.table == b.table:
            return "\n"
    if (a.pre >= 0 and a.pre == b.pre) or (a.list_element >= 0 and a.list_element == b.list_element):
        return "\n"
    return "\n\n"


def _data_rows(page: Page) -> set[int]:
    """Rows whose cells hold one block each: of a table of data, where others are a page's layout."""
    in_rows = [place for place in page.places if place.row >= 0]
    blocks = Counter((place.row, place.cell) for place in in_rows)
    several = {row for (row, _), count in blocks.items() if count > 1} | {place.row for place in in_rows if place.pre >= 0}
    return {place.row for place in in_rows} - several
