"""What the acceptances share: the table of figures, sabotage, arguments, and running `caravan` as a user does.

An acceptance is a module of this folder with a `main`, run by `make accept-NAME`: the first line of its docstring says what it shows.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from flows import data_to_checkpoint
from flows.graph.runs import Run, open_run
from flows.graph.walk import Stage
from storage.artifact import Manifest, digest_of
from storage.store import Store

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"
DEMO_RECIPE = PROJECT / "flows" / "recipes" / "demo.yaml"
TEST_RECIPE = PROJECT / "flows" / "recipes" / "test.yaml"
HOW_TO_READ = """\
  ok or FAIL, what is looked at, what was found, what is asked of it; a line without ok or FAIL is for information.
  A sabotage is something broken on purpose, to see that the check would notice."""


@dataclass
class Checks:
    """Collects the figures of one acceptance; `finish()` ends the process with 0 only when each holds and every sabotage was caught.

    `name` is that of `make accept-NAME`, `description` the module's docstring, of which the first line is printed.
    """

    name: str
    description: str
    started_at_s: float = field(default_factory=time.monotonic)
    failures: list[str] = field(default_factory=list)
    n_checks: int = 0

    def __post_init__(self) -> None:
        print(f"{self.name}: {first_line(self.description)}", flush=True)
        print(HOW_TO_READ, flush=True)

    def check(self, name: str, figure: Any, asked: str, ok: bool) -> bool:
        """Print one figure beside what is asked."""
        self.n_checks += 1
        print(f"  {'ok  ' if ok else 'FAIL'}  {name:<58} {figure!s:>24}   asked {asked}", flush=True)
        if not ok:
            self.failures.append(name)
        return ok

    def note(self, name: str, figure: Any) -> None:
        """Print a figure of which nothing is asked."""
        print(f"        {name:<58} {figure!s:>24}", flush=True)

    def sabotage(self, name: str, caught: bool, how: str) -> None:
        """Record whether the acceptance's own test noticed a deliberate breach."""
        self.check(f"sabotage: {name}", "caught" if caught else "NOT CAUGHT", f"caught ({how})", caught)

    def finish(self) -> None:
        """Print the verdict and exit."""
        seconds = time.monotonic() - self.started_at_s
        verdict = "holds" if not self.failures else f"FAILS: {', '.join(self.failures)}"
        held = self.n_checks - len(self.failures)
        print(f"{self.name} {verdict} ({held} of {self.n_checks} checks, {seconds:.0f} s)", flush=True)
        sys.exit(1 if self.failures else 0)


def first_line(description: str) -> str:
    """What an acceptance shows, from its docstring."""
    return description.strip().partition("\n")[0]


def arguments(description: str, takes: Sequence[str], *, recipe: Path = DEMO_RECIPE) -> argparse.Namespace:
    """Another input than the usual: `recipe`, `corpus`, `shards`, `seed` (the Makefile's RECIPE= CORPUS= SHARDS= SEED=).

    Each is printed where the acceptance `takes` it, and said to change nothing where it does not; token shards take the place of a recipe
    and its corpus. A seed that is not given is drawn. Exits with 2 on a file or folder that is not there.
    """
    parser = argparse.ArgumentParser(description=first_line(description))
    parser.add_argument("--recipe", type=_recipe_file, default=recipe, help="recipe file, or its name in flows/recipes")
    parser.add_argument("--corpus", type=_folder, help="folder of raw files, in place of the recipe's usual raw_root")
    parser.add_argument("--shards", type=_folder, help="folder of token shards in datatrove's format, a folder for each component")
    parser.add_argument("--seed", type=int, help="seed of what is drawn")
    found = parser.parse_args()
    for name in ("recipe", "corpus", "shards", "seed"):
        if name not in takes and getattr(found, name) != parser.get_default(name):
            print(f"{name.upper()}= changes nothing here", flush=True)
    if found.seed is None:
        found.seed = int.from_bytes(os.urandom(3), "big")
    replaced = ("recipe", "corpus") if found.shards else ()
    used = [f"{name} {getattr(found, name)}" for name in takes if name not in replaced and getattr(found, name) is not None]
    if used:
        print(f"input: {', '.join(used)}", flush=True)
    return found


def _recipe_file(name: str) -> Path:
    named = DEMO_RECIPE.parent / f"{name}.yaml"
    path = named if not Path(name).exists() and named.is_file() else Path(name)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{name}: no such file, and no such name in flows/recipes")
    return path


def _folder(name: str) -> Path:
    if not Path(name).is_dir():
        raise argparse.ArgumentTypeError(f"{name}: no such folder")
    return Path(name)


def command_stage(artifact: str) -> str:
    """The stage, as the command line names it, that makes the artifacts of this name (`held_out_tokens`: tokenize)."""
    found = [value for value in vars(data_to_checkpoint).values() if isinstance(value, Stage)]
    return {stage.artifact: stage.name for stage in (*found, *data_to_checkpoint.TRAINING.values())}[artifact]


def different(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Keys whose digests differ, or that one side lacks."""
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


@dataclass(frozen=True)
class Place:
    """Where an acceptance runs a recipe: files and variables for `caravan`, all of it under one folder."""

    recipe: Path
    execution: Path
    store_uri: str
    env: Mapping[str, str]

    @property
    def arguments(self) -> list[str]:
        """What every `caravan run` and `caravan status` of this place gets."""
        return ["--recipe", str(self.recipe), "--execution", str(self.execution)]

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 1800, echo: bool = False) -> Finished:
        """`caravan run` here."""
        return caravan(["run", *self.arguments, *arguments], env=self.env, check=check, timeout_s=timeout_s, echo=echo)

    def status(self) -> Finished:
        """`caravan status` here."""
        return caravan(["status", *self.arguments], env=self.env)

    def state(self) -> Run:
        """The recipe's run as the store has it."""
        return open_run(Store(self.store_uri), str(yaml.safe_load(self.recipe.read_text())["name"]))

    def digests(self) -> dict[str, str]:
        """Digest of every artifact of the run, by key."""
        return {key: pointer.digest for key, pointer in sorted(self.state().artifacts.items())}

    def with_recipe(self, change: Callable[[dict[str, Any]], None], name: str) -> Place:
        """The same place with a changed copy of the recipe, in the file `name`."""
        raw = yaml.safe_load(self.recipe.read_text())
        change(raw)
        path = self.recipe.with_name(name)
        path.write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
        return replace(self, recipe=path)


def place(folder: Path, recipe: Path, *, raw_root: Path | None = None, store_uri: str | None = None, **fields: Any) -> Place:
    """A copy of `recipe` and an execution file under `folder`; store, work and raw data there unless given.

    `fields` replace fields of flows/execution/local.yaml (test.yaml for the test recipe).
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "recipe.yaml"
    copy.write_bytes(recipe.read_bytes())
    is_test = recipe.resolve() == TEST_RECIPE
    if is_test and raw_root is None:
        from tests.flows.small_corpus import write_corpus

        raw_root = folder / "raw"
        write_corpus(raw_root)
    execution = yaml.safe_load((PROJECT / "flows" / "execution" / ("test.yaml" if is_test else "local.yaml")).read_text())
    execution |= {
        "store": store_uri or str(folder / "store"),
        "raw_root": str(raw_root or PROJECT / "examples" / "corpus"),
        "work_dir": str(folder / "work"),
        **fields,
    }
    path = folder / "execution.yaml"
    path.write_text(yaml.safe_dump(execution, sort_keys=False))
    env = {"PREFECT_HOME": str(folder / "prefect")}
    return Place(copy, path, execution["store"], env)


@dataclass(frozen=True)
class Finished:
    """A finished command."""

    code: int
    output: str
    wall_s: float


def caravan(
    arguments: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = 1800, check: bool = True, echo: bool = False
) -> Finished:
    """Run `caravan …` as a user does, its output kept, and with `echo` printed as it comes.

    Raises RuntimeError with the end of the output when it fails and `check` is set, or when it takes longer than `timeout_s`.
    """
    started, output, name = time.monotonic(), list[str](), f"caravan {' '.join(arguments)}"
    with subprocess.Popen(
        [str(Path(sys.executable).parent / "caravan"), *arguments],
        cwd=PROJECT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if echo:
                print(f"    {line}", end="", flush=True)
        code = process.wait()
        timer.cancel()
    wall_s = time.monotonic() - started
    if code == -signal.SIGKILL and wall_s >= timeout_s:
        raise RuntimeError(f"{name} took longer than {timeout_s:.0f} s:\n{''.join(output)[-4000:]}")
    if check and code != 0:
        raise RuntimeError(f"{name} ended with {code}:\n{''.join(output)[-4000:]}")
    return Finished(code, "".join(output), wall_s)


@contextmanager
def work_folder(name: str) -> Iterator[Path]:
    """A folder for the length of an acceptance; kept where CARAVAN_ACCEPTANCE_DIR says, else removed."""
    kept = os.environ.get("CARAVAN_ACCEPTANCE_DIR")
    if kept:
        folder = Path(kept) / name
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix=f"caravan-{name}-") as temporary:
            yield Path(temporary)


def of_other_bytes(manifest: Manifest) -> Manifest:
    """A manifest of the same question that names other bytes, and is sound in itself."""
    files = tuple(replace(entry, sha256="0" * 64) for entry in manifest.files)
    return replace(manifest, files=files, digest=digest_of(files))


def raises(action: Callable[[], object], kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether `action` raises one of `kinds`."""
    try:
        action()
    except kinds:
        return True
    return False
