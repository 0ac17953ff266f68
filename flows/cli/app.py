"""`caravan`: run the path, see how things stand, ask what happened to a document, generate text.

Flags choose work, never results: what bears on a result is a field of the recipe, and what says where and how is a field of the
execution file. `tests/flows/cli/test_app.py` guards the surface. Modules are imported inside commands, so that `--help` is quick.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from flows.running.plain_output import never_fail_on_characters


class App(typer.Typer):
    """The command line; its output fails on no character."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run what the command line asks."""
        never_fail_on_characters()
        return super().__call__(*arguments, **named)


app = App(
    name="caravan",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Raw text to an evaluated, exported Llama-3-style checkpoint: the published recipe, small here and large on a cluster.\n\n"
    "A **recipe** says what to do, an **execution** file where and how, and a **run** is a small file that points at the artifacts that "
    "came out. Start with `caravan run --recipe demo --dry-run`, then leave `--dry-run` out.\n\n"
    "Environment: `CARAVAN_STORE` and `CARAVAN_RAW_ROOT` replace the execution file's `store` and `raw_root`; an `s3://` store takes "
    "the usual `AWS_*` variables. Folders that are not absolute, in an execution file too, are below the current directory.\n\n"
    "Exit codes: 0 done, 1 an error that says what to mend, 2 a command line that is none, 130 stopped by Ctrl-C.",
)

Recipe = Annotated[str, typer.Option("--recipe", help="recipe file (YAML), or the name of one in flows/recipes: demo, test, llama3-8b, …")]
Execution = Annotated[
    str, typer.Option("--execution", help="execution file (YAML), or the name of one in flows/execution: local, minio, …")
]
RunName = Annotated[str | None, typer.Option("--run", help="name of the run; the recipe's own name when not given")]
OldRun = Annotated[str, typer.Option("--run", help="name of the run to ask")]


REFUSED_BY_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@app.command()
def run(
    recipe: Recipe = "demo",
    execution: Execution = "local",
    name: RunName = None,
    first: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="begin here: what comes before must be fresh")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="STAGE", help="end here, this stage included")] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STAGE", help="this stage alone: --from and --to in one")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="execute fresh stages again and compare: other bytes are an error, equal ones change nothing")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and by which field; write nothing")] = False,
) -> None:
    """Run the path, or a part of it: whatever is stale, and nothing else.

    Stages, in order: snapshot, ingest, dedup, quality, domains, select, coverage, train_tokenizer, tokenize, build_tasks, mix,
    pretrain, extend_context, anneal, export, evaluate, report.

    A stage is stale when its version, its part of the recipe or the bytes of its inputs are not those of an artifact in the store.
    So after `select.thresholds.web.min_gopher_word_count` was changed, `caravan run` runs select and what follows, and scores nothing
    again. Where and how (the execution file) makes nothing stale.

    Examples:

    * `caravan run` : the demo, here

    * `caravan run --recipe my.yaml --dry-run` : what would run, and why

    * `caravan run --recipe my.yaml --to select` : up to the funnel and the mixture that is possible

    * `caravan run --only quality --force` : does this machine make the same bytes again?

    * `CARAVAN_STORE=s3://bucket/prefix caravan run --execution minio` : the same recipe in another store

    A run that was killed is simply run again: finished groups of work and step checkpoints are found and kept.
    """
    from flows.cli.commands import run_command

    _guard(lambda: run_command(recipe, execution, name, first=first, last=last, only=only, force=force, dry_run=dry_run))


@app.command()
def status(recipe: Recipe = "demo", execution: Execution = "local", name: RunName = None) -> None:
    """How each stage stands: fresh, or stale and by which field.

    The reason is the field of the recipe that differs from what the run was made with (`select.thresholds.web.min_gopher_word_count:
    50 → 60`), or the input whose bytes changed. Nothing runs and nothing is written.

    Example: `caravan status --recipe my.yaml`
    """
    from flows.cli.commands import status_command

    _guard(lambda: status_command(recipe, execution, name))


@app.command()
def explain(
    document: Annotated[str, typer.Argument(metavar="ID", help="a document's id, 32 hexadecimal digits, or its first digits")],
    execution: Execution = "local",
    name: OldRun = "demo",
) -> None:
    """What happened to one document: where it came from, its text, signals, clusters, decision and edits, and the steps that saw it.

    Ids stand in the tables, in the report's samples, and in what `caravan trace` prints.

    Example: `caravan explain 0a1b2c3d --run my-run`
    """
    from flows.cli.commands import explain_command

    _guard(lambda: explain_command(document, execution, name))


@app.command()
def trace(
    document: Annotated[str | None, typer.Argument(metavar="ID", help="a document's id, or its first digits: which steps saw it")] = None,
    url: Annotated[str | None, typer.Option("--url", help="every document of this URL, and the steps that saw them")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="with --step: a training stage (pretrain, extend_context, anneal)")] = None,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="with --stage: an optimizer step, from 0: which documents it saw")
    ] = None,
    execution: Execution = "local",
    name: OldRun = "demo",
) -> None:
    """From a document to the training steps that saw it, and from a step to its documents.

    Examples:

    * `caravan trace 0a1b2c3d` : the samples and steps of one document, in every training stage

    * `caravan trace --url https://example.org/page` : as deduplication reads it, so without its scheme, fragment or tracking parameters

    * `caravan trace --stage pretrain --step 41` : what was in the batch at step 41

    Both directions are arithmetic on the plan; nothing is searched.
    """
    from flows.cli.commands import trace_command

    _guard(lambda: trace_command(document, url, stage, step, execution, name))


@app.command()
def report(execution: Execution = "local", name: OldRun = "demo") -> None:
    """Write the run's HTML page anew, from its artifacts and metrics, and say where it is."""
    from flows.cli.commands import report_command

    _guard(lambda: report_command(execution, name))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="text to go on from; begins as a document, after BOS")],
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, max=4096, help="tokens to generate at most; the recipe's when not given")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the sampling")] = 0,
    execution: Execution = "local",
    name: OldRun = "demo",
) -> None:
    """Text from the run's exported checkpoint, by `transformers`, with the generation settings of the recipe.

    Example: `caravan generate "The river" --seed 3`
    """
    from flows.cli.commands import generate_command

    _guard(lambda: generate_command(prompt, max_new_tokens, seed, execution, name))


@app.command()
def gc(
    execution: Execution = "local",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Remove what no run was made from: artifacts, files of attempts that came to nothing, step checkpoints of finished training.

    It says what it would remove and how many bytes that is, and asks before it does. Refused while a run of the store is running.
    """
    from flows.cli.commands import gc_command

    _guard(lambda: gc_command(execution, yes))


@app.command()
def verify(
    execution: Execution = "local",
    name: Annotated[str | None, typer.Option("--run", help="look at what this run refers to alone; the whole store when not given")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="read every byte; else sizes, and sums of small files")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="set aside what is damaged, so that the next run makes it again; nothing is removed but caches")
    ] = False,
) -> None:
    """Look for damage in a store: files that are not as they were written. Each is named, with what to do.

    Manifests, records of groups, leases, runs and caches hold sums of themselves, and manifests those of every file. Nothing that a run
    reads is believed unchecked; this command looks before one does. Exit code 1 when damage is found that was not repaired.

    Examples:

    * `caravan verify` : sizes, and sums of small files

    * `caravan verify --run my-run --deep` : every byte that this run refers to

    * `caravan verify --deep --repair` : and set damaged files aside; then `caravan run` makes them again
    """
    from flows.cli.commands import verify_command

    _guard(lambda: verify_command(execution, name, deep=deep, repair=repair))


def _guard(action: Callable[[], None]) -> None:
    """Run a command; an error of Caravan's own, or a disk that refuses, is its message and exit code 1, Ctrl-C is 130.

    Anything else is a fault of ours: a traceback.
    """
    from flows.running.terminal import tell_warnings
    from storage.errors import CaravanError

    tell_warnings()
    try:
        action()
    except CaravanError as error:
        _end(type(error).__name__, str(error), 1)
    except OSError as error:
        if error.errno not in REFUSED_BY_DISK:
            raise
        where = f" ({error.filename})" if error.filename else ""
        _end("disk", f"{error.strerror}{where}; what is finished is kept, and the same command goes on from there", 1)
    except KeyboardInterrupt:
        _end("stopped", "by Ctrl-C; what is finished is kept, and the same command goes on from there", 130)


def _end(what: str, why: str, code: int) -> NoReturn:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]{what}[/]", end=" ")
    console.print(why, markup=False)
    sys.exit(code)


if __name__ == "__main__":
    app()
