"""How well addresses are told from what looks like them, against labels made by hand on a corpus of the layout of ../shared/corpus.

    python -m tests.acceptance.addresses [--corpus ../shared/corpus]

`address_labels.jsonl`, a row per place: `file` and `row` (its number in the file, from 0; a page: its record id) of the text, `sha256`
(first 16 digits) of that text in UTF-8, `kind` (`email`: the place is an `@` between other characters than spaces; `ip`: four numbers
with dots), `at` (UTF-8 byte offset of the `@` or of the first number), and `span`, the byte offsets of the address there, or null where
there is none. Addresses that name no one (private, documentation) are none. No text of the corpus is stored.

The places are a sample with a fixed seed, at most 120 an `@` before a dotted name, 12 other `@` and 60 numbers of each folder, no two
with the same characters around them. The text of a page is its HTML without tags (`page_text`), so that no extractor's version moves
the offsets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

from benchmarks.shared_corpus import MAX_RECORD_BYTES, rows
from pipeline.ingest.records import Record
from pipeline.ingest.stream import Stream
from pipeline.ingest.warc import read_warc
from pipeline.quality.pii import Pii, pii_spans
from storage.errors import ConfigError, IntegrityError

LABELS = Path(__file__).with_name("address_labels.jsonl")
CORPUS = Path(__file__).parents[3] / "shared/corpus"
KINDS = ("email", "ip")
Find = Callable[[str], Iterable[Pii]]

_HIDDEN = re.compile(r"(?is)<(script|style|noscript|template)\b.*?</\1\s*>|<!--.*?-->")
_BLOCK = re.compile(
    r"(?i)</?(?:p|div|br|li|ul|ol|tr|td|th|h[1-6]|pre|table|section|article|dd|dt|dl|hr|body|title|option|footer|header|nav|address)\b[^>]*>"
)
_TAG = re.compile(r"<[^>]*>")
_NAIVE = re.compile(r"(?P<email>\S{1,64}@\S{1,253}\.\w+)|(?P<ipv4>\d+\.\d+\.\d+\.\d+)")


def naive_spans(text: str) -> Iterator[Pii]:
    """What a pattern alone takes for addresses: a control, which has to do visibly worse."""
    for match in _NAIVE.finditer(text):
        start = len(text[: match.start()].encode())
        yield Pii(start, start + len(match[0].encode()), str(match.lastgroup))


def page_text(payload: bytes) -> str:
    """The text of a page without its tags, scripts and styles; blocks begin lines."""
    return unescape(_TAG.sub("", _BLOCK.sub("\n", _HIDDEN.sub(" ", payload.decode(errors="replace")))))


def read_labels() -> list[dict[str, Any]]:
    """The rows of `address_labels.jsonl`."""
    return [json.loads(line) for line in LABELS.read_text().splitlines()]


def labelled_texts(corpus: Path, labels: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each text that has labels, with them. Raises ConfigError for an absent file, IntegrityError for a text that is absent or another."""
    by_file = dict[str, dict[str, list[dict[str, Any]]]]()
    for label in labels:
        by_file.setdefault(label["file"], {}).setdefault(label["row"], []).append(label)
    for name, wanted in sorted(by_file.items()):
        if not (corpus / name).is_file():
            raise ConfigError(f"{corpus / name}: no such file; the labels speak of it")
        for row, text in _texts(corpus / name, wanted):
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            found = wanted.pop(row)
            if digest != found[0]["sha256"]:
                raise IntegrityError(f"{corpus / name}, row {row}", expected=found[0]["sha256"], actual=digest)
            yield text, found
        if wanted:
            raise IntegrityError(str(corpus / name), expected=f"the row {min(wanted)}", actual="none of that name")


def _texts(path: Path, wanted: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not path.name.endswith(".warc.gz"):
        for n, row in enumerate(rows(path)):
            if str(n) in wanted:
                yield str(n), row.get("text") or row["main_content"]
        return
    with path.open("rb") as archive:
        for event in read_warc(Stream(archive), MAX_RECORD_BYTES):
            if isinstance(event, Record) and str(event.key) in wanted:
                yield str(event.key), page_text(event.payload)


def measure_addresses(corpus: Path, find: Find = pii_spans, labels: Iterable[dict[str, Any]] | None = None) -> dict[str, float]:
    """`<kind>_precision`, `<kind>_recall`, `<kind>_places`, `<kind>_addresses` of `find` at the labelled places (None: those of the file).

    An address counts as found when its span is the labelled one to the byte; a span over a place that is not that is a false one.
    Raises as `labelled_texts` does.
    """
    right, false, places, addresses = (dict.fromkeys(KINDS, 0) for _ in range(4))
    for text, places_of_text in labelled_texts(corpus, read_labels() if labels is None else labels):
        spans = list(find(text))
        for label in places_of_text:
            kind, span = label["kind"], label["span"]
            over = [[found.start, found.end] for found in spans if found.start <= label["at"] < found.end]
            places[kind] += 1
            addresses[kind] += span is not None
            right[kind] += span in over
            false[kind] += any(found != span for found in over)
    figures = dict[str, float]()
    for kind in KINDS:
        figures[f"{kind}_precision"] = right[kind] / max(right[kind] + false[kind], 1)
        figures[f"{kind}_recall"] = right[kind] / max(addresses[kind], 1)
        figures[f"{kind}_places"], figures[f"{kind}_addresses"] = places[kind], addresses[kind]
    return figures


def main() -> None:
    """Print the figures of the project and of the control."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    corpus = parser.parse_args().corpus
    for name, find in (("caravan", pii_spans), ("pattern", naive_spans)):
        print(name, {key: round(value, 4) for key, value in measure_addresses(corpus, find).items()})


if __name__ == "__main__":
    main()
