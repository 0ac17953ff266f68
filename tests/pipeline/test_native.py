"""What the C modules hold: the sums and counts that plain Python and numpy give, for any input; a clear error where arrays do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.native.block_network import fill_inputs, score_blocks
from pipeline.native.words import count_kinds, hash_words, number_items, sum_vectors

CODES = 65_536
LETTER, UPPER = 1 << 4, 1 << 2
FLAGS = np.random.default_rng(1).integers(0, 1 << 9, CODES).astype(np.uint16)
LOWER = np.random.default_rng(2).integers(0, CODES, CODES).astype(np.uint16)
TEXTS = st.lists(st.text(st.characters(exclude_categories=()), max_size=40), max_size=6)


def flags_of(text: str) -> list[int]:
    """The flags of each character."""
    return [int(FLAGS[min(ord(character), CODES - 1)]) for character in text]


@given(TEXTS)
def test_kinds_of_characters_are_counted_as_one_would_by_hand(texts: list[str]) -> None:
    counts, edges = np.empty((len(texts), 9), np.int64), np.empty((len(texts), 2), np.uint16)
    count_kinds(texts, FLAGS, counts, edges)
    assert counts.tolist() == [[sum(kinds >> bit & 1 for kinds in flags_of(text)) for bit in range(9)] for text in texts]
    assert edges.tolist() == [[kinds[0], kinds[-1]] if (kinds := flags_of(text)) else [0, 0] for text in texts]


def words_by_hand(text: str, max_chars: int, max_words: int, camel: bool) -> list[str]:
    """The words of a text, one character at a time."""
    words: list[str] = []
    before = 0
    for character, kinds in zip(text[:max_chars], flags_of(text), strict=False):
        if kinds & LETTER:
            if not before & LETTER or (camel and kinds & UPPER and not before & UPPER):
                words.append("")
            words[-1] += character
        before = kinds
    return words[:max_words]


def hash_by_hand(word: str) -> int:
    """The sum of each letter's lower case times the constant to the power of its place."""
    places = (min(place, 64) for place in range(1, len(word) + 1))
    letters = (int(LOWER[min(ord(letter), CODES - 1)]) for letter in word)
    return sum(letter * pow(0x9E3779B97F4A7C15, place, 2**64) for letter, place in zip(letters, places, strict=True)) % 2**64


@given(TEXTS, st.integers(0, 90), st.integers(0, 5), st.booleans())
def test_words_are_hashed_as_one_would_by_hand(texts: list[str], max_chars: int, max_words: int, camel: bool) -> None:
    hashes, of = hash_words(texts, max_chars, max_words, camel, FLAGS, LOWER)
    wanted = [(hash_by_hand(word), n) for n, text in enumerate(texts) for word in words_by_hand(text, max_chars, max_words, camel)]
    assert list(zip(np.frombuffer(hashes, np.uint64).tolist(), np.frombuffer(of, np.int64).tolist(), strict=True)) == wanted


def test_a_long_word_is_hashed_to_its_end() -> None:
    letter = chr(int(np.flatnonzero(FLAGS[:1000] & LETTER)[0]))
    (found,) = np.frombuffer(hash_words([letter * 200], 200, 1, False, FLAGS, LOWER)[0], np.uint64).tolist()
    assert found == hash_by_hand(letter * 200)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=30), st.sets(st.integers(0, 9), max_size=8))
def test_vectors_of_known_words_are_summed(words: list[tuple[int, int]], known: set[int]) -> None:
    vectors = np.random.default_rng(len(known)).integers(-32_768, 32_768, (len(known), 3)).astype(np.int16)
    sums = np.full((4, 3), 7, np.int32)
    hashes, of = np.array([word for word, _ in words], np.uint64), np.array([text for _, text in words], np.int64)
    sum_vectors(hashes, of, np.array(sorted(known), np.uint64), vectors, 3, sums)
    row = {word: vectors[n].astype(int) for n, word in enumerate(sorted(known))}
    assert sums.tolist() == [np.sum([row[w] for w, t in words if t == text and w in row], axis=0, initial=0).tolist() if any(
        t == text and w in row for w, t in words) else [0, 0, 0] for text in range(4)]  # fmt: skip


@given(st.one_of(TEXTS, st.lists(st.binary(max_size=2)), st.lists(st.integers(0, 3))))
def test_items_are_numbered_in_the_order_in_which_they_first_occur(items: list[Any]) -> None:
    numbers = np.full(len(items), -1)
    distinct = number_items(items, numbers)
    assert distinct == list(dict.fromkeys(items))
    assert [distinct[number] for number in numbers.tolist()] == items


def test_what_cannot_be_numbered_is_refused() -> None:
    with pytest.raises(ValueError, match="numbers holds"):
        number_items(["a"], np.empty(2, np.int64))
    with pytest.raises(TypeError, match="unhashable"):
        number_items([[]], np.empty(1, np.int64))  # type: ignore[type-var]


def random_page(seed: int, n: int, elements: int) -> dict[str, NDArray[Any]]:
    """A page of two numbers a block, four names and five tags, with vectors of width three."""
    rng = np.random.default_rng(seed)
    return {
        "numbers": rng.integers(0, 128, (2, n)), "ancestors": rng.integers(0, elements, (n, 6)), "inline": rng.integers(0, 4, n),
        "words": rng.integers(-900, 900, (n, 3)).astype(np.int32), "parents": np.array([rng.integers(-1, e) for e in range(elements)]),
        "names_of": rng.integers(0, 4, elements), "tags_of": rng.integers(0, 5, elements),
        "names": rng.integers(-900, 900, (4, 3)).astype(np.int32), "tags": rng.integers(-900, 900, (5, 3)).astype(np.int16),
    }  # fmt: skip


def filled(n: int, elements: int, page: dict[str, Any], n_inputs: int = 23) -> NDArray[np.int16]:
    """What `fill_inputs` makes of a page, within 512."""
    inputs = np.full((n, n_inputs), 7, np.int16)
    columns = list(page.values())
    fill_inputs((n, 2, elements, 4, 5, 3), 512, tuple(columns[:4]), tuple(columns[4:7]), tuple(columns[7:]), inputs)
    return inputs


@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(1, 9))
def test_the_inputs_of_a_block_are_those_that_numpy_gives(seed: int, n: int, elements: int) -> None:
    page = random_page(seed, n, elements)
    own = page["names"][page["names_of"]] + page["tags"][page["tags_of"]]
    chain = own.copy()
    for element, parent in enumerate(page["parents"].tolist()):
        chain[element] += chain[parent] if parent >= 0 else 0
    inline, words = page["names"][page["inline"]].clip(-256, 256), page["words"].clip(-512, 512)
    around = own[page["ancestors"][:, :4]].reshape(n, 12)
    wanted = np.concatenate([page["numbers"].T, around, chain[page["ancestors"][:, 0]].clip(-512, 512), inline, words], axis=1)
    assert filled(n, elements, page).tolist() == wanted.tolist()


def test_a_page_of_indices_that_do_not_fit_is_refused() -> None:
    page = random_page(0, 2, 3)
    filled(2, 3, page)
    with pytest.raises(ValueError, match="do not fit"):
        filled(2, 3, page, n_inputs=22)
    for column, index in (
        ("ancestors", 3), ("ancestors", -1), ("inline", 4), ("inline", -1), ("names_of", 4), ("names_of", -1), ("tags_of", 5),
        ("tags_of", -1), ("parents", 2),
    ):  # fmt: skip
        changed = {**page, column: page[column].copy()}
        changed[column][-1] = index
        with pytest.raises(ValueError, match="do not fit"):
            filled(2, 3, changed)
        with pytest.raises(ValueError, match="do not fit"):
            filled(2, 3, {**page, column: page[column][:-1]})


def random_network(seed: int, inputs: int, width: int, n_layers: int) -> list[NDArray[Any]]:
    """Weights and biases of a first, a page's, stacked layers' and a last step."""
    rng = np.random.default_rng(seed)
    shapes = [(width, inputs), (width, 2 * width), (n_layers * width, 7 * width), (1, width)]
    arrays: list[NDArray[Any]] = []
    for shape in shapes:
        arrays += [rng.integers(-900, 900, shape).astype(np.int16), rng.integers(-90_000, 90_000, shape[0]).astype(np.int32)]
    return arrays


def scores_by_numpy(values: Any, n_words: Any, ranges: Any, network: list[NDArray[Any]], n_layers: int) -> list[int]:
    """The scores by whole matrices of Python's own size of integers."""
    first, first_bias, page, page_bias, layers, layers_bias, last, last_bias = (array.astype(object) for array in network)
    values, n_words, n, width = values.astype(object), n_words.astype(object), len(values), len(page_bias)

    def rectified(found: Any) -> Any:
        return np.clip(found, 0, 2048)

    hidden = rectified((values @ first.T + first_bias) >> 10)
    seen = np.concatenate([hidden.sum(axis=0) // n, (n_words @ hidden) // n_words.sum()])
    hidden = rectified(hidden + ((page @ seen + page_bias) >> 12))
    for number in range(n_layers):
        distance, zero = 1 << number, np.zeros(width, object)
        rows = []
        for i in range(n):
            around = [hidden[i], *(hidden[j] if 0 <= j < n else zero for j in (i - distance, i + distance))]
            around += [hidden[a:z].sum(axis=0) // (z - a) for a, z in [*ranges[i].tolist(), (0, n)]]
            rows.append(np.concatenate(around))
        rows_of = slice(number * width, (number + 1) * width)
        hidden = rectified(hidden + ((np.stack(rows) @ layers[rows_of].T + layers_bias[rows_of]) >> 12))
    return [int(score) for score in hidden @ last[0] + last_bias[0]]


@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([1, 5, 16, 33]), st.sampled_from([1, 3, 4, 18]), st.integers(0, 3))
def test_scores_are_the_sums_that_numpy_gives(seed: int, n: int, inputs: int, width: int, n_layers: int) -> None:
    rng = np.random.default_rng(seed)
    values, n_words = rng.integers(-512, 513, (n, inputs)).astype(np.int16), rng.integers(1, 200, n)
    starts = rng.integers(0, n, (n, 3))
    ranges = np.stack([starts, starts + 1 + rng.integers(0, n - starts)], axis=2)
    network, found = random_network(seed, inputs, width, n_layers), np.empty(n, np.int64)
    score_blocks((n, inputs, width, n_layers), (values, n_words, ranges), tuple(network), found)  # type: ignore[arg-type]
    assert found.tolist() == scores_by_numpy(values, n_words, ranges, network, n_layers)


def test_means_of_long_ranges_are_rounded_down() -> None:
    rng, n = np.random.default_rng(3), 1500
    values, n_words = rng.integers(-512, 513, (n, 5)).astype(np.int16), rng.integers(1, 200, n)
    starts = rng.integers(0, n, (n, 3))
    ranges = np.stack([starts, starts + 1 + rng.integers(0, n - starts)], axis=2)
    network, found = random_network(4, 5, 4, 2), np.empty(n, np.int64)
    score_blocks((n, 5, 4, 2), (values, n_words, ranges), tuple(network), found)  # type: ignore[arg-type]
    assert found.tolist() == scores_by_numpy(values, n_words, ranges, network, 2)


@pytest.mark.parametrize("n", [(1 << 20) - 1, 1 << 20, (1 << 20) + 3])
def test_a_mean_of_the_largest_values_is_the_largest_value_however_many_they_are(n: int) -> None:
    first, page, last = (np.array([[0]], np.int16), np.array([[0, 0]], np.int16), np.array([[1]], np.int16))
    layer, none = np.array([[-4096, 0, 0, 0, 0, 0, 4096]], np.int16), np.zeros(1, np.int32)
    ranges, found = np.tile(np.array([0, 1]), (n, 3, 1)), np.empty(n, np.int64)
    network = (first, np.array([1 << 21], np.int32), page, none, layer, none, last, none)
    score_blocks((n, 1, 1, 1), (np.zeros((n, 1), np.int16), np.ones(n, np.int64), ranges), network, found)
    assert (found == 2048).all()


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    network, found = tuple(random_network(0, 4, 3, 1)), np.empty(2, np.int64)
    page = (np.zeros((2, 4), np.int16), np.ones(2, np.int64), np.array([[[0, 2]] * 3] * 2))
    score_blocks((2, 4, 3, 1), page, network, found)  # type: ignore[arg-type]
    outside, empty = np.array([[[0, 3]] * 3] * 2), np.array([[[1, 1]] * 3] * 2)
    for sizes, values in (
        ((3, 4, 3, 1), page), ((2, 5, 3, 1), page), ((2, 4, 3, 2), page), ((0, 4, 3, 1), page), ((2, 4, 3, -1), page),
        ((2, 4, 3, 1), (page[0], page[1], outside)), ((2, 4, 3, 1), (page[0], page[1], empty)),
        ((2, 4, 3, 1), (page[0], 0 * page[1], page[2])),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="do not fit"):
            score_blocks(sizes, values, network, found)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="flags holds"):
        count_kinds(["a"], FLAGS[:10], np.empty((1, 9), np.int64), np.empty((1, 2), np.uint16))
    with pytest.raises(ValueError, match="lower holds"):
        hash_words(["a"], 1, 1, False, FLAGS, LOWER[:10])
    with pytest.raises(ValueError, match="outside sums"):
        sum_vectors(
            np.array([1], np.uint64), np.array([4]), np.array([1], np.uint64), np.ones((1, 2), np.int16), 2, np.empty((4, 2), np.int32)
        )
    with pytest.raises(TypeError, match="list of str"):
        count_kinds([1], FLAGS, np.empty((1, 9), np.int64), np.empty((1, 2), np.uint16))  # type: ignore[list-item]
