"""Deployments on a real Prefect server and worker, as `make accept-deployments` has them: run, one stage, refusals, cancel, end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from flows.graph.walk import STAGES
from tests.acceptance.common import TEST_RECIPE, Place, place
from tests.acceptance.deployments_server import PROCESSES, WHOLE_PATH, Deployed, cancel_in_training, server_and_worker
from tests.acceptance.processes import processes_of
from tests.acceptance.rerun import a_threshold, with_threshold

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A server and a worker, with everything deployed; nothing of them is left when the module ends."""
    with server_and_worker(tmp_path_factory.mktemp("prefect")) as running:
        running.prefect("deploy", "--all")
        yield running
    assert processes_of(running.mark) + processes_of(f"{running.mark}-server") == []


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The test recipe on its corpus, with one training stage, in a store of its own."""

    def change(raw: dict[str, Any]) -> None:
        del raw["extend_context"], raw["anneal"]

    return place(tmp_path_factory.mktemp("deployed") / "place", TEST_RECIPE).with_recipe(change, "small.yaml")


def files(here: Place) -> dict[str, Any]:
    return {"recipe": str(here.recipe), "execution": str(here.execution)}


def test_deploy_all_makes_the_path_and_every_stage(deployed: Deployed) -> None:
    """On the server, under the names that prefect.yaml gives."""
    assert deployed.deployments() == sorted([WHOLE_PATH, *(f"stage/stage-{stage.replace('_', '-')}" for stage in STAGES)])


def test_wrong_parameters_are_refused_by_name(deployed: Deployed) -> None:
    """Before a run is made, with the value and what is allowed."""
    assert "'selekt' is not one of ['snapshot', " in deployed.refusal("stage/stage-select", stage="selekt")
    assert "'no/slash' does not match" in deployed.refusal(WHOLE_PATH, run="no/slash")
    assert "'recipe'" in deployed.refusal(WHOLE_PATH, recipe="")
    assert deployed.client.read_flow_runs() == []


@pytest.fixture(scope="module")
def whole(deployed: Deployed, here: Place) -> Any:
    """The whole path, run through its deployment."""
    return deployed.wait(deployed.start(WHOLE_PATH, **files(here)))


def test_the_whole_path_completes_with_names_and_artifacts_in_the_server(deployed: Deployed, here: Place, whole: Any) -> None:
    """The run tells what it is; each stage has its task, its table and its progress there; the run's file names the flow run."""
    assert whole.state_name == "Completed", whole.state.message
    assert whole.name == "path of small"
    run = here.state()
    assert (run.state, run.report_is_fresh, run.flow_run) == ("finished", True, str(whole.id))
    assert deployed.unpublished(whole.id, here) == []
    assert set(deployed.tasks(whole.id).values()) == {"Completed"}
    select = deployed.artifacts(whole.id, "table")["select"]
    assert run.artifacts["select"].fingerprint in str(select)
    assert float(deployed.artifacts(whole.id, "progress")["pretrain-progress"]) == 100.0
    assert deployed.left_behind() == {}


def test_one_stage_runs_again_through_its_own_deployment(deployed: Deployed, here: Place, whole: Any) -> None:
    """A changed threshold: select alone is made anew."""
    before = here.state().artifacts
    run = deployed.wait(deployed.start("stage/stage-select", **files(with_threshold(here, a_threshold(here.recipe), 41))))
    assert run.state_name == "Completed", run.state and run.state.message
    assert run.name == "select of threshold"
    after = here.state().artifacts
    assert [key for key in after if after[key] != before.get(key)] == ["select"]
    assert list(deployed.tasks(run.id)) == ["select"]


def test_a_cancel_in_training_leaves_no_process(deployed: Deployed, here: Place, whole: Any) -> None:
    """Flow, server of workers, agent and rank were there; after the cancel none is, and the run's file says what ended it."""
    run, had, progress = cancel_in_training(deployed, here)
    assert [what for what, text in PROCESSES.items() if not any(text in line for line in had.values())] == []
    assert "pretrain-progress" in progress
    assert run.name == "mix to pretrain of endless-1000"
    assert run.state_name == "Cancelled"
    assert deployed.left_behind() == {}
    assert here.state().state == "cancelled"
    assert here.state().error
