"""What the commands of `caravan` do."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.markup import escape

from flows.cli.show import asked_stages, status_table
from flows.graph.runs import Run, open_or_renew
from flows.graph.soundness import damaged
from flows.graph.staleness import stale_artifacts, stale_lines
from flows.graph.walk import STAGES, Asked, Visit, stage_name
from flows.running.driver import Plan, check_asked, nothing_to_do, open_old_run, open_plan, report_stands, resolved, set_up_prefect, survey
from flows.running.terminal import console
from storage.disk import remove_abandoned, temporary_folder
from storage.errors import ConfigError, IntegrityError

SO_FAR = "report-so-far.html"


def asked_for(first: str | None, last: str | None, only: str | None, force: bool) -> Asked:
    """What the flags ask for. Raises ConfigError."""
    if only is not None:
        if first is not None or last is not None:
            raise ConfigError("--only is --from and --to in one: leave those out")
        first = last = only
    return Asked(stage_name(first or STAGES[0]), stage_name(last or STAGES[-1]), force)


def run_command(
    recipe: str, execution: str, name: str | None, *, first: str | None, last: str | None, only: str | None, force: bool, dry_run: bool
) -> None:
    """`caravan run`. Looks first, so that a run with nothing to do starts no server."""
    asked = asked_for(first, last, only, force)
    plan = open_plan(recipe, execution, name)
    before = open_or_renew(plan.store, plan.run.name)
    walk = check_asked(plan, asked)
    stale = asked_stages(walk.visits)
    if dry_run:
        console.print(status_table([visit for visit in walk.visits if visit.asked], is_new=not before.artifacts))
        report = ["report"] if asked.includes("report") and (stale or force or not report_stands(plan, before)) else []
        console.print(f"would run: {' '.join([*stale, *report])}" if stale or report else "fresh: nothing would run")
        if force and (again := asked_stages(walk.visits, "fresh")):
            console.print(f"would execute again and compare: {' '.join(again)}")
        return
    if nothing_to_do(plan, walk, before):
        for error in _damaged(plan, [visit for visit in walk.visits if visit.asked]).values():
            raise error  # nothing would read it, and nothing that does not verify is called fresh
        console.print(f"fresh: nothing to do ({', '.join(dict.fromkeys(v.stage for v in walk.visits if v.asked))})")
        _say_where(plan)
        return
    before.check_not_running()
    set_up_prefect()
    from prefect.settings import PREFECT_API_URL

    from flows.running.prefect_flows import whole_path
    from flows.running.server import prefect_server

    console.print(f"run [bold]{plan.run.name}[/] in {escape(plan.store.uri)}: {' '.join(stale) or 'nothing stale'}")
    if not PREFECT_API_URL.value():
        console.print("  starting a Prefect server of its own")  # some seconds in which nothing else is seen
    with prefect_server(plan.run.work_dir(plan.execution.work_dir) / "prefect-server.log"):
        if before.recipe and before.recipe != resolved(plan.recipe):
            console.print(
                f"run {plan.run.name} was made with another recipe, and will point at this one's artifacts; --run NAME keeps both"
            )
        whole_path(recipe, execution, name, asked.first, asked.last, asked.force)
    _say_where(plan)


def _say_where(plan: Plan) -> None:
    run = open_or_renew(plan.store, plan.run.name)
    if run.report_is_fresh:
        where = run.store.local_path(run.report_path) if run.store.is_local else f"{run.store.uri}/{run.report_path}"
        console.print(f"report: {where}", markup=False)


def status_command(recipe: str, execution: str, name: str | None) -> None:
    """`caravan status`."""
    plan = open_plan(recipe, execution, name)
    before = open_or_renew(plan.store, plan.run.name)
    walk = survey(plan, Asked())
    found = _damaged(plan, walk.visits)
    visits = [replace(visit, state="damaged", reason=str(found[visit.key])) if visit.key in found else visit for visit in walk.visits]
    console.print(f"run [bold]{plan.run.name}[/] in {escape(plan.store.uri)}, {_state(before)}")
    console.print(status_table(visits, is_new=not before.artifacts))
    console.print(f"report: {'fresh' if report_stands(plan, before) else 'stale' if before.report_of else 'not made yet'}")


def _damaged(plan: Plan, visits: Sequence[Visit]) -> dict[str, IntegrityError]:
    return damaged(plan.store, {visit.key: visit.manifest for visit in visits if visit.manifest is not None})


def _state(run: Run) -> str:
    if run.state == "running" and not run.is_alive:
        return "interrupted: it goes on with caravan run"
    return "never run" if run.state == "new" else run.state


def report_command(execution: str, name: str) -> None:
    """`caravan report`."""
    from flows.report.build import build_report

    run = open_old_run(execution, name)
    if run.is_alive:  # its process writes the run's file and its page
        path = f"{run.root}/{SO_FAR}"
        run.store.write(path, build_report(run).encode())
        console.print(f"run {run.name} goes on: this page shows how it stands now", markup=False)
    else:
        path = run.report_path
        with run.held():
            run.renew()
            run.write_report(build_report(run).encode(), run.artifacts_hash)
    where = run.store.local_path(path) if run.store.is_local else f"{run.store.uri}/{path}"
    console.print(str(where), markup=False)


def explain_command(document: str, execution: str, name: str) -> None:
    """`caravan explain`."""
    from flows.cli.show import explanation
    from flows.history.lineage import explain, find_document

    run = open_old_run(execution, name)
    for part in explanation(explain(run, find_document(run, document))):
        console.print(part)


def trace_command(document: str | None, url: str | None, stage: str | None, step: int | None, execution: str, name: str) -> None:
    """`caravan trace`."""
    from flows.cli.show import fed_table, seen_table, shards_of
    from flows.history import lineage

    given = [document is not None, url is not None, stage is not None or step is not None]
    if sum(given) != 1 or (stage is None) != (step is None):
        raise ConfigError("trace one thing: a document's ID, or --url, or --stage with --step")
    run = open_old_run(execution, name)
    stale = stale_artifacts(run)
    if stage is not None and step is not None:
        if stage not in lineage.TRAINING:
            raise ConfigError(f"--stage {stage!r}: the training stages are {', '.join(lineage.TRAINING)}")
        _say_stale(stale, [f"mix/{stage}", stage])
        console.print(fed_table(lineage.documents_of_step(run, stage, step)))
        return
    places = [lineage.find_document(run, document)] if document is not None else lineage.documents_of_url(run, url or "")
    found = [(place, lineage.locate(run, place.id)) for place in places]
    shards = dict.fromkeys(shards_of(tokens) for _, tokens in found)
    _say_stale(stale, [*shards, *(key for stage in lineage.TRAINING for key in (f"mix/{stage}", stage))])
    for place, tokens in found:
        console.print(f"{place.id.hex()}  {place.source}")
        reason = lineage.drop_reason(run, place)
        console.print(seen_table(tokens, list(lineage.seen_by(run, place.id)), reason, is_stale=shards_of(tokens) in stale))


def _say_stale(stale: Mapping[str, str], keys: Iterable[str]) -> None:
    """Say which of these artifacts were not made from what the run points at now."""
    for line in stale_lines(stale, keys):
        console.print(line, style="yellow", markup=False)


def generate_command(prompt: str, max_new_tokens: int | None, seed: int, execution: str, name: str) -> None:
    """`caravan generate`."""
    run = open_old_run(execution, name)
    export = run.need("export")
    for line in stale_lines(stale_artifacts(run), ["export"]):
        print(line, file=sys.stderr)  # apart from the text, which may go to a file
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from training.export import download

    disable_progress_bar()  # type: ignore[no-untyped-call]
    with temporary_folder() as folder:
        download(run.store, export, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(seed)
    limit = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    output = model.generate(**tokenizer(prompt, return_tensors="pt", return_token_type_ids=False), **limit)
    print(tokenizer.decode(output[0], skip_special_tokens=True))


def verify_command(execution: str, name: str | None, *, deep: bool, repair: bool) -> None:
    """`caravan verify`."""
    from flows.history import damage
    from flows.recipe.execution import load_execution
    from flows.running.driver import use_credentials
    from storage.store import Store

    place = load_execution(execution)
    use_credentials(place.credentials_block, place.work_dir)
    store = Store(place.store, place.durable)
    if name is not None and name not in store.list_dirs("runs"):
        raise ConfigError(f"no run {name!r} in {store.uri}; there are: {', '.join(store.list_dirs('runs')) or 'none'}")
    if repair and (held := damage.in_use(store)):
        raise ConfigError(f"{held} is running: its lease is held. Repair when it has ended")
    n_found = n_left = 0
    with console.status("reading") if sys.stdout.isatty() else contextlib.nullcontext() as line:
        for found in damage.find_damage(store, name, deep=deep, progress=line.update if line else lambda _: None):
            n_found += 1
            console.print(f"{found.path}: {found.problem}", style="red", markup=False)
            if repair and damage.repair(found):
                console.print(f"  out of the way: {found.remedy}", markup=False)
            else:
                n_left += 1
                console.print(f"  {found.remedy}", markup=False)
    how = "every byte was read" if deep else "sizes were compared, and small files read; --deep reads every byte"
    if not n_found:
        console.print(f"no damage found in {store.uri}: {how}", markup=False)
    elif n_left:
        remedy = f"`caravan verify{' --deep' if deep else ''} --repair` takes them out of the way; {how}"
        raise IntegrityError(store.uri, expected="no damage", actual=f"{n_left:,} damaged file(s), named above", remedy=remedy)
    else:
        console.print(f"{n_found:,} damaged file(s) out of the way: `caravan run` makes again what is missing", markup=False)


def gc_command(execution: str, yes: bool) -> None:
    """`caravan gc`."""
    import tempfile
    from pathlib import Path

    import typer

    from flows.cli.show import garbage_table
    from flows.history.garbage import find_garbage, remove
    from flows.recipe.execution import load_execution
    from flows.running.driver import use_credentials
    from storage.store import Store

    place = load_execution(execution)
    use_credentials(place.credentials_block, place.work_dir)
    store = Store(place.store)
    garbage = find_garbage(store)
    if not garbage:
        console.print(f"nothing to remove in {store.uri}: every artifact belongs to a run")
        return
    files, size_bytes = sum(len(item.files) for item in garbage), sum(item.size_bytes for item in garbage)
    console.print(f"gc would remove {files:,} files ({size_bytes:,} bytes) that no run needs:")
    console.print(garbage_table(garbage))
    if not yes:
        console.print("Nothing is removed yet: answer y to remove all of it, or run `caravan gc --yes`.", markup=False)
        if not typer.confirm("Remove all of this?"):
            console.print("nothing was removed")
            return
    remove(store, garbage)
    left = remove_abandoned(Path(tempfile.gettempdir()))
    console.print(f"removed {files:,} files" + (f", and {left:,} that killed processes left in {tempfile.gettempdir()}" if left else ""))
