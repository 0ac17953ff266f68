"""`.ci/run` in a clean clone: no failure, in under 15 minutes, with no network.

The clone sets itself up on the network (`make setup`). Then `.ci/run`, whole, runs in a network namespace that holds the loopback device
alone (`unshare` of util-linux: as root, or where unprivileged user namespaces are allowed), so the kernel refuses whatever a test, its
children or a library try to reach outside. Where neither is permitted it says so and fails: nothing short of it holds every child.

The variable PYTEST_ARGS narrows the tests, to try this acceptance itself; it then fails, as it shows less than is asked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.acceptance.common import PROJECT, SHARED, Checks, Finished, arguments, work_folder
from tests.acceptance.demo import make

MAX_TOTAL_S = 900
NAMESPACES = (("unshare", "-n"), ("unshare", "-rn"))  # as root; as a user, who is root in a user namespace of his own

# A new namespace's loopback device is down. SIOCSIFFLAGS (0x8914) with IFF_UP | IFF_RUNNING, then the command in our place.
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""
OUTSIDE = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"  # TEST-NET-1 (RFC 5737)
REFUSED = "Network is unreachable"

SABOTAGE = f'''"""Two tests that must fail: `make accept-clean-clone` put them here."""

from __future__ import annotations

import subprocess
import sys

OUTSIDE = "{OUTSIDE}"


def test_that_fails() -> None:
    """It does."""
    assert len("red") == 4


def test_that_needs_a_network() -> None:
    """In a child, where no guard of ours is: the kernel has to refuse it."""
    done = subprocess.run([sys.executable, "-c", OUTSIDE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
'''


def without_network(python: Path | str) -> list[str] | None:
    """The words before a command that leave it the loopback device alone, or None where the machine permits no such namespace."""
    for words in NAMESPACES:
        prefix = [*words, str(python), "-c", LOOPBACK_UP]
        try:
            tried = subprocess.run([*prefix, str(python), "-c", OUTSIDE], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if REFUSED in tried.stderr:
            return prefix
    return None


def watched(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Finished:
    """Run a command; its output is kept, and shown as it comes."""
    started, lines = time.monotonic(), list[str]()
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            print(f"    {line}", end="", flush=True)
    return Finished(process.returncode, "".join(lines), time.monotonic() - started)


def closing_line(output: str) -> str:
    """pytest's last line: what passed, failed and was skipped."""
    found = re.findall(r"^\d+ (?:passed|failed|error|skipped|deselected).* in [\d.]+s.*$", output, re.MULTILINE)
    return found[-1] if found else "none"


def fresh_clone(checks: Checks, folder: Path, env: Mapping[str, str]) -> tuple[Path, float]:
    """A clone of HEAD with `shared` beside it, set up; and the seconds of a set-up whose downloads are in the cache."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(clone)], check=True)
    head = subprocess.run(["git", "log", "-1", "--format=%h %s"], cwd=clone, check=True, capture_output=True, text=True).stdout.strip()
    checks.note("commit of the clone", head[:60])
    if SHARED.is_dir():
        (folder / "shared").symlink_to(SHARED)
    else:
        checks.note("../shared", "not here: the tests that read it skip")
    checks.note("set-up, downloads included", f"{make(clone, 'setup', dict(env)):.1f} s")
    shutil.rmtree(clone / ".venv")
    setup_s = make(clone, "setup", dict(env))
    checks.note("set-up, downloads in the cache", f"{setup_s:.1f} s")
    return clone, setup_s


def sabotage(checks: Checks, clone: Path, prefix: list[str], env: Mapping[str, str]) -> None:
    """A failing test and one that connects outside must make `.ci/run` red."""
    test = clone / "tests" / "test_sabotage.py"
    test.write_text(SABOTAGE)
    red = watched([*prefix, ".ci/run"], clone, {**env, "PYTEST_ARGS": str(test.relative_to(clone))})
    closing = closing_line(red.output)
    checks.sabotage("a test that fails", red.code != 0 and "test_that_fails" in red.output and "2 failed" in closing, closing)
    refused = REFUSED in red.output and "test_that_needs_a_network" in red.output
    checks.sabotage("a test that connects outside, in a child", red.code != 0 and refused, REFUSED)


def main() -> None:
    """Run the checks."""
    arguments(__doc__ or "", ())
    checks = Checks("clean-clone", __doc__ or "")
    dropped = ("VIRTUAL_ENV", "PYTHONPATH", "PREFECT_API_URL", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    env = {key: value for key, value in os.environ.items() if key not in dropped and not key.startswith(("CARAVAN_STORE", "CARAVAN_RAW"))}
    narrowed = env.get("PYTEST_ARGS", "")
    with work_folder("clean-clone") as folder:
        prefix = without_network(sys.executable)
        if not checks.check(
            "connections out of this machine", "refused" if prefix else "not refused", "refused by the kernel", prefix is not None
        ):
            print("        unshare -n needs root, or unprivileged user namespaces; .ci/run follows with the network", flush=True)
        clone, setup_s = fresh_clone(checks, folder, env)
        print(".ci/run" + (", the loopback device alone" if prefix else ""), flush=True)
        ci = watched([*(prefix or []), ".ci/run"], clone, env)
        closing = closing_line(ci.output)
        green = ci.code == 0 and "passed" in closing and not re.search(r"failed|error", closing)
        checks.check(".ci/run", f"exit {ci.code}", "exit 0, no test failed", green)
        checks.note("pytest's closing line", closing)
        checks.check("the tests that ran", narrowed or "all", "all: no PYTEST_ARGS", not narrowed)
        total_s = setup_s + ci.wall_s
        checks.note("of that, .ci/run", f"{ci.wall_s:.0f} s")
        checks.check("set-up and .ci/run, without downloads", f"{total_s:.0f} s", f"under {MAX_TOTAL_S} s", total_s < MAX_TOTAL_S)
        sabotage(checks, clone, prefix or [], env)
    checks.finish()


if __name__ == "__main__":
    main()
