"""Everything that decides: thresholds per text class and language, survivors, components, edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.domains.config import Domain
from pipeline.domains.thresholds import MIN_PROPOSED
from pipeline.language_tags import LanguageTag
from pipeline.quality.thresholds import ClassThresholds
from storage.strict import LATER, Strict

Policy = Literal["newest", "longest", "best_quality", "preferred_source"]
TextClass = Literal["web", "general", "math", "code", "multilingual"]


class SourceFacts(Strict):
    """What the recipe says of a source."""

    domain: Domain | None = Field(None, description="declared domain; None = decided per document")
    is_web: bool = Field(description="WARC and ARC: text class `web` unless the domain is code, math or multilingual")
    priority: int = Field(0, description="policy preferred_source keeps the document of the largest")


class ThresholdsByClass(Strict):
    """A set of thresholds per text class; what a set does not name is off, and a class that is not named has an empty set."""

    web: ClassThresholds = Field(default_factory=ClassThresholds)
    general: ClassThresholds = Field(default_factory=ClassThresholds)
    math: ClassThresholds = Field(default_factory=ClassThresholds)
    code: ClassThresholds = Field(default_factory=ClassThresholds)
    multilingual: ClassThresholds = Field(default_factory=ClassThresholds)


class Survivors(Strict):
    """Who stays of documents with one URL, one text, or nearly one text; ties go to the smallest id."""

    url: Policy = Field("newest", description="Llama 3 keeps the newest page of a URL")
    exact: Policy = Field("newest")
    near: Policy = Field("longest")
    max_kept_compared: Annotated[int, LATER] = Field(
        1000, ge=1, description="once more than that stay of one near group, the rest is compared by verified edges alone"
    )


class Component(Strict):
    """A named subset of a domain for mixtures; a document enters the first whose conditions it meets, else the one named as its domain."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    domain: Domain
    min_quality_score: float | None = Field(None, description="a null score does not meet it")
    min_domain_probability: float | None = Field(None, description="probability of `domain`; a null one does not meet it")
    sources: tuple[str, ...] | None = Field(None, description="None = any")
    languages: tuple[LanguageTag, ...] | None = Field(None, description="BCP 47 tags: zh covers zh-Hant; None = any")


class PiiReplacements(Strict):
    """What stands in for an address. The defaults are reserved for documentation (RFC 2606, 5737, 3849)."""

    email: str = Field("email@example.com", min_length=1)
    ipv4: str = Field("192.0.2.1", min_length=1)
    ipv6: str = Field("2001:db8::1", min_length=1)
    text_classes: tuple[TextClass, ...] = Field(
        ("web", "general", "math", "multilingual"),
        description="classes whose text is edited; () = off; without code, where an address is oftener a value that a program needs",
    )


class LineRemoval(Strict):
    """Where repeated lines are removed. In code and mathematics a line that many texts share is seldom boilerplate (RULE 15)."""

    text_classes: tuple[TextClass, ...] = Field(("web", "general", "multilingual"), description="classes whose lines are removed; () = off")


class Config(Strict):
    """Configuration of the stage `select`."""

    sources: dict[str, SourceFacts]
    thresholds: ThresholdsByClass
    survivors: Survivors = Field(default_factory=Survivors)
    components: tuple[Component, ...] = ()
    min_item_coverage: Annotated[float, LATER] = Field(
        0.5, gt=0, le=1, description="a document that covers so much of an item of an evaluation task is dropped (RULE 33)"
    )
    primary_language: LanguageTag = Field("en", description="BCP 47 tag; what it does not cover is multilingual (RULE 17)")
    min_foreign_language_probability: float = Field(0.65, ge=0, le=1, description="above it a document in another language is multilingual")
    min_code_probability: float | None = Field(
        None, ge=0, le=1, description="from here a document is code; None = as the stage domains proposes"
    )
    min_math_probability: float | None = Field(
        None, ge=0, le=1, description="from here a document is mathematics; None = as the stage domains proposes"
    )
    lines: Annotated[LineRemoval, LATER] = Field(default_factory=LineRemoval)
    pii: PiiReplacements = Field(default_factory=PiiReplacements)
    min_held_out_size_bytes: dict[Domain, int] = Field({}, description="kept held-out bytes that a domain must have (RULE 13)")
    samples_per_reason: int = Field(3, ge=0, description="documents per source and reason named in samples.json, by keyed hash")

    def domain_thresholds(self, proposed: Mapping[str, float]) -> dict[str, float]:
        """The probability from which a document is code, or mathematics: given here, else proposed, else what MIN_PROPOSED says."""
        given = {"math": self.min_math_probability, "code": self.min_code_probability}
        return {domain: proposed.get(domain, MIN_PROPOSED) if value is None else value for domain, value in given.items()}

    @field_validator("components")
    @classmethod
    def _names_differ(cls, components: tuple[Component, ...]) -> tuple[Component, ...]:
        names = [component.name for component in components]
        taken = [name for name in names if names.count(name) > 1 or name in ("general", "math", "code", "multilingual")]
        if taken:
            raise ValueError(f"components: the name {taken[0]!r} is taken (names differ, and a domain's name is its default component)")
        return components
