"""How a message speaks of a name that does not exist, and fields that came later."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from storage.artifact import identity
from storage.strict import LATER, MAX_LISTED, Strict, choices

MANY = [f"field_{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("name", "allowed", "message"),
    [
        ("min_char", ["min_chars", "max_words"], "; did you mean `min_chars`?; there are: min_chars, max_words"),
        ("min_word_count", ["min_gopher_word_count", *MANY], "; did you mean `min_gopher_word_count`?; there are: 21 names"),
        ("min_char", ["min_chars", "mix_chars", *MANY], "; did you mean `min_chars` or `mix_chars`?; there are: 22 names"),
        ("cpp", ["sources_cpp", *MANY], "; did you mean `sources_cpp`?"),
        ("zzz", ["a", "b"], "; there are: a, b"),
        ("zzz", MANY, "; there are: 20 names"),
        ("zzz", [], "; there are: none"),
    ],
)
def test_the_nearest_names_come_first_and_a_long_list_is_a_number(name: str, allowed: list[str], message: str) -> None:
    """A person looks for what was meant, not for a page of names."""
    assert choices(name, allowed).startswith(message)


@given(st.text(max_size=12), st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=12), max_size=30))
def test_a_long_list_is_never_written_out(name: str, allowed: list[str]) -> None:
    """Of more than eight names at most three are said; of eight or fewer, every one."""
    message = choices(name, allowed)
    names = list(dict.fromkeys(allowed))
    if len(names) > MAX_LISTED:
        assert message.endswith(f"there are: {len(names)} names")
        assert message.count("`") <= 6
    else:
        assert message.endswith(f"there are: {', '.join(names) or 'none'}")


class Inner(Strict):
    """As it was."""

    size: int = 3


class InnerNow(Inner):
    """With a field that came later."""

    rounds: Annotated[int, LATER] = Field(1, ge=1)


class Before(Strict):
    """A configuration as it was."""

    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()


class Now(Strict):
    """The same, with fields that came later, here and inside."""

    name: str
    inner: InnerNow = InnerNow()
    many: tuple[InnerNow, ...] = ()
    words: Annotated[tuple[str, ...], LATER] = ("a",)
    table: Annotated[dict[str, int], LATER] = Field(default_factory=dict)


def _fingerprint(config: Strict) -> str:
    return identity("stage", 1, config, {})[0]


def test_a_field_that_came_later_changes_no_fingerprint_at_its_default() -> None:
    """RULE 7: also in a model inside, in a list of models, and where the default is written out; `Before` stands for an older Caravan."""
    asked: dict[str, Any] = {"name": "x", "inner": {"size": 4}, "many": [{"size": 1}, {"size": 2}]}
    written_out = {**asked, "words": ["a"], "table": {}, "inner": {"size": 4, "rounds": 1}}
    before = _fingerprint(Before.model_validate(asked))
    assert _fingerprint(Now.model_validate(asked)) == _fingerprint(Now.model_validate(written_out)) == before


@pytest.mark.parametrize("change", [{"words": ["b"]}, {"table": {"a": 1}}, {"inner": {"rounds": 2}}, {"many": [{"rounds": 2}]}])
def test_a_field_that_came_later_bears_on_the_fingerprint_where_it_is_used(change: dict[str, Any]) -> None:
    """Another value is another result."""
    assert _fingerprint(Now.model_validate({"name": "x", **change})) != _fingerprint(Now.model_validate({"name": "x"}))


def test_a_field_that_was_always_there_is_hashed_at_its_default() -> None:
    """Only marked fields are left out: what was hashed stays hashed."""
    assert identity("stage", 1, Before(name="x"), {})[1]["config"] == {"name": "x", "inner": {"size": 3}, "many": []}
