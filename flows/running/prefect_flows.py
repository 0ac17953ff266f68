"""The Prefect flows: the whole path, and one stage. `prefect.yaml` deploys them; `caravan run` calls the first.

Parameters are names and paths alone: they lie in clear in Prefect's database.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, runtime
from prefect.exceptions import TerminationSignal
from pydantic import Field

from flows.data_to_checkpoint import data_to_checkpoint
from flows.graph.logs import are_sound, keep_logs, logs_of
from flows.graph.runs import Run, State, open_or_renew
from flows.graph.staleness import TRAINING
from flows.graph.walk import STAGES, Asked, StageName, Visit, Walk
from flows.report.words import stage_line, summary_markdown
from flows.running.driver import Plan, check_asked, open_plan, report_stands, resolved
from flows.running.leftovers import named_refusals, tidy
from flows.running.perform import Performer
from flows.running.plain_output import never_fail_on_characters
from flows.running.tasks import dask_cluster, publish_markdown, run_task
from flows.running.terminal import console, tell_warnings
from flows.running.workers import PRELOAD, PRELOAD_S3, Workers
from storage.errors import CaravanError

log = logging.getLogger(__name__)

RecipeName = Annotated[str, Field(min_length=1, description="recipe file, or the name of one in flows/recipes")]
ExecutionName = Annotated[str, Field(min_length=1, description="execution file, or the name of one in flows/execution")]
RunName = Annotated[
    str | None,
    # digits first: Rich takes `[a-z…` for markup, and Prefect's command line would print the refusal without it
    Field(pattern=r"^[0-9a-zA-Z][0-9a-zA-Z._-]{0,99}$", description="name of the run; the recipe's when not given"),
]


def _run_name() -> str:
    """What a list of runs shows: `path of demo`, `mix to pretrain of demo`, `select of demo`."""
    given: dict[str, Any] = runtime.flow_run.parameters
    first, last = given.get("from_stage", STAGES[0]), given.get("to_stage", STAGES[-1])
    part = "path" if (first, last) == (STAGES[0], STAGES[-1]) else first if first == last else f"{first} to {last}"
    return f"{given.get('stage') or part} of {given.get('run') or Path(given['recipe']).stem}"


@flow(name="data-to-checkpoint", flow_run_name=_run_name, validate_parameters=True, persist_result=False)
def whole_path(
    recipe: RecipeName = "demo",
    execution: ExecutionName = "local",
    run: RunName = None,
    from_stage: StageName = "snapshot",
    to_stage: StageName = "report",
    force: bool = False,
) -> None:
    """Run the path from one stage to another (both included): whatever is stale, and nothing else."""
    run_plan(open_plan(recipe, execution, run), Asked(from_stage, to_stage, force))


@flow(name="stage", flow_run_name=_run_name, validate_parameters=True, persist_result=False)
def one_stage(
    stage: StageName,
    recipe: RecipeName = "demo",
    execution: ExecutionName = "local",
    run: RunName = None,
    force: bool = False,
) -> None:
    """Run one stage if it is stale; refused when its inputs are. With `force`, execute it again and compare."""
    run_plan(open_plan(recipe, execution, run), Asked(stage, stage, force))


def run_plan(plan: Plan, asked: Asked) -> Walk:
    """Run what is asked for, inside a flow. The run's file says how it went, also when it fails or is cancelled."""
    never_fail_on_characters()  # a deployment's process was not begun by our command line
    tell_warnings()
    with plan.run.held():
        plan.run.renew()  # another process may have ended it since it was read
        # Looking points a run at what is there; what failed is not kept.
        looked = replace(plan, run=open_or_renew(plan.store, plan.run.name))
        check_asked(looked, asked)
        with named_refusals(plan):
            tidy(plan, store_too=plan.run.state in ("running", "failed", "cancelled"))
        plan.run.begin(resolved(plan.recipe), resolved(plan.execution), str(runtime.flow_run.id or ""))
        try:
            with named_refusals(plan):
                return _run_held(plan, asked, shown=looked.run)
        except BaseException as error:
            try:
                plan.run.end(*how_it_ended(error))
            except (CaravanError, OSError) as second:  # what ended the run counts; that its process is gone says the rest
                log.warning("the run's file could not say how it ended: %s", second)
            raise


def _run_held(plan: Plan, asked: Asked, shown: Run) -> Walk:
    """Walk the graph and make what is asked for. `shown`: the run as it was before."""
    with contextlib.ExitStack() as open_things:
        log, preload = plan.run.work_dir(plan.execution.work_dir) / "workers.log", PRELOAD if plan.store.is_local else PRELOAD_S3
        workers = open_things.enter_context(Workers(plan.execution.workers, log=log, preload=preload))
        dask = None
        if plan.execution.runner == "dask":
            dask = open_things.enter_context(dask_cluster(plan.execution.dask_address, plan.execution.workers))
        performer = Performer(plan, workers, dask)
        walk = Announced(plan.store, plan.raw, plan.run, asked, performer, performer.again)
        data_to_checkpoint(plan.recipe, walk)
    finish(plan, walk, shown)
    if any(visit.state == "ran" for visit in walk.visits):  # a worker or a rank that was killed, and whose work was done again
        tidy(plan, store_too=True)
    return walk


def how_it_ended(error: BaseException) -> tuple[State, str]:
    """The state of a run that an error ended, and the error in words."""
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "stopped by Ctrl-C"
    if isinstance(error, TerminationSignal):
        return "cancelled", "stopped by SIGTERM, as a cancelled flow run is"
    return "failed", f"{type(error).__name__}: {error}"


def finish(plan: Plan, walk: Walk, shown: Run) -> None:
    """Forget what the recipe has no more, write the report, publish the summary. `shown`: the run as it was before."""
    keys = {visit.key for visit in walk.visits}
    for key in plan.run.artifacts.keys() - keys:
        del plan.run.artifacts[key]
    renew_logs(plan)
    complete = not any(visit.state == "stale" for visit in walk.visits)
    if complete and walk.asked.includes("report") and (walk.asked.force or not report_stands(plan, shown)):
        plan.run.conclude("finished")  # the page shows how the run ended
        run_task("report", "report", lambda: write_report(plan))
    plan.run.end("finished" if complete else "partial")
    publish_markdown(f"{plan.run.name}-summary", summary_markdown(plan.run, walk.visits), "what came out of this run")


def renew_logs(plan: Plan) -> None:
    """Copy the logs of training stages that this run trained to the store again where they are not as they were written there, and this
    machine has them still."""
    for stage in TRAINING:
        manifest = plan.run.manifest(stage)
        if manifest is None or manifest.info.get("run") != plan.run.name:
            continue
        root = logs_of(plan.run.name, stage, manifest.fingerprint)
        folder = plan.run.work_dir(plan.execution.work_dir) / Path(root).name
        if folder.is_dir() and not are_sound(plan.store, root):
            keep_logs(plan.store, root, folder)


def write_report(plan: Plan) -> list[Any]:
    """Write the run's page."""
    from flows.report.build import build_report

    shows = plan.run.artifacts_hash
    plan.run.write_report(build_report(plan.run).encode(), shows)
    return []


class Announced(Walk):
    """A walk that says what it finds, as it goes."""

    def note(self, visit: Visit) -> None:
        """Print a line about a visit, and what a person wants to see of some stages."""
        super().note(visit)
        for line in stage_line(visit, self.run):
            console.print(line)
