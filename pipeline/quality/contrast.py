"""What a page teaches by contrast: its main text is good; what extraction left out is not, nor a mixture of which that is half or more."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

MIXED_SHARES = (0.3, 0.6, 1.0)  # words of main text at most for each word that was left out


def contrast(main_text: str, left_out: str, min_main_words: int, min_dropped_words: int) -> Iterator[tuple[bool, str]]:
    """(whether it is good, text) of the examples of one page; none of a page that has too little of either."""
    if len(main_text.split(None, min_main_words)) < min_main_words:
        return
    n_words = len(left_out.split())
    if n_words < min_dropped_words:
        return
    yield True, main_text
    yield False, left_out
    lines, ends, total = main_text.split("\n"), list[int](), 0
    for line in lines:
        ends.append(total := total + len(line.split()))
    mixed = 0  # words of main text in the mixture before
    for share in MIXED_SHARES:
        taken = bisect_right(ends, share * n_words)
        if taken and ends[taken - 1] > mixed:
            mixed = ends[taken - 1]
            yield False, f"{left_out}\n\n" + "\n".join(lines[:taken])
