"""From which score on a document stays where a class of text has a `min_quality_percentile`. RULE 18.

Scores are counted in fixed bins, one document for each exact group; held-out documents and languages without the percentile are left
out. Counts are whole numbers that add up in any order, so the cut depends neither on partitions nor on workers. The edges of the bins are
exact in 32 bits, as the scores are stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

from pipeline.documents import TEXT_CLASSES, read_beside, read_documents, sources_of
from pipeline.partitions import Output, Results
from pipeline.select.config import Config, ThresholdsByClass
from pipeline.select.decide import text_class_of
from pipeline.select.job import Job, domains_of

BINS = 1024
Counts = dict[str, dict[str, int]]  # text class -> bin -> documents
Cuts = dict[str, dict[str, Any]]  # by text class, see `cuts_of`


def percentiles_of(thresholds: ThresholdsByClass) -> dict[str, float]:
    """The percentile of each text class that has one."""
    found = {text_class: getattr(thresholds, text_class).min_quality_percentile for text_class in TEXT_CLASSES}
    return {text_class: value for text_class, value in found.items() if value is not None}


def counted(classes: Iterable[str], scores: Iterable[float | None]) -> Counts:
    """How many documents of each text class have a score in each bin; a null score is in none."""
    found: dict[str, Counter[str]] = {}
    for text_class, score in zip(classes, scores, strict=True):
        if score is not None:
            found.setdefault(text_class, Counter())[str(min(BINS - 1, int(score * BINS)))] += 1
    return {text_class: dict(sorted(counts.items())) for text_class, counts in sorted(found.items())}


def added(parts: Iterable[Counts]) -> Counts:
    """The counts of several sets of documents together."""
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for text_class, counts in part.items():
            total.setdefault(text_class, Counter()).update(counts)
    return {text_class: dict(counts) for text_class, counts in total.items()}


def cuts_of(counts: Counts, percentiles: Mapping[str, float]) -> Cuts:
    """Of each text class with a percentile: `percentile`, the `score` from which a document stays, and how many `documents` were ranked."""
    return {
        text_class: {
            "percentile": percentile,
            "score": cut(counts.get(text_class, {}), percentile),
            "documents": sum(counts.get(text_class, {}).values()),
        }
        for text_class, percentile in sorted(percentiles.items())
    }


def cut(counts: Mapping[str, int], percentile: float) -> float:
    """The largest edge of a bin below which at most `percentile` percent of the documents lie; 0 without any."""
    total, below = sum(counts.values()), 0
    for place in range(BINS):
        below += counts.get(str(place), 0)
        if 100 * below > percentile * total:
            return place / BINS
    return 0.0


def with_cuts(config: Config, cuts: Mapping[str, Mapping[str, Any]]) -> Config:
    """The configuration with a `min_quality_score` in the place of each percentile."""
    scored = {text_class: getattr(config.thresholds, text_class).at_score(row["score"]) for text_class, row in cuts.items()}
    return config.model_copy(update={"thresholds": config.thresholds.model_copy(update=scored)})


def ranked(ids: Sequence[bytes], exact_ids: Sequence[bytes], splits: Sequence[str]) -> list[bool]:
    """Which documents are ranked: the smallest of each exact group, where it is not held out."""
    return [name == exact and split != "held_out" for name, exact, split in zip(ids, exact_ids, splits, strict=True)]


def rank(job: Job, part: int, output: Output) -> None:
    """Count the quality scores of the text classes of a partition."""
    found = []
    for source in sources_of(job.inputs):
        documents = read_documents(job.store, job.inputs[f"documents.{source}"], part, ["id", "language", "language_probability"])
        clusters = read_beside(job.store, job.inputs["clusters"], source, part, documents["id"], ["exact_id", "split"])
        scores = read_beside(job.store, job.inputs["quality"], source, part, documents["id"], ["quality_score"])["quality_score"]
        classes = [text_class_of(job.config.sources[source], domain) for domain in domains_of(job, source, part, documents)[0]]
        sets = [getattr(job.config.thresholds, text_class) for text_class in classes]
        is_cut = [
            thresholds.of_language(language).min_quality_percentile is not None
            for thresholds, language in zip(sets, documents["language"].to_pylist(), strict=True)
        ]
        first = ranked(*(clusters[name].to_pylist() for name in ("id", "exact_id", "split")))
        chosen = [is_first and is_asked for is_first, is_asked in zip(first, is_cut, strict=True)]
        found.append(counted(compress(classes, chosen), compress(scores.to_pylist(), chosen)))
    output.note = added(found)


def cuts_by_class(job: Job, results: Results) -> Cuts:
    """The cuts that follow from what the groups of the step `rank` counted."""
    return cuts_of(added(result.note for result in results["rank"]), percentiles_of(job.config.thresholds))
