"""A real `caravan run` whose processes can be told apart and killed, and what is left of it afterwards. Linux only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from flows.graph.runs import Run
from storage.artifact import artifact_root
from storage.disk import TEMPORARY_PREFIX
from storage.hosts import parent_and_start
from storage.store import Store
from tests.acceptance.common import PROJECT, Place
from tests.acceptance.processes import MARK, processes_of

GONE_TIMEOUT_S = 15.0
VICTIMS = ("parent", "worker", "server of workers", "agent", "rank", "Prefect server")


@dataclass(frozen=True)
class Command:
    """A `caravan run` that was started: its process, the mark that its children carry, where its output goes."""

    process: subprocess.Popen[bytes]
    mark: str
    log: Path

    def victims(self, kind: str) -> list[int]:
        """Its processes of a kind (see VICTIMS)."""
        if kind == "parent":
            return [self.process.pid] if self.process.poll() is None else []
        lines = {pid: command_line(pid) for pid in processes_of(self.mark)}
        nurseries = {pid for pid, line in lines.items() if "flows.running.nursery" in line}
        if kind in ("worker", "server of workers"):
            is_worker = {pid: (parent_and_start(pid) or (0, 0))[0] in nurseries for pid in nurseries}
            return [pid for pid in nurseries if is_worker[pid] == (kind == "worker")]
        words = {"agent": "torch.distributed.run", "rank": "training.run", "Prefect server": "uvicorn"}
        found = [pid for pid, line in lines.items() if words[kind] in line]
        return [pid for pid in found if kind != "rank" or words["agent"] not in lines[pid]]

    def kill_all(self) -> None:
        """kill -9 of everything at once, as a power cut ends it."""
        while pids := {self.process.pid, *processes_of(self.mark)} if self.process.poll() is None else set(processes_of(self.mark)):
            for pid in pids:
                kill(pid)
            self.process.poll()
            time.sleep(0.01)
        self.process.wait()

    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")


def command_line(pid: int) -> str:
    """The words of a process, or none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Send a signal; whether the process was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def start(here: Place, *arguments: str, env: Mapping[str, str] | None = None, mark: str = "") -> Command:
    """`caravan run` in `here`, its output in a file of its own."""
    mark = mark or uuid.uuid4().hex
    log = here.recipe.parent / f"output-{uuid.uuid4().hex[:8]}.log"
    variables = {**os.environ, **here.env, **(env or {}), MARK: mark}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "caravan"), "run", *here.arguments, *arguments],
            cwd=PROJECT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    return Command(process, mark, log)


def left_behind(mark: str, timeout_s: float = GONE_TIMEOUT_S) -> list[int]:
    """Processes with the mark that are still there after a while."""
    end = time.monotonic() + timeout_s
    while (left := processes_of(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def temporary_files(here: Place) -> list[str]:
    """What was being written and is still there: in the store, in the folder of temporary files, in work_dir."""
    folders = [Path(here.env["TMPDIR"])]
    if Store(here.store_uri).is_local:
        folders.append(Store(here.store_uri).local_path(""))
    work = Path(yaml.safe_load(here.execution.read_text())["work_dir"])
    scratch = [str(path) for path in work.rglob("scratch/*")] + [str(path) for path in work.rglob("*.progress")]
    return [str(path) for folder in folders for path in folder.rglob(f"{TEMPORARY_PREFIX}*")] + scratch


def apart(here: Place, folder: Path) -> Place:
    """The same place with a folder of temporary files and a Prefect database of its own."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return replace(here, env={**here.env, "TMPDIR": str(temporary), "PREFECT_HOME": str(folder / "prefect")})


def roots_of(run: Run, stage: str) -> list[str]:
    """The folders of a run's artifacts of one kind."""
    return [artifact_root(p.stage, p.fingerprint) for key, p in sorted(run.artifacts.items()) if key.partition("/")[0] == stage]


def kinds_of(run: Run) -> list[str]:
    """The kinds of artifacts that a run points at, in its order."""
    return list(dict.fromkeys(key.partition("/")[0] for key in run.artifacts))


def digests_of(run: Run) -> dict[str, str]:
    """Digest of every artifact that a run points at."""
    return {key: pointer.digest for key, pointer in run.artifacts.items()}


def copy_store(source: Path, target: Path, *, without: tuple[str, ...] = ()) -> None:
    """A copy by hard links; files of Caravan are replaced, never written in place. `without`: paths that are left out."""
    for path in files_of(source):
        name = path.relative_to(source).as_posix()
        if not name.startswith(without or ("\0",)):
            copied = target / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copied)


def files_of(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def forget(here: Place) -> None:
    """Remove a place's folder."""
    shutil.rmtree(here.recipe.parent, ignore_errors=True)
