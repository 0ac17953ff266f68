"""What happened to a document, and which documents a training step saw. Both directions are arithmetic on the plan (RULE 27)."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flows.graph.differences import made_with_digest
from flows.graph.runs import Run
from flows.graph.staleness import TRAINING as TRAINING  # others find it here
from flows.graph.staleness import stale_artifacts
from pipeline.coverage import verdicts
from pipeline.dedup.url import UrlConfig, normalize_url
from pipeline.documents import (
    Edit,
    apply_edits,
    part_name,
    partition_of,
    parts_of,
    read_documents,
)
from pipeline.ingest.documents import QUARANTINE_FILE
from pipeline.quality.thresholds import ClassThresholds, bounds
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.tables import read_table
from storage.token_shards import TokenStream, stream_names
from training.mix import order_of, read_plan
from training.order import Order

ID_DIGITS = 32
MAX_CANDIDATES = 5


@dataclass(frozen=True)
class Place:
    """Where a document's row is: its source, partition, and row in the partition."""

    id: bytes
    source: str
    part: int
    row: int


@dataclass(frozen=True)
class Seen:
    """One sample that holds tokens of a document."""

    stage: str
    step: int
    sample: int
    epoch: int


@dataclass(frozen=True)
class Tokens:
    """Where a document's tokens lie: tokens `start` to `end` (exclusive) of the stream `split`/`name`."""

    split: str
    name: str
    start: int
    end: int
    n_bytes: int


@dataclass(frozen=True)
class Copy:
    """A document that another lost to, by `same` (its URL, its text, or nearly its text, with the Jaccard similarity where it is known);
    `reason` why it was dropped in turn, None where it is kept."""

    id: bytes
    source: str
    same: str
    similarity: float | None
    reason: str | None


@dataclass(frozen=True)
class FedDocument:
    """A document that a sample holds tokens of; `start` and `end` are tokens of the component's stream."""

    sample: int
    component: str
    id: bytes
    start: int
    end: int


def parse_id(text: str) -> str:
    """An id, or its first digits, as lower-case hexadecimal. Raises ConfigError."""
    digits = text.strip().lower()
    if not digits or len(digits) > ID_DIGITS or set(digits) - set(string.hexdigits):
        raise ConfigError(f"{text!r} is no document id: 1 to {ID_DIGITS} hexadecimal digits")
    return digits


def find_document(run: Run, text: str) -> Place:
    """The document whose id is, or begins with, `text`. Raises ConfigError when there is none or several, naming those."""
    digits = parse_id(text)
    low = bytes.fromhex(digits.ljust(ID_DIGITS, "0"))
    high = bytes.fromhex(digits.ljust(ID_DIGITS, "f"))
    found: list[Place] = []
    for source, documents in _documents(run).items():
        parts = parts_of(documents)
        for part in range(partition_of(low, parts), partition_of(high, parts) + 1):
            ids = read_documents(run.store, documents, part, ["id"]).column("id").to_pylist()
            found += [Place(id, source, part, row) for row, id in enumerate(ids) if low <= id <= high]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(place.id.hex() for place in found[:MAX_CANDIDATES]) + (", …" if len(found) > MAX_CANDIDATES else "")
        raise ConfigError(f"{len(found)} documents of run {run.name} begin with {digits}: {names}")
    quarantined = list(_quarantined(run, low, high))
    if quarantined:
        raise ConfigError("\n".join(quarantined))
    raise ConfigError(f"run {run.name} has no document {digits}")


def documents_of_url(run: Run, url: str) -> list[Place]:
    """Every document of the page `url`, over all sources: equal as written or as deduplication normalises. Raises ConfigError for none."""
    config = UrlConfig(**run.recipe.get("dedup", {}).get("url", {}))
    asked, found = normalize_url(url, config), []
    for source, documents in _documents(run).items():
        for part in range(parts_of(documents)):
            table = read_documents(run.store, documents, part, ["id", "url"])
            rows = enumerate(zip(table.column("id").to_pylist(), table.column("url").to_pylist(), strict=True))
            found += [Place(id, source, part, row) for row, (id, value) in rows if value and _is_page(value, url, asked, config)]
    if not found:
        raise ConfigError(f"run {run.name} has no document with the URL {url}" + (f" (normalised: {asked})" if asked else ""))
    return found


def _is_page(value: str, url: str, normalised: str | None, config: UrlConfig) -> bool:
    return value == url or (normalised is not None and normalize_url(value, config) == normalised)


def _documents(run: Run) -> dict[str, Manifest]:
    manifests = run.manifests("documents")
    if not manifests:
        raise ConfigError(f"run {run.name} has no documents yet: caravan run --to ingest")
    return manifests


def _quarantined(run: Run, low: bytes, high: bytes) -> Iterator[str]:
    for source, origins in run.manifests("origins").items():
        for row in read_table(run.store, origins, QUARANTINE_FILE).to_pylist():
            if row["id"] is not None and low <= row["id"] <= high:
                yield f"{row['id'].hex()} of {source} is quarantined: {row['reason']} ({row['file']} at {row['offset']}) {row['detail']}"


def explain(run: Run, place: Place) -> dict[str, Any]:
    """Everything known of a document, by the stage that found it out.

    A stage that has not run is left out; one that ran on other documents of its source than the run has now is None.
    """
    document = read_documents(run.store, _documents(run)[place.source], place.part).slice(place.row, 1).to_pylist()[0]
    facts: dict[str, Any] = {"document": document, "origins": _origins(run, place)}
    for stage in ("dedup", "quality", "domains", "select"):
        if (manifest := run.manifest(stage)) is not None:
            facts[stage] = _row(run, manifest, part_name(place.part, place.source), place)
    if facts.get("dedup"):
        lines = _row(run, run.need("dedup"), f"spans/{part_name(place.part, place.source)}", place)
        facts["dedup"]["lines"] = lines and lines["lines"]
    facts["lost_to"] = _lost_to(run, facts.get("select"))
    if facts.get("select") and facts.get("quality"):
        signals = {**facts["quality"], "language_probability": document["language_probability"]}
        facts["bound"] = _broken_bound(run, facts["select"], signals, document["language"])
    if facts.get("select"):
        edits = [Edit(**edit) for edit in facts["select"]["edits"]]
        facts["edited_text"] = apply_edits(document["text"], edits)
    if facts.get("select") and facts["select"]["keep"] and facts["select"]["split"] == "held_out" and run.manifest("coverage"):
        facts["coverage"] = _verdict(run, place)
    if run.manifest("tokenize") is not None:
        facts["tokens"] = locate(run, place.id)
        facts["seen"] = list(seen_by(run, place.id))
    facts["stale"] = stale_artifacts(run)
    return facts


def _broken_bound(run: Run, row: Mapping[str, Any], signals: Mapping[str, Any], language: str) -> str | None:
    """The value beside the threshold by which select dropped a document: `gopher_word_count 42 < min 50`; None for other reasons."""
    selection = run.need("select")
    thresholds = ClassThresholds.model_validate(selection.payload["config"]["thresholds"][row["text_class"]])
    if thresholds.min_quality_percentile is not None:
        cuts = json.loads(read_verified(run.store, selection, "funnel.json"))["quality_cuts"]
        thresholds = thresholds.at_score(cuts[row["text_class"]]["score"])
    for signal, is_minimum, value, reason in bounds(thresholds.of_language(language)):
        found = signals.get(signal)
        if reason == row["reason"] and found is not None and (found < value if is_minimum else found > value):
            return f"{signal} {_number(found)} {'< min' if is_minimum else '> max'} {_number(value)}"
    return None


def _number(value: float) -> str:
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def _lost_to(run: Run, row: Mapping[str, Any] | None) -> list[Copy]:
    """Of a document that lost to a copy: the one that it lost to, the one that this one lost to, and so on.

    `row`: the document's row of select. It ends at a document that was read anew since.
    """
    found = list[Copy]()
    while row is not None and row["duplicate_of"] is not None:
        try:
            place = find_document(run, row["duplicate_of"].hex())
        except ConfigError:
            break
        other = _row(run, run.need("select"), part_name(place.part, place.source), place)
        if other is None:
            break
        found.append(Copy(place.id, place.source, row["reason"], row["similarity"], other["reason"]))
        row = other
    return found


def drop_reason(run: Run, place: Place) -> str | None:
    """Why `select` dropped a document; None when it kept it, or judged other documents."""
    row = _row(run, run.need("select"), part_name(place.part, place.source), place)
    return row["reason"] if row else None


def _row(run: Run, manifest: Manifest, name: str, place: Place) -> dict[str, Any] | None:
    """The document's row of a table, or None where the table was made of other documents: a place holds only if the ids agree (RULE 5)."""
    if manifest.payload["inputs"].get(f"documents.{place.source}") != _documents(run)[place.source].digest:
        return None
    row: dict[str, Any] = read_table(run.store, manifest, name).slice(place.row, 1).to_pylist()[0]
    if row["id"] != place.id:
        raise IntegrityError(f"{manifest.root}/{name}", expected=f"{place.id.hex()} in row {place.row}", actual=row["id"].hex())
    return row


def _verdict(run: Run, place: Place) -> dict[str, Any] | None:
    """The row of `coverage` about a held-out document; None where it judged other documents."""
    manifest = run.need("coverage")
    if manifest.payload["inputs"].get(f"documents.{place.source}") != _documents(run)[place.source].digest:
        return None
    return next((row for row in verdicts(run.store, manifest, place.part).to_pylist() if row["id"] == place.id), None)


def _origins(run: Run, place: Place) -> list[dict[str, Any]]:
    manifest = run.manifest(f"origins/{place.source}")
    if manifest is None:
        return []
    return [row for row in read_table(run.store, manifest, part_name(place.part)).to_pylist() if row["id"] == place.id]


def locate(run: Run, document: bytes) -> Tokens | None:
    """Where a document's tokens lie in the run's shards, or None when it was not kept, or is held out and not evaluated."""
    found, held_out = _locate(run, run.need("tokenize"), "train", document), run.manifest("held_out_tokens")
    return found if found or held_out is None else _locate(run, held_out, "held_out", document)


def _locate(run: Run, tokens: Manifest, split: str, document: bytes) -> Tokens | None:
    for name in stream_names(tokens, split):
        span = TokenStream(run.store, tokens, f"{split}/{name}").locate(document)
        if span is not None:
            return Tokens(split, name, span.start, span.end, span.n_bytes)
    return None


def _tokens_of(run: Run, stage: str) -> Manifest:
    """The shards that a stage's plan counts in: after a run in part not the run's own. Raises ConfigError when they are gone."""
    asked, tokens = run.need(f"mix/{stage}").payload["inputs"]["tokens"], run.need("tokenize")
    found = tokens if tokens.digest == asked else made_with_digest(run.store, "tokens", asked)
    if found is None:
        raise ConfigError(f"the shards that the plan of {stage} was made from are gone: caravan run --to mix")
    return found


def order_in(run: Run, stage: str) -> Order:
    """The order of training data of a stage. Raises ConfigError when the run has no plan for it."""
    return order_of(read_plan(run.store, run.need(f"mix/{stage}")))


def seen_by(run: Run, document: bytes) -> Iterator[Seen]:
    """Every sample of every planned training stage that holds tokens of a document."""
    places = dict[str, Tokens | None]()
    for stage in TRAINING:
        if f"mix/{stage}" in run.artifacts:
            tokens = _tokens_of(run, stage)
            if tokens.digest not in places:
                places[tokens.digest] = _locate(run, tokens, "train", document)
            place = places[tokens.digest]
            if place is None:
                continue
            order = order_in(run, stage)
            for index in order.samples_of(place.name, place.start, place.end):
                sample = order.sample(index)
                yield Seen(stage, sample.step, index, sample.epoch)


def documents_of_step(run: Run, stage: str, step: int) -> list[FedDocument]:
    """The documents that an optimizer step (from 0) of a training stage sees, by sample. Raises ConfigError for a step it has not."""
    order, tokens = order_in(run, stage), _tokens_of(run, stage)
    if not 0 <= step < order.n_steps:
        raise ConfigError(f"{stage} has steps 0 to {order.n_steps - 1}, not {step}")
    streams: dict[str, TokenStream] = {}
    found = []
    for index in range(order.first_sample(step), order.first_sample(step + 1)):
        sample = order.sample(index)
        if sample.component not in streams:
            streams[sample.component] = TokenStream(run.store, tokens, f"train/{sample.component}")
        for span in streams[sample.component].documents(sample.start, sample.end - 1):
            start, end = max(span.start, sample.start), min(span.end, sample.end - 1)
            found.append(FedDocument(index, sample.component, span.id, start, end))
    return found
