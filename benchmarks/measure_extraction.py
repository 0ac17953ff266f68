"""Measures HTML to text on ground truth: word F1, what is kept of lists, formulas, preformatted text and tables, documents per second.

    python -m benchmarks.measure_extraction --corpus ../shared/corpus [--judged] [--extractors blocks resiliparse trafilatura] [--limit 200]

Reads `web-crawl/*.warc.gz` and `web-crawl/extraction_gt.jsonl.gz` through the pipeline's own reader, charset detection and normal form,
or, where a folder has them, `extraction/*.jsonl.gz` (fields `html`, or `html_b64` in base 64, and `main_content`). `--judged` takes only
the pages of registered domains on which the extractor `blocks` was never trained. F1 is of the multisets of lower-case words (`\\w+`) of a
page's text and its `main_content`, averaged over pages. For pages with snippets it gives the share of the `with` snippets found and of the
`without` snippets left out, white space aside. Seconds are the processor's, in one thread, of the extractor and the normal form.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import tldextract

from benchmarks.page_parts import Kept
from benchmarks.shared_corpus import EXTRACTION, files, rows, stem, web_records
from pipeline.ingest.charset import decode
from pipeline.ingest.config import Extractor
from pipeline.ingest.html import html_to_text, normal_text

LABELLED = "extraction/*.jsonl.gz"
FOLDS, JUDGED_FOLD = 8, 0  # of registered domains; one never trains
_WORD = re.compile(r"\w+")


class Page(NamedTuple):
    """A labelled page. `kind`: of its ground truth, or the file it is from; `main_text` None where there are snippets alone."""

    html: str
    kind: str
    page_type: str | None
    domain: str
    main_text: str | None
    wanted: Sequence[str]
    unwanted: Sequence[str]


@dataclass(frozen=True)
class Score:
    """Figures of one extractor on one kind of ground truth (and page type). Shares of parts (`page_parts.Kept`) are of
    those in the main text."""

    extractor: str
    kind: str
    pages: int
    word_f1: float | None
    with_found: float | None
    without_left_out: float | None
    parts: dict[str, str]
    documents_per_s: float
    slowest_s: float


def word_f1(text: str, truth: str) -> float:
    """F1 of the multisets of lower-case words; 1 for two empty texts."""
    found, wanted = Counter(_WORD.findall(text.lower())), Counter(_WORD.findall(truth.lower()))
    both = (found & wanted).total()
    return 2 * both / (found.total() + wanted.total()) if found or wanted else 1.0


def fold_of(domain: str) -> int:
    """The fold of a registered domain: all its pages train, or none."""
    return hashlib.sha256(domain.encode()).digest()[0] * FOLDS >> 8


def crawl_pages(corpus: Path) -> Iterator[Page]:
    """Every page of the crawl that has ground truth."""
    suffixes = tldextract.TLDExtract(suffix_list_urls=())
    truth = {row["record_id"]: row for path in files(corpus, EXTRACTION) for row in rows(path)}
    for record in web_records(corpus):
        if (row := truth.pop(str(record.key), None)) is not None:
            html = decode(record.payload, declared=record.declared, is_html=True)
            domain = suffixes(row.get("url") or "").top_domain_under_public_suffix or str(record.key)
            snippets = (row.get("with") or (), row.get("without") or ())
            yield Page(html, row["kind"], row.get("page_type"), domain, row.get("main_content") or None, *snippets)


def labelled_pages(folder: Path) -> Iterator[Page]:
    """Every page of `extraction/*.jsonl.gz`; its kind is the file's name."""
    for path in files(folder, LABELLED):
        for row in rows(path):
            html = row.get("html")
            if html is None:
                html = decode(base64.b64decode(row["html_b64"]), declared=None, is_html=True)
            yield Page(html, stem(path), row.get("page_type"), "", row.get("main_content") or None, (), ())


def pages(corpus: Path, judged: bool = False) -> list[Page]:
    """The labelled pages of a folder of either layout; `judged`: those of a crawl that trained no weights."""
    if any(corpus.glob(LABELLED)):
        return list(labelled_pages(corpus))
    return [page for page in crawl_pages(corpus) if not judged or fold_of(page.domain) == JUDGED_FOLD]


def measure(found: Sequence[Page], extractor: Extractor) -> list[Score]:
    """Scores of one extractor, by kind of ground truth, and by page type where the truth names it."""
    groups: defaultdict[str, list[tuple[Page, str, float]]] = defaultdict(list)
    for page in found:
        started = time.process_time()
        try:
            text = normal_text(html_to_text(page.html, extractor))
        except Exception:  # a page that an extractor cannot take has no text
            text = ""
        one = (page, text, time.process_time() - started)
        groups[page.kind].append(one)
        if page.page_type:
            groups[f"{page.kind} {page.page_type}"].append(one)
    return [_score(extractor, kind, group) for kind, group in sorted(groups.items())]


def _share(text: str, snippets: Sequence[str], wanted: bool) -> float | None:
    if not snippets:
        return None
    flat = " ".join(text.split())
    return sum((" ".join(snippet.split()) in flat) == wanted for snippet in snippets) / len(snippets)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _score(extractor: str, kind: str, group: Sequence[tuple[Page, str, float]]) -> Score:
    kept = Kept.none()
    for page, text, _ in group:
        if page.main_text is not None:
            kept.add(page.html, page.main_text, text)
    return Score(
        extractor,
        kind,
        len(group),
        _mean([word_f1(text, page.main_text) if page.main_text else None for page, text, _ in group]),
        _mean([_share(text, page.wanted, True) for page, text, _ in group]),
        _mean([_share(text, page.unwanted, False) for page, text, _ in group]),
        {name: f"{share.found}/{share.parts}" for name, share in vars(kept).items() if share.parts},
        round(len(group) / max(sum(seconds for _, _, seconds in group), 1e-9), 1),
        round(max(seconds for _, _, seconds in group), 3),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON line per extractor and kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds web-crawl/ or extraction/")
    parser.add_argument("--judged", action="store_true", help="of a crawl, only the pages that trained no weights")
    parser.add_argument("--extractors", nargs="+", choices=get_args(Extractor), default=list(get_args(Extractor)))
    parser.add_argument("--limit", type=int, default=None, help="pages to look at (default: all)")
    options = parser.parse_args(arguments)
    found = pages(options.corpus, options.judged)[: options.limit]
    for extractor in options.extractors:
        html_to_text("<p>warm</p>", extractor)
        for score in measure(found, extractor):
            print(json.dumps({name: value for name, value in asdict(score).items() if value not in (None, {})}), flush=True)


def rows_of_child(arguments: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that this module prints, from a process of its own whose arithmetic has one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.measure_extraction", *arguments]
    printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


if __name__ == "__main__":
    main()
