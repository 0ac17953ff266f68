"""Repeated lines: counted once per cluster in buckets of documents of one language, and marked as spans. RULE 15.

A line is what stands between two line feeds; it counts without white space at its ends and with runs of white space inside as one
space, case and punctuation kept. Lines of fewer than `min_words` words never count and never go: a `}`, a `Proof.` or a `Yes` stands in
many texts that have nothing else in common. (A character of a script written without spaces is a word; see pipeline/words.py.) A line that
occurs in more than `max_occurrences` clusters of any one bucket is marked everywhere: in every bucket, of whatever language, in every
cluster member and position. select applies the marks, by text class.

Source: Llama 3 (2024), section 3.1.1, "lines that appeared more than 6 times in each bucket of 30M documents". Deviation: occurrences are
clusters, so that copies of one page do not condemn all its lines; the bucket of a document follows from its id; short lines stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from pipeline.dedup.shuffle import U64, Records, sort_records, starts_of
from pipeline.documents import keyed_fraction
from pipeline.words import has_words
from storage.strict import Strict

LINE = np.dtype([("key", "<u8"), ("bucket", "<u8"), ("cluster", "<u8")])  # line, bucket, half of the cluster's id
_BUCKET_KEY = "line bucket"


class LinesConfig(Strict):
    """Removal of lines that many documents share."""

    max_occurrences: int = Field(6, ge=1, description="clusters of one bucket that may have a line; with one more it is removed")
    bucket_documents: int = Field(30_000_000, ge=1, description="documents of one language in a bucket, about")
    min_words: int = Field(3, ge=1, description="lines of fewer words neither count nor go")


def line_keys(text: str, config: LinesConfig) -> list[int | None]:
    """A 64-bit key of each line of a text, in the order of `text.split("\\n")`; None for lines that never count."""
    folded = [" ".join(line.split()) for line in text.split("\n")]
    return [_key(line) if has_words(line, config.min_words) else None for line in folded]


def _key(line: str) -> int:
    return int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "little")


def bucket_of(document: bytes, language: str, documents_of_language: int, config: LinesConfig) -> int:
    """A 64-bit key of the bucket of a document: one of its language, by a hash of its id, of as many as the language fills."""
    buckets = max(1, -(-documents_of_language // config.bucket_documents))
    return _key(f"{language} {int(keyed_fraction(_BUCKET_KEY, document) * buckets)}")


def frequent(lines: Records, config: LinesConfig) -> U64:
    """Keys, sorted, of the lines with more than `max_occurrences` clusters in one bucket. `lines`: dtype LINE, repeats allowed."""
    ordered = sort_records(lines, "key", "bucket", "cluster")
    distinct = ordered[starts_of(ordered, "key", "bucket", "cluster")]
    starts = np.flatnonzero(starts_of(distinct, "key", "bucket"))
    counts = np.diff(np.append(starts, len(distinct)))
    found: U64 = np.unique(distinct["key"][starts[counts > config.max_occurrences]])
    return found


def spans(data: bytes, removed: Sequence[bool]) -> list[tuple[int, int]]:
    """Byte spans that take out the lines that `removed` marks, in order of `data.split(b"\\n")`: ascending, disjoint, not touching.

    A line goes with the line feed after it. Blank lines behind it go too where what is left before them ends in a blank line or is empty,
    so that no double gap stays. Where nothing but blank lines is left after some line, they go as well, and the text ends as it ended
    before: with a line feed, or without.
    """
    ends = np.cumsum([len(line) + 1 for line in data.split(b"\n")]).tolist()
    ends[-1] -= 1
    starts = [0, *ends[:-1]]
    if starts[-1] == ends[-1]:  # the empty rest behind the last line feed is no line
        del starts[-1], ends[-1]
    blank = [not data[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    gone = _with_blanks(list(removed[: len(starts)]), blank)
    found: list[tuple[int, int]] = []
    for start, end, goes in zip(starts, ends, gone, strict=True):
        if goes and found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        elif goes:
            found.append((start, end))
    if found and found[-1][1] == len(data) and found[-1][0] > 0 and not data.endswith(b"\n"):
        found[-1] = (found[-1][0] - 1, len(data))  # the line feed of the last line that stays
    return found


def _with_blanks(gone: list[bool], blank: Sequence[bool]) -> list[bool]:
    """Marks also the blank lines that the removal of lines leaves over."""
    after_gap = True  # nothing is kept before, or what is kept ends in a blank line
    for i, is_blank in enumerate(blank):
        if is_blank and after_gap and i > 0 and gone[i - 1]:
            gone[i] = True
        if not gone[i]:
            after_gap = is_blank
    tail = len(gone)
    while tail > 0 and (gone[tail - 1] or blank[tail - 1]):
        tail -= 1
    return [*gone[:tail], *[True] * (len(gone) - tail)] if any(gone[tail:]) else gone
