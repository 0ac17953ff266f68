"""A threshold changed and the run taken as far as select: what reads what is behind it says that that is of an earlier selection."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.show import decision
from flows.graph.runs import open_run
from flows.history.lineage import documents_of_step, drop_reason, explain, find_document, locate
from flows.report.build import build_report
from flows.running.driver import Plan, open_plan
from pipeline.coverage import EVALUATED, verdicts
from pipeline.documents import part_name
from storage.store import Store
from storage.tables import read_table
from tests.flows.in_process import run_here

OLD, NEW = 40, 250
NOTE = f"made from an earlier selection (select.thresholds.web.min_gopher_word_count: {OLD} → {NEW}); run again to renew"
FLAGS = ["--execution", "test", "--run", "test"]


@pytest.fixture(scope="module")
def in_part(finished: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """A copy of the finished run, with select made anew by another threshold; the variables point at it."""
    folder = tmp_path_factory.mktemp("part")
    shutil.copytree(finished.store.local_path(""), folder / "store")
    text = (Path(__file__).parents[2] / "flows/recipes/test.yaml").read_text()
    assert f"min_gopher_word_count: {OLD}," in text
    (folder / "recipe.yaml").write_text(text.replace(f"min_gopher_word_count: {OLD},", f"min_gopher_word_count: {NEW},"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARAVAN_STORE", str(folder / "store"))
        plan = open_plan(str(folder / "recipe.yaml"), "test", None)
        assert run_here(plan, "select") == ["select"]
        plan.run.end("partial")
        yield replace(plan, run=open_run(plan.store, "test"))


def dropped_now(plan: Plan, reason: str) -> list[str]:
    """Ids that the new selection drops for `reason`."""
    select = plan.run.need("select")
    tables = [
        read_table(plan.store, select, part_name(part, source), ["id", "reason"])
        for source in plan.run.manifests("documents")
        for part in range(plan.recipe.partitions)
    ]
    return [row["id"].hex() for table in tables for row in table.to_pylist() if row["reason"] == reason]


def said_by(*arguments: str) -> str:
    """What a command prints, white space squeezed."""
    result = CliRunner().invoke(app, [*arguments, *FLAGS], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_explain_says_the_decision_first_and_that_tokens_are_of_an_earlier_selection(in_part: Plan) -> None:
    """The value stands beside its threshold."""
    id = next(id for id in dropped_now(in_part, "gopher_word_count") if locate(in_part.run, bytes.fromhex(id)))
    said = said_by("explain", id)
    place = find_document(in_part.run, id)
    facts = explain(in_part.run, place)
    words = facts["quality"]["gopher_word_count"]
    assert said.startswith(f"decision dropped gopher_word_count {words} < min {NEW} document id {id}")
    assert f"tokens stale {NOTE} split" in said
    assert f"trained on stale {NOTE}" in said
    assert drop_reason(in_part.run, place) == "gopher_word_count"


def test_trace_and_generate_say_it_in_one_line_and_still_work(in_part: Plan) -> None:
    fed = documents_of_step(in_part.run, "pretrain", 0)[0].id.hex()
    assert f"mix, pretrain: {NOTE} sample component" in said_by("trace", "--stage", "pretrain", "--step", "0")
    assert f"tokenize, mix, pretrain, extend_context, anneal: {NOTE} {fed}" in said_by("trace", fed)
    held_out = next(
        row["id"].hex()
        for part in range(in_part.recipe.partitions)
        for row in verdicts(in_part.store, in_part.run.need("coverage"), part).to_pylist()
        if row["verdict"] == EVALUATED
    )
    assert f"held_out_tokens, mix, pretrain, extend_context, anneal: {NOTE} {held_out}" in said_by("trace", held_out)
    result = CliRunner().invoke(app, ["generate", "The river", "--max-new-tokens", "2", *FLAGS])
    assert result.exit_code == 0
    assert f"export: {NOTE}" in result.stderr
    assert result.stdout.startswith("The river")


def test_the_report_says_it_at_its_top_and_by_each_section_that_it_holds_for(in_part: Plan) -> None:
    """The funnel and the samples are of the new selection and say nothing; a whole run's page says nothing at all."""
    page = build_report(in_part.run)
    lines = re.findall(r'<p class="stale">(.*?)</p>', page)
    assert [line.removesuffix(f": {NOTE}") for line in lines] == [
        "Stale stages: coverage, train_tokenizer, tokenize, held_out_tokens, build_tasks, mix, pretrain, extend_context, anneal, export, "
        "evaluate",
        "coverage",
        "tokenize",
        "mix",
        "pretrain, extend_context, anneal",
        "evaluate",
    ]
    assert page.index("<h3>Tokens</h3>") < page.index(f"tokenize: {NOTE}", page.index("<h3>Tokens</h3>")) < page.index('<h2 id="mixture">')


def test_the_page_of_a_whole_run_says_nothing_of_it(finished: Plan) -> None:
    page = build_report(finished.run)
    assert 'class="stale"' not in page
    assert ", stale" not in page[: page.index("plotly.js")]


def test_status_names_the_field_for_every_stage_behind_it(in_part: Plan) -> None:
    recipe = str(Path(in_part.store.local_path("")).parent / "recipe.yaml")
    said = CliRunner().invoke(app, ["status", "--recipe", recipe, "--execution", "test"], env={"COLUMNS": "200"}).output
    stale = [line for line in said.splitlines() if "○ stale" in line]
    assert [line.split()[0].partition("/")[0] for line in stale if "mix/" not in line] == [
        "coverage",
        "train_tokenizer",
        "tokenize",
        "held_out_tokens",
        "build_tasks",
        "pretrain",
        "extend_context",
        "anneal",
        "export",
        "evaluate",
    ]
    assert all(f"select.thresholds.web.min_gopher_word_count: {OLD} → {NEW}" in line for line in stale)


def test_steps_are_counted_in_the_shards_that_the_plan_was_made_from(in_part: Plan) -> None:
    """After tokenize alone the run has other shards than those that the checkpoint was trained on."""
    before = documents_of_step(in_part.run, "pretrain", 3)
    folder = Path(in_part.store.local_path("")).parent
    shutil.copytree(folder / "store", folder / "further")
    further = replace(in_part, store=Store(str(folder / "further")), run=open_run(Store(str(folder / "further")), "test"))
    old = further.run.need("tokenize").digest
    run_here(further, "tokenize")
    assert further.run.need("tokenize").digest != old
    assert documents_of_step(further.run, "pretrain", 3) == before
    assert "tokenize" not in explain(further.run, find_document(further.run, before[0].id.hex()))["stale"]


def test_a_copy_whose_copy_was_dropped_is_followed_to_the_end(in_part: Plan) -> None:
    """The last one named was kept, or says that nothing was."""
    for reason in ("url", "exact", "near"):
        for id in dropped_now(in_part, reason):
            facts = explain(in_part.run, find_document(in_part.run, id))
            said = list(decision(facts).items())
            assert said[0][0] == "dropped"
            last, words = said[-1]
            end = explain(in_part.run, find_document(in_part.run, last))
            assert words.endswith("is kept" if end["select"]["keep"] else "no copy of the text is kept")
