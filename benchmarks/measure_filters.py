"""Agreement of Caravan's quality signals with datatrove's filter blocks, filter by filter, and the speed of both, on the same texts.

    python -m benchmarks.measure_filters --corpus ../shared/corpus [--limit 500] [--spacy]

Reads `web-crawl/*.warc.gz` through the pipeline's own extraction, and texts of the four domains. "caravan" rows give the blocks
Caravan's tokenizer, so that they compare the rules alone; "spacy" rows (`--spacy`, where spaCy is installed) leave datatrove's default
tokenizer for English, so that they compare what a user of datatrove would see.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from datatrove.utils.typeshelper import Languages

from benchmarks.shared_corpus import TEXTS, files, rows, web_records, web_text
from pipeline.quality.config import DatatroveFilter
from pipeline.quality.datatrove_blocks import build, verdict
from pipeline.quality.pii import pii_spans
from pipeline.quality.score import score
from pipeline.quality.thresholds import PUBLISHED, Thresholds, keep
from pipeline.quality.view import view

FILTERS = "datatrove.pipeline.filters."
WEB = "web-crawl"
FOLDERS = (WEB, *TEXTS)


def subset(*prefixes: str, **changes: Any) -> Thresholds:
    """The published thresholds on the signals that start with one of `prefixes`."""
    fields = {name: value for name, value in PUBLISHED if name.split("_", 1)[1].startswith(prefixes) and value is not None}
    return Thresholds(**{**fields, **changes})


REPETITION = ("gopher_duplicate", "gopher_top")
QUALITY = tuple(f"gopher_{name}" for name in ("word_count", "mean", "hash", "ellipsis", "bullet", "alpha", "stop_words"))
CASES: dict[str, tuple[DatatroveFilter, Thresholds]] = {
    "gopher repetition": (
        DatatroveFilter(name="r", block=f"{FILTERS}gopher_repetition_filter.GopherRepetitionFilter"),
        subset(*REPETITION),
    ),
    "gopher quality": (DatatroveFilter(name="q", block=f"{FILTERS}gopher_quality_filter.GopherQualityFilter"), subset(*QUALITY)),
    "c4 (paper)": (DatatroveFilter(name="c", block=f"{FILTERS}c4_filters.C4QualityFilter"), subset("c4")),
    "c4 (fineweb's)": (
        DatatroveFilter(name="n", block=f"{FILTERS}c4_filters.C4QualityFilter", kwargs={"filter_no_terminal_punct": False}),
        Thresholds(max_c4_lorem_ipsum_lines=0, max_c4_curly_bracket_lines_any_end=0, min_c4_sentences_any_end=5),
    ),
    "fineweb": (DatatroveFilter(name="f", block=f"{FILTERS}fineweb_quality_filter.FineWebQualityFilter"), subset("fineweb")),
}


def texts_of(corpus: Path, folder: str) -> Iterator[str]:
    """Texts of one of `FOLDERS`, in the order of its files; pages by the pipeline's own extraction."""
    if folder == WEB:
        yield from filter(None, map(web_text, web_records(corpus)))
    else:
        yield from (row["text"] for path in files(corpus, TEXTS[folder]) for row in rows(path))


def seconds_of(work: Callable[[str], Any], texts: Sequence[str]) -> tuple[list[Any], float]:
    """Results for every text, and the process time it took."""
    started = time.process_time()
    found = [work(text) for text in texts]
    return found, time.process_time() - started


def compare(
    name: str, folder: str, texts: Sequence[str], kwargs: dict[str, Any], signals: Sequence[dict[str, float | None]]
) -> dict[str, Any]:
    """One filter on the texts of one folder: how many both keep, and how often they agree."""
    wanted, thresholds = CASES[name]
    block = build(wanted.model_copy(update={"kwargs": {**wanted.kwargs, **kwargs}}))

    def judge(text: str) -> int:
        return verdict(block, text=text, document="", url=None, language="en", language_probability=1.0)

    theirs, seconds = seconds_of(judge, texts)
    ours = [int(keep(found, thresholds) is None) for found in signals]
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    return {
        "filter": name,
        "texts": folder,
        "tokenizer": "datatrove's (spaCy)" if kwargs else "caravan",
        "documents": len(texts),
        "agree_percent": round(100 * equal / len(texts), 2),
        "caravan_keeps": sum(ours),
        "datatrove_keeps": sum(theirs),
        "datatrove_documents_per_s": round(len(texts) / seconds, 1),
    }


def figures(corpus: Path, folder: str, *, limit: int, with_spacy: bool = False) -> Iterator[dict[str, Any]]:
    """Agreement of each filter on the first `limit` texts of a folder, then the speed of scoring them."""
    texts = list(islice(texts_of(corpus, folder), limit))
    signals = [score(view(text)) for text in texts]
    for name in CASES:
        yield compare(name, folder, texts, {}, signals)
        if with_spacy and folder in (WEB, "general"):
            yield compare(name, folder, texts, {"language": Languages.english}, signals)
    _, seconds = seconds_of(lambda text: (score(view(text)), pii_spans(text)), texts)
    rate, size = len(texts) / seconds, sum(map(len, texts)) / len(texts)
    yield {"caravan scores": folder, "documents_per_s": round(rate, 1), "mean_characters": round(size)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON line per filter and folder, then the speed of scoring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds web-crawl/, general/, …")
    parser.add_argument("--limit", type=int, default=1000, help="texts of each folder")
    parser.add_argument("--spacy", action="store_true", help="compare with datatrove's own tokenizer too")
    options = parser.parse_args(arguments)
    for folder in FOLDERS:
        for row in figures(options.corpus, folder, limit=options.limit, with_spacy=options.spacy):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
