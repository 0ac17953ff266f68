"""Spans of e-mail and IP addresses, for select to replace. Kinds: `email`, `ipv4`, `ipv6`.

FineWeb replaces them (arXiv 2406.17557, section 3.6) by patterns alone; here what only looks like an address is told apart first, see
`email_addresses` and `ip_addresses`. Spans are measured for every document; select edits by text class, and code only where asked.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.quality.email_addresses import email_spans
from pipeline.quality.ip_addresses import ip_spans


class Pii(NamedTuple):
    """An address: UTF-8 byte offsets into the text, and its kind."""

    start: int
    end: int
    kind: str


def pii_spans(text: str) -> list[Pii]:
    """The addresses in a text, ascending and disjoint, in UTF-8 bytes."""
    found = [(start, end, "email") for start, end in email_spans(text)]
    found += ip_spans(text)
    return _in_bytes(text, sorted(found)) if found else []


def _in_bytes(text: str, spans: list[tuple[int, int, str]]) -> list[Pii]:
    """Character spans as byte spans; one that overlaps an earlier one (an address inside an address) is left out."""
    converted, characters, size_bytes = list[Pii](), 0, 0
    for start, end, kind in spans:
        if start < characters:
            continue
        first = size_bytes + len(text[characters:start].encode())
        characters, size_bytes = end, first + len(text[start:end].encode())
        converted.append(Pii(first, size_bytes, kind))
    return converted
