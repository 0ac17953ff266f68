"""Accuracy of the domain classifier on sources that it never saw, plain files and web pages, with and without its plain lines.

    python -m benchmarks.measure_domains --corpus ../shared/corpus

Trains on some of the corpus's sources per domain, as a recipe would, and judges whole others: files of the four domains, and the pages of
`web-crawl` whose labels name one domain, through the pipeline's own extraction. "form only" leaves out the lines of natural words
(pipeline/domains/signals.py), in training and in prediction.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.documents import DOMAINS, keyed_fraction
from pipeline.domains.config import Config
from pipeline.domains.signals import chunks, line_of, lines_of, mean
from pipeline.fasttext_training import LABEL, load, probabilities, train
from pipeline.ingest.extract import text_of
from pipeline.ingest.records import Record
from pipeline.ingest.stream import Stream
from pipeline.ingest.warc import read_warc

MAX_RECORD_BYTES = 16 << 20
TRAINING = {
    "general": ("openstax", "wikipedia-en-dump-chunk"),
    "math": ("openlogic", "openstax-math", "gsm8k-train"),
    "multilingual": ("opensource-guide", "mozilla-legal"),
}
KEPT_OUT = {
    "general": ("standard-ebooks", "wikitext2-valid"),
    "math": ("planetmath-tex",),
    "multilingual": ("tldr", "openstax-fisica-es"),
}
CONFIG = Config(labels={"a": "general", "b": "math"})  # for its defaults alone
Texts = list[tuple[str, str, str]]  # domain, source, text


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a packed JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def file_texts(corpus: Path, sources: dict[str, tuple[str, ...]], packages: Callable[[float], bool]) -> Texts:
    """Texts of the named files; of the one file of code, the packages whose hash `packages` takes. English ones are not multilingual."""
    found: Texts = []
    for domain, names in sources.items():
        for name in names:
            kept = (
                row for row in rows(corpus / domain / f"{name}.jsonl.gz") if domain != "multilingual" or not row["lang"].startswith("en")
            )
            found += [(domain, name, row["text"]) for row in kept]
    for row in rows(corpus / "code" / "packages.jsonl.gz"):
        if packages(keyed_fraction("package", row["id"].split("/")[0].encode())):
            found.append(("code", "packages", row["text"]))
    return found


def web_texts(corpus: Path) -> Texts:
    """Extracted pages whose label is one domain."""
    labels = {row["record_id"]: row for row in rows(corpus / "web-crawl" / "labels.jsonl.gz")}
    found: Texts = []
    for path in sorted((corpus / "web-crawl").glob("*.warc.gz")):
        with path.open("rb") as archive:
            for event in read_warc(Stream(archive), MAX_RECORD_BYTES):
                if isinstance(event, Record) and (row := labels.get(str(event.key))) and row.get("domain") in DOMAINS:
                    text = text_of(event, "resiliparse")
                    if isinstance(text, str) and text.strip():
                        found.append((row["domain"], f"web {row['source']}", text))
    return found


def form_lines(text: str, chunk_chars: int, max_chunks: int) -> list[str]:
    """The lines with form alone."""
    return [line_of(piece) for piece in chunks(text, chunk_chars, max_chunks)]


def measure(training: Texts, judged: Texts, lines: Callable[[str, int, int], list[str]]) -> dict[tuple[str, str], Counter[str]]:
    """What the classifier chooses, by (source, domain)."""
    size = (CONFIG.chunk_chars, CONFIG.max_chunks)
    examples = [(domain, line) for domain, _, text in training for line in lines(text, *size)]
    counts = Counter(domain for domain, _ in examples)
    most = CONFIG.max_label_ratio * min(counts.values())
    kept = (f"{LABEL}{domain} {line}" for domain, line in examples if keyed_fraction("balance", line.encode()) < most / counts[domain])
    model = load(train(kept, CONFIG.fasttext, "benchmark"))
    found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for domain, source, text in judged:
        if some := lines(text, *size):
            row = mean(probabilities(model, some, DOMAINS))
            found[source, domain][DOMAINS[row.index(max(row))]] += 1
    return found


def report(name: str, found: dict[tuple[str, str], Counter[str]], seconds: float) -> None:
    """Print a line per source, and accuracies over files and web pages; also without multilingual, which select takes from the language."""
    for (source, domain), chosen in sorted(found.items()):
        accuracy = round(chosen[domain] / chosen.total(), 4)
        print(json.dumps({"classifier": name, "source": source, "domain": domain, "accuracy": accuracy, "chosen": dict(chosen)}))
    for kind, is_web in (("files", False), ("web", True)):
        for domains in (DOMAINS, DOMAINS[:-1]):
            some = [(d, chosen) for (source, d), chosen in found.items() if source.startswith("web ") == is_web and d in domains]
            right, documents = sum(chosen[d] for d, chosen in some), sum(chosen.total() for _, chosen in some)
            row = {"kept out": kind, "domains": domains, "documents": documents, "accuracy": round(right / documents, 4)}
            print(json.dumps({"classifier": name, **row}))
    print(json.dumps({"classifier": name, "process_s": round(seconds, 1)}), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the accuracies of both classifiers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds general/, math/, …")
    options = parser.parse_args(arguments)
    training = file_texts(options.corpus, TRAINING, lambda fraction: fraction < 0.5)
    judged = file_texts(options.corpus, KEPT_OUT, lambda fraction: fraction >= 0.5) + web_texts(options.corpus)
    for name, lines in (("form and plain", lines_of), ("form only", form_lines)):
        started = time.process_time()
        found = measure(training, judged, lines)
        report(name, found, time.process_time() - started)


if __name__ == "__main__":
    main()
