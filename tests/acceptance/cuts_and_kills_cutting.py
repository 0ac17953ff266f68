"""Cuts a raw corpus into other files that hold the same records.

A record keeps its bytes, so its id stays; what changes is which file it is in and where. Directories of files are their own names and are
copied.
"""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.raw_records import lines_of, warc_records


def cut_corpus(recipe: Mapping[str, Any], raw_root: Path, target: Path, n_files: int, seed: int) -> dict[str, Any]:
    """Write the raw files of `recipe` under `target` again, each source as `n_files` files with its records shuffled.

    Returns the recipe with the sources' paths pointing there.
    """
    rng = random.Random(seed)
    sources = []
    for source in recipe["sources"]:
        patterns = source["path"] if isinstance(source["path"], list) else [source["path"]]
        found = sorted({path for pattern in patterns for path in raw_root.glob(pattern) if path.is_file()})
        assert found, f"{source['name']}: {patterns} matches nothing in {raw_root}"
        if source["format"] in ("files", "arc"):  # an ARC file begins with a record that describes it
            for path in found:
                copy = target / path.relative_to(raw_root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            sources.append(source)
            continue
        folder = target / "cut" / source["name"]
        folder.mkdir(parents=True, exist_ok=True)
        CUTTERS[source["format"]](found, folder, n_files, rng)
        suffix = {"warc": "warc.gz", "jsonl": "jsonl.gz", "parquet": "parquet"}[source["format"]]
        sources.append({**source, "path": f"cut/{source['name']}/*.{suffix}"})
    return {**recipe, "sources": sources}


def _spread(n_records: int, n_files: int, rng: random.Random) -> list[list[int]]:
    order = list(range(n_records))
    rng.shuffle(order)
    return [order[n::n_files] for n in range(n_files)]


def _cut_warc(paths: list[Path], folder: Path, n_files: int, rng: random.Random) -> None:
    records = [record for path in paths for record in warc_records(path)]
    for n, chosen in enumerate(_spread(len(records), n_files, rng)):
        with (folder / f"{rng.randrange(1 << 30):010d}-{n}.warc.gz").open("wb") as out:
            for index in chosen:
                out.write(gzip.compress(records[index], 6, mtime=0))


def _cut_jsonl(paths: list[Path], folder: Path, n_files: int, rng: random.Random) -> None:
    lines = [line for path in paths for line in lines_of(path)]
    for n, chosen in enumerate(_spread(len(lines), n_files, rng)):
        data = b"".join(lines[index] + b"\n" for index in chosen)
        (folder / f"{rng.randrange(1 << 30):010d}-{n}.jsonl.gz").write_bytes(gzip.compress(data, 6, mtime=0))


def _cut_parquet(paths: list[Path], folder: Path, n_files: int, rng: random.Random) -> None:
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    for n, chosen in enumerate(_spread(table.num_rows, n_files, rng)):
        pq.write_table(table.take(chosen), folder / f"{rng.randrange(1 << 30):010d}-{n}.parquet")


CUTTERS = {"warc": _cut_warc, "jsonl": _cut_jsonl, "parquet": _cut_parquet}
