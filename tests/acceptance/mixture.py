"""Training consumes the mixture asked for, `trace` agrees both ways, and all hashes come out again without Caravan.

With SHARDS= (a folder of token shards in datatrove's format, a folder for each component) on a short training of those, shares drawn.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from flows.graph.logs import logged, logs_of, read_log
from flows.graph.runs import Run
from flows.history.lineage import documents_of_step, order_in, seen_by
from storage.artifact import read_verified
from tests.acceptance.common import PROJECT, Checks, arguments, place, work_folder
from tests.acceptance.mixture_given_shards import train_on
from training.order import PERIOD, Pattern, round_shares

N_SAMPLES = 1_000_000
WINDOW = 9_973  # about 1 %, and not the pattern's period
N_DOCUMENTS = 40
N_STEPS = 10
STAGES = ("pretrain", "extend_context", "anneal")


def export_for_script(run: Run, stage: str, folder: Path) -> list[str]:
    """Put the stage's plan, the token shards and the logs of what was fed where the script reads them; its arguments."""
    tokens = run.need("tokenize")
    for name in tokens.names("train/"):
        if name.endswith((".ds", ".ds.metadata")):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(read_verified(run.store, tokens, name))
    (folder / f"{stage}.json").write_bytes(read_verified(run.store, run.need(f"mix/{stage}"), "plan.json"))
    fed = folder / "fed"
    fed.mkdir(exist_ok=True)
    root = logs_of(run.name, stage, run.artifacts[stage].fingerprint)
    for name in logged(run.store, root):
        if name.startswith("fed/") and (data := read_log(run.store, root, name)) is not None:
            (fed / Path(name).name).write_bytes(data)
    return ["--plan", str(folder / f"{stage}.json"), "--train", str(folder / "train"), "--fed", str(fed)]


def recompute(flags: list[str]) -> dict[str, Any]:
    """Run the script that imports nothing of the project."""
    script = PROJECT / "tests" / "acceptance" / "mixture_recompute.py"
    done = subprocess.run([sys.executable, "-I", str(script), *flags], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def consumed_checks(checks: Checks, run: Run, folder: Path) -> None:
    """Windows of the batches really consumed, and every fed sample's hash; with one token changed, a mismatch."""
    for stage in STAGES:
        if f"mix/{stage}" not in run.artifacts:
            continue
        flags = export_for_script(run, stage, folder)
        found = recompute(flags)
        limit = max(0.1 * found["window_samples"] / 100, 2.0)
        worst = f"{found['worst_samples']:.2f} samples of {found['window_samples']}"
        checks.check(
            f"{stage}: farthest from the mixture in any 1 % of it",
            worst,
            "at most 0.1 % of them, or 2 samples",
            found["worst_samples"] <= limit,
        )
        hashes = f"{found['compared']:,} compared, {found['mismatches']} differ"
        ok = found["mismatches"] == 0 and found["missing"] == 0 and found["compared"] > 0
        checks.check(f"{stage}: hashes of what was fed, recomputed", hashes, "none differs, none missing", ok)
    plan = json.loads((folder / "pretrain.json").read_text())
    shard = sorted((folder / "train" / plan["components"][0]["name"]).glob("*.ds"))[0]
    data = bytearray(shard.read_bytes())
    for n in range(0, len(data), 512):
        data[n] ^= 1
    shard.write_bytes(data)
    changed = recompute(["--plan", str(folder / "pretrain.json"), "--train", str(folder / "train"), "--fed", str(folder / "fed")])
    checks.sabotage("tokens changed in a shard", changed["mismatches"] > 0, f"{changed['mismatches']} hashes differ")


def order_checks(checks: Checks, rng: random.Random) -> None:
    """Random shares at 10^6 samples: windows of about 1 % against the mixture."""
    worst = 0.0
    for _ in range(5):
        names = [f"c{n}" for n in range(rng.randint(2, 8))]
        shares = round_shares({name: Fraction(rng.randint(1, 1000)) for name in names})
        pattern = Pattern([shares[name] for name in sorted(shares)])
        for first in (rng.randrange(N_SAMPLES - WINDOW) for _ in range(200)):
            for c, share in enumerate(pattern.shares):
                inside = pattern.count_before(c, first + WINDOW) - pattern.count_before(c, first)
                worst = max(worst, 100 * abs(inside / WINDOW - share / PERIOD))
    checks.check("10^6 samples in order, random shares: farthest in 1 %", f"{worst:.4f} points", "at most 0.1 points", worst <= 0.1)


def trace_checks(checks: Checks, run: Run, rng: random.Random) -> None:
    """Steps to documents and back: each says the other."""
    agreed = asked = 0
    for stage in STAGES:
        if f"mix/{stage}" not in run.artifacts:
            continue
        order = order_in(run, stage)
        for step in sorted(rng.sample(range(order.n_steps), min(N_STEPS, order.n_steps))):
            for fed in rng.sample(found, 4) if len(found := documents_of_step(run, stage, step)) > 4 else found:
                asked += 1
                agreed += any(seen.stage == stage and seen.step == step for seen in seen_by(run, fed.id))
    checks.check("documents of a step whose trace leads back to the step", f"{agreed} of {asked}", "all", asked > 0 and agreed == asked)


def main() -> None:
    """Run the checks."""
    given = arguments(__doc__ or "", ("recipe", "corpus", "shards", "seed"))
    checks = Checks("mixture", __doc__ or "")
    with work_folder("mixture") as folder:
        if given.shards:
            run = train_on(folder, given.shards, given.seed)
        else:
            here = place(folder, given.recipe, raw_root=given.corpus)
            here.run()
            run = here.state()
        rng = random.Random(given.seed)
        order_checks(checks, rng)
        trace_checks(checks, run, rng)
        consumed_checks(checks, run, folder / "script")
    checks.finish()


if __name__ == "__main__":
    main()
