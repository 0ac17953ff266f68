"""The quality classifier: what a page teaches, ranks and weights, cross-fitting of pages, and recipes that teach by pages alone."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.classifier_steps import HALVES, TRAINED
from pipeline.dedup.exact import split_hash, text_key
from pipeline.quality.classifier import NEGATIVE, POSITIVE, example, quality_classifier
from pipeline.quality.config import Config, ContrastConfig, QualityClassifier
from pipeline.quality.contrast import MIXED_SHARES, contrast
from pipeline.quality.prose import SIGNALS, prose_numbers
from pipeline.quality.ranks import RanksConfig, load, ranks, sigmoid, train
from pipeline.quality.score import score
from pipeline.quality.view import view
from storage.artifact import read_verified
from storage.errors import ConfigError, IntegrityError
from tests.pipeline.judged_inputs import Doc, rows_by_key
from tests.pipeline.test_quality_stage import score_all

PROSE = ["the", "river", "that", "flows", "through", "this", "town", "is", "older", "than", "its", "walls", "and", "was", "never", "wide"]
MENU = ["Home", "About us", "Products", "Sign in", "Cart", "Privacy", "Contact", "Terms", "Careers", "Press"]
BY_PAGES = QualityClassifier(contrast=ContrastConfig(sources=("web",), min_main_words=20), train_fraction=1.0)
NUMBERS = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=2, max_size=2)


def prose(seed: int, n_lines: int = 6) -> str:
    """Sentences, one a line."""
    drawn = random.Random(seed)
    return "\n".join(" ".join(drawn.choices(PROSE, k=drawn.randint(12, 30))).capitalize() + "." for _ in range(n_lines))


def menu(seed: int, n_lines: int = 20) -> str:
    """Links, one a line."""
    return "\n".join(random.Random(seed).choices(MENU, k=n_lines))


def pages(count: int = 60) -> list[Doc]:
    """Web pages with what was left out of them, and two that are not in the sample."""
    found = [Doc(f"p{i}", prose(i), left_out=menu(i)) for i in range(count)]
    return [*found, Doc("good", prose(1000)), Doc("bad", menu(1001))]


def test_a_page_teaches_its_text_and_what_was_left_out_of_it_and_mixtures() -> None:
    """The text is good, the rest is not; no mixture has more main text than left-out text, and each begins with what was left out."""
    main, left_out = prose(1, 30), menu(1, 100)
    first, second, *mixed = contrast(main, left_out, 20, 10)
    assert (first, second) == ((True, main), (False, left_out))
    assert 1 <= len(mixed) <= len(MIXED_SHARES)
    for is_good, text in mixed:
        assert not is_good
        added = text.removeprefix(f"{left_out}\n\n")
        assert main.startswith(added)
        assert len(added.split()) <= len(left_out.split())
    assert len(set(mixed)) == len(mixed)


@pytest.mark.parametrize(("main", "left_out"), [("too thin", menu(1)), (prose(1), "Home"), (prose(1), ""), ("", menu(1))])
def test_a_page_with_too_little_of_either_teaches_nothing(main: str, left_out: str) -> None:
    assert list(contrast(main, left_out, 20, 10)) == []


def test_numbers_of_a_text_by_hand() -> None:
    """Two lines of text, of which one is a title; a blank text has zeros."""
    text = "About Us\n\nThe town is older than its walls."
    seen = view(text)
    found = dict(zip(SIGNALS, prose_numbers(seen, score(seen)), strict=True))
    assert found["words_per_line"] == len(seen.words) / 2 == 5.0
    assert found["capital_word_ratio"] == 3 / 10
    assert found["title_line_ratio"] == 0.5
    blank = view(" \n")
    assert prose_numbers(blank, score(blank)) == [0.0] * len(SIGNALS)


@given(st.lists(NUMBERS, min_size=1, max_size=6), st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_ranks_rise_with_the_number_and_stay_within_a_half(rows: list[list[float]], known: list[float]) -> None:
    points = np.sort(np.array([known, known]), axis=1)
    found = ranks(points, np.array(rows))
    assert ((found >= -0.5) & (found <= 0.5)).all()
    order = np.argsort([row[0] for row in rows], kind="stable")
    assert (np.diff(found[order, 0]) >= 0).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), NUMBERS), min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_the_examples_does_not_matter(rows: list[tuple[bool, list[float]]], drawn: random.Random) -> None:
    """The same bytes, and probabilities between 0 and 1."""
    lines = [
        f"__label__{POSITIVE if good else NEGATIVE} {json.dumps(row)}" for good, row in [*rows, (True, [1.0, 2.0]), (False, [0.0, 0.0])]
    ]
    model = train(lines, "", RanksConfig(steps=5), POSITIVE)
    drawn.shuffle(lines)
    assert train(lines, "", RanksConfig(steps=5), POSITIVE) == model
    found = load(model).probabilities(np.array([row for _, row in rows]))
    assert ((found >= 0) & (found <= 1)).all()


def test_the_bytes_of_a_model_are_those_of_this_version() -> None:
    """Sums, products, quotients and square roots alone: the same on every processor."""
    lines = [f"__label__{POSITIVE} {example(prose(i))}" for i in range(8)] + [f"__label__{NEGATIVE} {example(menu(i))}" for i in range(8)]
    model = train(lines, "", RanksConfig(), POSITIVE)
    assert hashlib.sha256(model).hexdigest() == "649eb751d734f446d3ddc1c291264441022c01595dadb94b5333ff1fc5b4ab31"
    with pytest.raises(IntegrityError, match="quality model"):
        load(b"nonsense")


def test_the_sigmoid_is_exact_enough_at_both_ends() -> None:
    x = np.array([-800.0, -3.0, 0.0, 3.0, 800.0])
    assert sigmoid(x) == pytest.approx([0.0, 0.04742587317756678, 0.5, 0.9525741268224334, 1.0], abs=1e-15)


def test_pages_alone_teach_a_classifier(tmp_path: Path) -> None:
    """No source is named as good or bad; every document has a score, and what was used is said."""
    docs = pages()
    store, quality = score_all(tmp_path, docs, Config(classifier=BY_PAGES))
    rows = rows_by_key(store, quality, docs)
    assert all(0 <= row["quality_score"] <= 1 for row in rows.values())
    assert rows["good"]["quality_score"] > 0.7 > 0.3 > rows["bad"]["quality_score"]
    report = json.loads(read_verified(store, quality, "validation.json"))
    assert quality.counts["contrast_pages"] == report["contrast"]["pages"] == 60
    assert report["contrast"]["auc"] > 0.9
    assert report["contrast"]["documents"] == sum(quality.counts[f"training_lines:{label}"] for label in (POSITIVE, NEGATIVE))
    assert report["auc"] is None


def test_a_page_and_what_was_left_out_of_it_are_in_one_half_and_held_out_ones_in_none(tmp_path: Path) -> None:
    """RULES 13 and 16: clusters, near copies included, teach one model; the halves share none, and held-out texts teach nothing."""
    twins = [
        Doc(f"{key}{i}", f"{prose(i)}{end}", near=f"n{i}", left_out=menu(i)) for i in range(9) for key, end in (("p", ""), ("n", " So."))
    ]
    docs = [*pages()[9:], *twins]
    store, quality = score_all(tmp_path, docs, Config(classifier=BY_PAGES), held_out=0.3)
    halves = [read_verified(store, quality, f"{TRAINED}-{half}") for half in range(HALVES)]
    names = [{data[i : i + 16] for i in range(0, len(data), 16)} for data in halves]
    assert names[0]
    assert names[1]
    assert not names[0] & names[1]
    held_out = {doc.id for doc in docs if split_hash(text_key(doc.text), "held out") < 0.3 and doc.near is None}
    assert held_out
    assert not held_out & (names[0] | names[1])
    assert all(quality_classifier(BY_PAGES).half_of(name) == half for half in range(HALVES) for name in names[half])


def test_pages_that_teach_are_judged_by_the_half_that_did_not_see_them(tmp_path: Path) -> None:
    """Where one half's pages teach the opposite of the other's, each model is wrong about what it is judged on."""
    classifier = quality_classifier(BY_PAGES)
    docs = [doc for doc in pages() if doc.left_out]
    turned = [Doc(doc.key, doc.left_out or "", left_out=doc.text) if classifier.half_of(doc.id) == 0 else doc for doc in docs]
    store, quality = score_all(tmp_path, turned, Config(classifier=BY_PAGES))
    assert json.loads(read_verified(store, quality, "validation.json"))["contrast"]["auc"] < 0.2


def test_no_more_examples_of_pages_are_judged_than_train(tmp_path: Path) -> None:
    """Of each label, by a hash of the example."""
    few = BY_PAGES.model_copy(update={"ranks": RanksConfig(max_examples=20)})
    report = json.loads(read_verified(*score_all(tmp_path, pages(), Config(classifier=few)), "validation.json"))
    assert 0 < report["contrast"]["documents"] < 80
    assert report["contrast"]["auc"] > 0.9


def test_pages_of_other_languages_do_not_teach(tmp_path: Path) -> None:
    """The signals count English words; a recipe may ask for any language."""
    docs = [Doc(doc.key, doc.text, left_out=doc.left_out, language="de" if doc.key in ("p1", "p2") else "en") for doc in pages()]
    assert score_all(tmp_path, docs, Config(classifier=BY_PAGES))[1].counts["contrast_pages"] == 58
    every = BY_PAGES.model_copy(update={"contrast": ContrastConfig(sources=("web",), min_main_words=20, languages=None)})
    assert score_all(tmp_path, docs, Config(classifier=every), name="every")[1].counts["contrast_pages"] == 60


def test_the_bytes_do_not_depend_on_the_number_of_partitions_of_the_pages(tmp_path: Path) -> None:
    """The model of two runs whose partitions differ is one."""
    docs = pages()
    models = []
    for partitions in (2, 4):
        store, quality = score_all(tmp_path, docs, Config(classifier=BY_PAGES), name=str(partitions), partitions=partitions)
        models.append([read_verified(store, quality, f"quality-{half}.bin") for half in range(HALVES)])
    assert models[0] == models[1]


def test_a_classifier_that_nothing_or_one_side_teaches_is_refused() -> None:
    with pytest.raises(ValidationError, match="learns from `contrast`"):
        QualityClassifier(positive_sources=("good",))
    with pytest.raises(ValidationError, match="'web' is in another of the classifier's lists"):
        QualityClassifier(contrast=ContrastConfig(sources=("web",)), negative_sources=("web",))


def test_a_source_that_keeps_nothing_to_contrast_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'web' keeps nothing of what extraction leaves out"):
        score_all(tmp_path, [Doc("a", prose(1))], Config(classifier=BY_PAGES))
