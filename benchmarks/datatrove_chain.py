"""datatrove's chain from WARC to kept documents, as its `examples/fineweb.py` has it, in a process of its own: prints one JSON line.

    python -m benchmarks.datatrove_chain FOLDER trafilatura|resiliparse

FOLDER/raw/web holds the WARC, FOLDER/warm/web a small one that is read before the clock starts. WarcReader, Trafilatura, LanguageFilter,
GopherRepetitionFilter, GopherQualityFilter, C4QualityFilter without the rule on line ends, FineWebQualityFilter: blocks called in a row,
each with its defaults, but for the extractor's limit of one second by the wall clock, which is raised so that the machine's load decides
nothing. The chain's URLFilter is left out (it takes 5 to 10 s to load, and has no counterpart here). Language model: lid.176.ftz, the one
that Caravan uses. Words: spaCy's where it is installed, as datatrove does by default; else Caravan's own tokenizer, which is faster.
`resiliparse` replaces the extractor by Caravan's, without a sandbox. CPU time is that of this process and of its children (datatrove
extracts in one).
"""

from __future__ import annotations

import importlib.util
import json
import logging
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import trafilatura  # noqa: F401 - imported before datatrove forks its extraction, so that no page is lost to a slow import
from datatrove.data import Document
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.readers import WarcReader
from datatrove.utils.logging import logger
from fasttext.FastText import _FastText

from pipeline.ingest.html import html_to_text
from pipeline.ingest.language import model_path
from pipeline.quality.datatrove_blocks import tokenizer

EXTRACTION_TIMEOUT_S = 60


def has_spacy() -> bool:
    """Whether datatrove can use its default tokenizer for English."""
    return importlib.util.find_spec("spacy") is not None


class Resiliparse:
    """Caravan's default extractor as a step of theirs."""

    def __call__(self, documents: Iterable[Document], rank: int, world_size: int) -> Iterator[Document]:
        for document in documents:
            document.text = html_to_text(document.text, "resiliparse").strip()
            if document.text:
                yield document


def steps(folder: str, extractor: str) -> dict[str, Any]:
    """The blocks by name, in order."""
    words = "en" if has_spacy() else tokenizer()
    language = LanguageFilter()
    language.model._model = _FastText(str(model_path()))  # where datatrove would download its own
    return {
        "read": WarcReader(folder),
        "extract": Trafilatura(timeout=EXTRACTION_TIMEOUT_S) if extractor == "trafilatura" else Resiliparse(),
        "language": language,
        "repetition": GopherRepetitionFilter(language=words),
        "gopher": GopherQualityFilter(language=words),
        "c4": C4QualityFilter(filter_no_terminal_punct=False, language=words),
        "fineweb": FineWebQualityFilter(language=words),
    }


def cpu_s() -> float:
    """User and system seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def run(folder: Path, extractor: str) -> dict[str, Any]:
    """The fields of `bench_warc.Measured`; `detail`: documents after each step."""
    chain, after, documents = steps(str(folder), extractor), Counter[str](), None
    for name, step in chain.items():
        documents = _counted(step(documents, 0, 1), after, name)
    assert documents is not None
    started, wall = cpu_s(), time.monotonic()
    kept = sum(1 for _ in documents)
    detail = ", ".join(f"{name} {count}" for name, count in after.items())
    return {"cpu_s": cpu_s() - started, "wall_s": time.monotonic() - wall, "kept": kept, "detail": detail}


def _counted(documents: Iterable[Document], after: Counter[str], name: str) -> Iterator[Document]:
    for document in documents:
        after[name] += 1
        yield document


if __name__ == "__main__":
    logger.remove()
    logging.disable()
    run(Path(sys.argv[1], "warm", "web"), sys.argv[2])  # imports and models are loaded once in a worker's life
    print(json.dumps(run(Path(sys.argv[1], "raw", "web"), sys.argv[2])))
