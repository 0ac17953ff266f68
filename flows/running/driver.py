"""From names of files to a walk: what the command line and the Prefect flows share. No Prefect here, so that looking is quick."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flows.data_to_checkpoint import data_to_checkpoint
from flows.graph.runs import Run, existing_run, open_or_renew
from flows.graph.walk import Asked, Walk
from flows.recipe.checks import check_together
from flows.recipe.execution import Execution, load_execution
from flows.recipe.loading import load_recipe
from flows.recipe.recipe import Recipe
from storage.errors import ConfigError
from storage.proxies import reach_loopback_directly
from storage.store import Store

# FACTS.md: the default start-up limit fails on a loaded machine; without analytics there is loopback traffic only.
PREFECT_SETTINGS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal shows our lines; Prefect's records hold the rest
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
}


@dataclass(frozen=True)
class Plan:
    """What is to be run, where, and under which name."""

    recipe: Recipe
    execution: Execution
    store: Store
    raw: Store
    run: Run


def open_plan(recipe: str, execution: str, run: str | None) -> Plan:
    """Read and check both files, before any work. Raises ConfigError."""
    asked, place = load_recipe(recipe), load_execution(execution)
    check_together(asked, place)
    use_credentials(place.credentials_block, place.work_dir)
    store = Store(place.store, place.durable)
    return Plan(asked, place, store, Store(place.raw_root, kind="raw_root"), open_or_renew(store, run or asked.name))


def open_old_run(execution: str, run: str) -> Run:
    """A run that exists, by an execution file and its name. Raises ConfigError."""
    place = load_execution(execution)
    use_credentials(place.credentials_block, place.work_dir)
    return existing_run(Store(place.store, place.durable), run)


def use_credentials(block: str | None, work_dir: str) -> None:
    """Put the AWS variables of a Prefect block into the environment, where they are not set. Never logged.

    Without a Prefect server that is configured, one of our own is started to read the block; its log goes to `work_dir`.
    Raises ConfigError when the block is not there or holds something else.
    """
    if block is None:
        return
    set_up_prefect()
    from prefect.blocks.core import Block

    from flows.running.server import prefect_server

    with prefect_server(Path(work_dir) / "prefect-server.log"):
        try:
            values = dict(Block.load(block).get())  # type: ignore[union-attr]  # a sync call; a secret block has get()
        except (ValueError, AttributeError, TypeError) as error:  # its message may show what the block holds
            wanted = "expected secret/<name>, a Prefect secret block that holds a JSON object"
            raise ConfigError(f"execution.credentials_block: {block!r}: {type(error).__name__}; {wanted}") from None
    wrong = sorted(str(key) for key, value in values.items() if not str(key).startswith("AWS_") or not isinstance(value, str))
    if wrong:
        raise ConfigError(f"execution.credentials_block: {block!r} holds {wrong[0]!r}; only AWS_* variables, as text, are taken")
    for key, value in values.items():
        os.environ.setdefault(key, value)


def set_up_prefect() -> None:
    """Set Prefect's variables where they are not set, before it is imported; its server on this machine is reached without a proxy."""
    reach_loopback_directly()
    os.environ.update({key: os.environ.get(key, value) for key, value in PREFECT_SETTINGS.items()})


def survey(plan: Plan, asked: Asked) -> Walk:
    """Walk the graph without running or writing anything."""
    walk = Walk(plan.store, plan.raw, plan.run, asked)
    data_to_checkpoint(plan.recipe, walk)
    return walk


def check_asked(plan: Plan, asked: Asked) -> Walk:
    """What is asked for, looked at before any work; the walk that looked.

    Raises ConfigError when a stage that would run is not in the recipe or the execution, or its inputs are stale and not asked for.
    """
    walk = survey(plan, asked)
    visited = {visit.stage for visit in walk.visits}
    if asked.first == asked.last and asked.first not in {*visited, "report"}:
        raise ConfigError(f"--only {asked.first}: the recipe has no such stage; of training it has {', '.join(plan.recipe.stages)}")
    stale = [visit for visit in walk.visits if visit.state == "stale"]
    for stage in plan.recipe.stages:
        if any(visit.stage == stage and visit.asked for visit in stale):
            plan.execution.place(stage)
    for visit in stale:
        if asked.first == "report":
            raise ConfigError(f"report: its input {visit.key} is stale ({visit.reason}); run it too: --from {visit.stage}")
    return walk


def nothing_to_do(plan: Plan, walk: Walk, before: Run) -> bool:
    """Whether all that is asked for is there, and the run says so already. `before`: the run as it is in the store."""
    if walk.asked.force or any(visit.asked and visit.state == "stale" for visit in walk.visits):
        return False
    if before.artifacts != plan.run.artifacts or before.state not in ("finished", "partial"):
        return False
    return not walk.asked.includes("report") or report_stands(plan, before)


def report_stands(plan: Plan, before: Run) -> bool:
    """Whether the run's page shows what the recipe asks for now; another recipe of that name may have been run since."""
    return before.report_is_fresh and before.artifacts == plan.run.artifacts and before.recipe == resolved(plan.recipe)


def resolved(recipe: Recipe | Execution) -> dict[str, object]:
    """A recipe or an execution with every default, as plain data."""
    return recipe.model_dump(mode="json")
