"""A recipe: everything that bears on results, in one file. Made of the configs that live beside the code that reads them.

What one part can know from another is filled in here (`select.sources`, `dedup.url_dedup`), so that a recipe says it once; what parts
must agree on is checked here, before any work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Self, cast, get_args

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, create_model, field_validator, model_validator

from flows.recipe.execution import Execution, TrainingStage
from flows.recipe.reading import find_file, load
from pipeline.coverage import Config as CoverageConfig
from pipeline.dedup.stage import Config as DedupConfig
from pipeline.documents import DOMAINS
from pipeline.domains.config import Config as DomainsConfig
from pipeline.eval_tasks import Config as TasksConfig
from pipeline.ingest.config import LanguageConfig, Partitions, SourceConfig, check_partitions
from pipeline.quality.config import Config as QualityConfig
from pipeline.select.config import Config as SelectConfig
from pipeline.select.possible import possible_components, possible_domains
from pipeline.selection import check_config as check_select
from pipeline.train_tokenizer import Config as TokenizerConfig
from storage.errors import ConfigError
from storage.strict import Strict, choices
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
    def _whole(cls, raw: Any, validated: ModelWrapValidatorHandler[Self]) -> Self:
        """Fill in what follows from other parts (given values stay, and are compared), and find all that is wrong in one round."""
        filled = _filled(raw) if isinstance(raw, dict) else raw
        try:
            recipe, wrong, errors = validated(filled), set[str](), list[Any]()
        except ValidationError as error:
            if not isinstance(raw, dict):
                raise
            wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
            recipe, errors = cast("Self", _sound_parts(cls, filled, wrong)), _true_errors(error, raw, filled)
        problems = [*_named_problems(recipe, wrong, raw)]
        for parts, check in CHECKS:
            if wrong.isdisjoint(parts):
                problems += check(recipe)
        if not problems and wrong.isdisjoint(("sources", "quality", "select")):
            problems += _select_problems(recipe)
        errors += [{"type": "value_error", "loc": (), "input": filled, "ctx": {"error": ValueError(problem)}} for problem in problems]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return recipe

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


def _sound_parts(model: type[Recipe], filled: Mapping[str, Any], wrong: Set[str]) -> Recipe:
    """A recipe of the parts that are right by themselves, None for the others: only for checks that read none of those."""
    fields = {name: (field.annotation, field) for name, field in model.model_fields.items() if name not in wrong}
    parts: Strict = create_model("Parts", __base__=Strict, **fields)(**{k: v for k, v in filled.items() if k in fields})  # type: ignore[call-overload]
    values: dict[str, Any] = {name: getattr(parts, name, None) for name in model.model_fields}
    return model.model_construct(**values)


def _true_errors(error: ValidationError, raw: Mapping[str, Any], filled: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The errors without those that only repeat another: in what was filled in, and a list too short for the items that are wrong."""
    found = error.errors(include_url=False)
    places = [item["loc"] for item in found]
    return [
        {key: value for key, value in item.items() if key != "msg"}
        for item in found
        if not _is_filled_in(item["loc"], raw, filled)
        and not (item["type"] == "too_short" and any(p != item["loc"] and p[: len(item["loc"])] == item["loc"] for p in places))
    ]


def _is_filled_in(location: Sequence[int | str], raw: Any, filled: Any) -> bool:
    """Whether a location is in the recipe because `_filled` put it there."""
    for part in location:
        if not isinstance(filled, dict) or part not in filled:
            return False  # an item of a list, which is never filled in, or nothing at all
        if not isinstance(raw, dict) or part not in raw:
            return True
        raw, filled = raw[part], filled[part]
    return False


def _named_problems(recipe: Recipe, wrong: Set[str], raw: Any) -> list[str]:
    """Lists that name a source which does not exist. A source that is wrong has its name all the same."""
    names = [source.name for source in recipe.sources] if "sources" not in wrong else _names_in(raw)
    if names is None:
        return []
    problems = [f"sources: the name {name!r} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    lists = dict[str, Iterable[str]]()
    if "domains" not in wrong:
        lists |= {"domains.labels": recipe.domains.labels, "domains.validation_sources": recipe.domains.validation_sources}
    if "dedup" not in wrong:
        lists |= {"dedup.url_dedup": recipe.dedup.url_dedup, "dedup.line_dedup": recipe.dedup.line_dedup}
    if "quality" not in wrong and (classifier := recipe.quality.classifier) is not None:
        for field in ("positive_sources", "negative_sources", "validation_positive_sources", "validation_negative_sources"):
            lists[f"quality.classifier.{field}"] = getattr(classifier, field)
    if "select" not in wrong:
        lists["select.sources"] = recipe.select.sources
        for number, component in enumerate(recipe.select.components):
            lists[f"select.components[{number}].sources"] = component.sources or ()
    for field, used in lists.items():
        problems += [f"{field}: no source is named {name!r}{choices(name, names)}" for name in used if name not in names]
    return problems


def _names_in(raw: Mapping[str, Any]) -> list[str] | None:
    """The names of sources that are wrong otherwise; None where one has none."""
    names = [_dict(source).get("name") for source in _list(raw.get("sources"))]
    return cast("list[str]", names) if names and all(isinstance(name, str) for name in names) else None


def _declared_problems(recipe: Recipe) -> list[str]:
    """Domains that are declared in two ways, or in none."""
    declared = {source.name: source.domain for source in recipe.sources}
    problems = []
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
    return problems


def _facts_problems(recipe: Recipe) -> list[str]:
    problems = []
    for source in recipe.sources:
        facts = recipe.select.sources.get(source.name)
        if facts is not None and (facts.domain, facts.is_web) != (source.domain, source.is_web):
            problems.append(f"select.sources.{source.name}: follows from sources; give priority alone")
    return problems


def _flag_problems(recipe: Recipe) -> list[str]:
    return [
        f"dedup.{flag}.{source.name}: follows from sources; set it there"
        for source in recipe.sources
        for flag, value in (("url_dedup", source.dedups_urls), ("line_dedup", source.dedups_lines))
        if getattr(recipe.dedup, flag).get(source.name, value) != value
    ]


def _mixture_problems(recipe: Recipe) -> list[str]:
    problems = []
    for stage in recipe.stages:
        try:
            recipe.mix(stage)
        except ValueError as error:
            problems.append(f"{stage}: {_first_message(error)}")
    return problems


def _share_problems(recipe: Recipe) -> list[str]:
    return [
        f"{stage}.shares: no component is named {name!r}{choices(name, recipe.components)}"
        for stage, config in recipe.stages.items()
        for name in config.shares
        if name not in recipe.components
    ]


def _tokenizer_problems(recipe: Recipe) -> list[str]:
    return [
        f"tokenizer.shares: no domain is named {name!r}{choices(name, DOMAINS)}"
        for name in recipe.tokenizer.shares or {}
        if name not in DOMAINS
    ]


def _probability_problems(recipe: Recipe) -> list[str]:
    return [
        f"select.components: {component.name!r} needs a domain probability, but without domains.labels there is no classifier"
        for component in recipe.select.components
        if component.min_domain_probability is not None and not recipe.domains.labels
    ]


def _empty_problems(recipe: Recipe) -> list[str]:
    """Shares of what no document can be. Where a source has no domain that is said already, and what follows from it is not."""
    labels = set(recipe.domains.labels.values())
    if not labels and any(source.domain is None for source in recipe.sources):
        return []
    select = recipe.select
    languages = {source.name: source.language for source in recipe.sources}
    domains = set[str]().union(*(possible_domains(s.domain, s.language, labels, select.primary_language) for s in recipe.sources))
    components = possible_components(select, languages, labels)
    finder = "domains.labels names no source of it" if labels else "without domains.labels no classifier finds it"
    asked: list[tuple[str, Mapping[str, float], set[str], Sequence[str]]] = []
    if recipe.tokenizer is not None:
        asked = [("tokenizer", recipe.tokenizer.shares or {}, domains, DOMAINS)]
    asked += [(stage, config.shares, components, recipe.components) for stage, config in recipe.stages.items()]
    problems = []
    for part, shares, possible, known in asked:
        for name, share in shares.items():
            if share > 0 and name in known and name not in possible:
                why = f"no source declares the domain, and {finder}"
                if name in domains or name not in DOMAINS:
                    why = "no source's documents can meet its conditions, or components before it take them all"
                there_can_be = ", ".join(other for other in known if other in possible)
                problems.append(f"{part}.shares.{name}: {share:g}, but no document can be in it: {why}; there can be: {there_can_be}")
    return problems


def _select_problems(recipe: Recipe) -> list[str]:
    try:
        check_select(recipe.select, recipe.quality, [source.name for source in recipe.sources])
    except ConfigError as error:
        return [str(error)]
    return []


def _first_message(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    return str(errors()[0]["msg"]).removeprefix("Value error, ") if errors else str(error)


def _vocabulary_problems(recipe: Recipe) -> list[str]:
    vocab_size = recipe.tokenizer.vocab_size
    if vocab_size is not None and vocab_size > recipe.model.vocab_size:
        return [f"model.vocab_size: {recipe.model.vocab_size:,} is less than tokenizer.vocab_size, {vocab_size:,}"]
    return []


def _model_problems(recipe: Recipe) -> list[str]:
    parts = (("export", recipe.export), ("evaluate", recipe.evaluate))
    return [f"{field}.model: follows from model; leave it out" for field, config in parts if config.model != recipe.model]


def _held_out_problems(recipe: Recipe) -> list[str]:
    """What would be found out only after the documents were made."""
    if recipe.dedup.held_out_fraction == 0:
        return ["dedup.held_out_fraction: 0 leaves no document to evaluate on; it must be above 0"]
    return []


def _filter_problems(recipe: Recipe) -> list[str]:
    if recipe.quality.datatrove_filters:
        from pipeline.quality.stage import check_config as check_quality  # imports datatrove's filters: a second

        try:
            check_quality(recipe.quality)
        except ConfigError as error:
            return [str(error)]
    return []


# What parts must agree on: the parts that a check reads beside the training stages, and the check, which gives a line for each problem.
CHECKS: tuple[tuple[tuple[str, ...], Callable[[Recipe], list[str]]], ...] = (
    (("sources", "domains"), _declared_problems),
    (("sources", "select"), _facts_problems),
    (("sources", "dedup"), _flag_problems),
    (("select",), _share_problems),
    (("seed",), _mixture_problems),
    (("select", "domains"), _probability_problems),
    (("tokenizer",), _tokenizer_problems),
    (("sources", "select", "domains"), _empty_problems),
    (("tokenizer", "model"), _vocabulary_problems),
    (("model", "export", "evaluate"), _model_problems),
    (("dedup",), _held_out_problems),
    (("quality",), _filter_problems),
)


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
