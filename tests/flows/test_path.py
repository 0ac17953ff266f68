"""The whole path on the small corpus: it finishes, a second look finds nothing to do, lineage agrees both ways, --force compares."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.driver import Plan, nothing_to_do, survey
from flows.garbage import find_garbage
from flows.lineage import TRAINING, documents_of_step, explain, find_document, locate, order_in, seen_by
from flows.prefect_flows import one_stage
from flows.runs import open_run
from flows.walk import STAGES, Asked
from storage.artifact import Manifest
from storage.errors import ConfigError, IntegrityError


def test_every_stage_made_its_artifacts(finished: Plan) -> None:
    """And the run says so, with a report."""
    run = open_run(finished.store, "test")
    assert run.state == "finished"
    assert {key.partition("/")[0] for key in run.artifacts} == {*STAGES, "extract", "documents", "origins"} - {"ingest", "report"}
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
    finished.store.write(path, Manifest(**{**standing.__dict__, "digest": "0" * 64}).to_json())
    try:
        with pytest.raises(IntegrityError, match="expected digest 000"):
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
