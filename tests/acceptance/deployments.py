"""Runs by deployment on a real Prefect server and worker; one that is cancelled in training leaves no process.

Server and worker are started here, with a PREFECT_HOME, a port and a process pool of their own, and are gone afterwards.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

from flows.graph.walk import STAGES
from flows.processes import kill_all
from tests.acceptance.common import PROJECT, Checks, Place, arguments, place, work_folder
from tests.acceptance.deployments_server import PROCESSES, WHOLE_PATH, Deployed, cancel_in_training, server_and_worker
from tests.acceptance.processes import processes_of
from tests.acceptance.rerun import a_threshold, with_mixture, with_threshold

# Imported by every Python of the run that is to be sabotaged; the flow's process starts a child that no signal to its group reaches.
LEAK = """
import subprocess, sys
if "prefect.engine" in " ".join(sys.orig_argv):
    subprocess.Popen(["sleep", "900"], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)
"""
LEAKED = "sleep 900"


def files(here: Place) -> dict[str, Any]:
    """The parameters that say which recipe, and where."""
    return {"recipe": str(here.recipe), "execution": str(here.execution)}


def whole_path(checks: Checks, deployed: Deployed, here: Place) -> None:
    """Deploy all, and run the whole path through its deployment, by the commands that the README gives."""
    deployed.prefect("deploy", "--all")
    asked = sorted([WHOLE_PATH, *(f"stage/stage-{stage.replace('_', '-')}" for stage in STAGES)])
    names = deployed.deployments()
    checks.check("deployments after `prefect deploy --all`", len(names), f"{len(asked)}: the path and one per stage", names == asked)
    started = time.monotonic()
    given = [part for name, value in files(here).items() for part in ("--param", f"{name}={value}")]
    said = deployed.prefect("deployment", "run", WHOLE_PATH, *given).output
    run = deployed.wait(UUID(re.search(r"UUID: ([0-9a-f-]{36})", said).group(1)))  # type: ignore[union-attr]  # else the command fails
    checks.check(f"the whole path through {WHOLE_PATH}", run.state_name, "Completed", run.state_name == "Completed")
    checks.note("from the command to its end", f"{time.monotonic() - started:.0f} s")
    checks.check("name of its flow run", run.name, "tells what it does", run.name == f"path of {here.recipe.stem}")
    state = here.state()
    ok = state.state == "finished" and state.report_is_fresh and state.flow_run == str(run.id)
    checks.check(
        "its run.json in the store", f"{state.state}, {len(state.artifacts)} artifacts", "finished, with a report, names the flow run", ok
    )
    missing = deployed.unpublished(run.id, here)
    checks.check("its tables, progress and summary in the server", "all" if not missing else missing[0], "all", not missing)
    tasks = deployed.tasks(run.id)
    bad = sorted(name for name, how in tasks.items() if how != "Completed")
    checks.check("its task runs that are Completed", f"{len(tasks) - len(bad)} of {len(tasks)}", "all", bool(tasks) and not bad)
    checks.check("its processes that are left", len(left := deployed.left_behind()), "0", not left)


def one_stage(checks: Checks, deployed: Deployed, here: Place) -> None:
    """Select with another threshold through its own deployment; then training, whose plan is stale, which is refused."""
    threshold = a_threshold(here.recipe)
    changed = with_threshold(here, threshold, threshold.moved(1))
    before = here.state().artifacts
    run = deployed.wait(deployed.start("stage/stage-select", **files(changed)))
    checks.check("stage/stage-select with another threshold", run.state_name, "Completed", run.state_name == "Completed")
    after, tasks = here.state().artifacts, deployed.tasks(run.id)
    ok = list(tasks) == ["select"] and after["select"] != before["select"] and after.keys() == before.keys()
    checks.check("stages that it ran", " ".join(tasks), "select alone", ok)
    run = deployed.wait(deployed.start("stage/stage-pretrain", **files(with_mixture(here))))
    message = str(run.state.message if run.state else "")
    ok = run.state_name == "Failed" and "ConfigError" in message and "is stale" in message
    checks.check("stage/stage-pretrain when another mixture left its plan stale", run.state_name, "Failed, naming the stale input", ok)
    checks.note("what it says", f'"{message[:150]}"')


def cancel(checks: Checks, deployed: Deployed, here: Place) -> None:
    """Cancel in training: the run is Cancelled, its file says so, and no process is left."""
    run, had, progress = cancel_in_training(deployed, here)
    started = time.monotonic()
    left = deployed.left_behind()
    kinds = {what: sum(text in line for line in had.values()) for what, text in PROCESSES.items()}
    shown = ", ".join(f"{n} {what}" for what, n in kinds.items())
    checks.check("processes of a run in training, when it is cancelled", shown, "of each kind at least 1", min(kinds.values()) > 0)
    checks.check("its progress in the server then", "there" if "pretrain-progress" in progress else "none", "there", bool(progress))
    checks.check("the cancelled run", run.state_name, "Cancelled", run.state_name == "Cancelled")
    state = here.state()
    checks.check(
        "its run.json in the store",
        f"{state.state}: {state.error}",
        "cancelled, and by what",
        state.state == "cancelled" and bool(state.error),
    )
    checks.check("its processes that are left", len(left), "0", not left)
    checks.note("until none was left", f"{time.monotonic() - started:.1f} s")


def refusals(checks: Checks, deployed: Deployed, folder: Path) -> None:
    """Wrong parameters of a run, and of a deployment, are refused where they are given, by name and with what is allowed."""
    for parameters, asked in (
        ({"to_stage": "selekt"}, "'selekt' is not one of ['snapshot', "),
        ({"recipe": ""}, "'recipe'"),
        ({"run": "no/slash"}, "'no/slash' does not match"),
        ({"force": "perhaps"}, "'perhaps' is not of type 'boolean'"),
    ):
        said = deployed.refusal(WHOLE_PATH, **parameters)
        checks.check(f"a run with {parameters}", "refused" if said else "taken", f"refused: {asked}", asked in said)
    done = deployed.prefect("deployment", "run", WHOLE_PATH, "--param", "run=no/slash", check=False)
    said = " ".join(done.output.split())
    checks.check(
        "`prefect deployment run` with run=no/slash",
        f"exit code {done.code}",
        "1, with the pattern",
        done.code == 1 and "[0-9a-zA-Z]" in said,
    )
    text = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    (wrong,) = [deployment for deployment in text["deployments"] if deployment["name"] == "stage-select"]
    text["deployments"], wrong["parameters"]["stage"] = [wrong], "selekt"
    path = folder / "prefect-wrong.yaml"
    path.write_text(yaml.safe_dump(text))
    done = deployed.prefect("deploy", "--all", "--prefect-file", str(path), check=False)
    caught = done.code != 0 and "'selekt' is not one of" in " ".join(done.output.split())
    checks.sabotage("a deployment with a wrong parameter", caught, "refused, with the value and what is allowed")


def leak(checks: Checks, deployed: Deployed, here: Place, folder: Path) -> None:
    """A cancelled run whose flow started a process outside everything that a cancel reaches: it must be seen."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(LEAK)
    run, _, _ = cancel_in_training(deployed, here, times=2000, variables={"PYTHONPATH": str(folder)})
    left = deployed.left_behind()
    kill_all(left)
    caught = run.state_name == "Cancelled" and list(left.values()) == [LEAKED]
    checks.sabotage("a process left behind by a cancelled run", caught, f"it is seen, and it alone: {', '.join(left.values())}")


def main() -> None:
    """Run the checks."""
    given = arguments(__doc__ or "", ("recipe", "corpus"))
    if sys.platform != "linux":
        sys.exit("deployments cannot be tried here: it finds processes in /proc, which Linux alone has")
    checks = Checks("deployments", __doc__ or "")
    with work_folder("deployments") as folder:
        here = place(folder / "place", given.recipe, raw_root=given.corpus)
        with server_and_worker(folder / "prefect") as deployed:
            whole_path(checks, deployed, here)
            one_stage(checks, deployed, here)
            cancel(checks, deployed, here)
            refusals(checks, deployed, folder)
            leak(checks, deployed, here, folder / "leak")
        codes = f"{deployed.worker.returncode} and {deployed.server.returncode}"
        left = processes_of(deployed.mark) + processes_of(f"{deployed.mark}-server")
        checks.check("worker and server after they were stopped", f"exit codes {codes}, {len(left)} left", "no process left", not left)
    checks.finish()


if __name__ == "__main__":
    main()
