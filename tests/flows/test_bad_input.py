"""Bad input: each wrong recipe, place, file and byte ends in its error or the quarantine (`make accept-bad-input` runs the same cases)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from scripts.minio import Minio
from tests.acceptance.bad_input_bytes import flip_cases
from tests.acceptance.bad_input_cases import Bench, Case, Outcome, linked_copy
from tests.acceptance.bad_input_files import BadSource, Dirty, bad_sources, ingest_dirty
from tests.acceptance.bad_input_recipes import execution_cases, late_cases, recipe_cases
from tests.acceptance.common import TEST_RECIPE, Finished, place


def in_this_process(arguments: Sequence[str], env: Mapping[str, str]) -> Finished:
    """The command line, without the seconds that a process of its own takes to import."""
    started = time.monotonic()
    result = CliRunner().invoke(app, list(arguments), env=dict(env))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # what a user would see as a traceback
    return Finished(result.exit_code, result.output, time.monotonic() - started)


@pytest.fixture(scope="module")
def bench(finished_folder: Path, prefect_server: None, minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A copy of the finished run."""
    folder = tmp_path_factory.mktemp("bad")
    raw_root = linked_copy(finished_folder / "raw", folder / "raw")
    linked_copy(finished_folder / "store", folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("CARAVAN_STORE", raising=False)
        patch.delenv("CARAVAN_RAW_ROOT", raising=False)
        here = place(folder, TEST_RECIPE, raw_root=raw_root)
        yield Bench(here, raw_root, folder, in_this_process, minio)


@pytest.fixture(scope="module")
def dirty(bench: Bench) -> Dirty:
    """The recipe's run with every bad source beside its own."""
    return ingest_dirty(bench)


@pytest.mark.parametrize("case", [*recipe_cases(), *execution_cases(), *late_cases(), *flip_cases()], ids=lambda case: case.name)
def test_what_is_wrong_ends_in_its_own_error(bench: Bench, case: Case) -> None:
    """One paragraph that names what is wrong, no traceback, no credential, not exit code 0; before any work where that can be known."""
    outcome = case.outcome(bench)
    assert outcome.failures() == [], outcome.seen.output


@pytest.mark.parametrize("source", bad_sources(), ids=lambda source: source.name)
def test_a_bad_record_is_quarantined_counted_and_shown(dirty: Dirty, source: BadSource) -> None:
    """With file, offset and reason; counts close; what is good in the same file stays."""
    assert dirty.failures(source) == []


def test_the_cases_can_fail(bench: Bench) -> None:
    """A right recipe, a true byte, a message with a credential and a traceback do not pass."""
    fresh = Outcome(bench.run("--dry-run"), "ConfigError", ("partitions",))
    assert fresh.failures() == ["the exit code is 0", "no ConfigError", "the message does not name 'partitions'"]
    loud = Outcome(Finished(1, "Traceback (most recent call last):\nConfigError my key is hunter2", 0.0), "ConfigError", (), ("hunter2",))
    assert loud.failures() == ["a traceback", "a credential is in the output"]
