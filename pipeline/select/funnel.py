"""The funnel: what became of every document, by source, reason, domain and component, and the mixture that is possible.

Each partition leaves a small tally; tallies add up to `funnel.json`. Counters close: in = kept + dropped by reason, in documents
and in bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.documents import keyed_fraction
from pipeline.select.overlap import add_overlaps

DEFAULT_TOKENS_PER_BYTE = 0.25
WARNING_SHARE = 0.5
HISTOGRAM_STEPS = 1000
LINES_SHOWN = 20  # of those removed, per text class
LINE_CHARACTERS = 160  # of a line that is shown
SUMMED = ("sources", "domains", "components", "held_out_steps", "near", "lines", "line_documents", "addresses")
Tally = dict[str, Any]


def new_tally() -> Tally:
    """Nothing yet. Cells are {documents, size_bytes}; size_bytes of kept text are before edits, edited_size_bytes after."""
    return {part: {} for part in (*SUMMED, "samples", "eval_overlap")}


def count(
    tally: Tally,
    *,
    source: str,
    name: bytes,
    reason: str | None,
    domain: str,
    component: str | None,
    split: str,
    size_bytes: int,
    edited_size_bytes: int,
    fraction: float,
) -> None:
    """Add one document. `fraction` is where the hash that chose the split put its text."""
    row = tally["sources"].setdefault(source, {"in": _cell(), "kept": _cell(), "dropped": {}})
    _add(row["in"], size_bytes)
    tally["samples"].setdefault(source, {}).setdefault(reason or "kept", []).append([keyed_fraction("samples", name), name.hex()])
    if reason is not None:
        _add(row["dropped"].setdefault(reason, _cell()), size_bytes)
        return
    _add(row["kept"], size_bytes)
    row["kept"]["edited_size_bytes"] = row["kept"].get("edited_size_bytes", 0) + edited_size_bytes
    _add(tally["domains"].setdefault(domain, {}).setdefault(split, _cell()), edited_size_bytes)
    steps = tally["held_out_steps"].setdefault(domain, {})
    step = str(min(HISTOGRAM_STEPS, int(fraction * HISTOGRAM_STEPS) + 1))
    steps[step] = steps.get(step, 0) + edited_size_bytes
    if component is not None:
        cell = tally["components"].setdefault(component, {"domain": domain, **_cell()})
        _add(cell, edited_size_bytes)


def count_near(tally: Tally, similarity: float | None) -> None:
    """Add a document that went as a near duplicate, by its similarity with the one that stays, in steps of 0.05."""
    low = 0 if similarity is None else int(similarity * 20 + 1e-6) / 20
    step = "by a verified edge alone" if similarity is None else "1.00" if low == 1 else f"{low:.2f} to {low + 0.05:.2f}"
    tally["near"][step] = tally["near"].get(step, 0) + 1


def count_addresses(tally: Tally, text_class: str, addresses: int) -> None:
    """Add the addresses that are replaced in a kept document."""
    if addresses:
        row = tally["addresses"].setdefault(text_class, {"documents": 0, "replaced": 0})
        _merge(row, {"documents": 1, "replaced": addresses})


def count_lines(tally: Tally, text_class: str, lines: Collection[str]) -> None:
    """Add a kept document and the different lines that it loses."""
    tally["line_documents"][text_class] = tally["line_documents"].get(text_class, 0) + bool(lines)
    counted = tally["lines"].setdefault(text_class, {})
    for line in lines:
        shown = line if len(line) <= LINE_CHARACTERS else line[: LINE_CHARACTERS - 1] + "…"
        counted[shown] = counted.get(shown, 0) + 1


def _cell() -> dict[str, Any]:
    return {"documents": 0, "size_bytes": 0}


def _add(cell: dict[str, Any], size_bytes: int) -> None:
    cell["documents"] += 1
    cell["size_bytes"] += size_bytes


def trim_samples(tally: Tally, samples: int) -> None:
    """Keep of each source and reason the `samples` documents that come first by keyed hash, and of each text class some removed lines.

    Lines are chosen by a hash of the line, so that the counts of those that stay add up over partitions.
    """
    for text_class, lines in tally["lines"].items():
        chosen = heapq.nsmallest(LINES_SHOWN, lines, key=lambda line: (keyed_fraction("removed lines", line.encode()), line))
        tally["lines"][text_class] = {line: lines[line] for line in chosen}
    for rows in tally["samples"].values():
        for reason, found in rows.items():
            rows[reason] = heapq.nsmallest(samples, found)


def add_up(tallies: Iterable[Tally], samples: int) -> Tally:
    """The sum of tallies."""
    tallies, total = list(tallies), new_tally()
    total["eval_overlap"] = add_overlaps(tally["eval_overlap"] for tally in tallies)
    for tally in tallies:
        for part in SUMMED:
            _merge(total[part], tally[part])
        for source, rows in tally["samples"].items():
            for reason, found in rows.items():
                total["samples"].setdefault(source, {}).setdefault(reason, []).extend(found)
    trim_samples(total, samples)
    return total


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        elif isinstance(value, str):
            into[key] = value
        else:
            into[key] = into.get(key, 0) + value


def assert_closed(tally: Tally) -> None:
    """in = kept + dropped, for documents and bytes of every source."""
    for source, row in tally["sources"].items():
        for unit in ("documents", "size_bytes"):
            parts = row["kept"][unit] + sum(cell[unit] for cell in row["dropped"].values())
            assert row["in"][unit] == parts, f"{source}: {row['in'][unit]} {unit} in, {parts} kept and dropped"


def funnel_of(
    total: Tally, eval_overlap: Mapping[str, Any], domain_thresholds: Mapping[str, Any], quality_cuts: Mapping[str, Any]
) -> dict[str, Any]:
    """funnel.json: sources, total, domains by split, from which probability a document is code or mathematics (used, proposed), from which
    score on a text class with a percentile keeps documents (see cuts.cuts_of), components with the share of bytes they make possible, near
    duplicates that went by their similarity with the one that stays, lines that went, addresses that were replaced, overlap with
    evaluation tasks (see `overlap_of`), warnings."""
    assert_closed(total)
    everything: dict[str, Any] = {"in": _cell(), "kept": _cell(), "dropped": {}}
    for row in total["sources"].values():
        _merge(everything, row)
    size_bytes = sum(cell["size_bytes"] for cell in total["components"].values())
    components = {
        name: {**cell, "share": round(cell["size_bytes"] / size_bytes, 6) if size_bytes else 0.0}
        for name, cell in sorted(total["components"].items())
    }
    warnings = [
        {"source": source, "reason": reason, "dropped": cell["documents"], "of": row["in"]["documents"]}
        for source, row in sorted(total["sources"].items())
        for reason, cell in sorted(row["dropped"].items())
        if cell["documents"] > WARNING_SHARE * row["in"]["documents"]
    ]
    return {
        "sources": {name: total["sources"][name] for name in sorted(total["sources"])},
        "total": everything,
        "domains": {name: total["domains"][name] for name in sorted(total["domains"])},
        "domain_thresholds": domain_thresholds,
        "quality_cuts": dict(quality_cuts),
        "components": components,
        "near": dict(sorted(total["near"].items())),
        "addresses": dict(sorted(total["addresses"].items())),
        "lines": {
            name: {"documents": documents, "sample": dict(sorted(total["lines"].get(name, {}).items(), key=lambda row: (-row[1], row[0])))}
            for name, documents in sorted(total["line_documents"].items())
        },
        "eval_overlap": eval_overlap,
        "warnings": warnings,
    }


def samples_of(total: Tally) -> dict[str, dict[str, list[str]]]:
    """samples.json: source -> reason or "kept" -> ids (hex)."""
    return {
        source: {reason: [name for _, name in rows[reason]] for reason in sorted(rows)} for source, rows in sorted(total["samples"].items())
    }


def fraction_that_would_do(steps: Mapping[str, int], needed_size_bytes: int) -> float | None:
    """The smallest held_out_fraction (in thousandths) that would hold out `needed_size_bytes` of a domain's text; None if none does."""
    held_out = 0
    for step in sorted(steps, key=int):
        held_out += steps[step]
        if held_out >= needed_size_bytes:
            fraction = int(step) / HISTOGRAM_STEPS
            return fraction if fraction < 1 else None
    return None


def render_funnel(funnel: Mapping[str, Any], tokens_per_byte: float | None) -> list[Table | Text]:
    """The funnel and the possible mixture as tables for a terminal. `tokens_per_byte`: of the newest shards; None = 0.25."""
    rate = DEFAULT_TOKENS_PER_BYTE if tokens_per_byte is None else tokens_per_byte
    origin = "assumed: no shards yet" if tokens_per_byte is None else "measured on the newest shards"
    rendered: list[Table | Text] = [
        _sources_table(funnel),
        _reasons_table(funnel),
        _mixture_table(funnel, rate),
        Text(f"Tokens are estimated at {rate:.3f} tokens per byte, {origin}."),
        _domains_table(funnel),
        Text(thresholds_line(funnel)),
    ]
    if funnel["eval_overlap"]["tasks"]:
        rendered.append(_overlap_table(funnel["eval_overlap"]))
    for warning in funnel["warnings"]:
        share = 100 * warning["dropped"] / warning["of"]
        line = f"warning: {warning['reason']} drops {share:.0f} % of {warning['source']} ({warning['dropped']:,} of {warning['of']:,})"
        rendered.append(Text(line, style="yellow"))
    return rendered


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _sources_table(funnel: Mapping[str, Any]) -> Table:
    table = _table("Funnel by source", "source", "in", "kept", "kept %", "bytes in", "bytes kept", "after edits")
    for name, row in [*funnel["sources"].items(), ("total", funnel["total"])]:
        cells = [row["in"]["documents"], row["kept"]["documents"], row["in"]["size_bytes"], row["kept"]["size_bytes"]]
        share = 100 * cells[1] / cells[0] if cells[0] else 0.0
        edited = row["kept"].get("edited_size_bytes", 0)
        table.add_row(name, f"{cells[0]:,}", f"{cells[1]:,}", f"{share:.1f}", *(f"{value:,}" for value in (*cells[2:], edited)))
    return table


def _reasons_table(funnel: Mapping[str, Any]) -> Table:
    table = _table("Dropped by reason", "reason", "documents", "%", "bytes")
    table.add_column("by source", overflow="fold")
    dropped, documents = funnel["total"]["dropped"], funnel["total"]["in"]["documents"]
    for reason, cell in sorted(dropped.items(), key=lambda item: (-item[1]["documents"], item[0])):
        found = [(name, row["dropped"][reason]["documents"]) for name, row in funnel["sources"].items() if reason in row["dropped"]]
        sources = ", ".join(f"{name} {count:,}" for name, count in sorted(found, key=lambda item: -item[1]))
        share = 100 * cell["documents"] / documents if documents else 0.0
        table.add_row(reason, f"{cell['documents']:,}", f"{share:.1f}", f"{cell['size_bytes']:,}", sources)
    return table


def _mixture_table(funnel: Mapping[str, Any], rate: float) -> Table:
    table = _table("Mixture that is possible", "component", "domain", "documents", "bytes", "tokens", "share %")
    for name, cell in funnel["components"].items():
        numbers = (
            f"{cell['documents']:,}",
            f"{cell['size_bytes']:,}",
            f"{round(cell['size_bytes'] * rate):,}",
            f"{100 * cell['share']:.1f}",
        )
        table.add_row(name, cell["domain"], *numbers)
    return table


def _domains_table(funnel: Mapping[str, Any]) -> Table:
    table = _table("Kept by domain, after edits", "domain", "train", "bytes", "held out", "bytes")
    for name, splits in funnel["domains"].items():
        cells: Sequence[Mapping[str, int]] = [splits.get(split, _cell()) for split in ("train", "held_out")]
        table.add_row(name, *(f"{cell[unit]:,}" for cell in cells for unit in ("documents", "size_bytes")))
    return table


def thresholds_line(funnel: Mapping[str, Any]) -> str:
    """From which probability a document is code or mathematics, and what was proposed where the recipe says otherwise; from which quality
    score on a text class with a percentile keeps its documents."""

    def said(domain: str, row: Mapping[str, float | None]) -> str:
        proposed = "" if row["proposed"] in (None, row["used"]) else f" ({row['proposed']} proposed)"
        return f"{domain} from a probability of {row['used']}{proposed}"

    rows, cuts = funnel.get("domain_thresholds", {}), funnel.get("quality_cuts", {})  # an older funnel has none
    lines = [f"Where a source declares no domain, a document is {', '.join(said(*row) for row in sorted(rows.items()))}."] if rows else []
    for text_class, row in sorted(cuts.items()):
        lines.append(
            f"Of {text_class} the lowest {row['percentile']:g} % by quality score go: those below {row['score']:.3f}"
            f" ({row['documents']:,} texts ranked)."
        )
    return " ".join(lines)


def _overlap_table(overlap: Mapping[str, Any]) -> Table:
    low, high = (f"{100 * overlap[name]:g} %" for name in ("min_partial_coverage", "min_item_coverage"))
    columns = ["items", "unreachable", f"reach under {high}", "documents dropped", "items of those", f"selected: {high} of it", low]
    table = _table("Overlap with evaluation tasks", "task", *columns)
    names = ("items", "unreachable", "hardly_reachable", "dropped_documents", "dropped_items", "selected_items", "partly_selected_items")
    for task, row in overlap["tasks"].items():
        table.add_row(Text(task), *(f"{row[name]:,}" for name in names))
    return table
