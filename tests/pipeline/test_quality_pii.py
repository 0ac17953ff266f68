"""Addresses: what is one, what only looks like one, and spans in UTF-8 bytes."""

# ruff: noqa: RUF001 - text of many scripts is what is tested

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quality.pii import pii_spans


def found(text: str) -> list[tuple[str, str]]:
    """(kind, address) of every span, cut out of the UTF-8 bytes."""
    data = text.encode()
    return [(span.kind, data[span.start : span.end].decode()) for span in pii_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+x@mail.example.org, please", [("email", "jane.doe+x@mail.example.org")]),
        ("<bob@example.co.uk>.", [("email", "bob@example.co.uk")]),
        ("Müller: müller ana@example.de", [("email", "ana@example.de")]),
        ("a@b, @handle, user@localhost, x@y.1", []),
        ("from 8.8.8.8 to 1.1.1.1.", [("ipv4", "8.8.8.8"), ("ipv4", "1.1.1.1")]),
        ("http://93.184.216.34/x and 93.184.216.34:80", [("ipv4", "93.184.216.34"), ("ipv4", "93.184.216.34")]),
        ("127.0.0.1 10.1.2.3 192.168.0.1 172.16.0.1 169.254.1.1 192.0.2.1 0.0.0.0 255.255.255.255", []),
        ("version 1.2.3.4, v8.8.8.8, Release 8.8.4.4, Firefox/8.8.8.8, Section 8.8.8.8, § 8.8.8.8", []),
        ("8.8.8.8.8 and 8.8.8.888 and 08.8.8.8 and x8.8.8.8 and 8.8.8.8-rc1", []),
        ("see 2a00:1450:4001:82a::200e now", [("ipv6", "2a00:1450:4001:82a::200e")]),
        ("联系邮箱admin@example.cn。地址2606:4700::1111です", [("email", "admin@example.cn"), ("ipv6", "2606:4700::1111")]),
        ("服务器8.8.8.8的地址 IP:8.8.4.4", [("ipv4", "8.8.8.8"), ("ipv4", "8.8.4.4")]),
        ("版本8.8.8.8, バージョン：8.8.4.4, ver8.8.8.8", []),
        ("2001:db8::1 is for documentation, fe80::1 is local, 12:30:45 is a time, a::b is C++, 2024:01:02", []),
    ],
)
def test_addresses_and_what_only_looks_like_them(text: str, expected: list[tuple[str, str]]) -> None:
    """Public addresses are found whole; private, reserved, version and section numbers are not."""
    assert found(text) == expected


@given(st.lists(st.sampled_from(["ä", "漢", "😀 ", " ", "a@b.cc", "8.8.8.8", "x", "\n", "2a00:1450::1", "v"]), max_size=20).map("".join))
def test_spans_are_disjoint_ascending_and_cut_at_characters(text: str) -> None:
    """Every span decodes, starts after the one before, and lies inside the text."""
    position, data = 0, text.encode()
    for span in pii_spans(text):
        assert position <= span.start < span.end <= len(data)
        assert data[span.start : span.end].decode()
        position = span.end


def test_a_long_run_of_address_characters_takes_linear_time() -> None:
    """No backtracking without bound: 200,000 characters that nearly are an address."""
    assert pii_spans("a." * 100_000 + "@") == []
    assert pii_spans("1." * 100_000) == []
    assert pii_spans("2a00:" * 40_000) == []
