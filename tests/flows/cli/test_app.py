"""The command line: its surface cannot grow silently, and it says what is wrong without a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.commands import asked_for
from flows.graph.walk import STAGES
from storage.errors import ConfigError

SURFACE = {
    "run": {"--recipe", "--execution", "--run", "--from", "--to", "--only", "--force", "--dry-run"},
    "status": {"--recipe", "--execution", "--run"},
    "explain": {"document", "--execution", "--run"},
    "trace": {"document", "--url", "--stage", "--step", "--execution", "--run"},
    "report": {"--execution", "--run"},
    "generate": {"prompt", "--max-new-tokens", "--seed", "--execution", "--run"},
    "verify": {"--execution", "--run", "--deep", "--repair"},
    "gc": {"--execution", "--yes"},
}


def test_the_surface_is_this_and_no_more() -> None:
    """A new choice is a field of a config, never a new flag. Change this only with a decision."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    found = {name: {param.opts[0] for param in command.params if param.name != "help"} for name, command in commands.items()}
    assert found == SURFACE


def test_every_option_and_command_teaches() -> None:
    """Each has help."""
    for command in get_command(app).commands.values():  # type: ignore[attr-defined]
        assert command.help
        assert all(getattr(param, "help", None) for param in command.params if param.name != "help"), command.name


def test_help_of_run_names_every_stage_in_order() -> None:
    """What the help says is what the path is."""
    text = " ".join(CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output.split())
    assert ", ".join(STAGES) in text.replace(" │ │ ", " ")


def test_help_imports_nothing_heavy() -> None:
    """`caravan --help` is quick: no pyarrow, no Prefect, no torch."""
    code = "import sys, flows.cli.app; print([m for m in ('pyarrow', 'prefect', 'torch', 'pydantic', 'fsspec') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--recipe", "nowhere"], "nowhere: no such file"),
        (["run", "--only", "select", "--to", "mix"], "--only is --from and --to in one"),
        (["run", "--only", "selekt"], "no stage 'selekt'; the stages are: snapshot"),
        (["run", "--from", "mix", "--to", "select"], "nothing to do: mix comes after select"),
        (["explain", "00", "--run", "never"], "no run 'never' in"),
        (["trace"], "trace one thing"),
    ],
)
def test_an_error_is_its_message(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback for what the user can mend."""
    monkeypatch.setenv("CARAVAN_STORE", str(tmp_path))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_command_line_that_is_none_ends_with_the_code_that_the_help_tells() -> None:
    """Scripts tell a wrong flag from a wrong recipe."""
    assert CliRunner().invoke(app, ["run", "--bogus"]).exit_code == 2
    text = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    assert "0 done, 1 an error that says what to mend, 2 a command line that is none, 130 stopped by Ctrl-C" in text


def test_ctrl_c_is_one_line_and_130() -> None:
    """It says that nothing is lost, as a shell expects the code."""
    with mock.patch("flows.cli.commands.status_command", side_effect=KeyboardInterrupt):
        result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 130
    assert result.output == "stopped by Ctrl-C; what is finished is kept, and the same command goes on from there\n"


def test_a_full_disk_is_one_line_and_a_fault_of_ours_is_not() -> None:
    """Who can mend it needs no traceback; who cannot, needs one to send."""
    with mock.patch("flows.cli.commands.status_command", side_effect=OSError(errno.ENOSPC, "No space left on device", "/data/x")):
        result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert result.output.startswith("disk No space left on device (/data/x); what is finished is kept")
    with mock.patch("flows.cli.commands.status_command", side_effect=FileNotFoundError(errno.ENOENT, "gone", "x")):
        assert isinstance(CliRunner().invoke(app, ["status"]).exception, FileNotFoundError)


def test_only_is_from_and_to_in_one() -> None:
    """RULE 11."""
    asked = asked_for(None, None, "select", False)
    assert [stage for stage in STAGES if asked.includes(stage)] == ["select"]
    with pytest.raises(ConfigError):
        asked_for("select", None, "select", False)
