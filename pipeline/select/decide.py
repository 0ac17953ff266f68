"""What one document is: its domain, the set of thresholds that holds for it, its component. Pure functions. RULE 17."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.documents import DOMAINS
from pipeline.domains.thresholds import claimed
from pipeline.language_tags import UNKNOWN, covers
from pipeline.select.config import Component, Config, SourceFacts

GENERAL, MULTILINGUAL = "general", "multilingual"


def domain_of(
    facts: SourceFacts,
    language: str,
    language_probability: float,
    probabilities: Mapping[str, float | None],
    config: Config,
    proposed: Mapping[str, float] | None = None,
) -> str:
    """Declared by the source; else code or math, where its probability reaches its threshold; else multilingual, by the language; else the
    likelier of the rest, which is never multilingual for the primary language.

    `probabilities` by domain; null for a document without a known word, which has no vote: general. `proposed`: thresholds of code and
    math, where the recipe gives none.
    """
    if facts.domain is not None:
        return facts.domain
    known = {domain: value for domain in DOMAINS if (value := probabilities[domain]) is not None}
    if found := claimed(known, config.domain_thresholds(proposed or {})):
        return found
    is_primary = covers(config.primary_language, language)
    if not is_primary and language != UNKNOWN and language_probability > config.min_foreign_language_probability:
        return MULTILINGUAL
    if is_primary:
        return GENERAL
    return MULTILINGUAL if known.get(MULTILINGUAL, 0.0) > known.get(GENERAL, 0.0) else GENERAL


def text_class_of(facts: SourceFacts, domain: str) -> str:
    """Which set of thresholds holds: `web` for WARC and ARC unless the domain is code, math or multilingual; else the domain."""
    return "web" if facts.is_web and domain == GENERAL else domain


def component_of(
    components: tuple[Component, ...],
    domain: str,
    source: str,
    language: str,
    quality_score: float | None,
    domain_probability: float | None,
) -> str:
    """The first component whose conditions the document meets, else its domain's own. A null score meets no condition on it."""
    for component in components:
        if (
            component.domain == domain
            and (component.sources is None or source in component.sources)
            and (component.languages is None or any(covers(wanted, language) for wanted in component.languages))
            and _reaches(quality_score, component.min_quality_score)
            and _reaches(domain_probability, component.min_domain_probability)
        ):
            return component.name
    return domain


def _reaches(value: float | None, minimum: float | None) -> bool:
    return minimum is None or (value is not None and value >= minimum)
