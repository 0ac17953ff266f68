"""Which domain and which text class a document has, and from which probabilities: pure rules, and through the stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import selection
from pipeline.select.config import Config, SourceFacts, ThresholdsByClass
from pipeline.select.decide import domain_of, text_class_of
from pipeline.select.funnel import thresholds_line
from storage.artifact import read_verified
from storage.store import Store
from tests.pipeline.judged_inputs import Doc, rows_by_key, write_inputs

WEB, BOOKS = SourceFacts(is_web=True), SourceFacts(domain="math", is_web=False)


def config(**changes: Any) -> Config:
    """A configuration for the sources `web` and `books`, without thresholds of quality."""
    return Config(**{"sources": {"web": WEB, "books": BOOKS}, "thresholds": ThresholdsByClass(), **changes})


NOBODY: dict[str, float | None] = {"general": 0.1, "math": 0.2, "code": 0.3, "multilingual": 0.4}


@pytest.mark.parametrize(
    ("facts", "language", "probability", "scores", "expected"),
    [
        (BOOKS, "de", 1.0, {"code": 1.0}, "math"),  # declared
        (WEB, "de", 1.0, {"code": 0.5, "general": 0.4}, "code"),  # code before the language
        (WEB, "de", 1.0, {"code": 0.49, "general": 0.4}, "multilingual"),  # not sure enough of code
        (WEB, "en", 1.0, {"code": 0.49, "general": 0.4}, "general"),  # claimed only from the threshold on
        (WEB, "en", 1.0, {"math": 0.49, "general": 0.4}, "general"),
        (WEB, "de", 0.65, {"general": 0.9}, "general"),  # the language is not sure: above the threshold, not at it
        (WEB, "de", 0.65, {"general": 0.3, "multilingual": 0.31}, "multilingual"),  # the classifier's choice among the rest
        (WEB, "de", 0.66, {"math": 0.9}, "math"),
        (WEB, "de", 0.66, {"math": 0.49}, "multilingual"),
        (WEB, "en", 1.0, {"math": 0.9}, "math"),
        (WEB, "en", 0.1, {"multilingual": 0.9}, "general"),  # never for the primary language
        (WEB, "und", 1.0, {"general": 0.9}, "general"),
        (WEB, "und", 1.0, {"multilingual": 0.9}, "multilingual"),
        (WEB, "en", 1.0, None, "general"),  # no vote
        (WEB, "und", 0.0, None, "general"),
        (WEB, "en-GB", 1.0, {"general": 0.4, "multilingual": 0.6}, "general"),  # the primary one covers it
        (WEB, "de", 1.0, None, "multilingual"),
    ],
)
def test_the_domain_follows_the_precedence(
    facts: SourceFacts, language: str, probability: float, scores: Mapping[str, float] | None, expected: str
) -> None:
    """RULE 17: declared, code or math from their thresholds, multilingual by language, the classifier's choice among the rest."""
    probabilities = {domain: None if scores is None else scores.get(domain, 0.0) for domain in NOBODY}
    assert domain_of(facts, language, probability, probabilities, config()) == expected


@pytest.mark.parametrize(
    ("facts", "domain", "expected"),
    [
        (WEB, "general", "web"),
        (WEB, "code", "code"),
        (WEB, "math", "math"),
        (WEB, "multilingual", "multilingual"),
        (BOOKS, "general", "general"),
    ],
)
def test_web_thresholds_hold_for_general_web_pages_alone(facts: SourceFacts, domain: str, expected: str) -> None:
    """RULE 17, text class."""
    assert text_class_of(facts, domain) == expected


def decide(
    tmp_path: Path, docs: Sequence[Doc], wanted: Config, thresholds: Mapping[str, float] | None
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Rows by key, and the funnel."""
    every, store = [*docs, Doc("book", "a book", source="books")], Store(str(tmp_path / "store"))
    manifest = selection.run(store=store, config=wanted, inputs=write_inputs(store, every, thresholds=thresholds))
    return rows_by_key(store, manifest, every), json.loads(read_verified(store, manifest, "funnel.json"))


def test_thresholds_are_those_that_domains_proposes_unless_the_recipe_says_otherwise(tmp_path: Path) -> None:
    """RULE 17: the proposal of the artifact holds, a given one beats it, and the funnel says what was used and what was proposed."""
    docs = [Doc("c", "code", domains={"code": 0.6, "general": 0.4}), Doc("m", "math", domains={"math": 0.6, "general": 0.4})]
    proposed = {"math": 0.55, "code": 0.65}
    rows, funnel = decide(tmp_path / "a", docs, config(), proposed)
    assert (rows["c"]["domain"], rows["m"]["domain"]) == ("general", "math")
    assert (rows["c"]["text_class"], rows["m"]["text_class"]) == ("web", "math")
    assert funnel["domain_thresholds"] == {"math": {"used": 0.55, "proposed": 0.55}, "code": {"used": 0.65, "proposed": 0.65}}
    rows, funnel = decide(tmp_path / "b", docs, config(min_code_probability=0.6, min_math_probability=0.9), proposed)
    assert (rows["c"]["domain"], rows["m"]["domain"]) == ("code", "general")
    assert "code from a probability of 0.6 (0.65 proposed), math from a probability of 0.9 (0.55 proposed)" in thresholds_line(funnel)
    assert decide(tmp_path / "c", docs, config(), None)[1]["domain_thresholds"]["code"] == {"used": 0.5, "proposed": None}


def test_a_funnel_of_an_older_version_has_no_line_of_thresholds() -> None:
    """The report of an old run is still written."""
    assert thresholds_line({}) == ""
