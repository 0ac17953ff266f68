"""Stage `select`: the only one that decides. Keep or the first reason, domain, text class, component, edits.

RULES 13, 15, 17 to 20, 30, 31.

Files: `<source>/part-*.parquet` (schema: `documents.SELECTION`), `funnel.json` and `samples.json` (see select/funnel.py).
Steps, with files between them:

    ask, wanted   clusters that have more than one member
    rank          per partition, where a percentile is asked: how many documents of each text class have which quality score
    judge         per partition: quality, language and evaluation overlap, domain, component, edits, documents that the edits leave empty,
                  held-out documents with a twin in training; what is still kept of those clusters goes on
    survive       per partition of cluster ids: survivors by url and exact
    near          per partition of near ids: survivors by near
    decide        per partition: the reasons of all three; a tally
    sum           the tallies added up
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa

from pipeline.documents import (
    EDIT,
    SELECTION,
    TEXT_CLASSES,
    Edit,
    apply_edits,
    document_pieces,
    part_name,
    read_beside,
    read_documents,
    sources_of,
)
from pipeline.exact_copies import Ids, ask_steps, partitions_of, ranges_by_part, read_ids, wanted_files
from pipeline.partitions import Output, Results, RunGroups, Step, map_groups, run_stage
from pipeline.quality import config as quality_config
from pipeline.quality.config import EVAL_TASKS_FILE
from pipeline.quality.thresholds import ClassThresholds, Thresholds, bounds, keep_all
from pipeline.select.config import Config
from pipeline.select.cuts import Cuts, cuts_by_class, percentiles_of, rank, with_cuts
from pipeline.select.decide import component_of, text_class_of
from pipeline.select.edits import edited_size_bytes, merge_edits, removed_lines
from pipeline.select.funnel import (
    add_up,
    assert_closed,
    count,
    count_addresses,
    count_lines,
    count_near,
    fraction_that_would_do,
    funnel_of,
    new_tally,
    render_funnel,
    samples_of,
    trim_samples,
)
from pipeline.select.job import Job, domains_of
from pipeline.select.near import drop_near, edges_of, shingles_by_group
from pipeline.select.overlap import count_overlaps, overlap_of, overlap_reasons
from pipeline.select.survivors import MEMBERS, Lost, Member, drop_copies, dropped_table
from storage.artifact import FileEntry, Manifest, read_entry, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.tables import ID, parse_table, read_table

NAME = "select"
VERSION = 5
__all__ = ["NAME", "VERSION", "Config", "check_config", "render_funnel", "run"]

JUDGED = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("cluster_id", ID, nullable=False),
        pa.field("reason", pa.string()),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("text_class", pa.string(), nullable=False),
        pa.field("component", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("split_hash", pa.float64(), nullable=False),
        pa.field("text_size_bytes", pa.int64(), nullable=False),
        pa.field("edited_size_bytes", pa.int64(), nullable=False),
        pa.field("edits", pa.list_(EDIT), nullable=False),
    ]
)


def check_config(config: Config, quality: quality_config.Config, sources: Sequence[str]) -> None:
    """Raises ConfigError when the facts name other sources, or a threshold needs a signal that the quality stage does not measure."""
    if set(config.sources) != set(sources):
        raise ConfigError(f"select.sources: names {sorted(config.sources)}, but the sources are {sorted(sources)}")
    absent = {
        "quality_score": quality.classifier is None and "quality.classifier",
        "dirty_words": not quality.dirty_words and "quality.dirty_words",
        "dirty_word_ratio": not quality.dirty_words and "quality.dirty_words",
    }
    blocks = {f"datatrove_{item.name}" for item in quality.datatrove_filters}
    for text_class in TEXT_CLASSES:
        if text_class in percentiles_of(config.thresholds) and quality.classifier is None:
            where = f"select.thresholds.{text_class}.min_quality_percentile"
            raise ConfigError(f"{where}: there is no quality score while quality.classifier is off")
        thresholds: ClassThresholds = getattr(config.thresholds, text_class)
        sets = {"": thresholds.of_class} | {f".languages.{tag}": found for tag, found in thresholds.languages.items()}
        for place, bound in ((place, bound) for place, found in sets.items() for bound in bounds(found)):
            where = f"select.thresholds.{text_class}{place}"
            if bound.signal.startswith("datatrove_") and bound.signal not in blocks:
                name = bound.signal.removeprefix("datatrove_")
                raise ConfigError(f"{where}.datatrove_filters: {name!r} is not among quality.datatrove_filters")
            if off := absent.get(bound.signal):
                raise ConfigError(f"{where}: a threshold on {bound.signal} has no effect while {off} is off")
    for component in config.components:
        if component.min_quality_score is not None and quality.classifier is None:
            raise ConfigError(f"select.components: {component.name!r} needs a quality score, but quality.classifier is off")
        if unknown := sorted(set(component.sources or ()) - set(sources)):
            raise ConfigError(f"select.components: {component.name!r} names the source {unknown[0]!r}; there are {sorted(sources)}")


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Decide on every document. `inputs`: `documents.<source>`, `clusters`, `quality`, `domains`.

    Raises ConfigError before any work as `check_config` does; and after it, naming the fraction that would do, when a domain keeps fewer
    held-out bytes than `min_held_out_size_bytes`.
    """
    check_config(config, quality_config.Config.model_validate(inputs["quality"].payload["config"]), list(sources_of(inputs)))
    partitions, job = partitions_of(inputs), Job(store, dict(inputs), config)
    steps = [
        *ask_steps(store, inputs, "cluster_id"),
        Step("rank", lambda _: range(partitions) if percentiles_of(config.thresholds) else [], partial(rank, job), final=False),
        Step("judge", partial(_plan_judge, job, partitions), partial(_judge, job), final=False),
        Step("survive", partial(_plan_slices, "judge", "members"), partial(_survive, job), final=False),
        Step("near", partial(_plan_slices, "survive", "near"), partial(_near, job), final=False),
        Step("decide", partial(_plan_decide, partitions), partial(_decide, job)),
        Step("sum", partial(_plan_sum, job), partial(_sum, job)),
    ]
    return run_stage(
        store=store,
        stage=NAME,
        version=VERSION,
        config=config,
        inputs=inputs,
        steps=steps,
        run_groups=run_groups,
        info=info,
        check=partial(_check_held_out, config),
    )


def _plan_judge(job: Job, partitions: int, results: Results) -> list[tuple[int, FileEntry | None, Cuts]]:
    wanted, cuts = wanted_files(results), cuts_by_class(job, results)
    return [(part, wanted.get(part), cuts) for part in range(partitions)]


def _judge(job: Job, group: tuple[int, FileEntry | None, Cuts], output: Output) -> None:
    part, entry, cuts = group
    job = replace(job, config=with_cuts(job.config, cuts))
    wanted = frozenset(read_ids(job.store, output.attempt.root, entry))
    members = list[Member]()
    for source in sources_of(job.inputs):
        judged, more = judge_part(job, source, part, wanted)
        output.table(f"judged/{part_name(part, source)}", judged)
        members += more
    members.sort()
    _write_members(output, f"members/{part_name(part)}", members)
    output.note = {"members": ranges_by_part([member.cluster_id for member in members], partitions_of(job.inputs))}


def _write_members(output: Output, name: str, members: Sequence[Member]) -> None:
    columns = {column: [member[i] for member in members] for i, column in enumerate(MEMBERS.names)}
    output.table(name, pa.table(columns, schema=MEMBERS))


def judge_part(job: Job, source: str, part: int, wanted: frozenset[bytes]) -> tuple[pa.Table, list[Member]]:
    """The decisions on one partition that need no other document (schema JUDGED), and the members of larger clusters that they keep.

    `wanted` are the clusters of several members whose smallest lies in this partition.
    """
    facts, config = job.config.sources[source], job.config
    documents = read_documents(job.store, job.inputs[f"documents.{source}"], part, ["id", "date", "language", "language_probability"])
    clusters = read_beside(job.store, job.inputs["clusters"], source, part, documents["id"])
    signals = read_beside(job.store, job.inputs["quality"], source, part, documents["id"])
    signals = signals.append_column("language_probability", documents["language_probability"])
    languages = documents["language"].to_pylist()
    chosen, rows = domains_of(job, source, part, documents)
    classes = [text_class_of(facts, domain) for domain in chosen]
    scores = signals["quality_score"].to_pylist()
    components = [
        component_of(config.components, domain, source, language, score, row[domain])
        for domain, language, score, row in zip(chosen, languages, scores, rows, strict=True)
    ]
    edits = _edits(job, source, part, documents["id"], classes, signals["pii"].to_pylist())
    reasons, twins = _reasons(signals, classes, languages, config), clusters["twin"].to_pylist()
    sizes = signals["text_size_bytes"].to_pylist()
    emptied = _emptied(job, source, part, sizes, edits)
    for i, reason in enumerate(reasons):
        reasons[i] = reason or ("lines" if i in emptied else "covered" if twins[i] is not None else None)
    columns = {
        "id": documents["id"],
        "cluster_id": clusters["cluster_id"],
        "reason": pa.array(reasons, pa.string()),
        "domain": chosen,
        "text_class": classes,
        "component": components,
        "split": clusters["split"],
        "split_hash": clusters["split_hash"],
        "text_size_bytes": signals["text_size_bytes"],
        "edited_size_bytes": [edited_size_bytes(size, some) for size, some in zip(sizes, edits, strict=True)],
        "edits": [[edit._asdict() for edit in some] for some in edits],
    }
    judged = pa.table(columns, schema=JUDGED)
    return judged, _members(judged, clusters, documents["date"], scores, facts.priority, wanted)


def _reasons(signals: pa.Table, classes: Sequence[str], languages: Sequence[str], config: Config) -> list[str | None]:
    """The first reason by quality, language or overlap with evaluation, per document."""
    found: list[str | None] = [None] * len(classes)
    overlap = overlap_reasons(signals["eval_overlap"], config.min_item_coverage)
    by_set = dict[Thresholds, list[int]]()
    for i, (text_class, language) in enumerate(zip(classes, languages, strict=True)):
        by_set.setdefault(getattr(config.thresholds, text_class).of_language(language), []).append(i)
    for thresholds, rows in by_set.items():
        reasons = keep_all(signals.take(pa.array(rows, pa.int64())), thresholds)
        for i, reason in zip(rows, reasons, strict=True):
            found[i] = reason or overlap[i]
    return found


def _members(
    judged: pa.Table, clusters: pa.Table, dates: pa.ChunkedArray, scores: Sequence[float | None], priority: int, wanted: frozenset[bytes]
) -> list[Member]:
    found = []
    rows = zip(
        clusters.to_pylist(), judged["reason"].to_pylist(), judged["text_size_bytes"].to_pylist(), dates.to_pylist(), scores, strict=True
    )
    for row, reason, size_bytes, date, score in rows:
        if reason is None and (row["cluster_id"] != row["id"] or row["id"] in wanted):
            ids = (row["cluster_id"], row["id"], row["url_id"], row["exact_id"], row["near_id"])
            found.append(Member(*ids, row["split"], date, size_bytes, score, priority))
    return found


def _plan_slices(step: str, kind: str, results: Results) -> list[tuple[int, tuple[Ids, ...]]]:
    """A group per partition for which a step left rows in its tables of that kind: where they lie."""
    found = dict[int, list[Ids]]()
    for result in results[step]:
        for part, start, end in result.note[kind]:
            found.setdefault(part, []).append(Ids(next(e for e in result.files if e.name.startswith(f"{kind}/")), start, end))
    return [(part, tuple(slices)) for part, slices in sorted(found.items())]


def _read_members(job: Job, root: str, slices: Sequence[Ids]) -> list[Member]:
    return [Member(**row) for some in slices for row in _slice(job.store, root, some).to_pylist()]


def _survive(job: Job, group: tuple[int, tuple[Ids, ...]], output: Output) -> None:
    """Survivors by URL and text of the clusters of a partition; those that stay go to the partition of their near group."""
    part, slices = group
    members = sorted(_read_members(job, output.attempt.root, slices))
    dropped = dict[bytes, Lost]()
    for _, cluster in groupby(members, key=lambda member: member.cluster_id):
        dropped.update(drop_copies(cluster, job.config.survivors))
    left = sorted((member for member in members if member.id not in dropped), key=lambda member: (member.near_id, member.id))
    table, names = dropped_table(dropped)
    output.table(f"lost_copies/{part_name(part)}", table)
    _write_members(output, f"near/{part_name(part)}", left)
    partitions = partitions_of(job.inputs)
    output.note = {"lost_copies": ranges_by_part(names, partitions), "near": ranges_by_part([m.near_id for m in left], partitions)}


def _near(job: Job, group: tuple[int, tuple[Ids, ...]], output: Output) -> None:
    """Survivors by near of the near groups of a partition."""
    part, slices = group
    members = dict[bytes, list[Member]]()
    for member in _read_members(job, output.attempt.root, slices):
        members.setdefault(member.near_id, []).append(member)
    clusters, policies = job.inputs["clusters"], job.config.survivors
    large = [near_id for near_id, some in members.items() if len(some) > policies.max_kept_compared]
    edges = edges_of(job.store, clusters, part, large)
    wanted = frozenset(member.exact_id for some in members.values() if len(some) > 1 for member in some)
    dropped = dict[bytes, Lost]()
    for near_id, sets in shingles_by_group(job.store, clusters, part, wanted):
        dropped.update(drop_near(members[near_id], sets, edges, policies, job.min_jaccard))
    table, names = dropped_table(dropped)
    output.table(f"lost_near/{part_name(part)}", table)
    output.note = {"lost_near": ranges_by_part(names, partitions_of(job.inputs))}


def _slice(store: Store, root: str, rows: Ids) -> pa.Table:
    return parse_table(read_entry(store, root, rows.entry), rows.entry.name).slice(rows.start, rows.end - rows.start)


@dataclass(frozen=True)
class DecideGroup:
    """Partition `part` of every source: what judge wrote of it, and who of it did not survive."""

    part: int
    judged: tuple[FileEntry, ...]
    dropped: tuple[Ids, ...]


def _plan_decide(partitions: int, results: Results) -> list[DecideGroup]:
    lost: list[list[Ids]] = [[] for _ in range(partitions)]
    for step, kind in (("survive", "lost_copies"), ("near", "lost_near")):
        for part, slices in _plan_slices(step, kind, results):
            lost[part] += slices
    judged = [tuple(entry for entry in result.files if entry.name.startswith("judged/")) for result in results["judge"]]
    return [DecideGroup(part, judged[part], tuple(lost[part])) for part in range(partitions)]


def _decide(job: Job, group: DecideGroup, output: Output) -> None:
    root, tally = output.attempt.root, new_tally()
    lost = dict[bytes, Lost]()
    for some in group.dropped:
        for row in _slice(job.store, root, some).to_pylist():
            lost[row["id"]] = Lost(row["reason"], row["duplicate_of"], row["similarity"])
    for entry in group.judged:
        source = entry.name.split("/")[1]
        judged = parse_table(read_entry(job.store, root, entry), entry.name).to_pylist()
        rows = [_decided(row, lost.get(row["id"])) for row in judged]
        output.table(part_name(group.part, source), pa.Table.from_pylist(rows, schema=SELECTION))
        ids = pa.chunked_array([pa.array([row["id"] for row in rows], ID)])
        overlaps = read_beside(job.store, job.inputs["quality"], source, group.part, ids, ["eval_overlap"])["eval_overlap"]
        for row, found in zip(rows, overlaps.to_pylist(), strict=True):
            chosen = {"reason": row["reason"], "split": row["split"], "min_item_coverage": job.config.min_item_coverage}
            count_overlaps(tally["eval_overlap"], found, **chosen)
        for row, before in zip(rows, judged, strict=True):
            count(
                tally,
                source=source,
                name=row["id"],
                **{key: row[key] for key in ("reason", "domain", "component", "split")},
                size_bytes=before["text_size_bytes"],
                edited_size_bytes=before["edited_size_bytes"],
                fraction=before["split_hash"],
            )
            if row["reason"] == "near":
                count_near(tally, row["similarity"])
            if row["keep"]:
                count_addresses(tally, row["text_class"], sum(edit["replacement"] != "" for edit in row["edits"]))
        for row, text in _texts_with_removals(job, source, group.part, rows):
            count_lines(tally, row["text_class"], removed_lines(text, [Edit(**edit) for edit in row["edits"]]))
    assert_closed(tally)
    trim_samples(tally, job.config.samples_per_reason)
    output.note = tally


def _decided(judged: Mapping[str, Any], lost: Lost | None) -> dict[str, Any]:
    """A document's row of the selection table."""
    reason = judged["reason"] or (lost.reason if lost else None)
    kept = reason is None
    return {
        **{name: judged[name] for name in ("id", "domain", "text_class", "split", "edits")},
        "keep": kept,
        "reason": reason,
        "component": judged["component"] if kept and judged["split"] == "train" else None,
        "duplicate_of": lost.duplicate_of if lost else None,
        "similarity": lost.similarity if lost else None,
    }


def _edits(
    job: Job, source: str, part: int, ids: pa.ChunkedArray, classes: Sequence[str], addresses: Sequence[Sequence[Mapping[str, Any]]]
) -> list[list[Edit]]:
    """The merged edits of each document, by its text class."""
    clusters, pii, name = job.inputs["clusters"], job.config.pii, f"spans/{part_name(part, source)}"
    spans = read_table(job.store, clusters, name)
    texts = {"email": pii.email, "ipv4": pii.ipv4, "ipv6": pii.ipv6}
    if not spans["id"].equals(ids):
        raise IntegrityError(f"{clusters.root}/{name}", expected="the ids of the documents, in order", actual="other ids")
    merged = list[list[Edit]]()
    for lines, found, text_class in zip(spans["lines"].to_pylist(), addresses, classes, strict=True):
        if not lines and not found:
            merged.append([])
            continue
        removed = [(span["start"], span["end"]) for span in lines or []] if text_class in job.config.lines.text_classes else []
        replaced = [Edit(span["start"], span["end"], texts[span["kind"]]) for span in found] if text_class in pii.text_classes else []
        merged.append(merge_edits(removed, replaced))
    return merged


def _emptied(job: Job, source: str, part: int, sizes: Sequence[int], edits: Sequence[Sequence[Edit]]) -> set[int]:
    """Rows of the documents that have no text, or lose all of it: only white space is left."""
    empty = {i for i, size in enumerate(sizes) if size == 0}
    at_risk = [i for i, some in enumerate(edits) if any(edit.replacement == "" for edit in some)]
    texts = _texts(job, source, part, at_risk)
    return empty | {i for i, text in zip(at_risk, texts, strict=True) if not apply_edits(text, edits[i]).strip()}


def _texts_with_removals(job: Job, source: str, part: int, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The kept rows that lose lines, and their texts."""
    chosen = [i for i, row in enumerate(rows) if row["keep"] and any(edit["replacement"] == "" for edit in row["edits"])]
    return zip((rows[i] for i in chosen), _texts(job, source, part, chosen), strict=True)


def _texts(job: Job, source: str, part: int, rows: Sequence[int]) -> Iterator[str]:
    """The texts of those rows of a partition, a piece in memory at a time."""
    if rows:
        documents, chosen = job.inputs[f"documents.{source}"], frozenset(rows)
        wanted = pa.chunked_array([pa.array([i in chosen for i in range(len(read_documents(job.store, documents, part, ["id"])))])])
        for piece in document_pieces(job.store, documents, part, ["text"], wanted):
            yield from piece["text"].to_pylist()


def _plan_sum(job: Job, results: Results) -> list[tuple[list[Any], Cuts]]:
    return [([result.note for result in results["decide"]], cuts_by_class(job, results))]


def _sum(job: Job, group: tuple[Sequence[Any], Cuts], output: Output) -> None:
    tallies, cuts = group
    total, quality = add_up(tallies, job.config.samples_per_reason), job.inputs["quality"]
    items = json.loads(read_verified(job.store, quality, EVAL_TASKS_FILE)) if EVAL_TASKS_FILE in quality.names() else {}
    thresholds = {
        domain: {"used": used, "proposed": job.proposed.get(domain)} for domain, used in job.config.domain_thresholds(job.proposed).items()
    }
    funnel = funnel_of(total, overlap_of(total["eval_overlap"], items, job.config.min_item_coverage), thresholds, cuts)
    for name, value in (("funnel.json", funnel), ("samples.json", samples_of(total))):
        with output.create(name) as file:
            file.write(json.dumps(value, indent=1, sort_keys=True).encode())
    output.counts["documents"] = funnel["total"]["in"]["documents"]
    output.counts["kept"] = funnel["total"]["kept"]["documents"]
    output.counts["warnings"] = len(funnel["warnings"])
    output.counts.update({f"reason:{reason}": cell["documents"] for reason, cell in funnel["total"]["dropped"].items()})
    output.note = {"domains": funnel["domains"], "held_out_steps": total["held_out_steps"]}


def _check_held_out(config: Config, results: Results) -> None:
    """RULE 13: too few kept held-out bytes in a domain is an error that names the fraction that would do."""
    note = results["sum"][0].note
    for domain, needed in sorted(config.min_held_out_size_bytes.items()):
        found = note["domains"].get(domain, {}).get("held_out", {"size_bytes": 0})["size_bytes"]
        if found < needed:
            fraction = fraction_that_would_do(note["held_out_steps"].get(domain, {}), needed)
            advice = (
                f"held_out_fraction = {fraction} would do"
                if fraction
                else "no held_out_fraction would do: the domain keeps too little text"
            )
            raise ConfigError(
                f"select.min_held_out_size_bytes.{domain}: {needed:,} bytes are asked, {found:,} are kept and held out; {advice}"
            )
