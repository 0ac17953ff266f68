"""Sealed files: what was written is read, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import IntegrityError
from storage.sealed import seal, unseal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text().filter(lambda key: key != "sha256"), VALUES, max_size=4)


@given(BODIES)
def test_what_is_sealed_is_read(body: dict[str, Any]) -> None:
    data = seal(body)
    assert unseal(data, where="x", what="a body") == json.loads(json.dumps(body))
    assert seal(unseal(data, where="x", what="a body")) == data


@given(BODIES, st.data())
def test_no_changed_byte_is_believed(body: dict[str, Any], draw: st.DataObject) -> None:
    """Cut off, put in or changed to any other: also where the values that JSON reads would be the same."""
    data = seal(body)
    at = draw.draw(st.integers(0, len(data) - 1))
    other = draw.draw(st.binary(max_size=2).filter(lambda found: found != data[at : at + 1]))
    with pytest.raises(IntegrityError, match=r"^x: expected a body"):
        unseal(data[:at] + other + data[at + 1 :], where="x", what="a body")


def test_golden_bytes() -> None:
    """The form that every stored manifest has."""
    assert seal({"b": [1, "é"], "a": {"10": 1, "9": None}}) == (
        b'{\n "a": {\n  "10": 1,\n  "9": null\n },\n "b": [\n  1,\n  "\\u00e9"\n ],\n'
        b' "sha256": "b5f8121c4b39142f660b0ddcaed9bb2a917c116a2be1109cf616e7df5ee84e6a"\n}'
    )


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "no such JSON"),
        (b"\xff", "no such JSON"),
        (b"[]", "no such JSON"),
        (b"{}", "no sha256 of itself"),
        (b'{"a": 1, "sha256": "00"}', "sha256 [0-9a-f]{64}"),
        (b"[" * 100_000, "no such JSON"),
    ],
)
def test_both_values_and_the_remedy_are_named(data: bytes, found: str) -> None:
    with pytest.raises(IntegrityError, match=rf"^runs/r/run.json: expected a run.*found .*({found})") as caught:
        unseal(data, where="runs/r/run.json", what="a run", remedy="run again")
    assert str(caught.value).endswith("; run again")
