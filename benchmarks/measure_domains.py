"""Accuracy of the domain classifier on sources that it never saw, plain files and web pages, with and without its plain lines.

    python -m benchmarks.measure_domains --corpus ../shared/corpus

Trains on some of the corpus's sources per domain, as a recipe would, and judges whole others (a domain of one file is split by the first
part of a row's id: a package): files of the four domains, and the pages of `web-crawl` whose labels name one domain, through the pipeline's
own extraction. "form only" leaves out the lines of natural words (pipeline/domains/signals.py), in training and in prediction.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.shared_corpus import LABELS, TEXTS, files, kept_out, rows, stem, web_records, web_text
from pipeline.documents import DOMAINS, keyed_fraction
from pipeline.domains.config import Config
from pipeline.domains.signals import chunks, line_of, lines_of, mean
from pipeline.fasttext_training import LABEL, load, probabilities, train

CONFIG = Config(labels={"a": "general", "b": "math"})  # for its defaults alone
Texts = list[tuple[str, str, str]]  # domain, source, text
Found = Mapping[tuple[str, str], Counter[str]]  # (source, domain) -> domain that was chosen -> documents
LinesOf = Callable[[str, int, int], list[str]]
FILES, PAGES = "files", "web pages"


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over sources kept out. `mean_accuracy` is the mean over the domains there are: chance is 1 / their number, whatever the
    share of each."""

    kept_out: str
    documents: int
    accuracy: float
    mean_accuracy: float
    by_domain: dict[str, float]


def file_texts(corpus: Path) -> tuple[Texts, Texts]:
    """Texts to train on and texts kept out, of the files of each domain. English ones are not multilingual."""
    training, judged = Texts(), Texts()
    for domain, pattern in TEXTS.items():
        found, apart = files(corpus, pattern), kept_out(corpus, domain)
        for path in found:
            for row in rows(path):
                if domain == "multilingual" and str(row.get("lang", "")).startswith("en"):
                    continue
                package = keyed_fraction("package", str(row["id"]).split("/")[0].encode())
                is_apart = path in apart if len(found) > 1 else package >= 0.5
                (judged if is_apart else training).append((domain, stem(path), row["text"]))
    return training, judged


def web_texts(corpus: Path) -> Texts:
    """Extracted pages whose label is one domain."""
    labels = {row["record_id"]: row for path in files(corpus, LABELS) for row in rows(path) if row.get("domain") in DOMAINS}
    labelled = ((labels[str(record.key)], web_text(record)) for record in web_records(corpus) if str(record.key) in labels)
    return [(row["domain"], f"web {row['source']}", text) for row, text in labelled if text]


def form_lines(text: str, chunk_chars: int, max_chunks: int) -> list[str]:
    """The lines with form alone."""
    return [line_of(piece) for piece in chunks(text, chunk_chars, max_chunks)]


def measure(training: Texts, judged: Texts, lines: LinesOf = lines_of) -> Found:
    """What the classifier chooses, by (source, domain)."""
    size = (CONFIG.chunk_chars, CONFIG.max_chunks)
    examples = [(domain, line) for domain, _, text in training for line in lines(text, *size)]
    counts = Counter(domain for domain, _ in examples)
    most = CONFIG.max_label_ratio * min(counts.values())
    kept = (f"{LABEL}{domain} {line}" for domain, line in examples if keyed_fraction("balance", line.encode()) < most / counts[domain])
    model = load(train(kept, "benchmark", CONFIG.fasttext))
    found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for domain, source, text in judged:
        if some := lines(text, *size):
            row = mean(probabilities(model, some, DOMAINS))
            found[source, domain][DOMAINS[row.argmax()]] += 1
    return found


def accuracy(found: Found, kept: str, domains: Sequence[str] = DOMAINS) -> Accuracy:
    """Accuracy over `FILES` or `PAGES` of `domains`; zeros where there is no document."""
    chosen = {domain: Counter[str]() for domain in domains}
    for (source, domain), counts in found.items():
        if source.startswith("web ") == (kept == PAGES) and domain in domains:
            chosen[domain].update(counts)
    by_domain = {domain: round(counts[domain] / counts.total(), 4) for domain, counts in chosen.items() if counts}
    right, documents = sum(counts[domain] for domain, counts in chosen.items()), sum(counts.total() for counts in chosen.values())
    mean_accuracy = sum(by_domain.values()) / max(len(by_domain), 1)
    return Accuracy(kept, documents, round(right / max(documents, 1), 4), round(mean_accuracy, 4), by_domain)


def report(name: str, found: Found, seconds: float) -> None:
    """Print a line per source, and accuracies over files and web pages; also without multilingual, which select takes from the language."""
    for (source, domain), chosen in sorted(found.items()):
        row = {"source": source, "domain": domain, "accuracy": round(chosen[domain] / chosen.total(), 4), "chosen": dict(chosen)}
        print(json.dumps({"classifier": name, **row}))
    for kept in (FILES, PAGES):
        for domains in (DOMAINS, DOMAINS[:-1]):
            print(json.dumps({"classifier": name, **asdict(accuracy(found, kept, domains))}))
    print(json.dumps({"classifier": name, "process_s": round(seconds, 1)}), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the accuracies of both classifiers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds general/, math/, …")
    options = parser.parse_args(arguments)
    training, judged = file_texts(options.corpus)
    judged += web_texts(options.corpus)
    for name, lines in (("form and plain", lines_of), ("form only", form_lines)):
        started = time.process_time()
        found = measure(training, judged, lines)
        report(name, found, time.process_time() - started)


if __name__ == "__main__":
    main()
