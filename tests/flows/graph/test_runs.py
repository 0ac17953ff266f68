"""flows/graph/runs.py: one process at a time runs a run of this machine, and who was killed does not count."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.graph.runs import FILE, open_or_renew, open_run, parse_run
from storage.artifact import FileEntry, Manifest
from storage.errors import ConfigError, IntegrityError
from storage.hosts import start_of
from storage.store import Store


def test_a_second_run_of_the_same_name_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    """Both would write run.json: the state of the first to end would let `gc` remove what the other is writing."""
    run = open_run(Store(str(tmp_path)), "r")
    run.begin({}, {}, "")
    run.check_not_running()  # this process itself may
    with subprocess.Popen(["sleep", "60"]) as other:
        run = replace(run, pid=other.pid, pid_start=start_of(other.pid) or 0)
        with pytest.raises(ConfigError, match=f"run r is running already, as process {other.pid}"):
            run.check_not_running()
        replace(run, pid_start=run.pid_start + 1).check_not_running()  # another process got the number of one that was killed
        replace(run, host="elsewhere").check_not_running()
        other.kill()
        other.wait()
    run.check_not_running()
    assert not run.is_alive
    assert replace(run, host="elsewhere").is_alive


STARTER = """
import sys
from flows.graph.runs import open_run
from storage.errors import ConfigError
from storage.store import Store
run = open_run(Store(sys.argv[1]), "r")
print("ready", flush=True)
sys.stdin.readline()
try:
    with run.held():
        print("held", flush=True)
        sys.stdin.readline()
except ConfigError as error:
    print(error, flush=True)
"""


def test_of_two_starts_in_the_same_instant_one_is_refused(tmp_path: Path) -> None:
    """By an exclusive create: both looked before either wrote."""
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for each in started:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    said = sorted(each.stdout.readline().strip() for each in started if each.stdout)
    assert said[0] == "held"
    assert said[1].startswith("run r is running already, as process ")
    assert "give this one another name: --run" in said[1]
    for each in started:
        each.communicate("end\n")
        assert each.returncode == 0


def test_a_run_that_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    """Its process stood still for longer than its lease, and another one goes on."""
    run = open_run(Store(str(tmp_path)), "r")
    with run.held():
        run.begin({}, {}, "")
        assert run.lease is not None
        run.store.write(f"runs/r/lease/{run.lease.token + 1}", b"another's")
        with pytest.raises(ConfigError, match="run r was taken over by another process"):
            run.end("finished")
    assert open_run(run.store, "r").state == "running"


def test_no_flipped_bit_of_a_run_is_believed(tmp_path: Path) -> None:
    run = open_run(Store(str(tmp_path)), "r")
    run.point("select", Manifest("select", "f" * 32, "d" * 64, {}, (FileEntry("a", "b", 1, "c"),)))
    run.begin({"name": "r"}, {"store": "/x"}, "")
    data = run.store.read(f"runs/r/{FILE}")
    assert parse_run(run.store, "r", data).artifacts == run.artifacts
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(IntegrityError, match=r"^runs/r/run\.json: expected "):
            parse_run(run.store, "r", flipped)


def test_a_damaged_run_is_set_aside_and_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it points at is found by walking the graph; nothing of the file is believed."""
    store = Store(str(tmp_path))
    open_run(store, "r").begin({"name": "r"}, {}, "")
    damaged = store.read(f"runs/r/{FILE}").replace(b"running", b"runnung")
    store.write(f"runs/r/{FILE}", damaged)
    with pytest.raises(IntegrityError, match="the next `caravan run` of its recipe makes it again"):
        open_run(store, "r")
    run = open_or_renew(store, "r")
    assert (run.state, run.recipe) == ("new", {})
    assert "run.json" in caplog.text
    run.begin({"name": "r"}, {}, "")
    assert open_run(store, "r").recipe == {"name": "r"}
    (aside,) = [file.path for file in store.list_files("runs/r") if "damaged" in file.path]
    assert store.read(aside) == damaged


def test_a_page_that_is_not_as_it_was_written_is_not_fresh(tmp_path: Path) -> None:
    run = open_run(Store(str(tmp_path)), "r")
    run.write_report(b"<html>page</html>", run.artifacts_hash)
    assert open_run(run.store, "r").report_is_fresh
    run.store.write(run.report_path, b"<html>pale</html>")
    assert not open_run(run.store, "r").report_is_fresh
    run.store.remove(run.report_path)
    assert not open_run(run.store, "r").report_is_fresh
