"""The domains stage: probabilities beside documents, accuracy on whole sources kept out, and what a text becomes for the classifier."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.documents import DOMAIN_SCORES, DOMAINS
from pipeline.domains.config import Config
from pipeline.domains.signals import chunks, form, level, line_of, lines_of, plain_line_of
from pipeline.domains.stage import run, validation_report
from pipeline.fasttext_training import FastTextConfig
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError
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
    fasttext=FastTextConfig(dim=6, epochs=15, word_ngrams=1, min_count=1, buckets=100),
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
    docs = corpus()
    store, domains = judge(tmp_path, docs)
    rows = rows_by_key(store, domains, docs)
    assert {name for name, row in rows.items() if row["p_general"] is None} == {"blank"}
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


def test_the_model_and_every_byte_are_the_same_twice(tmp_path: Path) -> None:
    """Two stores, one digest."""
    assert judge(tmp_path / "a", corpus())[1].digest == judge(tmp_path / "b", corpus())[1].digest


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


@pytest.mark.parametrize(("ratio", "expected"), [(0, 0), (1e-9, 1), (2**-10, 1), (2**-9, 2), (0.5, 10), (1, 11), (3, 11)])
def test_levels_double(ratio: float, expected: int) -> None:
    """A logarithmic scale with a level of its own for none."""
    assert level(ratio) == expected


def test_form_tells_code_from_prose_and_survives_an_empty_text() -> None:
    """The same signals for every text, other levels."""
    code, prose = form("if (x == 1) {\n    y_z = {};\n}\n"), form("It was an old house. They said so.")
    assert len(code) == len(prose) == len(form(""))
    assert [a for a, b in zip(code, prose, strict=True) if a.startswith("xbrace") and a != b]


def test_the_plain_line_is_what_extraction_from_html_might_leave() -> None:
    """No TeX, no symbols, identifiers in their words."""
    assert plain_line_of("Let $x \\in \\mathbb{R}$ be readLines(file_name) {42};") == "let be read lines file name"


@given(st.text(max_size=400), st.integers(1, 60), st.integers(1, 5))
def test_chunks_are_few_pieces_of_the_text(text: str, chunk_chars: int, max_chunks: int) -> None:
    """At most as many and as long as asked, the first from the start, the last to the end; a blank text has none."""
    found = chunks(text, chunk_chars, max_chunks)
    assert len(found) <= max_chunks
    assert all(piece in text and len(piece) <= chunk_chars for piece in found)
    assert bool(found) == bool(text.strip())
    if found:
        assert text.startswith(found[0])
        assert len(found) == 1 or text.endswith(found[-1])


def test_lines_hold_no_line_end_and_no_label() -> None:
    """fastText reads one line; a text cannot label itself."""
    assert all("\n" not in line and "__label__" not in line for line in lines_of("a\nb __label__math c\n" * 30, 100, 3))
    assert line_of("A b").startswith("a b x")
