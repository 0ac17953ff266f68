"""What a run looks like to people: lines on a terminal, tables, markdown for Prefect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.garbage import Garbage
from flows.lineage import Copy, FedDocument, Seen, Tokens
from flows.runs import METRICS, Run, logs_of
from flows.staleness import TRAINING, note
from flows.walk import STAGES, State, Visit
from pipeline.select.funnel import render_funnel
from storage.artifact import Manifest, read_verified
from training.mix import MixtureRow, mixture, read_plan

MARKS = {"fresh": "[dim]·[/]", "ran": "[green]✓[/]", "again": "[green]=[/]", "stale": "[yellow]○[/]"}
MAX_COUNTS = 4
LAST_BYTES = 8192  # of the metrics, which hold a line a step
NO_BETTER_THAN_COUNTING = (
    "held-out bits per byte are not below the unigram model's: this checkpoint tells no more than how often each token occurs; "
    "give it more steps or text, or another learning rate"
)
WORDS = {  # where a counter's name with spaces is no plain English
    "size_bytes": "bytes",
    "documents_with_url": "documents compared by URL",
    "trained_clusters": "clusters to train the classifier",
    "vocab_size": "tokens in the vocabulary",
}


def stage_line(visit: Visit, run: Run) -> Iterator[Any]:
    """Lines about one visit of a run that goes on; nothing for one that was there already or that nobody asked for."""
    if (
        visit.state == "ran" and visit.manifest is not None and visit.manifest.stage != "extract"
    ):  # one per file: the documents' line sums up
        seconds = visit.manifest.info.get("wall_s")
        took = f"  [dim]{seconds:.1f} s[/]" if isinstance(seconds, int | float) else ""
        said = trained_text(run, visit.manifest) if visit.stage in TRAINING else counts_text(visit.manifest)
        yield f"{MARKS['ran']} {escape(visit.key)}  {said}{took}"
        if visit.stage == "select":
            yield from selection_lines(run, visit.manifest)
        if visit.stage == "mix":
            yield mixture_table(mixture(read_plan(run.store, visit.manifest)))
        if visit.stage == "evaluate":
            scores = json.loads(read_verified(run.store, visit.manifest, "scores.json"))
            yield scores_table(scores)
            if scores["bits_per_byte"]["all"] >= scores["unigram_bits_per_byte"]["all"]:
                yield f"[yellow]{NO_BETTER_THAN_COUNTING}[/]"


def trained_text(run: Run, checkpoint: Manifest) -> str:
    """How many optimizer steps a training stage took, and the loss of the last, from the metrics that the run kept."""
    path = f"{logs_of(checkpoint.info.get('run', run.name), checkpoint.stage, checkpoint.fingerprint)}/{METRICS}"
    if not run.store.exists(path):  # another machine's trainer published it meanwhile
        return counts_text(checkpoint)
    size_bytes = run.store.size(path)
    last = json.loads(run.store.read_range(path, max(0, size_bytes - LAST_BYTES), size_bytes).splitlines()[-1])
    return f"{last['step'] + 1:,} steps, loss {last['loss']:.3f} at the last"


def counts_text(manifest: Manifest) -> str:
    """The counts that say most, in words."""
    plain = [(name, value) for name, value in manifest.counts.items() if ":" not in name]
    return ", ".join(f"{value:,} {WORDS.get(name, name.replace('_', ' '))}" for name, value in plain[:MAX_COUNTS])


def selection_lines(run: Run, selection: Manifest) -> list[Any]:
    """The funnel of the selection and the mixture that it makes possible, its tokens estimated from the run's newest shards (RULE 20)."""
    funnel = json.loads(read_verified(run.store, selection, "funnel.json"))
    shards, rate = run.manifest("tokenize"), None
    if shards is not None:
        rows = json.loads(read_verified(run.store, shards, "counts.json"))["train"].values()
        size_bytes = sum(row["bytes"] for row in rows)
        rate = sum(row["tokens"] for row in rows) / size_bytes if size_bytes else None
    return list(render_funnel(funnel, rate))


def mixture_table(rows: Sequence[MixtureRow]) -> Table:
    """A training stage's mixture by tokens: what was asked, what there is, what it takes, and how often it goes through it."""
    table = _rows("", ("component", "target", "realised", "tokens available", "tokens taken", "epochs"))
    for row in rows:
        shares = (f"{row.target_share:.2%}", f"{row.realised_share:.2%}")
        table.add_row(row.component, *shares, f"{row.available_tokens:,}", f"{row.realised_tokens:,}", f"{row.epochs:.2f}")
    return table


def scores_table(scores: Mapping[str, Any]) -> Table:
    """Bits per byte of each domain beside the unigram model's, lower is better, then each task's metrics."""
    table = _rows("", ("score", "on", "checkpoint", "unigram model", "ratio"))
    for domain, bits in scores["bits_per_byte"].items():
        unigram = scores["unigram_bits_per_byte"][domain]
        table.add_row("bits per byte", f"held-out {domain}", f"{bits:.3f}", f"{unigram:.3f}", f"{bits / unigram:.3f}")
    for task, metrics in scores["tasks"].items():
        for name, value in metrics.items():
            if name != "n":
                table.add_row(name, f"{task}, {metrics['n']:,.0f} items", f"{value:.3f}", "", "")
    return table


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


def summary_markdown(run: Run, visits: Sequence[Visit]) -> str:
    """The run in a page of markdown, for the Prefect interface."""
    lines = [f"# {run.name}", "", f"state: **{run.state}**, store: `{run.store.uri}`", ""]
    lines += ["| artifact | state | digest | counts |", "|---|---|---|---|"]
    for visit in visits:
        digest = visit.manifest.digest[:16] if visit.manifest else ""
        counts = counts_text(visit.manifest) if visit.manifest else visit.reason
        lines.append(f"| {_cell(visit.key)} | {visit.state} | {digest} | {_cell(counts)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def asked_stages(visits: Sequence[Visit], state: State = "stale") -> list[str]:
    """Names of the stages that are asked for and stand so, in order: stale ones would run, fresh ones would with --force."""
    names = {visit.stage for visit in visits if visit.asked and visit.state == state and (visit.stage, state) != ("snapshot", "fresh")}
    return [stage for stage in STAGES if stage in names]


def explanation(facts: Mapping[str, Any], run: Run) -> Iterator[Any]:
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
    if overlaps := (facts.get("quality") or {}).get("eval_overlap"):
        yield _section("overlap with evaluation", _overlaps_text(overlaps))
    for reason, copies in facts.get("same", {}).items():
        yield _section(f"same {reason}", {copy.id.hex(): f"{copy.source}, {_fate(copy)}" for copy in copies})
    if facts.get("tokens") or facts.get("seen") or (stale.get("tokenize") and "tokens" in facts):
        tokens = vars(facts["tokens"]) if facts["tokens"] else {"none": "it is not in these shards"}
        yield _section("tokens", {**_stale_row(stale, ["tokenize"]), **tokens})
        plans = [key for stage in TRAINING for key in (f"mix/{stage}", stage)]
        yield _section("trained on", {**_stale_row(stale, plans), **_steps_text(facts["seen"], facts["tokens"])})
    yield Text("text", style="bold")
    yield Text(facts.get("edited_text", document["text"]))


OTHER_DOCUMENTS = "it ran on other documents of this source: caravan run"
SAID = ("id", "keep", "reason", "eval_overlap")  # by the decision, by the document, or in a section of its own
WHY = {
    "url": "another document of its URL stayed",
    "exact": "another document of the same text stayed",
    "near": "a document of nearly the same text stayed",
    "lines": "nothing is left of it without the lines that many documents repeat",
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
    if row["keep"]:
        return {"kept": f"in {row['component']}, to train on" if row["split"] == "train" else f"in {row['domain']}, held out", **said}
    reason = row["reason"]
    said = {"dropped": facts.get("bound") or f"{reason}{f': {WHY[reason]}' if reason in WHY else ''}", **said}
    for group, copies in facts.get("same", {}).items():
        stayed = copies[0]
        if stayed.reason == group:
            break  # the one that stayed is of documents that were read anew since
        dropped = f"was itself dropped as {stayed.reason}{': no copy of the text is kept' if stayed.reason == 'lines' else ''}"
        said[stayed.id.hex()] = f"{stayed.source}, stayed and {dropped if stayed.reason else 'is kept'}"
    return said


def _stale_row(stale: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """A row that says that the first of `keys` that is stale is; none where none is."""
    return next(({"stale": note(stale[key])} for key in keys if key in stale), {})


def _overlaps_text(overlaps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By item of an evaluation task (its file, and its number there from 0) what share of it the document holds, the largest first."""
    ordered = sorted(overlaps, key=lambda overlap: -overlap["coverage"])
    return {f"{overlap['task']} item {overlap['item']}": f"{100 * overlap['coverage']:.1f} % of its words" for overlap in ordered}


def _fate(copy: Copy) -> str:
    return f"dropped as {copy.reason}" if copy.reason else "kept"


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
        return f"  not kept{f' (dropped as {reason})' if reason else ''}: it has no tokens; `caravan explain` says more"
    where = f"tokens {tokens.start:,} to {tokens.end:,} of {tokens.split}/{tokens.name}" if tokens else "not in the run's shards"
    where += f"; the run's selection drops it as {reason}" if reason else ""
    if not seen:
        return f"  {where}; no training step saw it: {_unseen(tokens)}"
    table = _rows(where, ("stage", "step", "sample", "epoch"))
    for sample in seen:
        table.add_row(sample.stage, str(sample.step), str(sample.sample), str(sample.epoch))
    return table


def fed_table(fed: Sequence[FedDocument]) -> Table:
    """Which documents a step saw, sample by sample."""
    table = _rows("", ("sample", "component", "document", "from token", "to token"))
    for row in fed:
        table.add_row(str(row.sample), row.component, row.id.hex(), str(row.start), str(row.end))
    return table


def garbage_table(garbage: Sequence[Garbage]) -> Table:
    """What `caravan gc` would remove: a row for each stage and reason, the folder's name where it is one."""
    groups: dict[tuple[str, str], list[Garbage]] = {}
    for item in garbage:
        groups.setdefault((item.what.rpartition("/")[0], item.reason), []).append(item)
    table = _rows("", ("what", "why", "files", "bytes"))
    for (folder, reason), items in groups.items():
        what = items[0].what if len(items) == 1 else f"{folder}/ ({len(items):,} artifacts)"
        table.add_row(Text(what), reason, f"{sum(len(item.files) for item in items):,}", f"{sum(item.size_bytes for item in items):,}")
    total = sum(item.size_bytes for item in garbage)
    table.add_row("all", "", f"{sum(len(item.files) for item in garbage):,}", f"{total:,}", style="bold")
    return table


def _rows(title: str, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", justify="left")
    return table
