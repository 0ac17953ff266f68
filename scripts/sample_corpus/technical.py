"""Mathematics and code: documentation sources with formulas, formal proofs, and files of permissively licensed libraries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .formats import Row
from .packages import licence_of
from .prose import Fetch
from .text import pack, read_text, sample

METAMATH_PARTS = 4  # of 4 parts of set.mm, by size, a run of statements is taken from each

PYTHON_LIBRARIES = ("attrs", "click", "httpx", "jinja2", "networkx", "requests", "rich", "starlette", "werkzeug")
WEB_LIBRARIES = ("lodash", "express", "rxjs", "preact", "immer", "underscore", "d3-geo", "d3-scale", "d3-shape")
SYSTEM_LIBRARIES = ("golang-github-spf13-cobra-dev", "librust-regex-dev", "librust-itertools-dev", "libmojolicious-perl", "zstandard")
FILE_LIBRARIES = ("lua-penlight", "golang-github-gorilla-mux-dev", "librust-rand-dev", "librust-serde-json-dev", "ruby-thor", "lupa")

SUFFIXES = frozenset((".py", ".js", ".mjs", ".ts", ".c", ".h", ".go", ".rs", ".rb", ".pm", ".lua"))
NOT_CODE = re.compile(
    r"(?:^|/)(?:dist|umd|min|bundles?|es5|esm5|esm|cjs|lib/esm|locale|third-party/(?!lua54)|_tables?|unicode_tables|tests?/data)(?:/|$)"
)


def _cut(text: str, size_bytes: int) -> list[str]:
    """A long text in pieces of about `size_bytes`, cut at empty lines."""
    return pack(re.split(r"\n[ \t]*\n", text), size_bytes)


def _documents(paths: Iterable[Path], root: Path, prefix: str, licence: str, url: str) -> Iterator[Row]:
    for path in paths:
        text = read_text(path).strip()
        name = str(path.relative_to(root)).removesuffix(".txt")
        for i, piece in enumerate(_cut(text, 10_000), 1):
            if len(piece) > 400:
                yield {"id": f"{prefix}/{name}#{i}", "url": f"{url}{name}", "text": piece, "license": licence}


def math_manuals(fetch: Fetch) -> Iterator[Row]:
    """Documentation sources (reStructuredText with TeX formulas) of mpmath, SymPy, statsmodels and scikit-learn."""
    plan = (
        ("python-mpmath-doc", "https://mpmath.org/doc/current/_sources/", "**/*.txt", None),
        (
            "python-sympy-doc",
            "https://docs.sympy.org/latest/_sources/",
            "**/*.txt",
            re.compile(r"^(?:contributing|.*(?:release|physics/(?:units|quantum|vector/api|mechanics/api)))"),
        ),
        ("python-statsmodels-doc", "https://www.statsmodels.org/stable/_sources/", "*.txt", re.compile(r"^(?:about|install|release|api)")),
        ("python-sklearn-doc", "https://scikit-learn.org/1.2/_sources/", "modules/*.txt", re.compile(r".*classes")),
    )
    for name, url, pattern, unwanted in plan:
        root = fetch(name) / "usr/share/doc" / name / "html"
        found = [d for d in (root, root / "stable") if (d / "_sources").is_dir()]
        root = found[0] / "_sources"
        paths = [p for p in sorted(root.glob(pattern)) if not (unwanted and unwanted.match(str(p.relative_to(root))))]
        yield from _documents(paths, root, name.removeprefix("python-").removesuffix("-doc"), licence_of(name), url)


def sage_tutorials(fetch: Fetch) -> Iterator[Row]:
    """Sources of the English tutorials of SageMath (`src/doc`): constructions, thematic tutorials, preparatory course, tutorial."""
    root = fetch("sagemath-doc") / "usr/share/doc/sagemath/html/en"
    parts = ("constructions", "prep", "thematic_tutorials", "tutorial", "a_tour_of_sage")
    paths = [p for part in parts for p in sorted((root / part).glob("**/_sources/**/*.txt"))]
    yield from _documents(paths, root, "sage", "CC-BY-SA-3.0", "https://doc.sagemath.org/html/en/")


def metamath(fetch: Fetch, size_bytes: int) -> Iterator[Row]:
    """Statements of set.mm with their comments, in documents of about 4 KB; proofs, which are compressed there, are left out."""
    text = read_text(fetch("metamath-databases") / "usr/share/metamath/databases/set.mm")
    text = re.sub(r"\$=\s.*?\$\.", "$.", text, flags=re.DOTALL)
    text = re.sub(r"\n *\$d [^$]*\$\.", "", text)
    pieces = [p.strip("\n") for p in re.split(r"\n\s*\n|\n(?=  \$\{)", text)]
    pieces = [p for p in pieces if "$(" in p and "|-" in p]
    total = sum(len(p) for p in pieces)
    used = start = 0
    for n, piece_text in enumerate(pack(pieces, 4000, "\n\n")):
        start += len(piece_text)
        part = min(METAMATH_PARTS - 1, start * METAMATH_PARTS // total)
        if used < size_bytes * (part + 1) // METAMATH_PARTS:
            used += len(piece_text.encode())
            yield {"id": f"set.mm/{n}", "text": piece_text, "license": "CC0-1.0"}


def agda(fetch: Fetch, files: int) -> Iterator[Row]:
    """Definitions and proofs of the standard library of Agda, for `files` of its files."""
    root = fetch("agda-stdlib") / "usr/share/agda-stdlib"
    paths = [
        p
        for folder in ("Algebra", "Data", "Relation", "Function")
        for p in (root / folder).glob("**/*.agda")
        if 2000 <= p.stat().st_size <= 30_000
    ]
    yield from _documents(sample(paths, root, files), root, "agda-stdlib", "MIT", "https://agda.github.io/agda-stdlib/")


def code_paths(root: Path, suffixes: frozenset[str] = SUFFIXES, low: int = 800, high: int = 24_000) -> list[Path]:
    """Files of code under `root`, from `low` to `high` bytes, without bundles, builds and generated tables."""
    found = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if (
            path.suffix not in suffixes
            or not path.is_file()
            or path.is_symlink()
            or NOT_CODE.search(name)
            or ".min." in name
            or ".d.ts" in name
        ):
            continue
        if low <= path.stat().st_size <= high and len(max(path.read_bytes().splitlines(), key=len)) < 600:
            found.append(path)
    return found


def code(fetch: Fetch, libraries: tuple[str, ...], per_library: int) -> Iterator[Row]:
    """Files of code of the libraries, one document each, at most `per_library` of a library."""
    for name in libraries:
        root = fetch(name)
        for path in sample(code_paths(root), root, per_library):
            relative = str(path.relative_to(root))
            yield {
                "id": f"{name}/{relative}",
                "url": f"https://{name}.example/{relative}",
                "text": read_text(path),
                "license": licence_of(name),
            }


def code_files(fetch: Fetch, out: Path, per_library: int) -> int:
    """Copies files of code of the libraries to `out`, as they are. Returns the bytes written."""
    size = 0
    for name in FILE_LIBRARIES:
        root = fetch(name)
        for path in sample(code_paths(root, low=1500, high=14_000), root, per_library):
            parts = [p for p in path.relative_to(root).parts if p not in ("usr", "share", "lib", "third-party")]
            target = out / name / Path(*parts[-4:])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            size += target.stat().st_size
    return size
