"""datatrove's chain from WARC to kept documents, as its `examples/fineweb.py` has it, in datatrove's own environment: prints one JSON line.

    PEER_PYTHON -m benchmarks.datatrove_chain FOLDER trafilatura|resiliparse LID_MODEL

PEER_PYTHON is that of `benchmarks/peers/datatrove.txt`: datatrove with the packages that its users get, so trafilatura below 1.12 and
spaCy's words. Nothing of Caravan is imported. FOLDER/raw/web holds the WARC, FOLDER/warm/web a small one that is read before the clock
starts. WarcReader, Trafilatura, LanguageFilter, GopherRepetitionFilter, GopherQualityFilter, C4QualityFilter without the rule on line ends,
FineWebQualityFilter: blocks called in a row, each with its defaults, but for the extractor's limit of one second by the wall clock, which
is raised so that the machine's load decides nothing. The chain's URLFilter is left out (it takes 5 to 10 s to load, and has no
counterpart here). LID_MODEL is lid.176.ftz, the one that Caravan uses. `resiliparse` replaces the extractor by that library, as Caravan
calls it, without a sandbox. CPU time is that of this process and of its children (datatrove extracts in one).
"""

from __future__ import annotations

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
from resiliparse.extract.html2text import extract_plain_text

EXTRACTION_TIMEOUT_S = 60
MIN_MAIN_CHARS = 250  # less than that, and the whole page's text is taken


class Resiliparse:
    """resiliparse's main content as a step of datatrove's."""

    def __call__(self, documents: Iterable[Document], rank: int, world_size: int) -> Iterator[Document]:
        for document in documents:
            html = document.text
            document.text = self._text(html, True)
            if len(document.text) < MIN_MAIN_CHARS:
                document.text = self._text(html, False)
            document.text = document.text.strip()
            if document.text:
                yield document

    def _text(self, html: str, main_content: bool) -> str:
        text: str = extract_plain_text(html, main_content=main_content, preserve_formatting=True, alt_texts=False, list_bullets=False)
        return text


def steps(folder: str, extractor: str, model: str) -> dict[str, Any]:
    """The blocks by name, in order."""
    language = LanguageFilter()
    language.model._model = _FastText(model)  # where datatrove would download its own
    return {
        "read": WarcReader(folder),
        "extract": Trafilatura(timeout=EXTRACTION_TIMEOUT_S) if extractor == "trafilatura" else Resiliparse(),
        "language": language,
        "repetition": GopherRepetitionFilter(),
        "gopher": GopherQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(),
    }


def cpu_s() -> float:
    """User and system seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def run(folder: Path, extractor: str, model: str) -> dict[str, Any]:
    """The fields of `bench_warc.Measured`; `detail`: documents after each step."""
    chain, after, documents = steps(str(folder), extractor, model), Counter[str](), None
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
    run(Path(sys.argv[1], "warm", "web"), *sys.argv[2:])  # imports and models are loaded once in a worker's life
    print(json.dumps(run(Path(sys.argv[1], "raw", "web"), *sys.argv[2:])))
