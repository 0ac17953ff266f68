"""A recipe: everything that bears on results, in one file. Made of the configs that live beside the code that reads them.

What one part can know from another is filled in here (`select.sources`, `dedup.url_dedup`), so that a recipe says it once. What parts
must agree on is in `checks.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast, get_args

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator

from flows.recipe.execution import TrainingStage
from pipeline.coverage import Config as CoverageConfig
from pipeline.dedup.stage import Config as DedupConfig
from pipeline.documents import DOMAINS
from pipeline.domains.config import Config as DomainsConfig
from pipeline.eval_tasks import Config as TasksConfig
from pipeline.ingest.config import LanguageConfig, Partitions, SourceConfig, check_partitions
from pipeline.quality.config import Config as QualityConfig
from pipeline.select.config import Config as SelectConfig
from pipeline.train_tokenizer import Config as TokenizerConfig
from storage.strict import Strict
from training.config import (
    EvaluateConfig,
    ExportConfig,
    ModelConfig,
    TrainingConfig,
    expand_phases,
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
    coverage: CoverageConfig = Field(default_factory=CoverageConfig)
    tokenizer: TokenizerConfig
    tasks: TasksConfig
    model: ModelConfig
    pretrain: TrainingStageConfig
    extend_context: TrainingStageConfig | None = Field(None, description="longer sequences after pre-training; none: the stage is left out")
    anneal: TrainingStageConfig | None = Field(None, description="rate to 0 on an upsampled mix; none: the stage is left out")
    export: ExportConfig
    evaluate: EvaluateConfig

    @model_validator(mode="wrap")
    @classmethod
    def _fill_in(cls, raw: Any, validated: ModelWrapValidatorHandler[Self]) -> Self:
        """Fill in what follows from other parts; given values stay, and are compared (`checks.py`). A filled-in copy repeats no error."""
        filled = _filled(raw) if isinstance(raw, dict) else raw
        try:
            return validated(filled)
        except ValidationError as error:
            own: list[Any] = [item for item in error.errors(include_url=False) if not _is_filled_in(item["loc"], raw, filled)]
            raise ValidationError.from_exception_data(cls.__name__, own) from None

    @field_validator("partitions")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        return check_partitions(value)

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
    declared = {s["name"]: domain if (domain := s.get("domain")) in DOMAINS else None for s in sources}  # another is refused at its source
    if isinstance(select := raw.get("select"), dict):
        given = _dict(select.get("sources", {}))
        facts = {s["name"]: {"domain": declared[s["name"]], "is_web": web[s["name"]], **_dict(given.get(s["name"], {}))} for s in sources}
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


def _is_filled_in(location: Sequence[int | str], raw: Any, filled: Any) -> bool:
    """Whether a location is in the recipe because `_filled` put it there."""
    for part in location:
        if not isinstance(filled, dict) or part not in filled:
            return False  # an item of a list, which is never filled in, or nothing at all
        if not isinstance(raw, dict) or part not in raw:
            return True
        raw, filled = raw[part], filled[part]
    return False
