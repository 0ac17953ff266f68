"""Layers point one way (DESIGN decision 6). Read from the imports of every file, wherever in the file they stand."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGES = ("flows", "pipeline", "training", "storage")
MAY_IMPORT = {
    "flows": {"pipeline", "training", "storage"},
    "pipeline": {"storage"},
    "training": {"storage"},
    "storage": set[str](),
}
OUTSIDE = {"benchmarks", "scripts", "tests", "examples"}  # may import the packages, and are imported by none of them
# In flows a room imports only rooms before it; those of one line know nothing of each other.
ROOMS = (
    ("processes",),
    ("recipe",),
    ("graph",),
    ("data_to_checkpoint",),
    ("history", "report"),
    ("running",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
WITHOUT_TORCH_IN_TRAINING = ("training.config", "training.order", "training.mix")

Imports = dict[str, set[str]]


def imported(tree: ast.AST) -> set[str]:
    """Dotted names that a module imports; for `from a import b` both `a` and `a.b`, as b may be a module."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def read_imports(root: Path) -> Imports:
    """Module name -> what it imports, for every file of the four packages under `root`."""
    found: Imports = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = imported(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


def reached(start: str, imports: Imports) -> set[str]:
    """The project's modules that importing `start` brings in, `start` included."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(name for name in imports[module] if name in imports)
    return seen


def imports_package(module: str, package: str, imports: Imports) -> bool:
    """Whether `module` itself imports the package or something in it."""
    return any(name.partition(".")[0] == package for name in imports[module])


def without_torch(module: str) -> bool:
    """Whether a rule says that `module` brings in no torch, directly or by another module of the project."""
    layer = module.partition(".")[0]
    return layer == "pipeline" or module in WITHOUT_TORCH_IN_TRAINING or (layer == "storage" and module != "storage.checkpoints")


def room_breaches(module: str, imports: Imports) -> list[str]:
    """Every import of a module of flows that goes to a room beside its own or above it, and a module that stands in no room."""
    room = (*module.split("."), "")[1]
    if room and room not in LEVEL:
        return [f"{module} is in no room"]
    level = LEVEL.get(room, -1)  # of `flows/__init__.py`, which imports nothing
    targets = {name.split(".")[1] for name in imports[module] if name.startswith("flows.")} & LEVEL.keys()
    return [f"{module} imports flows.{target}" for target in sorted(targets - {room}) if LEVEL[target] >= level]


def breaches(root: Path) -> list[str]:
    """Every breach of a layer rule under `root`, as a sentence."""
    imports = read_imports(root)
    found = []
    for module in imports:
        layer = module.partition(".")[0]
        targets = {name.partition(".")[0] for name in imports[module]} & (set(PACKAGES) | OUTSIDE)
        found += [f"{module} imports {target}" for target in sorted(targets - MAY_IMPORT[layer] - {layer})]
        if layer == "flows":
            found += room_breaches(module, imports)
        else:
            found += [f"{module} imports {package}" for package in ("prefect", "prefect_dask") if imports_package(module, package, imports)]
        if without_torch(module):
            found += [
                f"{module} brings in torch by {by}" for by in sorted(reached(module, imports)) if imports_package(by, "torch", imports)
            ]
    return found


def acceptances_imported(root: Path) -> list[str]:
    """Every import of an acceptance by a benchmark or a script under `root`."""
    found = []
    for path in sorted(path for folder in ("benchmarks", "scripts") for path in (root / folder).rglob("*.py")):
        names = imported(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        found += [f"{path.relative_to(root)} imports {name}" for name in sorted(names) if f"{name}.".startswith("tests.acceptance.")]
    return found


def cycle(imports: Imports) -> list[str]:
    """A cycle of imports between the project's modules, or an empty list."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for name in sorted(imports[module] & imports.keys()):
            if name != module and (found := visit(name)):
                return found
        path.pop()
        done.add(module)
        return []

    return next((found for module in sorted(imports) if (found := visit(module))), [])


def test_layers_point_one_way(project: Path) -> None:
    """flows -> pipeline, training, storage; pipeline -> storage; training -> storage; prefect and torch only where they may be."""
    assert breaches(project) == []


def test_benchmarks_and_scripts_import_no_acceptance(project: Path, tmp_path: Path) -> None:
    """Acceptances stand on the benchmarks' figures, never the other way round; a breach is seen."""
    assert acceptances_imported(project) == []
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "peak.py").write_text("from tests.acceptance.common import place\nfrom tests.flows import small_corpus\n")
    assert acceptances_imported(tmp_path) == [
        "benchmarks/peak.py imports tests.acceptance.common",
        "benchmarks/peak.py imports tests.acceptance.common.place",
    ]


def test_no_import_cycle(project: Path) -> None:
    """No two modules need each other."""
    assert cycle(read_imports(project)) == []


def test_all_four_packages_are_seen(project: Path) -> None:
    """The rules above are checked on something."""
    layers = {module.partition(".")[0] for module in read_imports(project)}
    assert layers == set(PACKAGES)


def test_every_room_is_there(project: Path) -> None:
    """The order of rooms names those that there are, and no other."""
    assert {module.split(".")[1] for module in read_imports(project) if module.startswith("flows.")} == LEVEL.keys()


def test_names_in_flows_shadow_nothing(project: Path) -> None:
    """Prefect puts the flow file's folder first on sys.path, so a module there must not bear the name of a package or a stdlib module."""
    paths = [path for path in (project / "flows").rglob("*") if path.suffix == ".py" or (path / "__init__.py").exists()]
    names = {path.stem for path in paths} - {"__init__"}
    assert {"prefect_flows", "running"} <= names
    installed = {path.name.partition(".")[0] for folder in sys.path if "site-packages" in folder for path in Path(folder).iterdir()}
    assert names & (set(sys.stdlib_module_names) | set(PACKAGES) | OUTSIDE | installed) == set()


@pytest.mark.parametrize(
    ("file", "code", "breach"),
    [
        ("storage/store.py", "import pipeline.documents", "storage.store imports pipeline"),
        ("pipeline/documents.py", "from training import order", "pipeline.documents imports training"),
        ("training/run.py", "def f():\n    import flows.cli.app", "training.run imports flows"),
        ("flows/graph/walk.py", "def f():\n    from flows.running import driver", "flows.graph.walk imports flows.running"),
        ("flows/recipe/recipe.py", "import flows.graph.runs", "flows.recipe.recipe imports flows.graph"),
        ("flows/report/build.py", "from flows.history.lineage import Seen", "flows.report.build imports flows.history"),
        ("flows/history/garbage.py", "from flows import report", "flows.history.garbage imports flows.report"),
        ("flows/processes.py", "from flows.recipe.recipe import reading", "flows.processes imports flows.recipe"),
        ("flows/running/making.py", "from flows.cli.show import decision", "flows.running.making imports flows.cli"),
        ("flows/__init__.py", "import flows.processes", "flows imports flows.processes"),
        ("flows/helpers.py", "import os", "flows.helpers is in no room"),
        ("training/loop.py", "from prefect import task", "training.loop imports prefect"),
        ("pipeline/select.py", "import torch.nn", "pipeline.select brings in torch by pipeline.select"),
        ("pipeline/select.py", "from storage import checkpoints", "pipeline.select brings in torch by storage.checkpoints"),
        ("training/mix.py", "from training.model import Model", "training.mix brings in torch by training.model"),
        ("storage/tables.py", "if True:\n    from torch import Tensor", "storage.tables brings in torch by storage.tables"),
        ("storage/lease.py", "import tests.conftest", "storage.lease imports tests"),
    ],
)
def test_a_breach_is_seen(tmp_path: Path, file: str, code: str, breach: str) -> None:
    """Each rule notices the import that it forbids, and nothing else is reported."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "storage" / "checkpoints.py").write_text("import torch\n")
    (tmp_path / "training" / "model.py").write_text("import torch\n")
    (tmp_path / file).write_text(code + "\n")
    assert breaches(tmp_path) == [breach]


def test_a_cycle_is_seen() -> None:
    """Two modules that import each other are named."""
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == ["a", "b", "c", "a"]
