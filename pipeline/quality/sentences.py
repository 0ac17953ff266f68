"""Sentences, cut where spaCy's rule-based sentencizer (what datatrove calls) cuts: after terminal punctuation, before the next word."""

from __future__ import annotations

import re

_ABBREVIATIONS = (
    "Mr",
    "Ms",
    "Dr",
    "St",
    "Mt",
    "Jr",
    "Sr",
    "Co",
    "vs",
    "Mrs",
    "Ltd",
    "Inc",
    "Gen",
    "Gov",
    "Sen",
    "Rep",
    "Rev",
    "Bros",
    "Corp",
    "Prof",
)
_NOT_ABBREVIATED = "".join(rf"(?<!\b{word}\.)" for word in _ABBREVIATIONS)
_TERMINAL = ".!?…։؟۔܀܁܂߹।॥၊။።፧፨᙮‼‽⁇⁈⁉⸮。﹖﹗！．？｡"  # noqa: RUF001
# At most 64 marks behind the first: without a bound, a long run of them takes quadratic time.
_END = re.compile(rf"[{re.escape(_TERMINAL)}]{_NOT_ABBREVIATED}(?<!\b[A-Z]\.)[^\w\s]{{0,64}}\s+[^\w\s]*(?=\w)|[。！？｡](?=\w)")  # noqa: RUF001


def sentence_count(text: str) -> int:
    """How many sentences there are in `text`; 1 in a text without any end."""
    return len(_END.findall(text)) + 1


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence in characters; together they cover the text."""
    ends = [match.end() for match in _END.finditer(text)]
    return list(zip([0, *ends], [*ends, len(text)], strict=True))
