"""`make demo` in a fresh clone: in under 8 minutes on 2 cores an exported, evaluated checkpoint that has learnt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flows.graph.runs import Run, open_run
from flows.recipe.loading import load_recipe
from flows.recipe.recipe import Recipe
from pipeline.documents import DOMAINS, parts_of, read_beside, read_documents
from storage.artifact import read_verified
from storage.store import Store
from storage.token_shards import TokenStream, stream_names
from tests.acceptance.common import DEMO_RECIPE, PROJECT, Checks, arguments, work_folder
from training.evaluate import load_model
from training.export import download

MAX_TOTAL_S = 480
MAX_RATIO = 0.85
MAX_LOGIT_DIFFERENCE = 1e-4


def make(clone: Path, target: str, env: dict[str, str]) -> float:
    """Run `make TARGET` in the clone as a user would; seconds. Raises CalledProcessError with the output printed when it fails."""
    started = time.monotonic()
    done = subprocess.run(
        ["make", *target.split()], cwd=clone, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        print(done.stdout.decode(errors="replace")[-4000:])
        done.check_returncode()
    return time.monotonic() - started


def demo_in_fresh_clone(checks: Checks, folder: Path, given: Namespace) -> Run:
    """Clone, set up, run; the time of set-up is that of a second one, whose downloads are in the cache."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(clone)], check=True)
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    if given.corpus:
        env["CARAVAN_RAW_ROOT"] = str(given.corpus.resolve())
    recipe = "" if given.recipe == DEMO_RECIPE else f" RECIPE={given.recipe.resolve()}"
    checks.note("set-up, downloads included", f"{make(clone, 'setup-venv', env):.1f} s")
    shutil.rmtree(clone / ".venv")
    setup_s = make(clone, "setup-venv", env)
    checks.note("set-up, downloads in the cache", f"{setup_s:.1f} s")
    demo_s = make(clone, f"demo{recipe}", env)
    checks.note("make demo, after that set-up", f"{demo_s:.1f} s")
    total_s = setup_s + demo_s
    checks.check(
        "make demo, set-up included, without downloads", f"{total_s:.0f} s", f"under {MAX_TOTAL_S} s on 2 cores", total_s < MAX_TOTAL_S
    )
    return open_run(Store(str(clone / ".caravan")), load_recipe(str(given.recipe)).name)


def data_checks(checks: Checks, run: Run, recipe: Recipe) -> None:
    """Every deduplication drops something, three domains in the WARC, every reader used."""
    funnel = json.loads(read_verified(run.store, run.need("select"), "funnel.json"))
    for reason in ("url", "exact", "near"):
        n = funnel["total"]["dropped"].get(reason, {}).get("documents", 0)
        checks.check(f"documents dropped as copies: {reason}", n, "at least 1", n >= 1)
    kept = funnel["total"]["kept"]
    repeated = run.need("dedup").counts.get("repeated_line_bytes", 0)
    checks.check(
        "bytes in repeated lines",
        f"{repeated:,}",
        "above 0, and taken out of what is kept",
        repeated > 0 and kept["edited_size_bytes"] < kept["size_bytes"],
    )
    found = domains_in_web(run, recipe)
    checks.check("domains that the classifier finds in the web pages", dict(found), "at least 3", sum(n > 0 for n in found.values()) >= 3)
    used = {source.format for source in recipe.sources if run.need(f"documents/{source.name}").counts.get("documents", 0) > 0}
    checks.check(
        "formats of raw files that gave documents",
        " ".join(sorted(used)),
        "warc jsonl parquet files",
        {"warc", "jsonl", "parquet", "files"} <= used,
    )


def domains_in_web(run: Run, recipe: Recipe) -> Counter[str]:
    """The classifier's likeliest domain of the documents of WARC and ARC sources."""
    found: Counter[str] = Counter()
    for source in recipe.sources:
        if source.format not in ("warc", "arc"):
            continue
        documents = run.need(f"documents/{source.name}")
        for part in range(parts_of(documents)):
            ids = read_documents(run.store, documents, part, ["id"]).column("id")
            for row in read_beside(run.store, run.need("domains"), source.name, part, ids).to_pylist():
                scores = {domain: row[f"p_{domain}"] for domain in DOMAINS if row[f"p_{domain}"] is not None}
                if scores:
                    found[max(scores, key=scores.__getitem__)] += 1
    return found


def score_checks(checks: Checks, run: Run) -> None:
    """Bits per byte against the unigram model, and what anneal averaged."""
    scores = json.loads(read_verified(run.store, run.need("evaluate"), "scores.json"))
    ours, unigram = scores["bits_per_byte"]["all"], scores["unigram_bits_per_byte"]["all"]
    checks.note("held-out bits per byte: checkpoint; unigram model", f"{ours:.4f}; {unigram:.4f}")
    checks.check("  ratio of the two", f"{ours / unigram:.3f}", f"at most {MAX_RATIO}", ours / unigram <= MAX_RATIO)
    for task, metrics in scores["tasks"].items():
        checks.note(f"task {task}", " ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
    averaged = run.need("anneal").info.get("averaged_steps", [])
    checks.check("steps whose checkpoints anneal averaged", averaged, "three of them", len(averaged) == 3)


def logit_difference(run: Run, recipe: Recipe, folder: Path, tokens: torch.Tensor) -> float:
    """Largest difference between the checkpoint's logits and those of the export in `folder`, loaded by `transformers`."""
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = load_model(run.store, recipe.model, run.need("anneal"))
    positions = torch.arange(tokens.shape[1])[None].expand_as(tokens)
    with torch.inference_mode():
        return float((model(tokens, positions, torch.zeros_like(tokens)) - loaded(tokens).logits).abs().max())


def export_checks(checks: Checks, run: Run, recipe: Recipe, folder: Path) -> None:
    """The export in `transformers`: the same logits, and text; with one weight moved, other logits."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export = download(run.store, run.need("export"), folder / "export")
    prefix = stream_names(run.need("held_out_tokens"), "held_out")[0]
    stream = TokenStream(run.store, run.need("held_out_tokens"), f"held_out/{prefix}")
    n = min(stream.n_tokens, recipe.evaluate.seq_len)
    tokens = torch.from_numpy(stream.read(0, n).astype(np.int64))[None]
    difference = logit_difference(run, recipe, export, tokens)
    checks.check(
        "largest difference of logits, export in transformers",
        f"{difference:.1e}",
        f"at most {MAX_LOGIT_DIFFERENCE}",
        difference <= MAX_LOGIT_DIFFERENCE,
    )
    tokenizer = AutoTokenizer.from_pretrained(export)
    loaded: Any = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32)
    torch.manual_seed(0)
    made = loaded.generate(**tokenizer("The history of", return_tensors="pt", return_token_type_ids=False), max_new_tokens=24)
    text = tokenizer.decode(made[0], skip_special_tokens=True)
    checks.check("generated text", repr(text[:60]), "longer than its prompt", len(text) > len("The history of"))
    weights = load_file(export / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.weight"] *= 1.05
    save_file(weights, export / "model.safetensors", metadata={"format": "pt"})
    moved = logit_difference(run, recipe, export, tokens)
    checks.sabotage("one weight matrix scaled by 1.05", moved > MAX_LOGIT_DIFFERENCE, f"difference {moved:.1e}")


def main() -> None:
    """Run the checks."""
    given = arguments(__doc__ or "", ("recipe", "corpus"))
    checks = Checks("demo", __doc__ or "")
    recipe = load_recipe(str(given.recipe))
    with work_folder("demo") as folder:
        run = demo_in_fresh_clone(checks, folder, given)
        data_checks(checks, run, recipe)
        score_checks(checks, run)
        export_checks(checks, run, recipe, folder)
    checks.finish()


if __name__ == "__main__":
    main()
