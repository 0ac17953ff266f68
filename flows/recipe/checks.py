"""What the parts of a recipe must agree on, and a recipe with an execution: checked before any work, once each part is right by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flows.recipe.execution import Execution
from flows.recipe.recipe import Recipe
from pipeline.documents import DOMAINS
from pipeline.ingest.config import check_identifier
from pipeline.select.possible import possible_components, possible_domains
from pipeline.selection import check_config as check_select
from storage.errors import ConfigError
from storage.strict import choices
from training.config import check_execution, expand_phases, served_phases


def problems_of(recipe: Recipe) -> list[str]:
    """A line for each thing in which the parts disagree: field, value, what is allowed."""
    problems = [problem for check in CHECKS for problem in check(recipe)]
    return problems or _select_problems(recipe)


def _named_problems(recipe: Recipe) -> list[str]:
    """Names of sources that are given twice, and lists that name one which does not exist."""
    names = [source.name for source in recipe.sources]
    problems = [f"sources: the name {name!r} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    lists: dict[str, Iterable[str]] = {
        "domains.labels": recipe.domains.labels,
        "domains.validation_sources": recipe.domains.validation_sources,
        "dedup.url_dedup": recipe.dedup.url_dedup,
        "dedup.line_dedup": recipe.dedup.line_dedup,
        "select.sources": recipe.select.sources,
    }
    if (classifier := recipe.quality.classifier) is not None:
        for field in ("positive_sources", "negative_sources", "validation_positive_sources", "validation_negative_sources"):
            lists[f"quality.classifier.{field}"] = getattr(classifier, field)
    lists["quality.classifier.contrast.sources"] = recipe.quality.contrasted
    for number, component in enumerate(recipe.select.components):
        lists[f"select.components[{number}].sources"] = component.sources or ()
    for field, used in lists.items():
        problems += [f"{field}: no source is named {name!r}{choices(name, names)}" for name in used if name not in names]
    keeping = [source.name for source in recipe.sources if source.keeps_dropped]
    problems += [
        f"quality.classifier.contrast.sources: {name!r} keeps nothing of what extraction leaves out of its pages; "
        "that needs `extractor: blocks` and a dropped_fraction above 0"
        for name in recipe.quality.contrasted
        if name in names and name not in keeping
    ]
    return problems


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
    asked: list[tuple[str, Mapping[str, float], set[str], Sequence[str]]] = [("tokenizer", recipe.tokenizer.shares or {}, domains, DOMAINS)]
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


def _language_problems(recipe: Recipe) -> list[str]:
    """An identifier that is asked for and not installed."""
    if any(source.language is None for source in recipe.sources):
        try:
            check_identifier(recipe.language)
        except ConfigError as error:
            return [str(error)]
    return []


CHECKS = (
    _named_problems,
    _declared_problems,
    _facts_problems,
    _flag_problems,
    _share_problems,
    _mixture_problems,
    _probability_problems,
    _tokenizer_problems,
    _empty_problems,
    _vocabulary_problems,
    _model_problems,
    _held_out_problems,
    _filter_problems,
    _language_problems,
)


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
