"""What one document is: its domain, the set of thresholds that holds for it, its component. Pure functions. RULE 17."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.documents import DOMAINS
from pipeline.language_tags import UNKNOWN, covers
from pipeline.select.config import Component, Config, SourceFacts

GENERAL, CODE, MULTILINGUAL = "general", "code", "multilingual"


def domain_of(
    facts: SourceFacts, language: str, language_probability: float, probabilities: Mapping[str, float | None], config: Config
) -> str:
    """Declared by the source; else code, by the classifier; else multilingual, by the language; else the classifier's choice.

    `probabilities` by domain; null where the document trained the classifier or is empty, which counts as no choice: general.
    """
    if facts.domain is not None:
        return facts.domain
    known = {domain: value for domain in DOMAINS if (value := probabilities[domain]) is not None}
    choice = max(known, key=lambda domain: known[domain]) if known else GENERAL
    if choice == CODE and known[CODE] >= config.min_code_probability:
        return CODE
    foreign = language != UNKNOWN and not covers(config.primary_language, language)
    if foreign and language_probability > config.min_foreign_language_probability:
        return MULTILINGUAL
    if choice == CODE:
        return max((domain for domain in known if domain != CODE), key=lambda domain: known[domain])
    return choice


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
