"""How a message speaks of a name that does not exist."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.strict import MAX_LISTED, choices

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
