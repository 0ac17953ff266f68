"""One row for equal texts: within an exact group the smallest id is scored and the others read its row. RULE 14.

A shuffle between the steps of a scoring stage, so that memory holds one partition at a time:

    ask      per partition: which groups (ids of their smallest member) have members here that are not the smallest
    wanted   per partition of the smallest members: which of them somebody asks for
    score    per source and partition, by the stage: scores the smallest members, and writes the rows that somebody wants once more
    fill     per partition: puts the tables together, one row for every document; what does not follow from the text alone (a verdict on
             its URL, say) is each document's own

`ask` and `wanted` serve every grouping of the clusters table: select uses them to find the clusters that have more than one member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.documents import ID_BYTES, part_name, partition_of, parts_of, sources_of
from pipeline.partitions import GroupResult, Output, Results, Step
from storage.artifact import FileEntry, Manifest, read_entry
from storage.errors import ConfigError
from storage.store import Store
from storage.tables import parse_table, read_table


def partitions_of(inputs: Mapping[str, Manifest]) -> int:
    """How many partitions every source has. Raises ConfigError when there is no source or their numbers differ."""
    numbers = {name: parts_of(documents) for name, documents in sources_of(inputs).items()}
    if len(set(numbers.values())) != 1:
        raise ConfigError(f"the sources must have one number of partitions, found {numbers or 'no source'}")
    return next(iter(numbers.values()))


@dataclass(frozen=True)
class Ids:
    """Rows `start` to `end` of a file of 16-byte ids."""

    entry: FileEntry
    start: int
    end: int


def ask_steps(store: Store, inputs: Mapping[str, Manifest], column: str) -> tuple[Step, Step]:
    """The steps `ask` and `wanted` for the groups that `column` of the clusters table names by their smallest id."""
    partitions, sources = partitions_of(inputs), tuple(sources_of(inputs))
    ask = Step("ask", lambda _: range(partitions), partial(_ask, store, inputs["clusters"], sources, column, partitions), final=False)
    return ask, Step("wanted", _plan_wanted, partial(_collect_wanted, store), final=False)


def _ask(store: Store, clusters: Manifest, sources: Sequence[str], column: str, partitions: int, part: int, output: Output) -> None:
    asked = set[bytes]()
    for source in sources:
        table = read_table(store, clusters, part_name(part, source), ["id", column])
        asked.update(pc.unique(table.filter(pc.not_equal(table[column], table["id"]))[column]).to_pylist())
    ordered = sorted(asked)
    with output.create(f"ask/part-{part:05d}") as file:
        file.write(b"".join(ordered))
    output.note = ranges_by_part(ordered, partitions)


def ranges_by_part(ordered: Sequence[bytes], partitions: int) -> list[list[int]]:
    """[partition, first row, end row] for each partition that occurs in ascending ids."""
    ranges = list[list[int]]()
    for row, name in enumerate(ordered):
        part = partition_of(name, partitions)
        if not ranges or ranges[-1][0] != part:
            ranges.append([part, row, row])
        ranges[-1][2] = row + 1
    return ranges


def _plan_wanted(results: Results) -> list[tuple[int, tuple[Ids, ...]]]:
    found = dict[int, list[Ids]]()
    for result in results["ask"]:
        for part, start, end in result.note:
            found.setdefault(part, []).append(Ids(result.files[0], start, end))
    return [(part, tuple(ids)) for part, ids in sorted(found.items())]


def _collect_wanted(store: Store, group: tuple[int, tuple[Ids, ...]], output: Output) -> None:
    part, asked = group
    wanted = set[bytes]()
    for ids in asked:
        wanted.update(read_ids(store, output.attempt.root, ids.entry)[ids.start : ids.end])
    with output.create(f"wanted/part-{part:05d}") as file:
        file.write(b"".join(sorted(wanted)))
    output.note = part


def wanted_files(results: Results) -> dict[int, FileEntry]:
    """By partition, the file of ids that are asked for there."""
    return {result.note: result.files[0] for result in results["wanted"]}


def read_ids(store: Store, root: str, entry: FileEntry | None) -> list[bytes]:
    """The 16-byte ids in a file; none without a file."""
    data = read_entry(store, root, entry) if entry else b""
    return [data[i : i + ID_BYTES] for i in range(0, len(data), ID_BYTES)]


def write_scored(store: Store, output: Output, source: str, part: int, scored: pa.Table, wanted: FileEntry | None) -> None:
    """Write the rows of the smallest members, and once more those that somebody asks for."""
    output.table(f"scored/{part_name(part, source)}", scored)
    if wanted is not None:
        asked = pa.array(read_ids(store, output.attempt.root, wanted), scored.schema.field("id").type)
        answers = scored.filter(pc.is_in(scored["id"], value_set=asked))
        if answers.num_rows:
            output.table(f"answers/{part_name(part, source)}", answers)


def write_own(output: Output, source: str, part: int, own: pa.Table) -> None:
    """Write, for members that are not the smallest, the columns beside the id that are their own."""
    output.table(f"own/{part_name(part, source)}", own)


@dataclass(frozen=True)
class FillGroup:
    """Partition `part` of every source: the tables of its smallest members, the answers that hold what its other members ask for, and the
    columns that are the others' own."""

    part: int
    scored: tuple[tuple[str, FileEntry], ...]
    answers: tuple[FileEntry, ...]
    own: dict[str, FileEntry]


def fill_step(store: Store, inputs: Mapping[str, Manifest]) -> Step:
    """The step `fill`, after a step `score` whose work ends with `write_scored`; its files are `<source>/part-*.parquet`."""
    return Step("fill", partial(_plan_fill, partitions_of(inputs)), partial(_fill, store, inputs["clusters"]))


def _plan_fill(partitions: int, results: Results) -> list[FillGroup]:
    scored, answers, own = (_by_part(results["score"], prefix, partitions) for prefix in ("scored/", "answers/", "own/"))
    groups = []
    for part, asked in enumerate(results["ask"]):
        wanted = [entry for other, _, _ in asked.note for _, entry in answers[other]]
        groups.append(FillGroup(part, tuple(scored[part]), tuple(wanted), dict(own[part])))
    return groups


def _by_part(results: Sequence[GroupResult], prefix: str, partitions: int) -> list[list[tuple[str, FileEntry]]]:
    found: list[list[tuple[str, FileEntry]]] = [[] for _ in range(partitions)]
    for result in results:
        for entry in result.files:
            if entry.name.startswith(prefix):
                source, part = entry.name.removeprefix(prefix).split("/")
                found[int(part.removeprefix("part-").removesuffix(".parquet"))].append((source, entry))
    return found


def _fill(store: Store, clusters: Manifest, group: FillGroup, output: Output) -> None:
    root = output.attempt.root
    needed = dict[str, pa.Table]()
    asked = set[bytes]()
    for source, _ in group.scored:
        needed[source] = read_table(store, clusters, part_name(group.part, source), ["id", "exact_id"])
        asked.update(needed[source].filter(pc.not_equal(needed[source]["exact_id"], needed[source]["id"]))["exact_id"].to_pylist())
    value_set = pa.array(sorted(asked), pa.binary(ID_BYTES))
    answers = []
    for entry in group.answers:
        table = parse_table(read_entry(store, root, entry), entry.name)
        answers.append(table.filter(pc.is_in(table["id"], value_set=value_set)))
    for source, entry in group.scored:
        scored = parse_table(read_entry(store, root, entry), entry.name)
        rows = _rows_for_all(needed[source], pa.concat_tables([scored, *answers]))
        if source in group.own:
            rows = _with_own(rows, parse_table(read_entry(store, root, group.own[source]), group.own[source].name))
        output.table(part_name(group.part, source), rows)


def _rows_for_all(clusters: pa.Table, rows: pa.Table) -> pa.Table:
    """The row of each document's smallest equal, under the document's own id, in the order of the clusters table."""
    places = pc.index_in(clusters["exact_id"], value_set=rows["id"])
    assert places.null_count == 0, "a document's smallest equal was not scored"
    taken = rows.take(places)
    return taken.set_column(0, rows.schema.field(0), clusters["id"])


def _with_own(rows: pa.Table, own: pa.Table) -> pa.Table:
    """`rows` with the columns of `own` for the documents that it names."""
    places = pc.index_in(rows["id"], value_set=own["id"])
    for name in own.column_names[1:]:
        at = rows.schema.get_field_index(name)
        values = pc.if_else(pc.is_null(places), rows[name], own[name].take(places))
        rows = rows.set_column(at, rows.schema.field(at), values)
    return rows
