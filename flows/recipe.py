"""A recipe: everything that bears on results, in one file. Made of the configs that live beside the code that reads them.

What one part can know from another is filled in here (`select.sources`, `dedup.url_dedup`), so that a recipe says it once; what parts
must agree on is checked here, before any work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast, get_args

from pydantic import Field, field_validator, model_validator

from flows.execution import Execution, TrainingStage
from flows.reading import find_file, load
from pipeline.dedup.stage import Config as DedupConfig
from pipeline.documents import DOMAINS
from pipeline.domains.config import Config as DomainsConfig
from pipeline.eval_tasks import Config as TasksConfig
from pipeline.ingest.config import LanguageConfig, Partitions, SourceConfig, check_partitions
from pipeline.quality.config import Config as QualityConfig
from pipeline.select.config import Config as SelectConfig
from pipeline.selection import check_config as check_select
from pipeline.train_tokenizer import Config as TokenizerConfig
from storage.errors import ConfigError
from storage.strict import Strict
from training.config import (
    EvaluateConfig,
    ExportConfig,
    ModelConfig,
    TrainingConfig,
    check_execution,
    expand_phases,
    served_phases,
)
from training.mix import Config as MixConfig
from training.mix import PhaseConfig as MixPhase
from training.order import Phase

TRAINING_STAGES: tuple[TrainingStage, ...] = get_args(TrainingStage)


class TrainingStageConfig(TrainingConfig):
    """One training stage: its mixture, and how it is optimized."""

    shares: dict[str, float] = Field(min_length=1, description="share of the tokens by component, summing to 1")
    max_epochs: int = Field(ge=1, description="how often the stage may go through a component")

    @property
    def training(self) -> TrainingConfig:
        """What the trainer is told."""
        return TrainingConfig(**{name: getattr(self, name) for name in TrainingConfig.model_fields})

    @property
    def seq_len(self) -> int:
        """The longest sequence it trains on, in tokens."""
        return max(phase.seq_len for phase in self.schedule.phases)


class Recipe(Strict):
    """A complete recipe. Where and how it runs is an execution file of its own."""

    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$", description="names the run when the command line does not")
    seed: int = Field(0, ge=0, description="of the order of training data")
    sources: tuple[SourceConfig, ...] = Field(min_length=1, description="what is read")
    partitions: Partitions
    language: LanguageConfig = Field(default_factory=LanguageConfig)
    dedup: DedupConfig
    quality: QualityConfig
    domains: DomainsConfig
    select: SelectConfig
    tokenizer: TokenizerConfig
    tasks: TasksConfig
    model: ModelConfig
    pretrain: TrainingStageConfig
    extend_context: TrainingStageConfig | None = Field(None, description="longer sequences after pre-training; none: the stage is left out")
    anneal: TrainingStageConfig | None = Field(None, description="rate to 0 on an upsampled mix; none: the stage is left out")
    export: ExportConfig
    evaluate: EvaluateConfig

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        """What follows from other parts. Given values stay, and are compared below."""
        return _filled(raw) if isinstance(raw, dict) else raw

    @field_validator("partitions")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        return check_partitions(value)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        problems = [*_source_problems(self), *_component_problems(self), *_model_problems(self), *_judging_problems(self)]
        if not problems:
            try:
                check_select(self.select, self.quality, [source.name for source in self.sources])
            except ConfigError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("\n  ".join(problems))
        return self

    @property
    def stages(self) -> dict[TrainingStage, TrainingStageConfig]:
        """The training stages that this recipe has, in order."""
        found = {name: getattr(self, name) for name in TRAINING_STAGES}
        return {name: cast("TrainingStageConfig", stage) for name, stage in found.items() if stage is not None}

    @property
    def components(self) -> tuple[str, ...]:
        """Names that shares may use: the components of select, and each domain's own."""
        return (*DOMAINS, *(component.name for component in self.select.components))

    def mix(self, stage: TrainingStage) -> MixConfig:
        """What `mix` is told about a training stage."""
        config = self.stages[stage]
        phases = tuple(MixPhase(**vars_of(phase)) for phase in expand_phases(config.schedule))
        return MixConfig(stage=stage, seed=self.seed, shares=config.shares, max_epochs=config.max_epochs, phases=phases)


class TrainedConfig(Strict):
    """The configuration that bears on a training stage's checkpoint, beside its inputs."""

    model: ModelConfig
    training: TrainingConfig


def vars_of(phase: Phase) -> dict[str, int]:
    """A phase as the fields of the plan's phases."""
    return {"seq_len": phase.seq_len, "global_batch_size": phase.global_batch_size, "n_steps": phase.n_steps}


def _filled(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's fields with those that follow from its sources and its model, where they are not given."""
    filled = dict(raw)
    sources = [s for s in _list(raw.get("sources")) if isinstance(s, dict) and isinstance(s.get("name"), str)]
    web = {s["name"]: s.get("format") in ("warc", "arc") for s in sources}
    if isinstance(select := raw.get("select"), dict):
        given = _dict(select.get("sources", {}))
        facts = {s["name"]: {"domain": s.get("domain"), "is_web": web[s["name"]], **_dict(given.get(s["name"], {}))} for s in sources}
        filled["select"] = {**select, "sources": {**given, **facts}}
    if isinstance(dedup := raw.get("dedup"), dict):
        flags = {
            field: {s["name"]: web[s["name"]] if s.get(field) is None else s[field] for s in sources}
            for field in ("url_dedup", "line_dedup")
        }
        filled["dedup"] = {**flags, **dedup}
    seq_lens = [
        phase["seq_len"]
        for stage in TRAINING_STAGES
        for phase in _list(_dict(_dict(raw.get(stage)).get("schedule")).get("phases"))
        if isinstance(phase, dict) and isinstance(phase.get("seq_len"), int)
    ]
    for part, field in (("export", "max_seq_len"), ("evaluate", "seq_len")):
        values = {"model": raw.get("model"), **({field: max(seq_lens)} if seq_lens else {})}
        if isinstance(raw.get(part, {}), dict):
            filled[part] = {**values, **raw.get(part, {})}
    return filled


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _source_problems(recipe: Recipe) -> list[str]:
    names = [source.name for source in recipe.sources]
    declared = {source.name: source.domain for source in recipe.sources}
    problems = [f"sources: the name {name!r} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    classifier = recipe.quality.classifier
    lists: dict[str, Sequence[str]] = {
        "domains.labels": list(recipe.domains.labels),
        "domains.validation_sources": list(recipe.domains.validation_sources),
        "select.sources": list(recipe.select.sources),
        "dedup.url_dedup": list(recipe.dedup.url_dedup),
        "dedup.line_dedup": list(recipe.dedup.line_dedup),
    }
    if classifier is not None:
        for field in ("positive_sources", "negative_sources", "validation_positive_sources", "validation_negative_sources"):
            lists[f"quality.classifier.{field}"] = getattr(classifier, field)
    for number, component in enumerate(recipe.select.components):
        lists[f"select.components[{number}].sources"] = component.sources or ()
    for field, used in lists.items():
        problems += [f"{field}: no source is named {name!r}; there are: {', '.join(names)}" for name in used if name not in names]
    for field, labels in (("labels", recipe.domains.labels), ("validation_sources", recipe.domains.validation_sources)):
        for name, domain in labels.items():
            if declared.get(name) not in (None, domain):
                problems.append(f"domains.{field}.{name}: {domain!r}, but sources declares it {declared[name]!r}")
    if not recipe.domains.labels:
        problems += [
            f"sources.{source.name}.domain: it declares none, and without domains.labels there is no classifier to decide"
            for source in recipe.sources
            if source.domain is None
        ]
    for source in recipe.sources:
        facts = recipe.select.sources.get(source.name)
        if facts is not None and (facts.domain, facts.is_web) != (source.domain, source.is_web):
            problems.append(f"select.sources.{source.name}: follows from sources; give priority alone")
        for flag, value in (("url_dedup", source.dedups_urls), ("line_dedup", source.dedups_lines)):
            if getattr(recipe.dedup, flag).get(source.name, value) != value:
                problems.append(f"dedup.{flag}.{source.name}: follows from sources; set it there")
    return problems


def _component_problems(recipe: Recipe) -> list[str]:
    problems = []
    for stage, config in recipe.stages.items():
        problems += [
            f"{stage}.shares: no component is named {name!r}; there are: {', '.join(recipe.components)}"
            for name in config.shares
            if name not in recipe.components
        ]
        try:
            recipe.mix(stage)
        except ValueError as error:
            problems.append(f"{stage}: {_first_message(error)}")
    problems += [
        f"select.components: {component.name!r} needs a domain probability, but without domains.labels there is no classifier"
        for component in recipe.select.components
        if component.min_domain_probability is not None and not recipe.domains.labels
    ]
    for name in recipe.tokenizer.shares or {}:
        if name not in DOMAINS:
            problems.append(f"tokenizer.shares: no domain is named {name!r}; there are: {', '.join(DOMAINS)}")
    return problems


def _first_message(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    return str(errors()[0]["msg"]).removeprefix("Value error, ") if errors else str(error)


def _model_problems(recipe: Recipe) -> list[str]:
    problems = []
    vocab_size = recipe.tokenizer.vocab_size
    if vocab_size is not None and vocab_size > recipe.model.vocab_size:
        problems.append(f"model.vocab_size: {recipe.model.vocab_size:,} is less than tokenizer.vocab_size, {vocab_size:,}")
    for field, config in (("export", recipe.export), ("evaluate", recipe.evaluate)):
        if config.model != recipe.model:
            problems.append(f"{field}.model: follows from model; leave it out")
    return problems


def _judging_problems(recipe: Recipe) -> list[str]:
    """What would be found out only after the documents were made."""
    problems = []
    if recipe.dedup.held_out_fraction == 0:
        problems.append("dedup.held_out_fraction: 0 leaves no document to evaluate on; it must be above 0")
    if recipe.quality.datatrove_filters:
        from pipeline.quality.stage import check_config as check_quality  # imports datatrove's filters: a second

        try:
            check_quality(recipe.quality)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def load_recipe(name: str) -> Recipe:
    """The recipe of that path, or of that name in flows/recipes. Raises ConfigError with a line for each wrong field."""
    return load(find_file(name, "recipes"), Recipe)


def check_together(recipe: Recipe, execution: Execution) -> None:
    """Whether the execution's meshes fit the recipe's model and phases. Raises ConfigError naming stage, field and value.

    An execution serves many recipes, so it may say how stages run that this one leaves out.
    """
    for stage, config in recipe.stages.items():
        if stage not in execution.training:
            continue  # refused where it would run: `driver.check_asked`
        place = execution.training[stage]
        phases = served_phases(expand_phases(config.schedule), place.first_step)
        if not phases:
            raise ConfigError(f"execution.training.{stage}.first_step: {place.first_step:,} is after the end of the stage")
        try:
            check_execution(recipe.model, phases, place)
        except ConfigError as error:
            raise ConfigError(f"execution.training.{stage}: {error}") from error
