"""The whole path on the small corpus: it finishes, a second look finds nothing to do, lineage agrees both ways, --force compares."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO
from unittest import mock

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.show import decision, explanation
from flows.graph.logs import logs_of
from flows.graph.runs import open_run
from flows.graph.walk import STAGES, Asked
from flows.history.garbage import find_garbage
from flows.history.lineage import (
    TRAINING,
    documents_of_step,
    documents_of_url,
    drop_reason,
    explain,
    find_document,
    locate,
    order_in,
    seen_by,
)
from flows.report.words import stage_line
from flows.running.driver import Plan, check_asked, nothing_to_do, survey
from flows.running.prefect_flows import one_stage
from pipeline.coverage import verdicts
from pipeline.documents import part_name, read_documents
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.tables import read_table
from tests.acceptance.common import of_other_bytes
from tests.acceptance.corpus_counters import balances, losing_a_row


def test_every_stage_made_its_artifacts(finished: Plan) -> None:
    """And the run says so, with a report."""
    run = open_run(finished.store, "test")
    assert run.state == "finished"
    others = {"extract", "documents", "origins", "dropped", "held_out_tokens"}
    assert {key.partition("/")[0] for key in run.artifacts} == {*STAGES, *others} - {"ingest", "report"}
    assert run.report_is_fresh


def test_a_second_run_has_nothing_to_do(finished: Plan) -> None:
    """The command says so and starts no server."""
    walk = survey(finished, Asked())
    assert [visit for visit in walk.visits if visit.state != "fresh"] == []
    assert nothing_to_do(finished, walk, open_run(finished.store, "test"))
    output = CliRunner().invoke(app, ["run", "--recipe", "test", "--execution", "test"]).output
    assert "fresh: nothing to do" in output


def test_lineage_agrees_both_ways(finished: Plan) -> None:
    """Each document of a step is seen at that step, and at each step that is said to see it, the step's documents hold it."""
    run = finished.run
    for stage in TRAINING:
        order = order_in(run, stage)
        for step in (0, order.n_steps - 1):
            for fed in documents_of_step(run, stage, step)[:4]:
                seen = list(seen_by(run, fed.id))
                assert (stage, step, fed.sample) in [(s.stage, s.step, s.sample) for s in seen]
                for sample in seen[:3]:
                    again = documents_of_step(run, sample.stage, sample.step)
                    assert (sample.sample, fed.id) in [(row.sample, row.id) for row in again]


def test_explain_knows_every_stage(finished: Plan) -> None:
    """From its origin to the steps that saw it."""
    document = documents_of_step(finished.run, "pretrain", 0)[0].id
    facts = explain(finished.run, find_document(finished.run, document.hex()[:20]))
    assert {"document", "origins", "dedup", "quality", "domains", "select", "tokens", "seen", "edited_text"} <= set(facts)
    assert facts["origins"][0]["file"]
    assert facts["select"]["keep"]
    place = locate(finished.run, document)
    assert place is not None
    assert place.split == "train"


@pytest.mark.parametrize("reason", ["url", "exact", "near"])
def test_explain_names_the_document_that_stayed(finished: Plan, reason: str) -> None:
    """Of a page of one URL, of one text or nearly one: what it lost to, and what that lost to, down to one that is kept."""
    run, select = finished.run, finished.run.need("select")
    dropped = [
        row
        for source in run.manifests("documents")
        for part in range(finished.recipe.partitions)
        for row in read_table(run.store, select, part_name(part, source), ["id", "reason"]).to_pylist()
        if row["reason"] == reason
    ]
    for row in dropped[:3]:
        facts = explain(run, find_document(run, row["id"].hex()))
        first, last = facts["lost_to"][0], facts["lost_to"][-1]
        assert (first.same, last.reason) == (reason, None)
        assert (first.similarity is not None) == (reason == "near")
        other = explain(run, find_document(run, first.id.hex()))["dedup"]
        assert other[f"{reason}_id"] == facts["dedup"][f"{reason}_id"]
        assert other["split"] == facts["dedup"]["split"]
        assert first.id.hex() in decision(facts)
    assert dropped


def test_explain_takes_no_row_that_was_made_of_other_documents(finished: Plan) -> None:
    """RULE 5: a table's row belongs to a document by its place only while both were made of the same documents."""
    place = find_document(finished.run, documents_of_step(finished.run, "pretrain", 0)[0].id.hex())
    newer = {source: replace(manifest, digest="0" * 64) for source, manifest in finished.run.manifests("documents").items()}
    with mock.patch("flows.history.lineage._documents", return_value=newer):
        facts = explain(finished.run, place)
        assert [facts[stage] for stage in ("dedup", "quality", "domains", "select")] == [None] * 4
        assert facts["document"]["id"] == place.id
        list(explanation(facts))


def test_explain_says_of_a_held_out_document_whether_it_is_evaluated(finished: Plan) -> None:
    """And what `coverage` measured; only one that is evaluated has tokens."""
    run = finished.run
    rows = [row for part in range(finished.recipe.partitions) for row in verdicts(run.store, run.need("coverage"), part).to_pylist()]
    chosen = {row["verdict"]: row for row in rows}
    for verdict, row in chosen.items():
        facts = explain(run, find_document(run, row["id"].hex()))
        assert facts["coverage"] == row
        assert "evaluated" in decision(facts)
        assert (facts["tokens"] is not None) == (verdict == "evaluated")
        assert facts["tokens"] is None or facts["tokens"].split == "held_out"
    assert "evaluated" in chosen


def test_a_url_is_found_as_written_and_as_deduplication_reads_it(finished: Plan) -> None:
    """Case of the host, the scheme, a fragment and tracking parameters do not hide a page."""
    documents = finished.run.manifests("documents")["pages"]
    url = read_documents(finished.store, documents, 0, ["url"]).column("url")[0].as_py()
    asked = [url, url.replace("://", "://".upper()).upper()[:8] + url[8:] + "#top", url + ("&" if "?" in url else "?") + "utm_source=x"]
    found = [[place.id for place in documents_of_url(finished.run, each)] for each in asked]
    assert found[0]
    assert found == [found[0]] * 3
    with pytest.raises(ConfigError, match="no document with the URL nowhere"):
        documents_of_url(finished.run, "nowhere")


def test_trace_says_why_a_document_has_no_step(finished: Plan) -> None:
    """Dropped documents by select's reason; what was kept has none."""
    samples = json.loads(read_verified(finished.store, finished.run.need("select"), "samples.json"))
    reasons = {(reason, id) for by_reason in samples.values() for reason, ids in by_reason.items() for id in ids}
    assert {reason for reason, _ in reasons} > {"kept"}
    for reason, id in reasons:
        place = find_document(finished.run, id)
        assert drop_reason(finished.run, place) == (None if reason == "kept" else reason)
        assert (locate(finished.run, place.id) is None) == (reason != "kept")


def test_what_cannot_run_is_refused_before_any_work(finished: Plan) -> None:
    """A stage without a place in the execution, one the recipe leaves out, a report of stale artifacts. What is fresh needs no place."""
    placeless = replace(finished, execution=finished.execution.model_copy(update={"training": {}}))
    check_asked(placeless, Asked())
    pretrain = finished.recipe.pretrain.model_copy(update={"seed": 9})
    changed = finished.recipe.model_copy(update={"pretrain": pretrain})
    with pytest.raises(ConfigError, match=r"execution\.training has no pretrain"):
        check_asked(replace(placeless, recipe=changed), Asked())
    check_asked(replace(placeless, recipe=changed), Asked(last="mix"))
    with pytest.raises(ConfigError, match=r"report: its input pretrain is stale \(pretrain\.training\.seed: 0 → 9\)"):
        check_asked(replace(finished, recipe=changed), Asked("report", "report"))
    with pytest.raises(ConfigError, match="--only anneal: the recipe has no such stage"):
        check_asked(replace(finished, recipe=finished.recipe.model_copy(update={"anneal": None})), Asked("anneal", "anneal"))


def test_a_dry_run_says_what_force_would_do(finished: Plan) -> None:
    """Fresh stages are executed again with it, so a dry run must not say that nothing would run."""
    output = CliRunner().invoke(app, ["run", "--recipe", "test", "--execution", "test", "--only", "select", "--force", "--dry-run"]).output
    assert "would execute again and compare: select" in output


def test_a_dry_run_and_status_agree_on_the_report_when_another_recipe_was_run_under_the_name(finished: Plan) -> None:
    """Every artifact of the recipe is there, and the run points at others: its page is not this recipe's."""
    run = open_run(finished.store, "test")
    before = dict(run.artifacts)
    assert run.artifacts.pop("evaluate", None)
    run.report_of = run.artifacts_hash
    run.save()
    try:
        flags = ["--recipe", "test", "--execution", "test"]
        assert "would run: report" in CliRunner().invoke(app, ["run", *flags, "--dry-run"]).output
        assert "report: stale" in CliRunner().invoke(app, ["status", *flags]).output
    finally:
        run.artifacts.update(before)
        run.report_of = run.artifacts_hash
        run.save()
    assert "report: fresh" in CliRunner().invoke(app, ["status", *flags]).output


def test_a_page_that_shows_another_recipe_is_written_anew(finished: Plan) -> None:
    """Another recipe that gave the same artifacts: dry run and status call the page stale, and the run makes it."""
    run = open_run(finished.store, "test")
    page, mine = run.store.read(run.report_path), run.recipe
    run.recipe = {**mine, "seed": mine["seed"] + 1}
    run.save()
    run.store.write(run.report_path, b"of another recipe")
    flags = ["--recipe", "test", "--execution", "test"]
    assert "would run: report" in CliRunner().invoke(app, ["run", *flags, "--dry-run"]).output
    one_stage("report", "test", "test")
    again = open_run(finished.store, "test")
    assert again.recipe == mine
    assert len(again.store.read(again.report_path)) == pytest.approx(len(page), rel=0.01)
    assert "fresh: nothing would run" in CliRunner().invoke(app, ["run", *flags, "--dry-run"]).output


def test_a_run_that_was_killed_at_its_very_end_is_ended(finished: Plan) -> None:
    """Everything stands, and its file says that it runs: status calls it interrupted, so the command must not say that nothing is to do."""
    run = replace(open_run(finished.store, "test"), state="running", pid=2**22 + 1)
    assert not run.is_alive
    assert not nothing_to_do(finished, survey(finished, Asked()), run)


def test_an_id_that_is_none_and_one_that_is_many_are_refused(finished: Plan) -> None:
    """With the reason."""
    with pytest.raises(ConfigError, match="no document id"):
        find_document(finished.run, "xyz")
    with pytest.raises(ConfigError, match="documents of run test begin with 0"):
        find_document(finished.run, "0")
    with pytest.raises(ConfigError, match="has no document ffffffffffffffffffffffffffffffff"):
        find_document(finished.run, "f" * 32)


def test_force_compares_and_refuses_other_bytes(finished: Plan) -> None:
    """RULE 11: equal bytes change nothing; other bytes are an IntegrityError."""
    one_stage("select", "test", "test", None, True)
    standing = finished.run.need("select")
    path = f"{standing.root}/manifest.json"
    true = finished.store.read(path)
    false = of_other_bytes(standing)
    finished.store.write(path, false.to_json())
    try:
        with pytest.raises(IntegrityError, match=f"expected digest {false.digest}"):
            one_stage("select", "test", "test", None, True)
    finally:
        finished.store.write(path, true)
    assert open_run(finished.store, "test").artifacts["select"].digest == standing.digest
    one_stage("select", "test", "test", None, False)


def test_no_artifact_of_a_run_is_garbage(finished: Plan) -> None:
    """gc offers only what attempts left."""
    offered = {file.path for item in find_garbage(finished.store) for file in item.files}
    for key in finished.run.artifacts:
        manifest = finished.run.need(key)
        assert not offered & {f"{manifest.root}/{entry.path}" for entry in manifest.files}
        assert f"{manifest.root}/manifest.json" not in offered


def test_force_trains_again_to_the_same_bytes_and_refuses_another_mesh(finished: Plan) -> None:
    """A training stage under an equal execution gives its digest again; one of other libraries, or another micro-batch, is not compared."""
    one_stage("anneal", "test", "test", None, True)
    standing = finished.run.need("anneal")
    assert open_run(finished.store, "test").artifacts["anneal"].digest == standing.digest
    path = f"{standing.root}/manifest.json"
    true = finished.store.read(path)
    for part, other in (("environment", {"python": "3.0"}), ("execution", {"micro_batch_size": 999})):
        info = {**standing.info, part: {**standing.info[part], **other}}
        finished.store.write(path, Manifest(**{**standing.__dict__, "info": info}).to_json())
        try:
            with pytest.raises(ConfigError, match=f"--force anneal: {part}"):
                one_stage("anneal", "test", "test", None, True)
        finally:
            finished.store.write(path, true)


def test_every_artifact_says_how_long_it_took(finished: Plan) -> None:
    """RULE 8: timings are in the manifest, whoever made it; the report draws them."""
    without = [key for key in finished.run.artifacts if "wall_s" not in finished.run.need(key).info and not key.startswith("snapshot")]
    assert without == []


def test_the_time_of_a_training_stage_counts_from_before_its_ranks_were_started(finished: Plan) -> None:
    """The spec that they were started with holds it."""
    run = finished.run
    for stage in TRAINING:
        manifest = run.need(stage)
        files = run.store.list_files(logs_of(run.name, stage, manifest.fingerprint))
        specs = [json.loads(run.store.read(file.path)) for file in files if file.path.endswith("/spec.json")]
        assert [round(spec["info"]["began"][0], 3) for spec in specs] == [manifest.info["started_at_s"]]


def test_counters_of_every_stage_close_and_a_lost_record_opens_them(finished: Plan) -> None:
    """Counted again from the tables, raw files included; a row less in one of them shows at its stage and at those that read it."""
    found = list(balances(finished.run))
    assert [str(balance) for balance in found if not balance.closes] == []
    stages = {balance.stage.split(",")[0].split(" ")[0] for balance in found}
    assert stages == {"read", "ingest", "origins", "dedup", "quality", "domains", "select", "coverage", "tokenize", "mix"}
    lost = list(balances(finished.run, losing_a_row(finished.run.need("documents/pages"))))
    assert {"ingest pages", "select"} <= {balance.stage for balance in lost if not balance.closes}
    assert "ingest essays" not in {balance.stage for balance in lost if not balance.closes}


def test_the_funnel_the_mixtures_the_loss_and_the_scores_are_printed(finished: Plan) -> None:
    """RULE 20: reasons with their sources, tokens as measured on the run's shards; RULE 29: target, available, realised, epochs."""
    visits = {visit.key: replace(visit, state="ran") for visit in survey(finished, Asked()).visits}
    console = Console(width=140, record=True, file=StringIO())
    for key in ("select", "mix/pretrain", "pretrain", "evaluate"):
        for part in stage_line(visits[key], finished.run):
            console.print(part)
    text = console.export_text()
    assert "measured on the newest shards" in text
    assert re.search(r"near +\d+ .*pages \d+", text)
    assert re.search(r"component +target +realised +tokens available +tokens taken +epochs", text)
    assert re.search(r"general +50\.00% +50\.\d+%", text)
    assert re.search(r"pretrain +\d+ steps, loss \d+\.\d{3} at the last", text)
    scores = json.loads(read_verified(finished.store, finished.run.need("evaluate"), "scores.json"))
    no_better = scores["bits_per_byte"]["all"] >= scores["unigram_bits_per_byte"]["all"]
    assert ("not below the unigram model's" in text) == no_better
