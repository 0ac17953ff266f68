"""Edits of one document: lines that go and addresses that are replaced, merged and disjoint. RULE 19."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from pipeline.documents import Edit


def merge_edits(lines: Iterable[tuple[int, int]], replacements: Iterable[Edit]) -> list[Edit]:
    """Disjoint ascending edits. Spans are UTF-8 byte offsets into the unedited text, in any order, overlapping as they like.

    Touching and overlapping removals become one. A removal beats a replacement: of an address that sticks out of removed lines, the first
    piece outside is replaced and the others go, so that no part of it stays. Of two
    replacements that overlap, the first wins and the rest of the other is replaced beside it.
    """
    removed = merge_spans(lines)
    edits, ends = [Edit(start, end, "") for start, end in removed], [end for _, end in removed]
    replaced_to = 0
    for edit in sorted(replacements):
        start, text = max(edit.start, replaced_to), edit.replacement
        replaced_to = max(replaced_to, edit.end)
        n = bisect_right(ends, start)  # the first removal that ends behind `start`
        while start < edit.end:
            stop = min(edit.end, removed[n][0]) if n < len(removed) else edit.end
            if start < stop:
                edits.append(Edit(start, stop, text))
                text = ""
            start, n = (max(start, removed[n][1]), n + 1) if n < len(removed) else (edit.end, n)
    return sorted(edits)


def merge_spans(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of spans as disjoint ascending ones that do not touch; empty spans vanish."""
    merged = list[tuple[int, int]]()
    for start, end in sorted(spans):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def removed_lines(text: str, edits: Sequence[Edit]) -> set[str]:
    """The different lines that removals take out of a text, without white space at their ends and doubled inside; blank ones are none."""
    data = text.encode()
    taken = (data[edit.start : edit.end].decode() for edit in edits if edit.replacement == "")
    return {folded for some in taken for line in some.split("\n") if (folded := " ".join(line.split()))}


def edited_size_bytes(size_bytes: int, edits: Iterable[Edit]) -> int:
    """UTF-8 bytes of a text of `size_bytes` after its edits."""
    return size_bytes + sum(len(edit.replacement.encode()) - (edit.end - edit.start) for edit in edits)
