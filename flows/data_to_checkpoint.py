"""The whole path, from raw data to an evaluated checkpoint: read this first. It reads top to bottom.

`do(stage, config, inputs)` gives the artifact of a stage. The same function is walked to run the path, to say what would run and why
(`--dry-run`) and to say how things stand (`status`): what does not exist yet is then `Pending`, and the walk goes on behind it.
A fresh artifact is never made again. Prefect comes in where the walk runs something (`flows/running/prefect_flows.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pydantic import BaseModel

from flows.graph.walk import Artifact, Stage
from flows.recipe.execution import TrainingStage
from flows.recipe.raw_files import check_given_tokenizer, resolve_evaluation, resolve_quality
from flows.recipe.recipe import Recipe, TrainedConfig
from pipeline.ingest import documents as ingest
from pipeline.ingest import dropped, extract
from pipeline.snapshot import Listing
from pipeline.tokenize_documents import Config as TokenizeConfig
from storage.store import Store

# name on the command line, module that makes it, where it runs
SNAPSHOT = Stage("snapshot", "pipeline.snapshot")
EXTRACT = Stage("ingest", "pipeline.ingest.extract", "child", takes_inputs=False, takes_raw=True)
DOCUMENTS = Stage("ingest", "pipeline.ingest.documents")
ORIGINS = Stage("ingest", "pipeline.ingest.documents", run="run_origins", prefix="ORIGINS_")
DROPPED = Stage("ingest", "pipeline.ingest.dropped")
DEDUP = Stage("dedup", "pipeline.dedup.stage")
QUALITY = Stage("quality", "pipeline.quality.stage", takes_raw=True)
DOMAINS = Stage("domains", "pipeline.domains.stage")
SELECT = Stage("select", "pipeline.selection")
COVERAGE = Stage("coverage", "pipeline.coverage")
TRAIN_TOKENIZER = Stage("train_tokenizer", "pipeline.train_tokenizer", takes_raw=True)
TOKENIZE = Stage("tokenize", "pipeline.tokenize_documents")
HELD_OUT = Stage("tokenize", "pipeline.tokenize_documents", run="run_held_out", prefix="HELD_OUT_")
BUILD_TASKS = Stage("build_tasks", "pipeline.eval_tasks")
MIX = Stage("mix", "training.mix", "child")
TRAINING: dict[TrainingStage, Stage] = {
    "pretrain": Stage("pretrain", "training.worker", "torchrun"),
    "extend_context": Stage("extend_context", "training.worker", "torchrun"),
    "anneal": Stage("anneal", "training.worker", "torchrun"),
}
EXPORT = Stage("export", "training.export", "child")
EVALUATE = Stage("evaluate", "training.evaluate", "child", takes_raw=True, reports_in="tokens")


class Do(Protocol):
    """How the graph asks for artifacts (`flows/graph/walk.py`)."""

    raw: Store

    def __call__(self, stage: Stage, config: BaseModel, inputs: Mapping[str, Artifact], label: str = "") -> Artifact: ...
    def each(self, stage: Stage, configs: Mapping[str, BaseModel], inputs: Mapping[str, Artifact]) -> dict[str, Artifact]: ...
    def look(self, stage: Stage, recipe: Recipe) -> Listing: ...


def data_to_checkpoint(recipe: Recipe, do: Do) -> None:
    """Ask for every artifact of the path, in order."""
    check_given_tokenizer(recipe.tokenizer.given, recipe.model, do.raw)
    listing = do.look(SNAPSHOT, recipe)

    # Documents: immutable, one id for ever; what stages find out lies in tables beside them.
    documents: dict[str, Artifact] = {}
    left_out: dict[str, Artifact] = {}  # what extraction dropped of some pages: quality may learn from it
    for source in recipe.sources:
        configs = {f"{source.name}/{file.path}": extract.config_of(source, file, recipe.language) for file in listing[source.name]}
        extractions = do.each(EXTRACT, configs, {})
        files = {f"extract.{label.partition('/')[2]}": extraction for label, extraction in extractions.items()}
        made = do(DOCUMENTS, ingest.config_of(source, recipe.partitions), files, source.name)
        do(ORIGINS, ingest.OriginsConfig(source=source.name), {**files, "documents": made}, source.name)
        if source.keeps_dropped:
            left_out[f"dropped.{source.name}"] = do(DROPPED, dropped.Config(source=source.name), {**files, "documents": made}, source.name)
        documents[f"documents.{source.name}"] = made

    clusters = do(DEDUP, recipe.dedup, documents)
    contrasted = {name: artifact for name, artifact in left_out.items() if name.removeprefix("dropped.") in recipe.quality.contrasted}
    quality = do(QUALITY, resolve_quality(recipe.quality, do.raw), {**documents, **contrasted, "clusters": clusters})
    domains = do(DOMAINS, recipe.domains, {**documents, "clusters": clusters})

    # One stage decides.
    selection = do(SELECT, recipe.select, {**documents, "clusters": clusters, "quality": quality, "domains": domains})

    chosen = {**documents, "selection": selection}

    # What training covers is not evaluated. Evaluation alone reads what follows from this: no threshold of it makes training stale.
    judged = {**chosen, "coverage": do(COVERAGE, recipe.coverage, chosen)}

    tokenizer = do(TRAIN_TOKENIZER, recipe.tokenizer, {} if recipe.tokenizer.given else chosen)
    tokens = do(TOKENIZE, TokenizeConfig(), {**chosen, "tokenizer": tokenizer})
    held_out = do(HELD_OUT, TokenizeConfig(), {**judged, "tokenizer": tokenizer})
    tasks = do(BUILD_TASKS, recipe.tasks, judged)

    # The order of training data is a function of these plans, a seed and a step.
    plans = {stage: do(MIX, recipe.mix(stage), {"tokens": tokens}, stage) for stage in recipe.stages}

    checkpoint: Artifact | None = None
    for stage, config in recipe.stages.items():
        inputs = {"tokens": tokens, "plan": plans[stage], **({} if checkpoint is None else {"checkpoint": checkpoint})}
        checkpoint = do(TRAINING[stage], TrainedConfig(model=recipe.model, training=config.training), inputs)
    assert checkpoint is not None

    export = do(EXPORT, recipe.export, {"checkpoint": checkpoint, "tokenizer": tokenizer})
    models = {"checkpoint": checkpoint, "export": export, "tokenizer": tokenizer}
    evaluation = resolve_evaluation(recipe.evaluate, do.raw, recipe.export.max_seq_len)
    do(EVALUATE, evaluation, {**models, "held_out": held_out, "tasks": tasks, "tokens": tokens})
