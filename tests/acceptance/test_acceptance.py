"""Small cases of the acceptances, by the functions that they themselves use, on the session's finished run; and their list."""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL

from flows.graph.runs import open_run
from flows.graph.walk import STAGES, Asked
from flows.running.driver import Plan, open_plan, survey
from scripts.minio import Minio
from storage.store import Store
from tests.acceptance.common import (
    DEMO_RECIPE,
    PROJECT,
    TEST_RECIPE,
    Checks,
    Place,
    arguments,
    command_stage,
    different,
    first_line,
    place,
)
from tests.acceptance.cuts_and_kills import same_but_for_origins
from tests.acceptance.cuts_and_kills_cutting import cut_corpus
from tests.acceptance.cuts_and_kills_killing import TRIES, kill_and_resume, n_before_manifest, points_of, root_of
from tests.acceptance.demo import data_checks, export_checks, score_checks
from tests.acceptance.mixture import consumed_checks
from tests.acceptance.rerun import a_threshold, is_select_and_after, with_mixture, with_threshold
from tests.flows.in_process import run_here

FOLDER = Path(__file__).parent
SCORED = {"documents", "dedup", "quality", "domains"}
THROUGH_MIX = {*STAGES[: STAGES.index("pretrain")], "extract", "documents", "origins", "dropped", "held_out_tokens"}


@pytest.fixture
def here(finished: Plan, finished_folder: Path, tmp_path: Path) -> Place:
    """A copy of the finished run that a test may change."""
    shutil.copytree(finished_folder / "store", tmp_path / "store", copy_function=os.link)
    made = place(tmp_path, TEST_RECIPE, raw_root=finished_folder / "raw")
    return replace(made, env={**made.env, "PREFECT_API_URL": str(PREFECT_API_URL.value())})


def plan_of(here: Place) -> Plan:
    """A place's plan, in this process, where the variables of the finished run point elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CARAVAN_STORE", raising=False)
        patch.delenv("CARAVAN_RAW_ROOT", raising=False)
        return open_plan(str(here.recipe), str(here.execution), None)


def digests(plan: Plan) -> dict[str, str]:
    """Digest of every artifact that a plan's run points at."""
    return {key: pointer.digest for key, pointer in plan.run.artifacts.items()}


def test_demo_the_data_is_real_and_the_export_is_the_checkpoint(finished: Plan, tmp_path: Path) -> None:
    """All but what this model is too small for: three domains in the WARC, and bits per byte under the unigram model's."""
    run = open_run(finished.store, "test")
    checks = Checks("demo", "a small case")
    data_checks(checks, run, finished.recipe)
    score_checks(checks, run)
    export_checks(checks, run, finished.recipe, tmp_path)
    assert set(checks.failures) <= {"domains that the classifier finds in the web pages", "  ratio of the two"}
    assert checks.n_checks == 11


def test_rerun_a_threshold_re_runs_select_and_what_follows_and_no_scoring(here: Place) -> None:
    """Up and then down, both for real as far as the tokens; what is scored keeps its bytes."""
    threshold = a_threshold(here.recipe)
    before = digests(plan_of(here))
    for factor in (6, 0.5):
        plan = plan_of(with_threshold(here, threshold, int(threshold.value * factor)))
        stale = [visit.stage for visit in survey(plan, Asked()).visits if visit.state == "stale"]
        assert is_select_and_after(stale)
        made = {key.partition("/")[0] for key in run_here(plan, "tokenize")}
        changed = {"select"}  # nothing is as short as the lower one
        if factor > 1:
            changed |= {"coverage", "train_tokenizer", "tokenize", "held_out_tokens"}
        assert made == changed
        assert ({key.partition("/")[0] for key in different(before, digests(plan))} & SCORED) == set()
    plan = plan_of(here)
    assert run_here(plan, "tokenize") == []
    assert different(before, digests(plan)) == []


def test_rerun_a_mixture_re_runs_mix_and_no_tokenizing(here: Place) -> None:
    """The plan of pretraining alone is made, and only training and what judges it is stale behind it."""
    plan = plan_of(with_mixture(here))
    stale = {visit.stage for visit in survey(plan, Asked()).visits if visit.state == "stale"}
    assert stale == {"mix", *STAGES[STAGES.index("pretrain") :]} - {"report"}
    assert run_here(plan, "mix") == ["mix/pretrain"]


def test_object_store_the_same_digests_on_minio(finished: Plan, s3_store: Store, tmp_path: Path) -> None:
    """Every artifact as far as the plans; that of a checkpoint is compared where pretraining is killed on MinIO, below."""
    made = place(tmp_path, TEST_RECIPE, raw_root=Path(finished.execution.raw_root), store_uri=s3_store.uri)
    plan = plan_of(made)
    run_here(plan, "mix")
    ours = {key: digest for key, digest in digests(finished).items() if key.partition("/")[0] in THROUGH_MIX}
    assert len(ours) > 90
    assert different(ours, digests(plan)) == []


def test_cuts_a_source_in_three_files_shuffled_gives_the_same_digests(here: Place, finished_folder: Path, tmp_path: Path) -> None:
    """From the documents on, checkpoints included: what follows the documents is found as it stands."""
    undisturbed = digests(plan_of(here))
    recipe = yaml.safe_load(here.recipe.read_text())
    raw = shutil.copytree(finished_folder / "raw", tmp_path / "cut")
    one = {**recipe, "sources": [source for source in recipe["sources"] if source["name"] == "essays"]}
    (cut,) = cut_corpus(one, raw, raw, 3, seed=11)["sources"]
    recipe["sources"] = [cut if source["name"] == "essays" else source for source in recipe["sources"]]
    here.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False))
    execution = {**yaml.safe_load(here.execution.read_text()), "raw_root": str(raw)}
    here.execution.write_text(yaml.safe_dump(execution))
    plan = plan_of(here)
    made = run_here(plan, "ingest")
    assert {key for key in made if key.startswith("extract/essays/")} == {
        f"extract/essays/{path.relative_to(raw)}" for path in raw.glob("cut/essays/*")
    }
    assert len([key for key in made if key.startswith("extract/")]) == 3
    assert same_but_for_origins({k: v for k, v in undisturbed.items() if not k.startswith("extract/")}, digests(plan)) == []
    assert plan.run.artifacts.keys() >= {"pretrain", "export", "evaluate"}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.timeout(1200)  # four commands that import everything and a kill; a busy machine took 255 s
@pytest.mark.parametrize("stage", ["dedup", "pretrain"])
def test_kills_a_killed_run_is_run_again_to_the_same_digests_and_leaves_nothing(
    finished: Plan, finished_folder: Path, minio: Minio, tmp_path: Path, stage: str
) -> None:
    """kill -9 of a real `caravan run`: of dedup in a folder with a Prefect server of its own, of pretrain on MinIO."""
    run = open_run(finished.store, "test")
    last, drawn, _ = points_of(run, [stage], random.Random(4))
    server = {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CARAVAN_STORE", "CARAVAN_RAW_ROOT"):
            patch.delenv(name)
        for n in range(TRIES):  # a busy machine may look too late
            bucket = f"killed-{uuid.uuid4().hex[:8]}"
            minio.create_bucket(bucket)
            on_s3 = {"store_uri": f"s3://{bucket}/store"} if stage == "pretrain" else {}
            here = place(tmp_path / str(n), TEST_RECIPE, raw_root=finished_folder / "raw", **on_s3)
            killed_env = server if on_s3 else {}
            outcome = kill_and_resume(run, here, drawn if on_s3 else last, killed_env=killed_env, resumed_env=server)
            if outcome.was_killed:
                break
    assert outcome.holds, str(outcome)
    assert last.k == last.n == n_before_manifest(run.store, root_of(run, stage))
    assert os.environ.get("PREFECT_API_URL") is None


def test_mixture_the_hashes_of_what_was_fed_are_recomputed_without_the_project(finished: Plan, tmp_path: Path) -> None:
    """Of every sample of every training stage, with every window of 1 % near the mixture; a changed token is noticed."""
    checks = Checks("mixture", "a small case")
    consumed_checks(checks, open_run(finished.store, "test"), tmp_path)
    assert checks.failures == []
    assert checks.n_checks == 7


def modules() -> dict[str, str]:
    """Name of every module of this folder that can be run -> its docstring."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports_checks = any(isinstance(node, ast.ImportFrom) and "Checks" in {name.name for name in node.names} for node in ast.walk(tree))
        if imports_checks and not path.stem.startswith("test_"):
            found[path.stem] = ast.get_docstring(tree) or ""
    return found


def listed() -> list[str]:
    """The names in the Makefile's list."""
    (names,) = re.findall(r"^ACCEPTANCES := (.*)$", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE)
    return str(names).split()


def test_every_acceptance_is_listed_and_named_after_its_module() -> None:
    """A dash in a name is an underscore in its module's."""
    assert sorted(name.replace("-", "_") for name in listed()) == sorted(modules())
    for name in listed():
        text = (FOLDER / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
        assert f'Checks("{name}", ' in text


def test_make_help_says_what_each_acceptance_shows() -> None:
    """One line for each, its module's first; short enough to be read as a list."""
    done = subprocess.run(["make", "--no-print-directory", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)
    shown = dict(re.findall(r"^  make accept-(\S+) +(.+)$", done.stdout, flags=re.MULTILINE))
    assert shown == {name: first_line(modules()[name.replace("-", "_")]) for name in listed()}
    assert max(map(len, shown.values())) <= 115


@pytest.mark.parametrize(
    ("holds", "code", "last"), [(True, 0, "demo holds (2 of 2 checks, "), (False, 1, "demo FAILS: a figure (1 of 2 checks, ")]
)
def test_the_last_line_and_the_exit_code_say_whether_it_holds(
    holds: bool, code: int, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the acceptance's name."""
    checks = Checks("demo", "What it shows.\n\nAnd how.")
    checks.check("a figure", 1, "1", holds)
    checks.sabotage("a breach", caught=True, how="it is seen")
    with pytest.raises(SystemExit) as ended:
        checks.finish()
    assert ended.value.code == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "demo: What it shows."
    assert lines[-1].startswith(last)


def test_a_sabotage_that_passes_fails_the_acceptance(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a check like others."""
    checks = Checks("demo", "What it shows.")
    checks.sabotage("a breach", caught=False, how="it is seen")
    assert checks.failures == ["sabotage: a breach"]
    assert "FAIL" in capsys.readouterr().out.splitlines()[-1]


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> argparse.Namespace:
    """What `arguments` makes of these words."""
    monkeypatch.setattr(sys, "argv", ["acceptance", *words])
    return arguments("What it shows.", ("recipe", "seed"))


def test_another_input_is_taken_and_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe by path or by name; what changes nothing is said to."""
    assert asked(monkeypatch).recipe == DEMO_RECIPE
    assert asked(monkeypatch, "--recipe", "test").recipe == TEST_RECIPE
    found = asked(monkeypatch, "--recipe", str(TEST_RECIPE), "--seed", "7", "--corpus", str(tmp_path))
    assert (found.recipe, found.seed) == (TEST_RECIPE, 7)
    assert capsys.readouterr().out.splitlines()[-2:] == ["CORPUS= changes nothing here", f"input: recipe {TEST_RECIPE}, seed 7"]


@pytest.mark.parametrize("words", [("--recipe", "nowhere.yaml"), ("--corpus", "nowhere"), ("--shards", "nowhere")])
def test_an_input_that_is_not_there_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    """Before any work."""
    with pytest.raises(SystemExit) as ended:
        asked(monkeypatch, *words)
    assert ended.value.code == 2
    assert f"argument {words[0]}: {words[1]}: no such" in capsys.readouterr().err


def test_every_artifact_of_a_run_belongs_to_a_stage_of_the_command_line(finished: Plan) -> None:
    """The acceptances run a stage by the name of its artifact: one that no stage makes would fail there after half an hour."""
    assert {command_stage(key.partition("/")[0]) for key in finished.run.artifacts} <= set(STAGES)
    assert command_stage("held_out_tokens") == "tokenize"
    assert command_stage("dropped") == "ingest"
