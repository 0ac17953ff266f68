"""`make bench`: each figure beside its peer's on the same input in one run, and what is asked. Exits 1 when one falls short.

    python -m benchmarks [--corpus ../shared/corpus] [--seed 0] [name ...]

`name` runs some benchmarks alone (warc, minhash, tokenize, memory, training, minio, durability). Without `--corpus` it is
../shared/corpus, where that is there, else examples/corpus; the figures are about the machine and the data, so both are printed with them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figure import Figure

FOLDER = Path(__file__).resolve().parent
SHARED, EXAMPLES = FOLDER.parents[1] / "shared" / "corpus", FOLDER.parent / "examples" / "corpus"
# Every bench_<name>.py of this folder, in the order in which they run.
BENCHES = ("warc", "minhash", "tokenize", "memory", "training", "minio", "durability")


def run(names: Sequence[str], corpus: Path, seed: int) -> list[Figure]:
    """Run the benchmarks and print each figure as it comes."""
    found = list[Figure]()
    for name in names:
        started = time.monotonic()
        print(f"{name}: …", flush=True)
        figures = importlib.import_module(f"benchmarks.bench_{name}").figures(corpus, seed)
        for figure in figures:
            print(figure.line(), flush=True)
        print(f"      ({name}: {time.monotonic() - started:.0f} s)", flush=True)
        found += figures
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; exit 1 when a figure is not as asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=SHARED if SHARED.is_dir() else EXAMPLES, help="a folder of WARCs and JSONL texts")
    parser.add_argument("--seed", type=int, default=0, help="chooses which of the input is taken")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which benchmarks, of {', '.join(BENCHES)}; without any, all")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(BENCHES)):
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(BENCHES)}")
    if not options.corpus.is_dir():
        parser.error(f"{options.corpus} is no folder")
    print(
        f"corpus {options.corpus}, seed {options.seed}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    found = run(options.names or BENCHES, options.corpus.resolve(), options.seed)
    short = [figure.name for figure in found if not figure.holds]
    asked = sum(figure.asked is not None for figure in found)
    verdict = f"falls short: {', '.join(short)}" if short else "all as asked"
    print(f"bench: {asked - len(short)} of {asked} figures hold; {verdict}", flush=True)
    sys.exit(1 if short else 0)


if __name__ == "__main__":
    main()
