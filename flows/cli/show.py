"""What the commands of `caravan` show: how things stand, a document's history, what a step saw, what may go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.graph.staleness import TRAINING, note
from flows.graph.walk import STAGES, State, Visit
from flows.history.garbage import Garbage
from flows.history.lineage import FedDocument, Seen, Tokens
from flows.report.words import MARKS, table_of
from pipeline.coverage import EVALUATED, OVER_CAP, SHORT


def status_table(visits: Sequence[Visit], *, is_new: bool = False) -> Table:
    """A row per stage and reason: fresh, or stale and why. `is_new`: the run was never made."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("artifacts", justify="right")
    table.add_column("state")
    table.add_column("why", overflow="fold")
    for key, count, state, reason in grouped(visits, is_new=is_new):
        table.add_row(Text(key), str(count), f"{MARKS[state]} {state}", Text(reason))  # a file's name may look like markup
    return table


def grouped(visits: Iterable[Visit], *, is_new: bool = False) -> list[tuple[str, int, Any, str]]:
    """(key, how many, state, reason): artifacts that stand alike, a source's many files as one row, what is fresh by stage alone.

    Of a run that was never made (`is_new`) nothing is there to differ from, so what is stale is by stage alone, too.
    """
    rows: dict[tuple[str, str, str], int] = {}
    for visit in visits:
        kind, _, label = visit.key.partition("/")
        key, reason = f"{kind}/{label.partition('/')[0]}" if kind == "extract" else visit.key, visit.reason
        if is_new and visit.state == "stale":
            key, reason = visit.stage, "not made yet"
        if visit.state == "fresh" and not visit.reason:
            key = visit.stage
        rows[key, visit.state, reason] = rows.get((key, visit.state, reason), 0) + 1
    return [(key, count, state, reason) for (key, state, reason), count in rows.items()]


def asked_stages(visits: Sequence[Visit], state: State = "stale") -> list[str]:
    """Names of the stages that are asked for and stand so, in order: stale ones would run, fresh ones would with --force."""
    names = {visit.stage for visit in visits if visit.asked and visit.state == state and (visit.stage, state) != ("snapshot", "fresh")}
    return [stage for stage in STAGES if stage in names]


def explanation(facts: Mapping[str, Any]) -> Iterator[Any]:
    """A document's history: first what was decided of it, then what each stage found, section by section."""
    document, stale = facts["document"], facts["stale"]
    yield _section("decision", decision(facts))
    yield _section(
        "document", {"id": document["id"].hex(), **{k: v for k, v in document.items() if k not in ("id", "text") and v is not None}}
    )
    for origin in facts["origins"]:
        yield _section("origin", {k: v for k, v in origin.items() if k != "id"})
    for stage in ("dedup", "quality", "domains", "select"):
        if stage in facts:
            row = facts[stage] if facts[stage] is not None else {"stale": OTHER_DOCUMENTS}
            found = {k: v.hex() if isinstance(v, bytes) else v for k, v in row.items() if k not in SAID and v is not None}
            yield from [_section(stage, found)] if found else []
    if (facts.get("select") or {}).get("edits"):
        yield _section("edits", _edits_text(document["text"], facts["select"]["edits"]))
    if overlaps := (facts.get("quality") or {}).get("eval_overlap"):
        yield _section("overlap with evaluation", _overlaps_text(overlaps))
    if facts.get("tokens") or facts.get("seen") or (stale.get("tokenize") and "tokens" in facts):
        tokens = vars(facts["tokens"]) if facts["tokens"] else {"none": "it is not in these shards"}
        yield _section("tokens", {**_stale_row(stale, [shards_of(facts["tokens"])]), **tokens})
        plans = [key for stage in TRAINING for key in (f"mix/{stage}", stage)]
        yield _section("trained on", {**_stale_row(stale, plans), **_steps_text(facts["seen"], facts["tokens"])})
    yield Text("text, after the edits" if facts.get("edited_text", document["text"]) != document["text"] else "text", style="bold")
    yield Text(facts.get("edited_text", document["text"]))


OTHER_DOCUMENTS = "it ran on other documents of this source: caravan run"
SAID = (
    "id",
    "keep",
    "reason",
    "duplicate_of",
    "similarity",
    "eval_overlap",
    "edits",
    "pii",
    "lines",
)  # by the decision, the document, or a section of its own
MAX_EDITS, MAX_EDIT_CHARACTERS = 40, 200  # shown of a document, and of one of them
TWIN = {"url": "has its URL", "near": "has nearly its text"}
SAME = {"url": "the same URL", "exact": "the same text", "near": "nearly the same text"}
WHY = {
    "url": "another document of its URL stayed",
    "exact": "another document of the same text stayed",
    "near": "a document of nearly the same text stayed",
    "lines": "nothing is left of its text: it is empty, or the lines that many documents repeat are all that it has",
    "eval_overlap": "it holds an item of an evaluation task, see below",
}


def decision(facts: Mapping[str, Any]) -> dict[str, str]:
    """Kept or dropped, and by what; of a document that lost to a copy, what became of the text in the end."""
    if "select" not in facts:
        return {"none": "not made yet: caravan run --to select"}
    row = facts["select"]
    if row is None:
        return {"stale": f"select: {OTHER_DOCUMENTS}"}
    said = _stale_row(facts["stale"], ["select"])
    if row["keep"] and row["split"] == "train":
        return {"kept": f"in {row['component']}, to train on", **said}
    if row["keep"]:
        return {"kept": f"in {row['domain']}, held out", **said, **_evaluated(facts)}
    reason = row["reason"]
    if reason == "covered":
        twin = TWIN.get(str((facts.get("dedup") or {}).get("twin")), "has its URL or nearly its text")
        return {"dropped": f"covered: it is held out, and a document to train on {twin}", **said}
    said = {"dropped": facts.get("bound") or f"{reason}{f': {WHY[reason]}' if reason in WHY else ''}", **said}
    for copy in facts.get("lost_to", ()):
        like = "" if copy.similarity is None else f" (Jaccard {copy.similarity:.2f})"
        fate = f"was itself dropped as {copy.reason}" if copy.reason else "is kept"
        said[copy.id.hex()] = f"{copy.source}, of {SAME[copy.same]}{like}, {fate}"
    return said


def _evaluated(facts: Mapping[str, Any]) -> dict[str, str]:
    """Whether a held-out document is evaluated, and how much of it training covers; nothing before `coverage` has run."""
    if "coverage" not in facts:
        return {}
    row = facts["coverage"]
    if row is None:
        return {"evaluated": "not known: coverage ran on other documents"}
    if row["verdict"] == OVER_CAP:
        said = "no: its domain has enough to evaluate without it (coverage.max_held_out_bytes)"
    else:
        share = f"{row['coverage']:.1%} of its {row['words']:,} words lie in {SHORT}-grams of documents to train on"
        run = f", {row['longest_run_words']:,} of them in one run" if row["longest_run_words"] else ""
        said = f"{'yes' if row['verdict'] == EVALUATED else 'no, training covers it'}: {share}{run}"
    return {"evaluated": said, **_stale_row(facts["stale"], ["coverage"])}


def _stale_row(stale: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """A row that says that the first of `keys` that is stale is; none where none is."""
    return next(({"stale": note(stale[key])} for key in keys if key in stale), {})


def shards_of(tokens: Tokens | None) -> str:
    """The artifact that a document's tokens lie in, or would if it had any."""
    return "held_out_tokens" if tokens is not None and tokens.split == "held_out" else "tokenize"


def _edits_text(text: str, edits: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By UTF-8 bytes of the text what is cut out of it or replaced, and by what."""
    data, rows = text.encode(), dict[str, str]()
    for edit in edits[:MAX_EDITS]:
        before = data[edit["start"] : edit["end"]].decode().strip()
        before = before if len(before) <= MAX_EDIT_CHARACTERS else before[: MAX_EDIT_CHARACTERS - 1] + "…"
        said = f"replaced by {edit['replacement']}: {before}" if edit["replacement"] else f"repeated lines, cut: {before}"
        rows[f"bytes {edit['start']:,} to {edit['end']:,}"] = said
    return rows | ({"and": f"{len(edits) - MAX_EDITS:,} more"} if len(edits) > MAX_EDITS else {})


def _overlaps_text(overlaps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By item of an evaluation task (its file, and its number there from 0) what share of it the document holds, the largest first."""
    ordered = sorted(overlaps, key=lambda overlap: -overlap["coverage"])
    return {f"{overlap['task']} item {overlap['item']}": f"{100 * overlap['coverage']:.1f} % of its words" for overlap in ordered}


def _section(title: str, rows: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(f"{value:.4f}" if isinstance(value, float) else str(value)))
    return table


def _steps_text(seen: Sequence[Seen], tokens: Tokens | None) -> dict[str, str]:
    """Steps by training stage, in words."""
    by_stage: dict[str, list[int]] = {}
    for sample in seen:
        by_stage.setdefault(sample.stage, []).append(sample.step)
    return {stage: f"step {', '.join(map(str, sorted(set(steps))))}" for stage, steps in by_stage.items()} or {"no step": _unseen(tokens)}


def _unseen(tokens: Tokens | None) -> str:
    """Why no step saw a document."""
    if tokens is None:
        return "it has no tokens"
    return "held out" if tokens.split == "held_out" else "its tokens are in no sample"


def seen_table(tokens: Tokens | None, seen: Sequence[Seen], reason: str | None = None, *, is_stale: bool = False) -> Any:
    """Which samples and steps saw a document. `reason`: why select dropped it; `is_stale`: its tokens are of an earlier selection."""
    if tokens is None and not seen:
        if is_stale and reason is None:
            return "  not in these shards: the selection that they were made from did not keep it"
        why = f"not kept (dropped as {reason})" if reason else "not kept, or held out and not evaluated"
        return f"  {why}: it has no tokens; `caravan explain` says more"
    where = f"tokens {tokens.start:,} to {tokens.end:,} of {tokens.split}/{tokens.name}" if tokens else "not in the run's shards"
    where += f"; the run's selection drops it as {reason}" if reason else ""
    if not seen:
        return f"  {where}; no training step saw it: {_unseen(tokens)}"
    table = table_of(where, ("stage", "step", "sample", "epoch"))
    for sample in seen:
        table.add_row(sample.stage, str(sample.step), str(sample.sample), str(sample.epoch))
    return table


def fed_table(fed: Sequence[FedDocument]) -> Table:
    """Which documents a step saw, sample by sample."""
    table = table_of("", ("sample", "component", "document", "from token", "to token"))
    for row in fed:
        table.add_row(str(row.sample), row.component, row.id.hex(), str(row.start), str(row.end))
    return table


def garbage_table(garbage: Sequence[Garbage]) -> Table:
    """What `caravan gc` would remove: a row for each stage and reason, the folder's name where it is one."""
    groups: dict[tuple[str, str], list[Garbage]] = {}
    for item in garbage:
        groups.setdefault((item.what.rpartition("/")[0], item.reason), []).append(item)
    table = table_of("", ("what", "why", "files", "bytes"))
    for (folder, reason), items in groups.items():
        what = items[0].what if len(items) == 1 else f"{folder}/ ({len(items):,} artifacts)"
        table.add_row(Text(what), reason, f"{sum(len(item.files) for item in items):,}", f"{sum(item.size_bytes for item in items):,}")
    total = sum(item.size_bytes for item in garbage)
    table.add_row("all", "", f"{sum(len(item.files) for item in garbage):,}", f"{total:,}", style="bold")
    return table
