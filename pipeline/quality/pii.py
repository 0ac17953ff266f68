"""Spans of e-mail and IP addresses, as FineWeb replaces them (arXiv 2406.17557, section 3.6), for select to replace.

Kinds: `email`, `ipv4`, `ipv6`. Addresses that name no one are left: private, loopback, link-local, documentation and other
non-global ranges. So are what only look like addresses: version and section numbers (`v1.2.3.4`, `version 1.2.3.4`, `Firefox/1.2.3.4`,
`Section 1.2.3.4`, five numbers), octets with leading zeros. IPv6 is taken in 2000::/3 alone, where hosts live, so that
`a::b` of C++ is none. Only ASCII letters and digits join an address: text without spaces (Chinese, Japanese) may stand right beside it.
"""

# ruff: noqa: RUF001 - the full-width colon is meant

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9_.!#$%&'*+/=?^`{|}~-])[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}){0,8}"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]"
)
_IPV4 = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![A-Za-z0-9_-]|\.[0-9])")
# No look-behind in the patterns above: it would cost the fast search for their first digit.
_WORD_BEFORE = re.compile(r"[A-Za-z0-9_.-]\Z")
_IPV6 = re.compile(r"[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![A-Za-z0-9_:])")
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:v|ver|version|versions|release|rev|revision|build|update|patch|firmware|kernel|driver|section|sections|sec|chapter|part"
    r"|article|clause|paragraph|figure|fig|table|theorem|lemma|definition|appendix)\b[.:]?\s{0,2}|§\s{0,2}|[A-Za-z]/|(?:版本?|バージョン|버전)[:：]?\s{0,2})\Z",
    re.IGNORECASE,
)
_LOOK_BACK_CHARS = 16


class Pii(NamedTuple):
    """An address: UTF-8 byte offsets into the text, and its kind."""

    start: int
    end: int
    kind: str


def pii_spans(text: str) -> list[Pii]:
    """The addresses in a text, ascending and disjoint, in UTF-8 bytes."""
    found = [(*match.span(), "email") for match in _EMAIL.finditer(text)] if "@" in text else []
    found += [(*match.span(), "ipv4") for match in _IPV4.finditer(text) if _is_address(match) and not _is_version(text, match.start())]
    if ":" in text:
        found += [
            (*match.span(), "ipv6")
            for match in _IPV6.finditer(text)
            if _is_address(match) and text[match.start() - 1 : match.start()] != ":" and not _is_version(text, match.start())
        ]
    return _in_bytes(text, sorted(found)) if found else []


def _is_address(match: re.Match[str]) -> bool:
    try:
        return ipaddress.ip_address(match[0]).is_global
    except ValueError:
        return False


def _is_version(text: str, start: int) -> bool:
    before = text[max(0, start - _LOOK_BACK_CHARS) : start]
    return (_WORD_BEFORE.search(before) or _VERSION_BEFORE.search(before)) is not None


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
