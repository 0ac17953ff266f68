"""The quality stage as a whole: rows beside documents, equal texts, the classifier's own documents, and order of work."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.classifier_steps import HALVES, TRAINED, Fitted
from pipeline.dedup.exact import split_hash, text_key
from pipeline.quality.classifier import POSITIVE, auc, example, quality_classifier
from pipeline.quality.config import EVAL_TASKS_FILE, Config, DatatroveFilter, EvalTasks, QualityClassifier, RawFiles, resolve_files
from pipeline.quality.ranks import Model, load
from pipeline.quality.score import signals_schema
from pipeline.quality.stage import VERSION, run, validation_report
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError
from storage.store import Store
from storage.tables import read_table
from tests.pipeline.judged_inputs import Doc, rows_by_key, write_clusters, write_documents, write_dropped

GOOD, BAD = (
    ["the", "proof", "of", "therefore", "number", "is", "let", "with"],
    ["Buy", "Now\n", "cheap", "Click", "Sale\n", "offer", "Deal", "Win"],
)


def sentence(words: Sequence[str], seed: int, n_words: int = 30) -> str:
    """Words of a vocabulary, and a full stop."""
    return " ".join(random.Random(seed).choices(words, k=n_words)) + "."


def labelled(count: int = 24) -> list[Doc]:
    """Good and bad sources for training and for validation, and a source to judge."""
    docs = [Doc(f"g{i}", sentence(GOOD, i), source="good") for i in range(count)]
    docs += [Doc(f"b{i}", sentence(BAD, 100 + i), source="bad") for i in range(count)]
    docs += [Doc(f"vg{i}", sentence(GOOD, 200 + i), source="kept_good") for i in range(6)]
    docs += [Doc(f"vb{i}", sentence(BAD, 300 + i), source="kept_bad") for i in range(6)]
    return [*docs, Doc("web-good", sentence(GOOD, 400)), Doc("web-bad", sentence(BAD, 401))]


CLASSIFIER = QualityClassifier(
    positive_sources=("good",),
    negative_sources=("bad",),
    validation_positive_sources=("kept_good",),
    validation_negative_sources=("kept_bad",),
    train_fraction=0.6,
)


def judged_by(model: Model, text: str) -> float:
    """The probability that a model gives to a text."""
    return float(model.probabilities(np.array([json.loads(example(text))]))[0])


def score_all(
    tmp_path: Path, docs: Sequence[Doc], config: Config, *, held_out: float = 0.0, name: str = "store", partitions: int = 4, **changes: Any
) -> tuple[Store, Manifest]:
    """Run the stage on handmade inputs."""
    store = Store(str(tmp_path / name))
    inputs = {**write_documents(store, docs, partitions), **write_dropped(store, docs, partitions)}
    inputs["clusters"] = write_clusters(store, docs, partitions, held_out)
    return store, run(store=store, raw=Store(str(tmp_path / "raw")), config=config, inputs=inputs, **changes)


def test_every_document_has_a_row_beside_it_with_all_signals(tmp_path: Path) -> None:
    """What the recipe does not ask for is null; sizes and addresses are in UTF-8 bytes."""
    docs = [Doc("a", "ä mail to ann@example.org please"), Doc("b", ""), Doc("c", "x", source="books")]
    store, quality = score_all(tmp_path, docs, Config())
    rows = rows_by_key(store, quality, docs)
    assert rows["a"]["text_size_bytes"] == len(docs[0].text.encode())
    assert rows["a"]["pii"] == [{"start": 11, "end": 26, "kind": "email"}]
    assert {rows[key][name] for key in rows for name in ("quality_score", "eval_overlap", "dirty_words")} == {None}
    assert rows["b"]["gopher_word_count"] == 0
    for name in quality.names():
        assert read_table(store, quality, name).schema == signals_schema(Config())


def test_the_bytes_are_those_of_this_version(tmp_path: Path) -> None:
    """RULE 12: another digest means other output: bump VERSION, then change the digest here."""
    docs = [
        Doc("a", "The cat and the dog. They have eyes...\n- to see\n\n- to see\n" * 3),
        Doc("b", "Write to ann@example.org or 8.8.8.8 {now}."),
    ]
    _, quality = score_all(tmp_path, docs, Config())
    assert (VERSION, quality.digest) == (6, "4155cb4b272858e44ce9efe092b44b84cf52b4fea2e6405289bebc1e236ba725")


def test_equal_texts_are_scored_once_and_share_the_row(tmp_path: Path) -> None:
    """RULE 14: in every source and partition the copies read the smallest id's row, under their own ids."""
    docs = [Doc(f"{source}{i}", f"text number {i % 7} of a few", source=source) for source in ("web", "books") for i in range(40)]
    store, quality = score_all(tmp_path, docs, Config())
    rows = rows_by_key(store, quality, docs)
    assert quality.counts["scored"] == 7
    for doc in docs:
        row = {**rows[doc.key]}
        assert row.pop("id") == doc.id
        first = {**rows[next(other.key for other in docs if other.text == doc.text)]}
        first.pop("id")
        assert row == first


@pytest.mark.filterwarnings("ignore:The 'registered_domain' property is deprecated:DeprecationWarning")
def test_what_depends_on_more_than_the_text_is_each_documents_own(tmp_path: Path) -> None:
    """RULE 14 covers signals of the text alone: copies at another URL or in another language have verdicts and dirty words of their own."""
    raw = Store(str(tmp_path / "raw"))
    raw.write("lists/de.txt", b"zut\n")
    url_filter = DatatroveFilter(
        name="url",
        block="datatrove.pipeline.filters.url_filter.URLFilter",
        kwargs={"use_integrated_lists": False, "extra_domains": ["bad.org"]},
    )
    config = resolve_files(
        Config(dirty_words=(RawFiles(path="lists/*.txt"),), datatrove_filters=(url_filter,)),
        lambda glob: [(info.path, hashlib.sha256(raw.read(info.path)).hexdigest()) for info in raw.glob(glob)],
    )
    docs = [
        Doc(f"{source}{n}", "zut alors", source=source, url=f"http://{host}.org/{n}", language=language)
        for source, language in (("web", "fr"), ("books", "de"))
        for n in range(12)
        for host in (("bad", "good")[n % 2],)
    ]
    store, quality = score_all(tmp_path, docs, config)
    rows = rows_by_key(store, quality, docs)
    assert quality.counts["scored"] == 1
    for doc in docs:
        assert doc.url is not None
        expected = (int("good" in doc.url), int(doc.language == "de"), 0.5 if doc.language == "de" else 0.0)
        assert tuple(rows[doc.key][name] for name in ("datatrove_url", "dirty_words", "dirty_word_ratio")) == expected
        assert rows[doc.key]["gopher_word_count"] == 2


def test_word_lists_tasks_and_blocks_become_signals(tmp_path: Path) -> None:
    """Each by its name; the list is that of the document's language."""
    raw = Store(str(tmp_path / "raw"))
    raw.write("lists/en.txt", b"zut\n")
    task = "what is the name of the river that flows through the old town"
    raw.write("tasks/t.jsonl", json.dumps({"query": task}).encode())
    config = resolve_files(
        Config(
            dirty_words=(RawFiles(path="lists/*.txt"),),
            eval_tasks=(EvalTasks(path="tasks/*.jsonl"),),
            datatrove_filters=(
                DatatroveFilter(name="no_zut", block="datatrove.pipeline.filters.regex_filter.RegexFilter", kwargs={"regex_exp": "zut"}),
            ),
        ),
        lambda glob: [(info.path, hashlib.sha256(raw.read(info.path)).hexdigest()) for info in raw.glob(glob)],
    )
    docs = [Doc("zut", "zut and Zut!"), Doc("german", "zut", language="de"), Doc("task", f"He asked: {task.title()}?"), Doc("none", "x")]
    store, quality = score_all(tmp_path, docs, config)
    rows = rows_by_key(store, quality, docs)
    assert {key: row["dirty_words"] for key, row in rows.items()} == {"zut": 2, "german": 0, "task": 0, "none": 0}
    assert {key: row["datatrove_no_zut"] for key, row in rows.items()} == {"zut": 0, "german": 0, "task": 1, "none": 1}
    whole = [{"task": "tasks/t.jsonl", "item": 0, "coverage": 1.0}]
    assert {key: row["eval_overlap"] for key, row in rows.items()} == {"zut": [], "german": [], "task": whole, "none": []}
    totals = json.loads(read_verified(store, quality, EVAL_TASKS_FILE))
    assert totals == {"tasks/t.jsonl": {"items": 1, "unreachable": 0, "reach": {"100": 1}}}


def test_every_document_is_scored_by_a_model_that_did_not_see_it(tmp_path: Path) -> None:
    """RULE 16: no score is null for having trained; a document of a half is judged by the other's model alone, the rest by both."""
    docs = labelled()
    store, quality = score_all(tmp_path, docs, Config(classifier=CLASSIFIER), held_out=0.2)
    rows = rows_by_key(store, quality, docs)
    classifier = quality_classifier(CLASSIFIER)
    halves: list[set[bytes]] = [set(), set()]
    for doc in docs:
        if doc.source in ("good", "bad") and classifier.trains_on(doc.id) and split_hash(text_key(doc.text), "held out") >= 0.2:
            halves[classifier.half_of(doc.id)].add(doc.id)
    for half, ids in enumerate(halves):
        assert 0 < len(ids) < 48
        assert read_verified(store, quality, f"{TRAINED}-{half}") == b"".join(sorted(ids))
    models = [load(read_verified(store, quality, f"quality-{half}.bin")) for half in range(HALVES)]
    for doc in docs:
        asked = [model for model, ids in zip(models, halves, strict=True) if doc.id not in ids]
        expected = sum(judged_by(model, doc.text) for model in asked) / len(asked)
        assert len(asked) == (1 if doc.id in halves[0] | halves[1] else 2)
        assert rows[doc.key]["quality_score"] == pytest.approx(expected, abs=1e-6)
    assert rows["web-good"]["quality_score"] > 0.7 > 0.3 > rows["web-bad"]["quality_score"]


def test_a_member_elsewhere_of_a_cluster_that_trained_is_judged_by_the_other_half(tmp_path: Path) -> None:
    """A web page that is nearly a training document is not judged by the model that saw that."""
    docs = labelled()
    page = Doc("copy", sentence(GOOD, 0) + " More.", near="same")
    classifier = quality_classifier(CLASSIFIER)
    original = next(doc for doc in docs if doc.source == "good" and (name := min(doc.id, page.id)) and classifier.trains_on(name))
    joined = [Doc(doc.key, doc.text, source=doc.source, near="same" if doc is original else None) for doc in docs]
    store, quality = score_all(tmp_path, [*joined, page], Config(classifier=CLASSIFIER))
    other = load(read_verified(store, quality, f"quality-{1 - classifier.half_of(min(original.id, page.id))}.bin"))
    expected = judged_by(other, page.text)
    assert rows_by_key(store, quality, [*joined, page])["copy"]["quality_score"] == pytest.approx(expected, abs=1e-6)


def test_validation_is_on_whole_sources_kept_out_beside_the_stop_word_ratio(tmp_path: Path) -> None:
    """Accuracy and AUC over the two sources kept out, and the AUC of the untrained ratio on the same documents."""
    store, quality = score_all(tmp_path, labelled(), Config(classifier=CLASSIFIER))
    report = json.loads(read_verified(store, quality, "validation.json"))
    assert report["documents"] == 12
    assert report["accuracy"] == report["auc"] == 1.0
    assert report["stop_word_ratio_auc"] is not None
    assert report["word_count_auc"] is not None
    assert report["no_better_than"] == [name for name in ("stop_word_ratio", "word_count") if report[f"{name}_auc"] >= 1.0]
    assert set(report["sources"]) == {"kept_good", "kept_bad"}


def test_the_report_names_what_the_classifier_does_not_beat() -> None:
    """Stop words rank these better than the scores do, the number of words worse; ties count as not beaten."""
    good = {"label": POSITIVE, "scores": [0.9, 0.4], "stop_word_ratio": [0.5, 0.4], "gopher_word_count": [10, 20]}
    bad = {"label": "negative", "scores": [0.6, 0.1], "stop_word_ratio": [0.3, 0.2], "gopher_word_count": [30, 40]}
    report = validation_report({"good": good, "bad": bad})
    assert (report["auc"], report["stop_word_ratio_auc"], report["word_count_auc"]) == (0.75, 1.0, 0.0)
    assert report["no_better_than"] == ["stop_word_ratio"]
    assert validation_report({"good": good})["no_better_than"] == []


def backwards(function: Callable[[Any], Any], groups: Sequence[Any]) -> Iterator[Any]:
    """Run the groups last to first; results in the order of the groups."""
    found = {i: function(groups[i]) for i in reversed(range(len(groups)))}
    return (found[i] for i in range(len(groups)))


def test_the_bytes_do_not_depend_on_the_order_of_work(tmp_path: Path) -> None:
    """The model included: two runs, groups in either order, give one digest."""
    docs = labelled(12)
    first = score_all(tmp_path, docs, Config(classifier=CLASSIFIER))[1]
    second = score_all(tmp_path, docs, Config(classifier=CLASSIFIER), name="other", run_groups=backwards)[1]
    assert first.digest == second.digest


def test_sources_that_are_not_there_are_refused_before_any_work(tmp_path: Path) -> None:
    """By name, with those there are; and a source cannot both train and validate."""
    docs = [Doc("a", "x"), Doc("b", "y", source="bad")]
    wrong = CLASSIFIER.model_copy(update={"positive_sources": ("gud",)})
    with pytest.raises(ConfigError, match=r"quality.classifier: no source is named 'gud'"):
        score_all(
            tmp_path,
            docs,
            Config(classifier=wrong.model_copy(update={"validation_positive_sources": (), "validation_negative_sources": ()})),
        )
    both = CLASSIFIER.model_copy(update={"validation_positive_sources": ("good",)})
    with pytest.raises(ConfigError, match="'good' trains and validates"):
        score_all(tmp_path, labelled(), Config(classifier=both))
    block = DatatroveFilter(name="x", block="datatrove.pipeline.dedup.bloom_filter.SingleBloomFilter")
    with pytest.raises(ConfigError, match="SingleBloomFilter"):
        score_all(tmp_path, docs, Config(datatrove_filters=(block,)))


def test_a_label_without_training_text_is_a_config_error(tmp_path: Path) -> None:
    """It names the label and the fraction."""
    docs = [doc if doc.source != "bad" else Doc(doc.key, "", source="bad") for doc in labelled()]
    with pytest.raises(ConfigError, match=r"label 'negative' has no training text.*train_fraction = 0.6"):
        score_all(tmp_path, docs, Config(classifier=CLASSIFIER))


@given(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=8), st.sets(st.sampled_from(["a", "b"])))
def test_scores_are_the_mean_of_the_models_that_did_not_see_the_cluster_and_vote(ids: list[bytes], silent: set[str]) -> None:
    """Model x saw cluster a, model y cluster b; a document for which nobody votes has no score."""
    fitted = Fitted(("x", "y"), (frozenset([b"a"]), frozenset([b"b"])))
    votes = {"x": 0.2, "y": 0.6}

    def predict(model: str, rows: list[int]) -> NDArray[np.float64]:
        assert all(ids[i] not in fitted.clusters["xy".index(model)] for i in rows)
        return np.array([[np.nan if ids[i].decode() in silent else votes[model]] for i in rows]).reshape(-1, 1)

    found = fitted.scores(ids, predict)[:, 0]
    expected = {b"a": 0.6, b"b": 0.2, b"c": 0.4}
    for name, score in zip(ids, found, strict=True):
        assert np.isnan(score) if name.decode() in silent else score == pytest.approx(expected[name])


def test_auc_is_the_chance_to_score_higher_with_ties_counting_half() -> None:
    """By hand; None when a side is empty."""
    assert auc([3, 2], [1, 0]) == 1
    assert auc([1], [1]) == 0.5
    assert auc([2, 0], [1, 1]) == 0.5
    assert auc([3, 1], [2, 1]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert auc([], [1]) is None
