"""flows/data_to_checkpoint.py: what depends on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import BaseModel

from flows.data_to_checkpoint import data_to_checkpoint
from flows.graph.staleness import PATH
from flows.graph.walk import Artifact, Stage
from flows.recipe.loading import load_recipe
from flows.recipe.recipe import Recipe
from pipeline.ingest.config import RawFile
from pipeline.snapshot import Listing
from storage.artifact import Manifest, identity
from storage.store import Store


@dataclass
class Recorder:
    """Walks the graph and makes nothing. A digest is a fingerprint: what is asked otherwise moves all that reads it."""

    raw: Store
    fingerprints: dict[str, str] = field(default_factory=dict)

    def __call__(self, stage: Stage, config: BaseModel, inputs: Mapping[str, Artifact], label: str = "") -> Artifact:
        return self.each(stage, {label: config}, inputs)[label]

    def each(self, stage: Stage, configs: Mapping[str, BaseModel], inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
        found: dict[str, Artifact] = {}
        digests = {name: value.digest for name, value in inputs.items() if isinstance(value, Manifest)}
        for label, config in configs.items():
            fingerprint, payload = identity(stage.artifact, stage.version, config, digests)
            self.fingerprints[f"{stage.artifact}/{label}" if label else stage.artifact] = fingerprint
            found[label] = Manifest(stage.artifact, fingerprint, fingerprint, payload, ())
        return found

    def look(self, stage: Stage, recipe: Recipe) -> Listing:
        return {source.name: [RawFile("file", 1, "0" * 64)] for source in recipe.sources}


def fingerprints(recipe: Recipe, raw: Path) -> dict[str, str]:
    """The fingerprint of every artifact of the path."""
    recorder = Recorder(Store(str(raw)))
    data_to_checkpoint(recipe, recorder)
    return recorder.fingerprints


def changed(recipe: Recipe, part: str, tmp_path: Path, **fields: object) -> set[str]:
    """The stages whose artifacts become others when fields of a part of the recipe do."""
    other = recipe.model_copy(update={part: getattr(recipe, part).model_copy(update=fields)})
    before, after = fingerprints(recipe, tmp_path), fingerprints(other, tmp_path)
    assert before.keys() == after.keys()
    return {key.partition("/")[0] for key in before if before[key] != after[key]}


@pytest.mark.parametrize("fields", [{"max_coverage": 0.2}, {"max_held_out_bytes": 10_000}, {"min_left_size_bytes": {"math": 1}}])
def test_what_is_evaluated_makes_no_training_stale(tmp_path: Path, fields: dict[str, object]) -> None:
    """RULE 32: only what judges the checkpoint reads what `coverage` says."""
    assert changed(load_recipe("test"), "coverage", tmp_path, **fields) == {"coverage", "held_out_tokens", "build_tasks", "evaluate"}


def test_the_selection_makes_stale_whatever_follows_it(tmp_path: Path) -> None:
    """A test of the test: the same way finds what does depend on a field."""
    found = changed(load_recipe("test"), "select", tmp_path, primary_language="de")
    assert found == {*PATH[PATH.index("select") :]} - {"report"}


@pytest.mark.parametrize("contrasts", [True, False])
def test_quality_reads_what_was_left_out_of_the_pages_that_teach_and_nothing_else(tmp_path: Path, contrasts: bool) -> None:
    """An artifact that it does not learn from cannot make it stale."""
    recipe = load_recipe("demo")
    assert recipe.quality.classifier is not None
    if not contrasts:
        classifier = recipe.quality.classifier.model_copy(update={"contrast": None})
        recipe = recipe.model_copy(update={"quality": recipe.quality.model_copy(update={"classifier": classifier})})
    seen: dict[str, set[str]] = {}

    class Watching(Recorder):
        def each(self, stage: Stage, configs: Mapping[str, BaseModel], inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
            seen.setdefault(stage.artifact, set()).update(inputs)
            return super().each(stage, configs, inputs)

    data_to_checkpoint(recipe, Watching(Store(str(tmp_path))))
    assert ("dropped.manuals" in seen["quality"]) == contrasts
    assert "dropped.recrawl" not in seen["quality"]
