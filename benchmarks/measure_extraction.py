"""Measures HTML to text on ground truth: word F1 per page and documents per second and core, for each extractor.

    python -m benchmarks.measure_extraction --corpus ../shared/corpus [--extractors resiliparse trafilatura] [--limit 200]

Reads `web-crawl/*.warc.gz` and `web-crawl/extraction_gt.jsonl.gz` through the pipeline's own reader, charset detection and normal form.
F1 is of the multisets of lower-case words (`\\w+`) of a page's text and its `main_content`, averaged over pages. For pages with
snippets it gives the share of the `with` snippets found and of the `without` snippets left out, white space aside.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from benchmarks.shared_corpus import EXTRACTION, files, rows, web_records
from pipeline.ingest.config import Extractor
from pipeline.ingest.extract import text_of
from pipeline.ingest.records import Record

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Score:
    """Figures of one extractor on one kind of ground truth (and page type). `documents_per_s` is per core, of the extractor and normal
    form."""

    extractor: str
    kind: str
    pages: int
    word_f1: float | None
    with_found: float | None
    without_left_out: float | None
    documents_per_s: float


def word_f1(text: str, truth: str) -> float:
    """F1 of the multisets of lower-case words; 1 for two empty texts."""
    found, wanted = Counter(_WORD.findall(text.lower())), Counter(_WORD.findall(truth.lower()))
    both = (found & wanted).total()
    return 2 * both / (found.total() + wanted.total()) if found or wanted else 1.0


def pages(corpus: Path) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Every page that has ground truth, as the reader gives it, with its row of ground truth."""
    truth = {row["record_id"]: row for path in files(corpus, EXTRACTION) for row in rows(path)}
    for record in web_records(corpus):
        if (row := truth.pop(str(record.key), None)) is not None:
            yield record, row


def measure(found: Sequence[tuple[Record, dict[str, Any]]], extractor: Extractor) -> list[Score]:
    """Scores of one extractor, by kind of ground truth, and by page type where the truth names it."""
    values: defaultdict[str, list[tuple[float | None, float | None, float | None, float]]] = defaultdict(list)
    for record, row in found:
        started = time.process_time()
        text = text_of(record, extractor)
        seconds = time.process_time() - started
        text = text if isinstance(text, str) else ""
        f1 = word_f1(text, row["main_content"]) if row.get("main_content") else None
        one = (f1, _share(text, row.get("with"), True), _share(text, row.get("without"), False), seconds)
        values[row["kind"]].append(one)
        if row.get("page_type"):
            values[f"{row['kind']} {row['page_type']}"].append(one)
    return [_score(extractor, kind, found_values) for kind, found_values in sorted(values.items())]


def _share(text: str, snippets: Sequence[str] | None, wanted: bool) -> float | None:
    if not snippets:
        return None
    flat = " ".join(text.split())
    return sum((" ".join(snippet.split()) in flat) == wanted for snippet in snippets) / len(snippets)


def _score(extractor: str, kind: str, rows: Sequence[tuple[float | None, float | None, float | None, float]]) -> Score:
    def mean(column: int) -> float | None:
        known = [value for row in rows if (value := row[column]) is not None]
        return round(sum(known) / len(known), 4) if known else None

    return Score(extractor, kind, len(rows), mean(0), mean(1), mean(2), round(len(rows) / sum(row[3] for row in rows), 1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON line per extractor and kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds web-crawl/")
    parser.add_argument("--extractors", nargs="+", choices=get_args(Extractor), default=list(get_args(Extractor)))
    parser.add_argument("--limit", type=int, default=None, help="pages to look at (default: all)")
    options = parser.parse_args(arguments)
    found = [page for _, page in zip(range(options.limit or 1 << 30), pages(options.corpus), strict=False)]
    for extractor in options.extractors:
        for score in measure(found, extractor):
            print(json.dumps(asdict(score)), flush=True)


if __name__ == "__main__":
    main()
