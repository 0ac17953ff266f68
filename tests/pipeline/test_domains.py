"""The domains stage: probabilities beside documents, accuracy on whole sources kept out, and what a text becomes for the classifier."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.classifier_steps import LABEL
from pipeline.documents import DOMAIN_SCORES, DOMAINS
from pipeline.domains.config import Config
from pipeline.domains.logistic import FORMLESS_SHARE, LogisticConfig, exponential, load, train
from pipeline.domains.signals import BATCH_CHARACTERS, CLASSES, FORM_FEATURES, LEVELS, examples, features, level, pieces, read
from pipeline.domains.stage import VERSION, domain_classifier, example_lines, run, validation_report
from pipeline.domains.thresholds import FILE, MAX_PROPOSED, MIN_PROPOSED, claimed, histogram, propose
from pipeline.words import word_hash
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.tables import read_table
from tests.pipeline.judged_inputs import Doc, rows_by_key, write_clusters, write_documents

WORDS = {
    "general": ["history", "people", "river", "town", "music", "year", "king", "story", "house", "garden"],
    "math": ["theorem", "proof", "lemma", "integral", "group", "ring", "field", "continuous", "let", "suppose"],
    "code": ["def", "return", "import", "class", "self", "none", "true", "false", "print", "range"],
}
TEMPLATES = {
    "general": "The {} and the {} of a {} were old. It was a {} then, they said.\n",
    "math": "Let ${} \\in \\mathbb{{R}}$ be a {}. Then $x^2 = {}_1$ by the {}.\n",
    "code": "    {}_{}({}=1);\n    {} = {{}}\n",
}


def text_of(domain: str, seed: int) -> str:
    """A text of a domain: its words in its form."""
    source = random.Random(f"{domain}{seed}")
    return "".join(TEMPLATES[domain].format(*source.choices(WORDS[domain], k=4)) for _ in range(6))


CONFIG = Config(
    labels={domain: domain for domain in WORDS},
    validation_sources={f"kept_{domain}": domain for domain in WORDS},
    train_fraction=0.7,
    logistic=LogisticConfig(epochs=20),
)


def corpus() -> list[Doc]:
    """Label sources, sources kept out, and web pages to judge."""
    docs = [Doc(f"{domain}{i}", text_of(domain, i), source=domain) for domain in WORDS for i in range(20)]
    docs += [Doc(f"kept_{domain}{i}", text_of(domain, 100 + i), source=f"kept_{domain}") for domain in WORDS for i in range(5)]
    return [*docs, *(Doc(f"web-{domain}", text_of(domain, 200)) for domain in WORDS), Doc("blank", " \n ")]


def judge(tmp_path: Path, docs: Sequence[Doc], config: Config = CONFIG, held_out: float = 0.2) -> tuple[Store, Manifest]:
    """Run the stage on handmade inputs."""
    store = Store(str(tmp_path / "store"))
    inputs = {**write_documents(store, docs, 2), "clusters": write_clusters(store, docs, 2, held_out)}
    return store, run(store=store, config=config, inputs=inputs)


def test_documents_get_probabilities_by_models_that_did_not_see_them(tmp_path: Path) -> None:
    """RULE 16: those that trained, too; null for a text without a known word; else four probabilities, the right one largest."""
    docs = [*corpus(), Doc("unknown", "zzzzqqq"), Doc("georgian", "ყველა ადამიანი იბადება თავისუფალი { } ; \\ _ = ( )")]
    store, domains = judge(tmp_path, docs)
    rows = rows_by_key(store, domains, docs)
    assert {name for name, row in rows.items() if row["p_general"] is None} == {"blank", "unknown", "georgian"}
    for doc in docs:
        if (row := {name: rows[doc.key][f"p_{name}"] for name in DOMAINS})["general"] is not None:
            domain = doc.source.removeprefix("kept_") if doc.source != "web" else doc.key.removeprefix("web-")
            assert max(row, key=lambda name: row[name]) == domain
            assert sum(row.values()) == pytest.approx(1, abs=0.02)
            assert row["multilingual"] == 0  # no source taught it
    assert all(read_table(store, domains, name).schema == DOMAIN_SCORES for name in domains.names() if name.endswith(".parquet"))


def test_accuracy_is_recorded_on_whole_sources_kept_out(tmp_path: Path) -> None:
    """validation.json: per domain and source, with the confusion."""
    store, domains = judge(tmp_path, corpus())
    report = json.loads(read_verified(store, domains, "validation.json"))
    assert report["documents"] == 15
    assert report["accuracy"] == 1.0
    assert report["confusion"]["code"] == {"general": 0, "math": 0, "code": 5, "multilingual": 0}
    assert report["sources"]["kept_math"] == {"domain": "math", "documents": 5, "accuracy": 1.0}


def test_the_report_counts_by_hand() -> None:
    """Two sources of one domain add up; a domain without documents has no accuracy."""
    report = validation_report({"a": {"math": 3, "code": 1}, "b": {"math": 1}}, {"a": "math", "b": "math", "c": "code"})
    assert report["accuracy"] == 0.8
    assert report["accuracy_by_domain"] == {"math": 0.8, "code": None}
    assert report["confusion"]["math"] == {"general": 0, "math": 4, "code": 1, "multilingual": 0}


def test_the_bytes_are_those_of_this_version(tmp_path: Path) -> None:
    """RULE 12: training and scoring are exactly reproducible, so another digest means other output: bump VERSION, then change it here."""
    assert (VERSION, judge(tmp_path, corpus())[1].digest) == (2, "09c62b0f3a4b0306871f6c79fb13303fb539483673d5b53c8f9e0037c1e8b053")


def test_thresholds_are_proposed_from_out_of_fold_scores_of_the_training_documents(tmp_path: Path) -> None:
    """RULE 17: of both claimed domains, with the numbers of documents that they follow from."""
    store, domains = judge(tmp_path, corpus(), held_out=0.0)
    proposed = json.loads(read_verified(store, domains, FILE))
    classifier = domain_classifier(CONFIG)
    trained = Counter(doc.source for doc in corpus() if doc.source in WORDS and classifier.trains_on(doc.id))
    assert set(proposed) == {"math", "code"}
    for domain, row in proposed.items():
        assert MIN_PROPOSED <= row["threshold"] <= MAX_PROPOSED[domain]
        assert (row["own_documents"], row["other_documents"]) == (trained[domain], trained.total() - trained[domain])
        assert row["others_below"] < row["own_reach"]


def test_wrong_labels_are_refused() -> None:
    """A source kept out must be whole; one domain is no choice."""
    with pytest.raises(ValidationError, match="train the classifier; a source kept out must be whole"):
        Config(labels={"a": "math", "b": "code"}, validation_sources={"a": "math"})
    with pytest.raises(ValidationError, match="at least two"):
        Config(labels={"a": "math", "b": "math"})
    with pytest.raises(ValidationError, match=r"no classifier to measure without domains\.labels"):
        Config(validation_sources={"a": "math"})


def test_without_labels_nothing_is_trained_and_every_probability_is_null(tmp_path: Path) -> None:
    """The tables are there, a row for each document (copies too); no classifier is."""
    docs = [*corpus(), Doc("copy", text_of("math", 200))]
    store, domains = judge(tmp_path, docs, Config())
    rows = rows_by_key(store, domains, docs)
    assert len(rows) == len(docs)
    assert {row[f"p_{name}"] for row in rows.values() for name in DOMAINS} == {None}
    assert all(name.endswith(".parquet") for name in domains.names())


def test_a_source_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(ConfigError, match=r"domains.labels: no source is named 'gone'"):
        judge(tmp_path, corpus(), CONFIG.model_copy(update={"labels": {"gone": "math", "code": "code"}}))


def test_the_threshold_lies_midway_between_what_its_own_reach_and_what_others_stay_below() -> None:
    """By hand: 100 of its own at 0.8 (odds 4) and 1,000 others at 0.2 (odds about 1/4), so about 1/2."""
    own = histogram("code", [[0.1, 0.1, 0.8, 0.0]] * 100)
    others = histogram("general", [[0.7, 0.1, 0.2, 0.0]] * 1000)
    (row,) = propose([own, others]).values()
    assert row == {"threshold": 0.501, "own_reach": 0.8, "others_below": 0.201, "own_documents": 100, "other_documents": 1000}


@given(st.lists(st.tuples(st.sampled_from(["general", "math", "code"]), st.floats(0, 1), st.floats(0, 1)), max_size=60), st.integers(0, 59))
def test_a_proposal_does_not_depend_on_how_the_documents_were_grouped(rows: list[tuple[str, float, float]], cut: int) -> None:
    """Histograms add up, and every proposal is within its bounds."""
    groups = [[histogram(label, [[0.0, m, c, 0.0]]) for label, m, c in part] for part in (rows[:cut], rows[cut:])]
    found = propose([*groups[0], *groups[1]])
    assert found == propose([*groups[1], *groups[0]])
    assert set(found) == {label for label, *_ in rows} - {"general"}
    assert all(MIN_PROPOSED <= row["threshold"] <= MAX_PROPOSED[domain] for domain, row in found.items())
    assert all(0 <= row[name] <= 1 for row in found.values() for name in ("own_reach", "others_below"))


def test_code_and_mathematics_are_claimed_from_their_threshold_on_as_32_bits_say_it() -> None:
    """The likelier of two that reach it; stored probabilities are rounded to 32 bits."""
    thresholds = {"math": 0.5, "code": 0.65}
    assert claimed({"general": 0.2, "math": 0.49, "code": 0.31}, thresholds) is None
    assert claimed({"general": 0.0, "math": 0.5, "code": 0.5}, thresholds) == "math"
    assert claimed({"general": 0.0, "math": 0.3, "code": float(np.float32(0.65))}, thresholds) == "code"
    assert claimed({"math": 0.6, "code": 0.7}, thresholds) == "code"
    assert claimed({}, thresholds) is None


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1e-9, 0), (2**-12, 0), (2**-11, 0), (2**-10, 1), (2**-9, 2), (0.49, 9), (0.5, 10), (0.99, 10), (1, 11)]
)
def test_levels_double(ratio: float, expected: int) -> None:
    """A logarithmic scale."""
    assert level(np.array([ratio])).tolist() == [expected]


def test_words_and_form_of_a_text_by_hand() -> None:
    """Different words once, by their hashes; form is the pairs of classes, a text beginning a line."""
    found = features(["ab AB", "", "x"])
    assert found.words[: found.word_offsets[1]].tolist() == [word_hash("ab")]
    assert np.diff(found.word_offsets).tolist() == [1, 0, 1]
    assert np.diff(found.form_offsets).tolist() == [5, 0, 1]  # line end to a, a to b, b to space, space to A, A to B
    pairs = [divmod(int(feature) // LEVELS, CLASSES) for feature in found.form[:5]]
    assert sorted(pairs) == sorted([(5, 1), (1, 1), (1, 4), (4, 2), (2, 2)])
    assert (found.form < FORM_FEATURES).all()


@given(st.lists(st.text(max_size=60), max_size=8), st.integers(0, 8))
def test_features_do_not_depend_on_what_is_read_together(texts: list[str], cut: int) -> None:
    """A text has the same features alone and among others, whatever it holds."""
    found, alone = features(texts), [features([text]) for text in texts]
    assert len(found) == len(texts)
    for i, one in enumerate(alone):
        assert found.words[found.word_offsets[i] : found.word_offsets[i + 1]].tolist() == one.words.tolist()
        assert found.form[found.form_offsets[i] : found.form_offsets[i + 1]].tolist() == one.form.tolist()


def test_long_texts_are_looked_at_in_batches() -> None:
    """More characters than a batch holds, in several texts."""
    texts = ["word " * (BATCH_CHARACTERS // 5 + 1), "other", "word " * 10]
    assert np.diff(features(texts).word_offsets).tolist() == [1, 1, 1]


@given(st.text(max_size=400), st.integers(30, 90), st.integers(1, 5))
def test_what_is_read_and_what_trains_are_pieces_of_the_text(text: str, piece_chars: int, most: int) -> None:
    """At most as many and as long as asked, the first from the start, the last to the end; a blank text has none."""
    found = pieces(text, piece_chars, most)
    assert len(found) <= most
    assert all(piece in text and len(piece) <= piece_chars for piece in found)
    assert bool(found) == bool(text.strip())
    if found:
        assert text.startswith(found[0])
        assert len(found) == 1 or text.endswith(found[-1])
    assert read(text, piece_chars, most) == "\n".join(found)
    trained = examples(text, piece_chars, most)
    assert trained == examples(text, piece_chars, most)
    assert len(trained) <= most
    assert all(example in text and example.strip() and len(example) <= piece_chars * 5 // 2 for example in trained)


def test_an_example_is_one_line_and_cannot_label_itself() -> None:
    """Line ends and labels within a text are text."""
    (line,) = example_lines("a\nb __label__math \u2028 c", Config())
    assert len(line.splitlines()) == 1
    assert not line.startswith(LABEL)


def labelled_lines() -> list[str]:
    """Training lines of three domains."""
    return [f"{LABEL}{domain} {json.dumps(text_of(domain, i))}" for domain in WORDS for i in range(30)]


def test_one_set_of_lines_gives_one_model_in_any_order() -> None:
    """Bit by bit, and it tells its domains apart; a text without a known word is NaN, a label that it does not have 0."""
    model = train(labelled_lines(), "key", LogisticConfig(epochs=20))
    assert model == train(labelled_lines()[::-1], "key", LogisticConfig(epochs=20))
    rows = load(model).probabilities(features([text_of("math", 99), "zzzzqqq", "", "你好 世界"]), DOMAINS)
    assert DOMAINS[rows[0].argmax()] == "math"
    assert rows[0, DOMAINS.index("multilingual")] == 0
    assert rows[0].sum() == pytest.approx(1)
    assert np.isnan(rows[1:]).all()
    assert 0 < FORMLESS_SHARE < 1


def test_symbols_among_words_of_an_unknown_script_are_no_evidence() -> None:
    """Form counts less the fewer of the words are known: the same symbols say less beside Georgian than beside English."""
    model = load(train(labelled_lines(), "key", LogisticConfig(epochs=20)))
    form = "\n    _({}=1);\n    = {};\n"
    english, georgian = "print " + form * 6, "print " + form * 6 + " ".join(f"ადამიანი{i}" for i in range(100, 180))
    (sure,), (unsure,) = (model.probabilities(features([text]), ["code"])[:, 0] for text in (english, georgian))
    assert sure > 0.5 > unsure


def test_a_damaged_model_is_said_to_be_one() -> None:
    """Not a traceback of numpy."""
    with pytest.raises(IntegrityError, match="a model of domains"):
        load(train(labelled_lines(), "key", LogisticConfig())[:100])


@given(st.lists(st.floats(-800, 0), min_size=1, max_size=20))
def test_the_exponential_is_right_to_the_last_bits(values: list[float]) -> None:
    """Beside the processor's own."""
    x = np.array(values)
    assert exponential(x) == pytest.approx(np.exp(np.maximum(x, -700)), rel=2e-15)
