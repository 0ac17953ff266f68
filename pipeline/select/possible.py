"""Which domains and components the documents of a recipe can be in, known before any is read. RULE 17.

What is not in these sets cannot occur; what is in them may still turn out to be empty, as that is for the data to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pipeline.language_tags import covers
from pipeline.select.config import Component, Config
from pipeline.select.decide import GENERAL, MULTILINGUAL


def possible_domains(declared: str | None, language: str | None, labels: Collection[str], primary_language: str) -> set[str]:
    """The domains that `decide.domain_of` can give to a source's documents.

    `declared` and `language` are what the source declares; `labels` are the domains that the classifier knows. A document without a vote is
    general, one of the primary language is never multilingual, and one whose language is not declared may be in any.
    """
    if declared is not None:
        return {declared}
    found = {GENERAL, *labels, MULTILINGUAL}
    return found - {MULTILINGUAL} if language is not None and covers(primary_language, language) else found


def possible_components(config: Config, languages: Mapping[str, str | None], labels: Collection[str]) -> set[str]:
    """The components that `decide.component_of` can give to documents of `config.sources`. `languages` by source, as it declares them."""
    found = set[str]()
    for source, facts in config.sources.items():
        language = languages.get(source)
        for domain in possible_domains(facts.domain, language, labels, config.primary_language):
            for component in config.components:
                if _may_take(component, domain, source, language, labels):
                    found.add(component.name)
                    if _takes_all(component, language):
                        break
            else:
                found.add(domain)
    return found


def _may_take(component: Component, domain: str, source: str, language: str | None, labels: Collection[str]) -> bool:
    minimum = component.min_domain_probability
    return (
        component.domain == domain
        and (component.sources is None or source in component.sources)
        and (component.languages is None or language is None or any(covers(wanted, language) for wanted in component.languages))
        and (minimum is None or minimum <= 0 or domain in labels)  # 0 is the probability of a domain that the classifier does not know
    )


def _takes_all(component: Component, language: str | None) -> bool:
    """Whether a component that may take a source's documents of its domain leaves none of them to the next."""
    unscored = component.min_quality_score is None and component.min_domain_probability is None
    return unscored and (component.languages is None or language is not None)
