"""Two at once: the same run started twice in the same instant, and a trainer that was stopped past its lease and then continued."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from flows.graph.runs import Run, open_run
from storage.store import Store
from tests.acceptance.chaos_run import copy_store, digests_of, roots_of, start
from tests.acceptance.common import Place, command_stage

REFUSED = "is running already"
LEASE_TIMEOUT_S = 2.0
WAIT_S = 240.0


@dataclass
class Pairs:
    """Of pairs of starts: how many ended with one done and one refused, and what the others did."""

    one_refused: int = 0
    others: list[str] = field(default_factory=list)


def start_in_pairs(run: Run, here: Place, stage: str, n: int, env: Mapping[str, str]) -> Pairs:
    """The same command twice at once, `n` times, each time with the stage to be made."""
    store, found = Store(here.store_uri), Pairs()
    copy_store(run.store.local_path(""), store.local_path(""), without=("runs/",))
    for _ in range(n):
        for root in roots_of(run, stage):
            store.remove_tree(root)
        pair = [start(here, "--to", command_stage(stage), env=env) for _ in range(2)]
        codes = [command.process.wait() for command in pair]
        refused = [REFUSED in command.output() for command in pair]
        if sorted(zip(codes, refused, strict=True)) == [(0, False), (1, True)]:
            found.one_refused += 1
        else:
            found.others.append(f"{codes}: {pair[codes.index(max(codes))].output()[-300:]}")
    return found


def stop_past_the_lease(run: Run, here: Place, env: Mapping[str, str]) -> list[str]:
    """Stop a rank of a run's training, let another run of the recipe take over, continue the first: what went wrong.

    The late one may not publish; both end well, with one artifact, of the digest of the undisturbed run.
    """
    store, (root,) = Store(here.store_uri), roots_of(run, "pretrain")
    copy_store(run.store.local_path(""), store.local_path(""), without=("runs/", f"{root}/"))
    execution = yaml.safe_load(here.execution.read_text())
    execution["training"]["pretrain"] |= {"lease_timeout_s": LEASE_TIMEOUT_S, "checkpoint_interval_steps": 4}
    here.execution.write_text(yaml.safe_dump(execution, sort_keys=False))
    first = start(here, "--to", "pretrain", "--run", "first", env=env)
    end, ranks = time.monotonic() + WAIT_S, list[int]()
    while time.monotonic() < end and first.process.poll() is None:
        if (store.local_path(root) / "lease" / "1").exists() and (ranks := first.victims("rank")):
            break
        time.sleep(0.001)
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    if not ranks or (store.local_path(root) / "manifest.json").exists():
        first.kill_all()
        return ["no rank could be stopped at work"]
    second = start(here, "--to", "pretrain", "--run", "second", env=env)
    code = second.process.wait()
    for rank in ranks:
        os.kill(rank, signal.SIGCONT)
    problems = [] if code == 0 else [f"the second run ended with {code}: {second.output()[-300:]}"]
    if first.process.wait():
        problems.append(f"the first run ended with {first.process.returncode}: {first.output()[-300:]}")
    if "another trainer took the lease over" not in _logs(here):
        problems.append("the late trainer was not refused")
    known = digests_of(run)["pretrain"]
    for name in ("first", "second"):
        pointer = open_run(store, name).artifacts.get("pretrain")
        if pointer is None or pointer.digest != known:
            problems.append(f"run {name} points at {pointer}")
    return problems


def _logs(here: Place) -> str:
    work = Path(yaml.safe_load(here.execution.read_text())["work_dir"])
    return "\n".join(path.read_text(errors="replace") for path in [*work.rglob("output.log"), *work.rglob("result.json")])
