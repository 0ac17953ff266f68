"""What the model's decisions hold: whole numbers alone, and the same for ever by the weights that are shipped."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pipeline.ingest.main_text.blocks import MAX_ELEMENTS, PageTooLargeError, read_page
from pipeline.ingest.main_text.extract import main_text
from pipeline.ingest.main_text.network import WEIGHTS, kept, network, read_network, scores
from pipeline.ingest.main_text.signals import levels, signals_of, word_hash

PROSE = (
    "The kettle stood on the stove for most of the morning, and nobody thought of it until the water had boiled away, when the smell of "
    "hot iron filled the kitchen and the whole house came running down the stairs to see what was burning."
)
PAGE = f"""<!DOCTYPE html><html><head><title>Kettle</title></head><body>
<nav class="menu"><ul><li><a href="/">Home</a></li><li><a href="/shop">Shop</a></li><li><a href="/about">About us</a></li></ul></nav>
<main><article><h1>The kettle</h1><p>{PROSE}</p>
<ul><li>Fill the kettle with cold water.</li><li>Put it on the stove.</li></ul><p>{PROSE}</p>
<pre>boil(
    water)</pre></article></main>
<aside class="related"><a href="/1">Ten more kettles</a> <a href="/2">Best stoves of the year</a></aside>
<footer class="site-footer"><p>Copyright 2024 Kettles Ltd. All rights reserved. <a href="/privacy">Privacy policy</a></p></footer>
</body></html>"""


def test_the_article_stays_and_what_is_around_it_goes() -> None:
    found = main_text(PAGE)
    assert found.text.split("\n\n")[1:] == [PROSE, "Fill the kettle with cold water.\nPut it on the stove.", PROSE, "boil(\n    water)"]
    dropped = " ".join(found.dropped)
    assert all(text in dropped for text in ("About us", "Ten more kettles", "All rights reserved"))
    assert not any(text in found.text for text in ("About us", "Ten more kettles", "All rights reserved"))


def test_signals_are_small_whole_numbers_and_weights_that_could_overflow_are_refused(tmp_path: Path) -> None:
    signals = signals_of(read_page(PAGE))
    assert signals.numbers.dtype == np.int64
    assert (signals.numbers >= 0).all()
    assert (signals.numbers <= 127).all()
    found = load_file(WEIGHTS)
    found["layer0.weight"] = np.full_like(found["layer0.weight"], 32_767)
    save_file(found, tmp_path / "large.safetensors")
    with pytest.raises(ValueError, match="too large for sums of 32 bits"):
        read_network(tmp_path / "large.safetensors")


def test_scores_of_the_shipped_weights_are_golden() -> None:
    page = read_page(PAGE)
    signals = signals_of(page)
    found = scores(page, signals, network())
    assert hashlib.sha256(signals.numbers.tobytes()).hexdigest()[:16] == GOLDEN_NUMBERS
    assert found.tolist() == GOLDEN_SCORES


def test_the_weights_are_small() -> None:
    assert Path(WEIGHTS).stat().st_size < 1_000_000


@given(values=st.lists(st.integers(-(2**26), 2**26), min_size=1, max_size=40), words=st.data())
def test_what_is_kept_is_the_best_by_score_and_never_nothing(values: list[int], words: st.DataObject) -> None:
    n_words = np.array(words.draw(st.lists(st.integers(1, 500), min_size=len(values), max_size=len(values))))
    keep = kept(np.array(values), n_words, network())
    assert any(keep)
    dropped = [value for value, is_kept in zip(values, keep, strict=True) if not is_kept]
    step = 2**20 // 32
    assert max(dropped, default=-(2**30)) // step <= min(value for value, is_kept in zip(values, keep, strict=True) if is_kept) // step


def test_levels_rise_with_the_value() -> None:
    found = levels(np.arange(100_000))
    assert found[0] == 0
    assert (np.diff(found) >= 0).all()
    assert found[[1, 3, 7, 255, 65_535]].tolist() == [8, 16, 24, 64, 127]


def test_a_word_is_known_by_its_letters_whatever_their_case() -> None:
    assert word_hash("Kettle") == word_hash("kettle") != word_hash("kettles")
    assert word_hash("ÄRGER") == word_hash("ärger")
    assert word_hash("ЧАЙНИК") == word_hash("чайник")


@pytest.mark.parametrize("html", ["", "<html></html>", "<body><script>x</script></body>", "\x00", "<p>&nbsp;</p>"])
def test_a_page_without_text_has_no_main_text(html: str) -> None:
    assert main_text(html).text.strip("\ufffd") == ""


def test_a_page_of_too_many_elements_is_refused_with_their_number() -> None:
    with pytest.raises(PageTooLargeError, match=f"{MAX_ELEMENTS:,} elements"):
        read_page("<p>x" * (MAX_ELEMENTS + 1))


GOLDEN_NUMBERS = "752a87563c0ac448"
GOLDEN_SCORES = [-2729582, -2896079, -2613857, 1155527, 3891747, 3003416, 3199454, 3886982, 1351023, -2926757, -7601459]
