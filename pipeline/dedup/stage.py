"""dedup: which documents are the same page, the same text, nearly the same text; what is held out; which lines repeat. RULES 13 to 15, 19.

Writes beside the documents of every source, one row per document in their order:
    <source>/part-%05d.parquet         schema CLUSTERS: cluster_id, exact_id, url_id, near_id, split
    spans/<source>/part-%05d.parquet   schema LINE_SPANS: byte spans of repeated lines; empty where line deduplication is off

It decides nothing: every document is in both tables, and select chooses survivors by policy. Steps, with files between them:

    keys → groups                               exact texts and normalised URLs, grouped in partitions of their keys
    bands → candidates → shingles → verify      near duplicates (near.py)
    components → clusters                       connected components over all edges; the clusters table
    line_counts → frequent_lines → spans        repeated lines (lines.py), once per cluster

There are as many partitions of keys as of documents, so memory is bounded by a partition; `components` alone sees all edges (clusters.py).
Everything depends on ids and texts only: the bytes are the same for any cut of the input and any number of workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipeline.dedup.clusters import COMPONENT, EDGE, components, lookup
from pipeline.dedup.exact import text_key
from pipeline.dedup.lines import LINE, LinesConfig, bucket_of, frequent, line_keys, spans
from pipeline.dedup.minhash import MinHashConfig
from pipeline.dedup.near import Near, bands, candidates, send_shingles, verify
from pipeline.dedup.shuffle import (
    Records,
    Sections,
    join_ids,
    key_section,
    read_records,
    records,
    sections_of,
    sort_records,
    split_bytes,
    split_ids,
    starts_of,
    unique_records,
    write_records,
)
from pipeline.dedup.url import UrlConfig, url_key
from pipeline.documents import CLUSTERS, LINE_SPANS, keyed_fraction, part_name, parts_of, read_documents, sources_of, texts_of
from pipeline.partitions import GroupResult, Output, Results, RunGroups, Step, map_groups, run_stage
from storage.artifact import FileEntry, Manifest, read_entry
from storage.errors import ConfigError
from storage.store import Store
from storage.strict import Strict
from storage.tables import parse_table

NAME = "dedup"
VERSION = 3

KEY = np.dtype([("key_hi", "<u8"), ("key_lo", "<u8"), ("hi", "<u8"), ("lo", "<u8")])  # hash of a text or URL, document
FREQUENT = np.dtype([("key", "<u8")])  # key of a line
COUNTED = np.dtype([*LINE.descr, ("part", "<u8")])  # a line and the partition that has it


class Config(Strict):
    """Everything of deduplication that bears on its tables."""

    url_dedup: dict[str, bool] = Field(description="source name -> whether equal normalised URLs make its documents one cluster")
    line_dedup: dict[str, bool] = Field(description="source name -> whether its repeated lines are counted and removed")
    url: UrlConfig = Field(default_factory=UrlConfig, description="normalisation of URLs")
    minhash: MinHashConfig = Field(default_factory=MinHashConfig, description="near duplicates")
    lines: LinesConfig = Field(default_factory=LinesConfig, description="repeated lines")
    held_out_fraction: float = Field(ge=0, lt=1, description="fraction of clusters that is held out for evaluation")
    split_key: str = Field(
        "held out", min_length=1, description="key of the hash that chooses held-out clusters; another key, another choice"
    )


@dataclass(frozen=True)
class Job:
    """What every group is bound to; small and picklable."""

    store: Store
    sources: dict[str, Manifest]
    config: Config
    partitions: int

    @property
    def near(self) -> Near:
        """The part that the near-duplicate search needs."""
        return Near(self.store, self.sources, self.config.minhash, self.partitions)


def run(
    *, store: Store, config: Config, inputs: dict[str, Manifest], run_groups: RunGroups = map_groups, info: dict[str, Any] | None = None
) -> Manifest:
    """Deduplicate the `documents.<source>` of `inputs` against each other.

    Raises ConfigError when `url_dedup` or `line_dedup` name other sources than `inputs`, or the sources have different numbers of
    partitions; IntegrityError when bytes do not match their manifest.
    """
    job = Job(store, sources_of(inputs), config, _partitions(config, sources_of(inputs)))
    return run_stage(
        store=store,
        stage=NAME,
        version=VERSION,
        config=config,
        inputs=inputs,
        steps=_steps(job),
        run_groups=run_groups,
        info=info,
        check=_check_counters,
    )


def _partitions(config: Config, sources: Mapping[str, Manifest]) -> int:
    for field, flags in (("url_dedup", config.url_dedup), ("line_dedup", config.line_dedup)):
        if set(flags) != set(sources):
            raise ConfigError(f"dedup.{field}: names {sorted(flags)}, but the sources are {sorted(sources)}")
    counts = {name: parts_of(documents) for name, documents in sources.items()}
    if len(set(counts.values())) != 1:
        raise ConfigError(f"dedup: all sources need one number of partitions, found {counts}")
    return next(iter(counts.values()))


def _steps(job: Job) -> list[Step]:
    """The graph of the stage: what each group of a step reads comes from the results of the steps above it."""
    parts, near = range(job.partitions), job.near

    def each(*files: tuple[str, str]) -> Any:
        """A group per partition: (partition, the files of each (step, kind), ...)."""
        return lambda results: [(p, *(sections_of(results[step], kind) for step, kind in files)) for p in parts]

    return [
        Step("keys", lambda _: list(parts), partial(_keys, job), final=False),
        Step("groups", each(("keys", "exact_keys"), ("keys", "url_keys")), partial(_groups, job), final=False),
        Step("bands", each(("groups", "exact_edges")), partial(bands, near), final=False),
        Step("candidates", each(("bands", "bands")), partial(candidates, near), final=False),
        Step("shingles", each(("candidates", "requests")), partial(send_shingles, near), final=False),
        Step("verify", each(("candidates", "pairs"), ("shingles", "shingles")), partial(verify, near), final=False),
        Step("components", _plan_components, partial(_components, job), final=False),
        Step("clusters", each(("groups", "exact_edges"), ("groups", "url_edges"), ("components", "components")), partial(_clusters, job)),
        Step("line_counts", partial(_plan_line_counts, job), partial(_line_counts, job), final=False),
        Step("frequent_lines", each(("line_counts", "lines")), partial(_frequent_lines, job), final=False),
        Step("spans", each(("frequent_lines", "frequent")), partial(_spans, job)),
    ]


def _keys(job: Job, part: int, output: Output) -> None:
    """Hashes of the texts and URLs of one partition, sent to partitions of keys; how many documents of each language may lose lines."""
    exact, url, languages = [np.empty(0, KEY)], [np.empty(0, KEY)], Counter[str]()
    for name, documents in job.sources.items():
        table = read_documents(job.store, documents, part, ["id", "url", "language"])
        high, low = split_ids(table.column("id"))
        exact.append(_key_records([text_key(text) for text in texts_of(job.store, documents, part)], high, low))
        if job.config.url_dedup[name]:
            keys = [None if value is None else url_key(value, job.config.url) for value in table.column("url").to_pylist()]
            rows = np.array([i for i, key in enumerate(keys) if key is not None], np.int64)
            url.append(_key_records([key for key in keys if key is not None], high[rows], low[rows]))
        if job.config.line_dedup[name]:
            languages.update(table.column("language").to_pylist())
        output.counts["documents"] += len(high)
    for kind, found in (("exact", exact), ("url", url)):
        joined = np.concatenate(found)
        write_records(output, f"{kind}_keys", part, joined, key_section(joined["key_hi"], job.partitions), job.partitions)
    output.counts["documents_with_url"] += sum(map(len, url))
    output.note = {**output.note, "languages": dict(sorted(languages.items()))}


def _key_records(keys: Sequence[bytes], high: Any, low: Any) -> Records:
    key_high, key_low = split_bytes(b"".join(keys))
    return records(KEY, key_hi=key_high, key_lo=key_low, hi=high, lo=low)


def _groups(job: Job, group: tuple[int, tuple[Sections, ...], tuple[Sections, ...]], output: Output) -> None:
    """Documents of one key: each but the smallest id is joined to the smallest, and sent to its own partition.

    A URL's smallest is listed too, joined to itself, so that `url_id` is known wherever there is a URL.
    """
    part = group[0]
    for kind, files in zip(("exact", "url"), group[1:], strict=True):
        ordered = sort_records(read_records(job.store, files, part, KEY), "key_hi", "key_lo", "hi", "lo")
        starts = starts_of(ordered, "key_hi", "key_lo")
        smallest = ordered[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
        edges = records(EDGE, hi=ordered["hi"], lo=ordered["lo"], to_hi=smallest["hi"], to_lo=smallest["lo"])
        edges = edges if kind == "url" else edges[~starts]
        write_records(output, f"{kind}_edges", part, edges, key_section(edges["hi"], job.partitions), job.partitions)


def _plan_components(results: Results) -> list[Any]:
    return [
        (
            sections_of(results["groups"], "exact_edges"),
            sections_of(results["groups"], "url_edges"),
            sections_of(results["verify"], "near_edges"),
        )
    ]


def _components(job: Job, group: tuple[tuple[Sections, ...], ...], output: Output) -> None:
    """All edges in one place; the component of each document that has an edge goes to the document's partition."""
    exact, url, near = (
        np.concatenate([np.empty(0, EDGE), *(read_records(job.store, [file], k, EDGE) for file in files for k in range(file.sections))])
        for files in group
    )
    url = url[(url["hi"] != url["to_hi"]) | (url["lo"] != url["to_lo"])]
    found = components(exact, url, near)
    write_records(output, "components", 0, found, key_section(found["hi"], job.partitions), job.partitions)


def _clusters(job: Job, group: tuple[int, tuple[Sections, ...], tuple[Sections, ...], tuple[Sections, ...]], output: Output) -> None:
    """The clusters table of one partition, for every source; each document is counted once, as the first kind of duplicate that it is."""
    part, exact_files, url_files, component_files = group
    exact, url = (sort_records(read_records(job.store, files, part, EDGE), "hi", "lo") for files in (exact_files, url_files))
    found = sort_records(read_records(job.store, component_files, part, COMPONENT), "hi", "lo")
    for name, documents in job.sources.items():
        table = read_documents(job.store, documents, part, ["id"])
        high, low = split_ids(table.column("id"))
        exact_id, is_exact = _replace(exact, "to", high, low)
        url_id, has_url = _replace(url, "to", high, low)
        near_id, _ = _replace(found, "near", high, low)
        cluster_id, _ = _replace(found, "cluster", high, low)
        splits = [_split(value.as_py(), job.config) for value in cluster_id]
        urls = pa.array(
            [value if known else None for value, known in zip(url_id.to_pylist(), has_url.tolist(), strict=True)], pa.binary(16)
        )
        columns = [table.column("id"), cluster_id, exact_id, urls, near_id, pa.array(splits, pa.string())]
        output.table(part_name(part, name), pa.table(columns, schema=CLUSTERS))
        ids = np.stack((high, low))
        near_differs = (np.stack(split_ids(pa.chunked_array([near_id]))) != ids).any(axis=0) & ~is_exact
        cluster_differs = (np.stack(split_ids(pa.chunked_array([cluster_id]))) != ids).any(axis=0) & ~is_exact & ~near_differs
        output.counts["exact_duplicates"] += int(is_exact.sum())
        output.counts["near_duplicates"] += int(near_differs.sum())
        output.counts["url_duplicates"] += int(cluster_differs.sum())
        output.counts["clusters"] += int((~is_exact & ~near_differs & ~cluster_differs).sum())
        output.counts["held_out_documents"] += splits.count("held_out")


def _replace(found: Records, field: str, high: Any, low: Any) -> tuple[pa.Array, Any]:
    """For each id the id that `found` (sorted by id) gives in `field`, else itself; and whether it gives one."""
    where = lookup(found["hi"], found["lo"], high, low)
    listed = where >= 0
    new_high, new_low = high.copy(), low.copy()
    new_high[listed], new_low[listed] = found[f"{field}_hi"][where[listed]], found[f"{field}_lo"][where[listed]]
    return join_ids(new_high, new_low), listed


def _split(cluster_id: bytes, config: Config) -> str:
    return "held_out" if keyed_fraction(config.split_key, cluster_id) < config.held_out_fraction else "train"


def _plan_line_counts(job: Job, results: Results) -> list[Any]:
    """A group per partition: its number, documents per language over all partitions, and the clusters tables of the sources with
    line_dedup."""
    languages = Counter[str]()
    for result in results["keys"]:
        languages.update(result.note["languages"])
    return [(part, dict(languages), _tables(job, results["clusters"][part])) for part in range(job.partitions)]


def _tables(job: Job, result: GroupResult) -> dict[str, tuple[str, FileEntry]]:
    names = [name for name, on in job.config.line_dedup.items() if on]
    return {name: (result.root, result.entry(part_name(result.n, name))) for name in sorted(names)}


def _line_counts(job: Job, group: tuple[int, dict[str, int], dict[str, tuple[str, FileEntry]]], output: Output) -> None:
    """The distinct (line, bucket, cluster) of one partition, sent to partitions of line keys."""
    part, languages, tables = group
    found = [np.empty(0, LINE)]
    for name, (root, entry) in tables.items():
        documents = read_documents(job.store, job.sources[name], part, ["id", "language"])
        clusters = parse_table(read_entry(job.store, root, entry), entry.name, ["cluster_id"])
        cluster, _ = split_ids(clusters.column("cluster_id"))
        ids, given = (column.to_pylist() for column in documents.columns)
        texts = texts_of(job.store, job.sources[name], part)
        for i, (document, language, text) in enumerate(zip(ids, given, texts, strict=True)):
            keys = {key for key in line_keys(text, job.config.lines) if key is not None}
            bucket = bucket_of(document, language, languages[language], job.config.lines)
            lines = np.fromiter(keys, np.uint64, len(keys))
            found.append(records(LINE, key=lines, bucket=np.full(len(keys), bucket), cluster=np.full(len(keys), cluster[i])))
    distinct = unique_records(np.concatenate(found), "key", "bucket", "cluster")
    write_records(output, "lines", part, distinct, key_section(distinct["key"], job.partitions), job.partitions)


def _frequent_lines(job: Job, group: tuple[int, tuple[Sections, ...]], output: Output) -> None:
    """Keys of the lines over the threshold in one partition of line keys, sent to the document partitions that have them."""
    part, files = group
    counted = []
    for number, file in enumerate(files):
        lines = read_records(job.store, [file], part, LINE)
        counted.append(
            records(COUNTED, key=lines["key"], bucket=lines["bucket"], cluster=lines["cluster"], part=np.full(len(lines), number))
        )
    every = np.concatenate(counted)
    keys = frequent(every, job.config.lines)
    sent = unique_records(every[np.isin(every["key"], keys)], "key", "part")
    write_records(output, "frequent", part, records(FREQUENT, key=sent["key"]), sent["part"], job.partitions)
    output.counts["frequent_lines"] += len(keys)


def _spans(job: Job, group: tuple[int, tuple[Sections, ...]], output: Output) -> None:
    """The spans table of one partition, for every source."""
    part, files = group
    keys = set(read_records(job.store, files, part, FREQUENT)["key"].tolist())
    for name, documents in job.sources.items():
        table = read_documents(job.store, documents, part, ["id"])
        if job.config.line_dedup[name]:
            found = [_spans_of(text, keys, job.config.lines) for text in texts_of(job.store, documents, part)]
        else:
            found = [[] for _ in range(len(table))]
        rows = [[{"start": start, "end": end} for start, end in document] for document in found]
        output.table(
            f"spans/{part_name(part, name)}",
            pa.table([table.column("id"), pa.array(rows, LINE_SPANS.field("lines").type)], schema=LINE_SPANS),
        )
        output.counts["documents_with_repeated_lines"] += sum(map(bool, found))
        output.counts["repeated_line_bytes"] += sum(end - start for document in found for start, end in document)


def _spans_of(text: str, keys: set[int], config: LinesConfig) -> list[tuple[int, int]]:
    removed = [key in keys for key in line_keys(text, config)]
    return spans(text.encode(), removed) if any(removed) else []


def _check_counters(results: Results) -> None:
    """Documents in = clusters + duplicates of each kind: the counters close."""
    counts = Counter[str]()
    for step in ("keys", "clusters"):
        for result in results[step]:
            counts.update(result.counts)
    out = counts["clusters"] + counts["exact_duplicates"] + counts["near_duplicates"] + counts["url_duplicates"]
    assert out == counts["documents"], f"dedup: {counts['documents']} documents in, {out} out"
