"""One self-contained HTML page about a run: funnel, mixture, curves, scores, cost, samples. What does not exist yet is left out.

Everything that comes from data is escaped: text by Jinja's autoescape, figures by `figures.embed`.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from flows.graph.logs import METRICS, logs_of, read_log
from flows.graph.runs import Run
from flows.graph.soundness import damage_line, damaged
from flows.graph.staleness import TRAINING, in_order, stale_artifacts, stale_lines
from flows.report import figures
from flows.report.samples import samples
from flows.report.words import NO_BETTER_THAN_COUNTING
from pipeline.ingest.documents import read_quarantine
from pipeline.select.funnel import thresholds_line
from storage.artifact import Manifest, read_verified
from training.config import parameter_count
from training.mix import mixture, read_plan

QUARANTINE_ROWS = 50


def build_report(run: Run) -> str:
    """The page of a run, from the artifacts that it points at and the metrics beside it. Raises IntegrityError for damaged artifacts."""
    found = {key: manifest for key in in_order(run) if (manifest := run.manifest(key))}
    stale = stale_artifacts(run)
    wrong = damaged(run.store, found)
    view: dict[str, Any] = {
        "run": run,
        "made_at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "ingest": _ingest(found),
        "quarantine": _quarantine(run, found),
        "dedup": found["dedup"].counts if "dedup" in found else None,
        "funnel": _json(run, found.get("select"), "funnel.json"),
        "classifiers": {stage: _json(run, found.get(stage), "validation.json") for stage in ("quality", "domains")},
        "thresholds": _json(run, found.get("domains"), "thresholds.json"),
        "thresholds_line": thresholds_line,
        "coverage": _json(run, found.get("coverage"), "coverage.json"),
        "tokens": _json(run, found.get("tokenize"), "counts.json"),
        "mixtures": _mixtures(run, found),
        "steps": _metrics(run, found),
        "training": {stage: found[stage] for stage in TRAINING if stage in found},
        "parameters": _parameters(run, found),
        "scores": _json(run, found.get("evaluate"), "scores.json"),
        "no_better_than_counting": NO_BETTER_THAN_COUNTING,
        "artifacts": found,
        "artifact_rows": _artifact_rows(found),
        "damage_lines": [damage_line(key, error) for key, error in wrong.items()],
        "stale": stale,
        "stale_lines": functools.partial(stale_lines, stale),
        "samples": samples(run, found) if "select" in found else [],
    }
    view["figures"] = _figures(view)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": _count, "size": _size, "percent": _percent, "seconds": _seconds}
    return environment.get_template("report.html.j2").render(**view, plotly_js=get_plotlyjs())


def _json(run: Run, manifest: Manifest | None, name: str) -> dict[str, Any] | None:
    """A JSON file of an artifact, verified; None where the artifact or the file is not there."""
    if manifest is None or name not in manifest.names():
        return None
    value: dict[str, Any] = json.loads(read_verified(run.store, manifest, name))
    return value


def _ingest(found: Mapping[str, Manifest]) -> dict[str, dict[str, int]]:
    """Counts of each source's ingest, by source."""
    sources = {key.partition("/")[2]: manifest for key, manifest in found.items() if key.startswith("documents/")}
    return {source: dict(manifest.counts) for source, manifest in sorted(sources.items())}


def _quarantine(run: Run, found: Mapping[str, Manifest]) -> list[dict[str, Any]]:
    """The first quarantined records of each source: source, file, offset, reason, detail. Raises IntegrityError."""
    rows = []
    for key, manifest in sorted(found.items()):
        if key.startswith("origins/"):
            table = read_quarantine(run.store, manifest).slice(0, QUARANTINE_ROWS)
            rows += [{"source": key.partition("/")[2], **row} for row in table.to_pylist()]
    return rows


def _artifact_rows(found: Mapping[str, Manifest]) -> list[dict[str, Any]]:
    """A line for each artifact; the extractions of a source, as many as it has files, share one."""
    together: dict[str, list[Manifest]] = {}
    for key, manifest in found.items():
        together.setdefault("/".join(key.split("/")[:2]) if key.startswith("extract/") else key, []).append(manifest)
    return [
        {
            "name": key if len(manifests) == 1 else f"{key} ({len(manifests):,})",
            "fingerprint": manifests[0].fingerprint if len(manifests) == 1 else "",
            "digest": manifests[0].digest[:16] if len(manifests) == 1 else "",
            "n_files": sum(len(manifest.files) for manifest in manifests),
            "size_bytes": sum(entry.size_bytes for manifest in manifests for entry in manifest.files),
            "wall_s": sum(manifest.info.get("wall_s", 0.0) for manifest in manifests),
        }
        for key, manifests in together.items()
    ]


def _mixtures(run: Run, found: Mapping[str, Manifest]) -> dict[str, list[Any]]:
    plans = {stage: found[f"mix/{stage}"] for stage in TRAINING if f"mix/{stage}" in found}
    return {stage: mixture(read_plan(run.store, manifest)) for stage, manifest in plans.items()}


def _metrics(run: Run, found: Mapping[str, Manifest]) -> dict[str, list[dict[str, Any]]]:
    """Lines of the metrics of each training stage by step, from the run that trained it; of a step that a resumed attempt repeated, the
    last line holds."""
    steps: dict[str, list[dict[str, Any]]] = {}
    for stage in TRAINING:
        if stage in found:
            root = logs_of(found[stage].info.get("run", run.name), stage, found[stage].fingerprint)
        elif stage in run.training:  # it began and did not end
            root = logs_of(run.name, stage, run.training[stage])
        else:
            continue
        if (data := read_log(run.store, root, METRICS)) is not None:
            rows = [json.loads(line) for line in data.splitlines()]
            by_step = {row["step"]: row for row in rows}
            steps[stage] = [by_step[step] for step in sorted(by_step)]
    return steps


def _parameters(run: Run, found: Mapping[str, Manifest]) -> int | None:
    """Parameters of the model that was trained last, or, before any was, of the recipe's."""
    from training.config import ModelConfig

    trained = [found[stage] for stage in TRAINING if stage in found]
    model = trained[-1].payload["config"]["model"] if trained else run.recipe.get("model")
    return parameter_count(ModelConfig(**model)) if model else None


def _figures(view: Mapping[str, Any]) -> dict[str, str]:
    """The page's figures as scripts, by name; those that have nothing to show are left out."""
    made = {
        "reasons": figures.reasons(view["funnel"]) if view["funnel"] else None,
        "mixture": figures.mixtures(view["mixtures"]) if view["mixtures"] else None,
        "loss": figures.curves(view["steps"], "loss", "loss (nats per token)") if view["steps"] else None,
        "lr": figures.curves(view["steps"], "lr", "learning rate") if view["steps"] else None,
        "speed": figures.curves(view["steps"], "tokens_per_s", "tokens per second") if view["steps"] else None,
        "scores": figures.bits_per_byte(view["scores"]) if view["scores"] else None,
        "timings": figures.timings(view["artifacts"]) if view["artifacts"] else None,
    }
    return {name: figures.embed(name, figure) for name, figure in made.items() if figure is not None}


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f} s" if value < 120 else f"{int(value) // 60} min {int(value) % 60} s"
