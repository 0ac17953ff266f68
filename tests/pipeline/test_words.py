"""Words: tokens for quality signals, words for comparison, and the kernel that hashes them."""

# ruff: noqa: RUF001 - typographic quotation marks are part of what is tested
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import words as module
from pipeline.words import ngram_hash, ngram_hashes, normalized_words, word_hash, word_hashes, words

TEXT = st.text(st.one_of(st.sampled_from("abc AB_'-.,!? \n\t09üÜßé東กิहिİ\u0301"), st.characters(codec="utf-8")), max_size=60)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("It's (really) John’s.", ["It", "'s", "(", "really", ")", "John", "’s", "."]),
        ("don't can't I'll we've", ["do", "n't", "ca", "n't", "I", "'ll", "we", "'ve"]),
        ("Mr. Smith, e.g. 3.14 or 1,000...", ["Mr.", "Smith", ",", "e.g.", "3.14", "or", "1,000", "..."]),
        ("a well-known 64-bit end.Start", ["a", "well", "-", "known", "64", "-", "bit", "end", ".", "Start"]),
        ("https://example.org/a?b=c, x@example.org", ["https://example.org/a?b=c", ",", "x@example.org"]),
        ("costs $5 or 10km (21%)", ["costs", "$", "5", "or", "10", "km", "(", "21", "%", ")"]),
        ("• item … “quoted”", ["•", "item", "…", "“", "quoted", "”"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_words_follow_the_english_rules(text: str, tokens: list[str]) -> None:
    """Affixes, contractions, infixes, abbreviations and URLs as spaCy's English tokenizer has them."""
    assert words(text) == tokens


@given(text=TEXT)
def test_words_lose_no_character(text: str) -> None:
    """The tokens joined are the text without white space; none is empty; a second call gives the same."""
    tokens = words(text)
    assert "".join(tokens) == "".join(text.split())
    assert all(tokens)
    assert words(text) == tokens


@pytest.mark.parametrize("mark", ["_", "😀", "=", '"', "'s", "."])
def test_a_long_run_of_marks_takes_linear_time(mark: str) -> None:
    """A rule or a row of emoji without a space, 200,000 characters: each affix that is cut off costs the same."""
    text = mark * (200_000 // len(mark))
    assert "".join(words(text)) == text


def test_remembered_chunks_are_bounded_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full memory of chunks is emptied, and tokens stay the same."""
    monkeypatch.setattr(module, "_REMEMBERED_CHUNKS", 3)
    text = " ".join(f"w{n}-x" for n in range(50))
    assert words(text) == words(text)
    assert len(module._chunks) <= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The CAT, the cat_2!", ["the", "cat", "the", "cat_2"]),
        ("don't", ["don", "t"]),
        ("東京都 Tokyo", ["東", "京", "都", "tokyo"]),
        ("เก", ["เ", "ก"]),
        ("हिन्दी", ["हिन्दी"]),
        ("e\u0301te\u0301 été", ["été", "été"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("... !!", []),
    ],
)
def test_normalized_words(text: str, expected: list[str]) -> None:
    """Lower case, composed, no punctuation, marks kept with their letters, characters where a script has no spaces."""
    assert normalized_words(text) == expected


@given(texts=st.lists(TEXT, max_size=6), n=st.integers(1, 6), block=st.sampled_from([4, 16, 1 << 16]))
def test_the_kernel_is_the_definition(texts: list[str], n: int, block: int) -> None:
    """Hashes of words and n-grams in numpy equal those in plain Python, for any block size and any company."""
    module._word_pattern.cache_clear()
    module._tables.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_CHARACTERS", block)
        hashes, offsets = word_hashes(texts)
        grams, bounds = ngram_hashes(hashes, offsets, n)
        expected = [normalized_words(text) for text in texts]
    module._word_pattern.cache_clear()
    module._tables.cache_clear()
    for i, found in enumerate(expected):
        assert hashes[offsets[i] : offsets[i + 1]].tolist() == [word_hash(word) for word in found]
        every = [found[k : k + n] for k in range(max(1, len(found) - n + 1))] if found else []
        assert grams[bounds[i] : bounds[i + 1]].tolist() == [ngram_hash(gram) for gram in every]
    assert bounds[-1] == len(grams)


def test_hashes_are_these_for_ever() -> None:
    """Golden values: other ones would change every signature, so the version of dedup would have to change too."""
    assert (word_hash("caravan"), ngram_hash(["to", "be", "or", "not"])) == (8183583415856423625, 3846123110812918383)
