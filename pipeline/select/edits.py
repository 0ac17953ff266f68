"""Edits of one document: lines that go and addresses that are replaced, merged and disjoint. RULE 19."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.documents import Edit


def merge_edits(lines: Iterable[tuple[int, int]], replacements: Iterable[Edit]) -> list[Edit]:
    """Disjoint ascending edits. Spans are UTF-8 byte offsets into the unedited text, in any order, overlapping as they like.

    Touching and overlapping removals become one. A removal beats a replacement: of an address that sticks out of removed lines, the first
    piece outside is replaced and the others go, so that no part of it stays. Of two
    replacements that overlap, the first wins and the rest of the other is replaced beside it.
    """
    removed = merge_spans(lines)
    edits = [Edit(start, end, "") for start, end in removed]
    taken = list(removed)
    for edit in sorted(replacements):
        pieces = subtract((edit.start, edit.end), taken)
        edits += [Edit(start, end, edit.replacement if i == 0 else "") for i, (start, end) in enumerate(pieces)]
        taken = merge_spans([*taken, *pieces])
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


def subtract(span: tuple[int, int], taken: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of a span lies outside the disjoint ascending spans `taken`."""
    position, end = span
    pieces = list[tuple[int, int]]()
    for start, stop in taken:
        if stop <= position or start >= end:
            continue
        if position < start:
            pieces.append((position, start))
        position = max(position, stop)
    if position < end:
        pieces.append((position, end))
    return pieces


def removed_lines(text: str, edits: Sequence[Edit]) -> set[str]:
    """The different lines that removals take out of a text, without white space at their ends and doubled inside; blank ones are none."""
    data = text.encode()
    taken = (data[edit.start : edit.end].decode() for edit in edits if edit.replacement == "")
    return {folded for some in taken for line in some.split("\n") if (folded := " ".join(line.split()))}


def edited_size_bytes(size_bytes: int, edits: Iterable[Edit]) -> int:
    """UTF-8 bytes of a text of `size_bytes` after its edits."""
    return size_bytes + sum(len(edit.replacement.encode()) - (edit.end - edit.start) for edit in edits)
