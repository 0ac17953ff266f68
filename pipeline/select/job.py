"""What every group of work of select is bound to."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipeline.documents import DOMAINS, read_beside
from pipeline.domains.thresholds import FILE as THRESHOLDS_FILE
from pipeline.select.config import Config
from pipeline.select.decide import domain_of
from storage.artifact import Manifest, read_verified
from storage.store import Store


@dataclass(frozen=True)
class Job:
    """What every group is bound to."""

    store: Store
    inputs: Mapping[str, Manifest]
    config: Config

    @functools.cached_property
    def proposed(self) -> dict[str, float]:
        """The thresholds of code and mathematics that the stage domains proposes; none where it has no classifier."""
        domains = self.inputs["domains"]
        found = json.loads(read_verified(self.store, domains, THRESHOLDS_FILE)) if THRESHOLDS_FILE in domains.names() else {}
        return {domain: row["threshold"] for domain, row in found.items()}

    @property
    def min_jaccard(self) -> float:
        """The similarity from which dedup calls two documents near duplicates."""
        return float(self.inputs["clusters"].payload["config"]["minhash"]["min_jaccard"])


def domains_of(job: Job, source: str, part: int, documents: pa.Table) -> tuple[list[str], list[dict[str, float | None]]]:
    """The domain of each document of a partition, and its probabilities by domain."""
    table = read_beside(job.store, job.inputs["domains"], source, part, documents["id"])
    rows = [{domain: row[f"p_{domain}"] for domain in DOMAINS} for row in table.to_pylist()]
    facts = job.config.sources[source]
    given = zip(documents["language"].to_pylist(), documents["language_probability"].to_pylist(), rows, strict=True)
    return [domain_of(facts, language, probability, row, job.config, job.proposed) for language, probability, row in given], rows
