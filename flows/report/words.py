"""What came out, in words: lines and tables on a terminal while a run goes on, markdown for Prefect, and what the page says, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from flows.graph.logs import METRICS, logs_of, read_log
from flows.graph.runs import Run
from flows.graph.staleness import TRAINING
from flows.graph.walk import Visit
from pipeline.select.funnel import render_funnel
from storage.artifact import Manifest, read_verified
from training.mix import MixtureRow, mixture, read_plan

MARKS = {"fresh": "[dim]·[/]", "ran": "[green]✓[/]", "again": "[green]=[/]", "stale": "[yellow]○[/]", "damaged": "[red]![/]"}
MAX_COUNTS = 4
NO_BETTER_THAN_COUNTING = (
    "held-out bits per byte are not below the unigram model's: this checkpoint tells no more than how often each token occurs; "
    "give it more steps or text, or another learning rate"
)
BEFORE_COVERAGE = "not among these: held-out documents whose URL or near twin is to train on, which select dropped (covered in the funnel)"
WORDS = {  # where a counter's name with spaces is no plain English
    "over_cap": "over the cap",
    "size_bytes": "bytes",
    "training_words": "words of documents to train on",
    "documents_with_url": "documents compared by URL",
    "trained_clusters": "clusters to train the classifier",
    "contrast_pages": "pages to teach by contrast",
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
        if visit.stage == "quality" and "validation.json" in visit.manifest.names():
            warning = classifier_warning(json.loads(read_verified(run.store, visit.manifest, "validation.json")))
            yield from [f"[yellow]{escape(warning)}[/]"] if warning else []
        if visit.stage == "select":
            yield from selection_lines(run, visit.manifest)
        if visit.stage == "coverage":
            yield coverage_table(json.loads(read_verified(run.store, visit.manifest, "coverage.json")))
        if visit.stage == "mix":
            yield mixture_table(mixture(read_plan(run.store, visit.manifest)))
        if visit.stage == "evaluate":
            scores = json.loads(read_verified(run.store, visit.manifest, "scores.json"))
            yield scores_table(scores)
            if scores["bits_per_byte"]["all"] >= scores["unigram_bits_per_byte"]["all"]:
                yield f"[yellow]{NO_BETTER_THAN_COUNTING}[/]"


def trained_text(run: Run, checkpoint: Manifest) -> str:
    """How many optimizer steps a training stage took, and the loss of the last, from the metrics that the run kept."""
    root = logs_of(checkpoint.info.get("run", run.name), checkpoint.stage, checkpoint.fingerprint)
    rows = (read_log(run.store, root, METRICS) or b"").splitlines()
    if not rows:  # another trainer published it meanwhile, or all its steps were there and it was only published
        return counts_text(checkpoint)
    last = json.loads(rows[-1])
    return f"{last['step'] + 1:,} steps, loss {last['loss']:.3f} at the last"


def counts_text(manifest: Manifest) -> str:
    """The counts that say most, in words."""
    plain = [(name, value) for name, value in manifest.counts.items() if ":" not in name]
    return ", ".join(f"{value:,} {WORDS.get(name, name.replace('_', ' '))}" for name, value in plain[:MAX_COUNTS])


def classifier_warning(validation: Mapping[str, Any]) -> str:
    """What to think of a quality classifier that ranks no better than counting does; empty for one that does, and where it is not known."""
    said = []
    for what, found in (("sources kept out", validation), ("pages that taught by contrast", validation.get("contrast", {}))):
        if beaten := found.get("no_better_than"):
            others = ", ".join(f"{name.replace('_', ' ')} {found[f'{name}_auc']:.3f}" for name in beaten)
            said.append(f"the {what} no better than counting does: AUC {found['auc']:.3f}, {others}")
    return f"the quality classifier ranks {'; '.join(said)}; give it other examples, or set no min_quality_score" if said else ""


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
    table = table_of("", ("component", "target", "realised", "tokens available", "tokens taken", "epochs"))
    for row in rows:
        shares = (f"{row.target_share:.2%}", f"{row.realised_share:.2%}")
        table.add_row(row.component, *shares, f"{row.available_tokens:,}", f"{row.realised_tokens:,}", f"{row.epochs:.2f}")
    return table


def coverage_table(coverage: Mapping[str, Any]) -> Table:
    """What became of each domain's held-out documents, and how much of what is left lies in long runs of training."""
    table = table_of("", ("held out", "documents", "covered by training", "over the cap", "left", "bytes left", "words left in 50-grams"))
    table.caption, table.caption_justify = BEFORE_COVERAGE, "left"
    for domain, row in coverage["domains"].items():
        documents = [f"{row[cell]['documents']:,}" for cell in ("in", "covered", "over_cap", "left")]
        copied = row["left_words_in_50_grams"] / max(row["left"]["words"], 1)
        table.add_row(domain, *documents, f"{row['left']['size_bytes']:,}", f"{copied:.2%}")
    return table


def scores_table(scores: Mapping[str, Any]) -> Table:
    """Bits per byte of each domain beside the unigram model's, lower is better, then each task's metrics."""
    table = table_of("", ("score", "on", "checkpoint", "unigram model", "ratio"))
    for domain, bits in scores["bits_per_byte"].items():
        unigram = scores["unigram_bits_per_byte"][domain]
        table.add_row("bits per byte", f"held-out {domain}", f"{bits:.3f}", f"{unigram:.3f}", f"{bits / unigram:.3f}")
    for task, metrics in scores["tasks"].items():
        for name, value in metrics.items():
            if name != "n":
                table.add_row(name, f"{task}, {metrics['n']:,.0f} items", f"{value:.3f}", "", "")
    return table


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


def table_of(title: str, columns: Sequence[str]) -> Table:
    """An empty table, without a frame."""
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", justify="left")
    return table
