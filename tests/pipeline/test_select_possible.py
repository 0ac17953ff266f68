"""What can occur before any document is read: whatever select decides of a document was among it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domains.config import Domain
from pipeline.select.config import Component, Config, SourceFacts, ThresholdsByClass
from pipeline.select.decide import component_of, domain_of
from pipeline.select.possible import possible_components, possible_domains

DOMAINS = get_args(Domain)
LANGUAGES = ("en", "de", "zh", "zh-Hant", "no", "nb", "und")
maybe = st.one_of(st.none(), st.floats(0, 1, width=32))


def config_of(*components: Component, **domains: Any) -> Config:
    """A configuration for sources that declare these domains, none for None."""
    facts = {name: SourceFacts(domain=domain, is_web=False) for name, domain in domains.items()}
    return Config(sources=facts, thresholds=ThresholdsByClass(), components=components)


@pytest.mark.parametrize(
    ("declared", "language", "labels", "possible"),
    [
        ("math", None, (), {"math"}),
        (None, "en", ("math", "code"), {"general", "math", "code"}),
        (None, None, ("math", "code"), {"general", "math", "code", "multilingual"}),
        (None, "de", ("math", "code"), {"general", "math", "code", "multilingual"}),
        (None, "en-GB", ("math", "code"), {"general", "math", "code"}),
    ],
)
def test_the_domains_of_a_source(declared: str | None, language: str | None, labels: tuple[str, ...], possible: set[str]) -> None:
    """Declared: that one. Else what the classifier knows, and multilingual where the language may be another."""
    assert possible_domains(declared, language, labels, "en") == possible


def component(name: str, **conditions: Any) -> Component:
    """A component of the domain general."""
    return Component(**{"name": name, "domain": "general", **conditions})


@pytest.mark.parametrize(
    ("components", "possible"),
    [
        ([], {"general", "math"}),
        ([component("all")], {"all", "math"}),  # nothing is left for general
        ([component("all"), component("late")], {"all", "math"}),
        ([component("good", min_quality_score=0.5)], {"good", "general", "math"}),
        ([component("some", sources=("tables",))], {"general", "math"}),  # tables are math
        ([component("english", languages=("en",))], {"english", "math"}),
        ([component("german", languages=("de",))], {"general", "math"}),
        ([component("sure", min_domain_probability=0.5)], {"general", "math"}),  # the classifier, that there is none of, gives 0
        ([component("codes", domain="code")], {"general", "math"}),
    ],
)
def test_the_components_of_two_sources(components: list[Component], possible: set[str]) -> None:
    """`essays` are general and English, `tables` are math."""
    config = config_of(*components, essays="general", tables="math")
    assert possible_components(config, {"essays": "en", "tables": None}, ()) == possible


components_of_all_kinds = st.lists(
    st.fixed_dictionaries(
        {
            "domain": st.sampled_from(DOMAINS),
            "min_quality_score": maybe,
            "min_domain_probability": maybe,
            "sources": st.one_of(st.none(), st.lists(st.sampled_from(["a", "b"]), max_size=2)),
            "languages": st.one_of(st.none(), st.lists(st.sampled_from(LANGUAGES), max_size=2)),
        }
    ),
    max_size=3,
).map(lambda rows: [Component.model_validate({"name": f"c{number}", **row}) for number, row in enumerate(rows)])


@given(
    components=components_of_all_kinds,
    declared=st.one_of(st.none(), st.sampled_from(DOMAINS)),
    declared_language=st.one_of(st.none(), st.sampled_from(LANGUAGES)),
    labels=st.one_of(st.just(()), st.lists(st.sampled_from(DOMAINS), min_size=2, unique=True)),
    scores=st.one_of(st.none(), st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)),
    language=st.sampled_from(LANGUAGES),
    language_probability=st.floats(0, 1, width=32),
    quality_score=maybe,
)
def test_what_select_decides_was_possible(
    components: list[Component],
    declared: str | None,
    declared_language: str | None,
    labels: list[str],
    scores: list[float] | None,
    language: str,
    language_probability: float,
    quality_score: float | None,
) -> None:
    """For every recipe and every document: a share that is refused could have had no document."""
    config = config_of(*components, a=declared, b="math")
    known = dict(zip(DOMAINS, scores, strict=True)) if scores and labels else dict.fromkeys(DOMAINS)
    probabilities = {domain: value if value is None or domain in labels else 0.0 for domain, value in known.items()}
    said = (declared_language, 1.0) if declared_language else (language, language_probability)
    domain = domain_of(config.sources["a"], *said, probabilities, config)
    found = component_of(config.components, domain, "a", said[0], quality_score, probabilities[domain])
    assert domain in possible_domains(declared, declared_language, labels, "en")
    assert found in possible_components(config, {"a": declared_language, "b": None}, labels)
