"""What the commands of `caravan` do."""

from __future__ import annotations

import os

from flows.driver import Plan, nothing_to_do, open_old_run, open_plan, survey
from flows.runs import open_run
from flows.show import asked_stages, status_table
from flows.terminal import console
from flows.walk import STAGES, Asked, stage_name
from storage.errors import ConfigError

# FACTS.md: the default start-up limit fails on a loaded machine; without analytics there is loopback traffic only.
PREFECT_SETTINGS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal shows our lines; Prefect's records hold the rest
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
}


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
    before = open_run(plan.store, plan.run.name)
    walk = survey(plan, asked)
    stale = asked_stages(walk.visits)
    if dry_run:
        console.print(status_table([visit for visit in walk.visits if visit.asked]))
        report = " report" if asked.includes("report") and (stale or not before.report_is_fresh) else ""
        console.print(f"would run: {' '.join(stale)}{report}" if stale or report else "fresh: nothing would run")
        return
    if nothing_to_do(plan, walk, before):
        console.print(f"fresh: nothing to do ({', '.join(dict.fromkeys(v.stage for v in walk.visits if v.asked))})")
        _say_where(plan)
        return
    os.environ.update({key: os.environ.get(key, value) for key, value in PREFECT_SETTINGS.items()})
    from flows.prefect_flows import whole_path

    console.print(f"run [bold]{plan.run.name}[/] in {plan.store.uri}: {' '.join(stale) or 'nothing stale'}")
    whole_path(recipe, execution, name, asked.first, asked.last, asked.force)
    _say_where(plan)


def _say_where(plan: Plan) -> None:
    run = open_run(plan.store, plan.run.name)
    if run.report_is_fresh:
        where = run.store.local_path(run.report_path) if run.store.is_local else f"{run.store.uri}/{run.report_path}"
        console.print(f"report: {where}")


def status_command(recipe: str, execution: str, name: str | None) -> None:
    """`caravan status`."""
    plan = open_plan(recipe, execution, name)
    before = open_run(plan.store, plan.run.name)
    walk = survey(plan, Asked())
    console.print(f"run [bold]{plan.run.name}[/] in {plan.store.uri}, {_state(before.state)}")
    console.print(status_table(walk.visits))
    shown = before.report_is_fresh and before.artifacts == plan.run.artifacts
    console.print(f"report: {'fresh' if shown else 'stale'}")


def _state(state: str) -> str:
    return {"new": "never run"}.get(state, state)


def report_command(execution: str, name: str) -> None:
    """`caravan report`."""
    from flows.report.build import build_report

    run = open_old_run(execution, name)
    run.store.write(run.report_path, build_report(run).encode())
    run.report_of = run.artifacts_hash
    run.save()
    console.print(str(run.store.local_path(run.report_path)) if run.store.is_local else f"{run.store.uri}/{run.report_path}")
