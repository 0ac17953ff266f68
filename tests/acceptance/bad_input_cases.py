"""Everything that is wrong in one way, and what has to be seen of it: the cases of bad_input.py and tests/flows/test_bad_input.py.

A case runs `caravan` on a finished run of a recipe. What it must show: the class of the error, what the message has to name, an exit code
that is not 0, no traceback, no secret; and where it is refused before any work, a store in which nothing has changed. The cases are in
`bad_input_recipes.py`, `bad_input_files.py` and `bad_input_bytes.py`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from scripts.minio import Minio
from storage.store import Store
from tests.acceptance.common import Finished, Place

Command = Callable[[Sequence[str], Mapping[str, str]], Finished]
Change = Callable[[dict[str, Any]], object]

ERRORS = ("ConfigError", "InputError", "IntegrityError", "RetryableError")
SECRET = "hunter2-not-a-secret-of-anyone"
MAX_MESSAGE_CHARS = 2500


@dataclass(frozen=True)
class Bench:
    """Where cases run: a finished run, a folder for their files, how to run `caravan`, and a MinIO server."""

    here: Place
    raw_root: Path
    folder: Path
    command: Command
    minio: Minio

    @property
    def store(self) -> Store:
        """The store of the finished run."""
        return Store(self.here.store_uri)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe of the finished run, as it is written."""
        found: dict[str, Any] = yaml.safe_load(self.here.recipe.read_text())
        return found

    def run(self, *arguments: str, recipe: Path | str | None = None, execution: Path | None = None, **env: str) -> Finished:
        """`caravan run` here, with another recipe or execution file where given."""
        files = ["--recipe", str(recipe or self.here.recipe), "--execution", str(execution or self.here.execution)]
        return self.command(["run", *files, *arguments], {**self.here.env, **env})

    def ask(self, *arguments: str, run: str | None = None) -> Finished:
        """A command that takes a run: report, explain, generate."""
        name = run or self.recipe["name"]
        return self.command([*arguments, "--execution", str(self.here.execution), "--run", name], self.here.env)

    def file(self, name: str, data: bytes) -> Path:
        """A file of these bytes."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def changed(self, which: Path, change: Change) -> Path:
        """A copy of the recipe or the execution file with a change."""
        raw = yaml.safe_load(which.read_text())
        change(raw)
        return self.file("changed.yaml", yaml.safe_dump(raw, sort_keys=False, allow_unicode=True).encode())


@dataclass(frozen=True)
class Outcome:
    """What was seen, and what had to be: `wanted` texts are in the message, `hidden` nowhere in the output; `problems` of other kinds."""

    seen: Finished
    kind: str
    wanted: Sequence[str]
    hidden: Sequence[str] = ()
    problems: Sequence[str] = ()

    @property
    def message(self) -> str:
        """The error that the user reads, from its class on; "" when there is none."""
        found = re.search(rf"^(?:{'|'.join(ERRORS)}) .*", self.seen.output, re.MULTILINE | re.DOTALL)
        return found.group().strip() if found else ""

    @property
    def first_line(self) -> str:
        """The first line of the message, and of a list of wrong fields the first of them."""
        lines = [line.strip() for line in self.message.splitlines()]
        return " ".join(lines[: 2 if "wrong field" in lines[0] else 1]) if lines else "no error"

    def failures(self) -> list[str]:
        """What does not hold, in words; empty when all does."""
        message = _spaced(self.message)
        found = [
            *(["the exit code is 0"] if self.seen.code == 0 else []),
            *([f"no {self.kind}"] if not message.startswith(self.kind) else []),
            *(["a traceback"] if "Traceback (most recent" in self.seen.output else []),
            *(["not one paragraph"] if "\n\n" in self.message or len(message) > MAX_MESSAGE_CHARS else []),
            *[f"the message does not name {text!r}" for text in self.wanted if _spaced(text) not in message],
            *["a credential is in the output" for secret in self.hidden if secret in self.seen.output],
            *self.problems,
        ]
        return found


def _spaced(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True)
class Case:
    """One thing that is wrong. `before_work`: it has to be refused with the store as it was."""

    name: str
    act: Callable[[Bench], Outcome]
    before_work: bool = False

    def outcome(self, bench: Bench) -> Outcome:
        """Let it happen and look."""
        if not self.before_work:
            return self.act(bench)
        before = _listing(bench.store)
        outcome = self.act(bench)
        after = _listing(bench.store)
        return outcome if before == after else replace(outcome, problems=[*outcome.problems, "the store has changed"])


def _listing(store: Store) -> list[tuple[str, int, str]]:
    return [(file.path, file.size_bytes, file.version) for file in store.list_files("")]


def linked_copy(source: Path, target: Path) -> Path:
    """A copy of a folder that shares its bytes where the file system can: the files are only ever replaced, never written in place."""

    def link(old: str, new: str) -> None:
        Path(new).unlink(missing_ok=True)  # of an earlier try whose folder was kept
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)

    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True)
    return target
