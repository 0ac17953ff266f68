"""What bears on the signals: the dirty-word lists, the evaluation tasks, datatrove's blocks and the classifier that a recipe names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field, field_validator, model_validator

from pipeline.language_tags import LanguageTag
from pipeline.quality.ranks import RanksConfig
from storage.errors import ConfigError
from storage.strict import Strict

EVAL_TASKS_FILE = "eval_tasks.json"  # of the artifact: by path of the task file, see eval_overlap.totals_of


class RawFiles(Strict):
    """Files of raw_root, by a glob; `sha256` by path is filled in by `resolve_files`, so that their bytes bear on the result."""

    path: str = Field(description="glob relative to raw_root")
    sha256: dict[str, str] = Field({}, description="sha256 (hex) of each file by path; filled in from raw_root, not written in a recipe")


class EvalTasks(RawFiles):
    """Task files (.jsonl, .json, plain text; also .gz and .zst) whose items documents must not cover. RULES 21 and 33."""

    fields: tuple[str, ...] | None = Field(
        None, description="JSON fields that make an item, joined in this order; None = every string of the record but labels"
    )


class DatatroveFilter(Strict):
    """A filter block of datatrove, run on each document; its signal is 1 where it keeps the document, else 0."""

    name: str = Field(description="name of the signal: `datatrove_<name>`", pattern=r"^[a-z][a-z0-9_]*$")
    block: str = Field(description="module and class: datatrove.pipeline.filters.gopher_quality_filter.GopherQualityFilter")
    kwargs: dict[str, Any] = Field({}, description="its keyword arguments")


class ContrastConfig(Strict):
    """Pages that teach by contrast: their main text is good, what extraction left out of them and mixtures of the two are not."""

    sources: tuple[str, ...] = Field(
        min_length=1, description="sources of web pages that keep what extraction left out (extractor: blocks, dropped_fraction above 0)"
    )
    languages: tuple[LanguageTag, ...] | None = Field(
        ("en",), description="BCP 47 tags of the pages that teach, as the signals count English function words; None = any"
    )
    min_main_words: int = Field(100, ge=1, description="words that a page's main text has at least: a thin page is no good example")
    min_dropped_words: int = Field(10, ge=1, description="words that were left out of a page at least")


class QualityClassifier(Strict):
    """Logistic regression on signals of form: the probability that a document is like good ones. What is good it learns from pages
    (`contrast`), from sources, or from both. RULE 16."""

    contrast: ContrastConfig | None = Field(None, description="pages that teach by themselves what is good and what is not; None = off")
    positive_sources: tuple[str, ...] = Field((), description="sources whose documents are good examples")
    negative_sources: tuple[str, ...] = Field((), description="sources whose documents are bad examples")
    validation_positive_sources: tuple[str, ...] = Field((), description="whole sources kept out, good")
    validation_negative_sources: tuple[str, ...] = Field((), description="whole sources kept out, bad")
    train_fraction: float = Field(0.5, gt=0, le=1, description="share of the label sources' clusters, by keyed hash, that train")
    max_label_ratio: float = Field(4.0, ge=1, description="examples of a label at most, as a multiple of the other's")
    ranks: RanksConfig = Field(default_factory=RanksConfig)
    seed: int = Field(0, description="keys the hash that chooses clusters")

    @model_validator(mode="after")
    def _something_teaches_both(self) -> QualityClassifier:
        if self.contrast is None and not (self.positive_sources and self.negative_sources):
            raise ValueError(
                "quality.classifier: it learns from `contrast` (pages), or from positive_sources and negative_sources, which needs both"
            )
        taught = set(self.contrast.sources) if self.contrast else set[str]()
        if both := sorted(taught & {*self.labels, *self.validation_labels}):
            raise ValueError(f"quality.classifier.contrast.sources: {both[0]!r} is in another of the classifier's lists, too; name it once")
        return self

    @property
    def labels(self) -> dict[str, str]:
        """Label of each training source."""
        return {**dict.fromkeys(self.negative_sources, "negative"), **dict.fromkeys(self.positive_sources, "positive")}

    @property
    def validation_labels(self) -> dict[str, str]:
        """Label of each source kept out."""
        return {
            **dict.fromkeys(self.validation_negative_sources, "negative"),
            **dict.fromkeys(self.validation_positive_sources, "positive"),
        }


class Config(Strict):
    """Configuration of the stage `quality`. Nothing here is a threshold: those are select's."""

    dirty_words: tuple[RawFiles, ...] = Field(
        (), description="word lists, one entry a line; the file's stem is the language code; () = off"
    )
    eval_tasks: tuple[EvalTasks, ...] = Field((), description="task files for eval_overlap; () = off")
    datatrove_filters: tuple[DatatroveFilter, ...] = Field((), description="datatrove blocks whose verdict becomes a signal")
    classifier: QualityClassifier | None = Field(None, description="None = no quality_score (all null)")

    @property
    def contrasted(self) -> tuple[str, ...]:
        """Sources that teach by contrast."""
        return self.classifier.contrast.sources if self.classifier is not None and self.classifier.contrast is not None else ()

    @field_validator("datatrove_filters")
    @classmethod
    def _names_differ(cls, filters: tuple[DatatroveFilter, ...]) -> tuple[DatatroveFilter, ...]:
        names = [item.name for item in filters]
        if len(set(names)) != len(names):
            raise ValueError(f"datatrove_filters: a name occurs twice in {names}")
        return filters


def resolve_files(config: Config, find: Callable[[str], Sequence[tuple[str, str]]]) -> Config:
    """The config with the sha256 of every named file; `find(glob)` gives (path, sha256) pairs of raw_root.

    Raises ConfigError when a glob matches nothing, and when two entries of `eval_tasks` name one file: its items would count twice.
    """

    def resolved(files: Any, where: str) -> Any:
        found = dict(sorted(find(files.path)))
        if not found:
            raise ConfigError(f"quality.{where}: {files.path!r} matches no file of raw_root")
        return files.model_copy(update={"sha256": found})

    tasks = tuple(resolved(item, f"eval_tasks[{i}].path") for i, item in enumerate(config.eval_tasks))
    owners = dict[str, int]()
    for i, files in enumerate(tasks):
        for path in files.sha256:
            if owners.setdefault(path, i) != i:
                raise ConfigError(f"quality.eval_tasks[{i}].path: {path} is a file of eval_tasks[{owners[path]}], too; name it once")
    words = tuple(resolved(item, f"dirty_words[{i}].path") for i, item in enumerate(config.dirty_words))
    return config.model_copy(update={"dirty_words": words, "eval_tasks": tasks})
