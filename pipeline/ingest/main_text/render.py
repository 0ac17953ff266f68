"""Kept blocks as text: paragraphs apart by an empty line, one list item a line, the cells of a row apart by tabs, `<pre>` as it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.ingest.main_text.blocks import Page


def render(page: Page, keep: Sequence[bool]) -> str:
    """The text of the blocks that `keep` names."""
    data_rows = _data_rows(page)
    in_data = [row in data_rows for row in page.in_row.tolist()]
    places = tuple(column.tolist() for column in (page.in_row, page.in_table, page.in_list, page.in_pre, page.cell_numbers))
    blocks = [block for block, is_kept in enumerate(keep) if is_kept]
    parts: list[str] = []
    for last, block in zip([-1, *blocks], blocks, strict=False):
        if last >= 0:
            parts.append(_between(last, block, in_data, *places))
        parts.append(page.texts[block].replace("\n", " ") if in_data[block] else page.texts[block])
    return "".join(parts)


def _between(
    a: int, b: int, in_data: list[bool], rows: list[int], tables: list[int], lists: list[int], pres: list[int], cell_numbers: list[int]
) -> str:
    """What stands between two blocks."""
    if in_data[a] and in_data[b]:
        if rows[a] == rows[b]:
            return "\t" * max(1, cell_numbers[b] - cell_numbers[a])
        if tables[a] == tables[b]:
            return "\n"
    if (pres[a] >= 0 and pres[a] == pres[b]) or (lists[a] >= 0 and lists[a] == lists[b]):
        return "\n"
    return "\n\n"


def _data_rows(page: Page) -> set[int]:
    """Rows whose cells hold one block each: of a table of data, where others are a page's layout."""
    in_rows = page.in_row >= 0
    if not in_rows.any():
        return set()
    rows = page.in_row[in_rows].tolist()
    cells = Counter(zip(rows, page.in_cell[in_rows].tolist(), strict=True))
    several = {row for (row, _), count in cells.items() if count > 1} | set(page.in_row[in_rows & (page.in_pre >= 0)].tolist())
    return set(rows) - several
