"""kill -9 while a stage works: of the command, a worker, the server of workers, torchrun's agent, a rank, our Prefect server.

Every kill of a stage hits what the one before left. A killed command is started again; whatever else is killed, the same command has to
come to a good end. After the last kill of a stage it is run to its end, and every digest is that of the undisturbed run.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from flows.graph.runs import Run
from storage.store import Store
from tests.acceptance.chaos_run import VICTIMS, Command, kill, kinds_of, left_behind, roots_of, start, temporary_files
from tests.acceptance.common import Place, command_stage, different

TRIES = 6  # of a kill that comes too late
POLL_S = 0.0005
LONG_S = 1.0  # of a stage in which a worker can be found at work from outside
TRAINING = ("pretrain", "extend_context", "anneal")
COMMAND_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Kill:
    """Which process of which stage."""

    stage: str
    victim: str


@dataclass
class Struck:
    """What came of the kills of one stage."""

    hits: Counter[Kill] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def seconds_of(run: Run, stage: str) -> float:
    """How long the stage's artifacts took, one after the other."""
    return sum(float(run.need(key).info.get("wall_s", 0.0)) for key in run.artifacts if key.partition("/")[0] == stage)


def draw(run: Run, n: int, rng: random.Random) -> list[Kill]:
    """`n` kills: the command in every stage, each other kind where it can be found, then at random among all that can be."""
    stages = kinds_of(run)
    long = [stage for stage in stages if stage not in TRAINING and seconds_of(run, stage) > LONG_S]
    trained = [stage for stage in TRAINING if stage in stages]
    needed = [Kill(stage, "parent") for stage in stages]
    needed += [Kill(stage, victim) for stage in trained for victim in ("agent", "rank", "Prefect server")]
    needed += [Kill(stage, "worker") for stage in long] + [
        Kill(rng.choice(long), victim) for victim in ("server of workers", "Prefect server")
    ]
    rest = [rng.choice(needed) for _ in range(n - len(needed))]
    return (needed + rest)[:n]


def strike_stage(run: Run, here: Place, stage: str, victims: Sequence[str], rng: random.Random, server: dict[str, str]) -> Struck:
    """All kills of one stage, in a copy of the finished store; then the run to its end."""
    found, store, roots = Struck(), Store(here.store_uri), roots_of(run, stage)
    to = ("--to", command_stage(stage))
    for victim in victims:
        for attempt in range(TRIES):
            if all(store.exists(f"{root}/manifest.json") for root in roots):
                for root in roots:
                    store.remove_tree(root)
            command = start(here, *to, env={} if victim == "Prefect server" else server)
            was_hit = _strike(command, store, roots, victim, rng.random() * seconds_of(run, stage) * 0.6**attempt)
            if victim != "parent":
                _end_well(command, victim, stage, found)
            command.process.wait()
            if left := left_behind(command.mark):
                found.problems.append(f"{stage}, {victim}: {len(left)} processes left")
            if was_hit:
                found.hits[Kill(stage, victim)] += 1
                break
        else:
            found.problems.append(f"{stage}, {victim}: it could not be hit at work")
    ended = here.run(*to, check=False)
    if ended.code:
        found.problems.append(f"{stage}: the run after the kills failed: {ended.output[-300:]}")
    found.problems += [f"{stage}: another digest of {key}" for key in different(_known(run), here.digests())[:1]]
    found.problems += [f"{stage}: left {path}" for path in temporary_files(here)[:3]]
    return found


def _known(run: Run) -> dict[str, str]:
    return {key: pointer.digest for key, pointer in run.artifacts.items()}


def _strike(command: Command, store: Store, roots: Sequence[str], victim: str, delay_s: float) -> bool:
    """Kill one such process `delay_s` after the stage began; whether the stage was at work."""
    began = 0.0
    while command.process.poll() is None:
        at_work = _is_at_work(store, roots)
        if at_work and not began:
            began = time.monotonic()
        if at_work and time.monotonic() - began >= delay_s and (pids := command.victims(victim)):
            return kill(random.choice(pids))
        time.sleep(POLL_S)
    return False


def _is_at_work(store: Store, roots: Sequence[str]) -> bool:
    """Whether there is something of the stage's artifacts, and not all of them."""
    if store.is_local:
        folders = [store.local_path(root) for root in roots]
        return any(folder.exists() for folder in folders) and not all((folder / "manifest.json").exists() for folder in folders)
    has_begun = any(store.list_dirs(root) for root in roots)
    return has_begun and not all(store.exists(f"{root}/manifest.json") for root in roots)


def _end_well(command: Command, victim: str, stage: str, found: Struck) -> None:
    """Whatever is killed but the command itself, the command goes on."""
    end = time.monotonic() + COMMAND_TIMEOUT_S
    while command.process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    if command.process.poll() != 0:
        found.problems.append(f"{stage}, {victim}: the command ended with {command.process.poll()}: {command.output()[-400:]}")
        command.kill_all()


def table(hits: Counter[Kill]) -> list[str]:
    """What was hit: a line for each stage."""
    stages = list(dict.fromkeys(kill.stage for kill in hits))
    lines = [f"{'stage':<18}" + "".join(f"{victim:>20}" for victim in VICTIMS)]
    for stage in stages:
        lines.append(f"{stage:<18}" + "".join(f"{hits[Kill(stage, victim)] or '':>20}" for victim in VICTIMS))
    return lines
