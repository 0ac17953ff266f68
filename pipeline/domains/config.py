"""What bears on the domain probabilities."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.domains.logistic import LogisticConfig
from storage.strict import Strict

Domain = Literal["general", "math", "code", "multilingual"]


class Config(Strict):
    """Configuration of the stage `domains`: which sources teach which domain. RULE 16."""

    labels: dict[str, Domain] = Field(
        {}, description="domain of each source that trains; {} = no classifier: every source declares its own"
    )
    validation_sources: dict[str, Domain] = Field({}, description="domain of whole sources kept out, on which accuracy is measured")
    train_fraction: float = Field(1.0, gt=0, le=1, description="share of the label sources' clusters, by keyed hash, that train")
    piece_chars: int = Field(1200, ge=100, description="characters of one piece of a document; a longer one is read in several")
    max_pieces: int = Field(6, ge=1, description="pieces of one document that are read at most, spread over it")
    max_examples: int = Field(12, ge=1, description="examples of one document that train at most, a sixth to two and a half pieces long")
    max_label_ratio: float = Field(4.0, ge=1, description="examples of a label at most, as a multiple of the rarest label's")
    logistic: LogisticConfig = Field(default_factory=LogisticConfig)
    seed: int = Field(0, description="keys the hash that chooses clusters")

    @model_validator(mode="after")
    def _sources_are_apart(self) -> Config:
        both = sorted(set(self.labels) & set(self.validation_sources))
        if both:
            raise ValueError(f"domains.validation_sources: {both} train the classifier; a source kept out must be whole")
        if len(set(self.labels.values())) == 1:
            raise ValueError(
                f"domains.labels: {sorted(set(self.labels.values()))} is one domain; a classifier needs at least two"
                " (none is trained without labels: every source declares its `domain` then)"
            )
        if self.validation_sources and not self.labels:
            raise ValueError("domains.validation_sources: there is no classifier to measure without domains.labels")
        return self
