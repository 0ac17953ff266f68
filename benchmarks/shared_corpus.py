"""The development corpus (../shared/corpus) as the measurements read it: any folder of that layout, whatever its files are called.

web-crawl/*.warc.gz                           pages; `labels.jsonl.gz` and `extraction_gt.jsonl.gz` speak of them by record_id
general/ math/ code/ multilingual/*.jsonl.gz  documents of one domain a folder: id, text, mostly lang
langid/*.jsonl.gz                             text, lang, unit
dedup/docs.jsonl.gz, pairs.jsonl.gz           documents and labelled pairs of them
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.documents import DOMAINS
from pipeline.ingest.extract import text_of
from pipeline.ingest.records import Record
from pipeline.ingest.stream import Stream
from pipeline.ingest.warc import read_warc
from storage.errors import ConfigError

MAX_RECORD_BYTES = 16 << 20
WARCS = "web-crawl/*.warc.gz"
LABELS = "web-crawl/labels.jsonl.gz"
EXTRACTION = "web-crawl/extraction_gt.jsonl.gz"
LANGUAGES = "langid/*.jsonl.gz"
DUPLICATES = ("dedup/docs.jsonl.gz", "dedup/pairs.jsonl.gz")
TEXTS = {domain: f"{domain}/*.jsonl.gz" for domain in DOMAINS}
LAYOUT = (WARCS, LABELS, EXTRACTION, *TEXTS.values(), LANGUAGES, *DUPLICATES)
# Files whose whole source is kept from a classifier that is judged on it, where a corpus has them; see `kept_out`.
KEPT_OUT = ("standard-ebooks", "wikitext2-valid", "planetmath-tex", "tldr", "openstax-fisica-es")


def files(corpus: Path, pattern: str) -> list[Path]:
    """The files of a pattern of `LAYOUT`, sorted. Raises ConfigError when there is none."""
    found = sorted(corpus.glob(pattern))
    if not found:
        raise ConfigError(f"{corpus}: no file {pattern}; it has to be laid out as ../shared/corpus is (see its README.md)")
    return found


def check_layout(corpus: Path) -> None:
    """Raises ConfigError that names each pattern of `LAYOUT` without a file."""
    absent = [pattern for pattern in LAYOUT if not any(corpus.glob(pattern))]
    if absent:
        raise ConfigError(f"{corpus}: no file {', '.join(absent)}; it has to be laid out as ../shared/corpus is (see its README.md)")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a packed JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def stem(path: Path) -> str:
    """The name of a corpus file without its ending: its source."""
    return path.name.removesuffix(".jsonl.gz")


def kept_out(corpus: Path, domain: str) -> list[Path]:
    """The files of a domain on which a classifier is judged: those named in `KEPT_OUT`, else the smaller half; none where there is one."""
    found = files(corpus, TEXTS[domain])
    named = [path for path in found if stem(path) in KEPT_OUT]
    if named and len(named) < len(found):
        return named
    return sorted(sorted(found, key=lambda path: -path.stat().st_size)[-(-len(found) // 2) :])


def web_records(corpus: Path) -> Iterator[Record]:
    """The pages of the crawl as the pipeline's reader gives them, file by file."""
    for path in files(corpus, WARCS):
        with path.open("rb") as archive:
            yield from (event for event in read_warc(Stream(archive), MAX_RECORD_BYTES) if isinstance(event, Record))


def web_text(record: Record) -> str:
    """The text of a page; "" where it has none or the extractor fails."""
    text = text_of(record, "blocks")
    return text if isinstance(text, str) else ""
