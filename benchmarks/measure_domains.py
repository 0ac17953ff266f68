"""Accuracy of the domain classifier on sources that it never saw, by the whole rule, beside fastText on words alone.

    python -m benchmarks.measure_domains --corpus ../shared/corpus [--show 60] [--judged FOLDER]

Trains on some of the corpus's sources per domain, as a recipe would, and judges whole others (a domain of one file is split by the first
part of a row's id: a package): pieces of several lengths of their documents, and the pages of `web-crawl` whose labels name one domain,
through the pipeline's own extraction. The whole rule is that of select: thresholds of code and mathematics as the stage `domains` proposes
them from its two halves, then the language. The baseline is a fastText classifier on words alone whose likeliest domain counts.

English pages without a label of a domain are ordinary pages of any kind, so nearly all should stay in the web class; some are rightly code
(manuals, questions about programs). `--show N` prints some of those that leave. `--judged FOLDER` names labelled texts that are judged in
the place of the sources kept out (`domain/*.jsonl.gz`: text, domain); these train then, too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fasttext_training import FastTextConfig, load, probabilities, train
from benchmarks.shared_corpus import LABELS, TEXTS, files, kept_out, rows, stem, web_records, web_text
from pipeline.classifier_steps import LABEL, Fitted
from pipeline.documents import DOMAINS, keyed_fraction
from pipeline.domains import logistic, thresholds
from pipeline.domains.config import Config
from pipeline.domains.signals import pieces
from pipeline.domains.stage import example_lines, score
from pipeline.ingest.config import LanguageConfig
from pipeline.ingest.language import language_of
from pipeline.select import config as select_config
from pipeline.select.decide import domain_of
from pipeline.words import words

CONFIG = Config(labels={"a": "general", "b": "math"})  # for its defaults alone
SELECT = select_config.Config(sources={}, thresholds=select_config.ThresholdsByClass())
FACTS = select_config.SourceFacts(is_web=True)
BASELINE = FastTextConfig(dim=8, epochs=3, word_ngrams=1)
Texts = list[tuple[str, str, str]]  # domain, source, text
Found = Mapping[tuple[str, str], Counter[str]]  # (source, domain) -> domain that was chosen -> documents
Choose = Callable[[Sequence[str]], list[str]]  # texts -> domains
FILES, PAGES = "files", "web pages"
PIECES_PER_SOURCE = 250
SHORTEST, LONGEST = 200, 6000  # characters of a piece that is judged
ENGLISH_PAGES = 499


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over sources kept out. `mean_accuracy` is the mean over the domains there are: chance is 1 / their number, whatever the
    share of each."""

    kept_out: str
    documents: int
    accuracy: float
    mean_accuracy: float
    by_domain: dict[str, float]


@dataclass(frozen=True)
class Page:
    """An English page without a label of a domain."""

    url: str
    text: str


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


def english_pages(corpus: Path) -> list[Page]:
    """Pages without a label of a domain whose text is English, different texts once, in an order that their texts give."""
    labels = {row["record_id"]: row for path in files(corpus, LABELS) for row in rows(path) if row.get("domain") is None}
    pages = {
        text: labels[key]["url"] for record in web_records(corpus) if (key := str(record.key)) in labels and (text := web_text(record))
    }
    found = [(key_of(text), Page(str(url), text)) for text, url in pages.items() if is_english(text)]
    return [page for _, page in sorted(found, key=lambda item: item[0])]


def labelled_texts(folder: Path) -> Texts:
    """The rows (text, domain) of the files of a folder, each file a source."""
    return [(row["domain"], stem(path), row["text"]) for path in files(folder, "domain/*.jsonl.gz") for row in rows(path)]


def is_english(text: str) -> bool:
    """Whether select takes a text for English."""
    language, probability = language_of(text, LanguageConfig())
    return language == SELECT.primary_language and probability > SELECT.min_foreign_language_probability


def key_of(text: str) -> float:
    """A number in [0, 1) that follows from a text."""
    return keyed_fraction("measure domains", hashlib.sha256(text.encode()).digest())


def judged_pieces(texts: Texts) -> Texts:
    """A piece of each of some documents of each source, their lengths spread evenly over the orders of magnitude."""
    by_source: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for domain, source, text in texts:
        by_source[domain, source].append(text)
    found = Texts()
    for (domain, source), some in sorted(by_source.items()):
        for text in sorted(some, key=key_of)[:PIECES_PER_SOURCE]:
            size = int(math.exp(math.log(SHORTEST) + key_of("size" + text) * math.log(LONGEST / SHORTEST)))
            start = int(key_of("start" + text) * max(0, len(text) - size))
            if (piece := text[start : start + size]).strip():
                found.append((domain, source, piece))
    return found


def classifier(training: Texts) -> tuple[Fitted, dict[str, float]]:
    """Two models of a half of the texts each, and the thresholds that follow from the texts' out-of-fold scores."""
    names = [hashlib.sha256(text.encode()).digest() for _, _, text in training]
    halves = [int(keyed_fraction("half", name) * 2) for name in names]
    models = []
    for half in range(2):
        lines = [
            f"{LABEL}{domain} {line}"
            for (domain, _, text), mine in zip(training, halves, strict=True)
            if mine == half
            for line in example_lines(text, CONFIG)
        ]
        models.append(logistic.load(logistic.train(balanced(lines), "benchmark", CONFIG.logistic)))
    seen = tuple(frozenset(name for name, mine in zip(names, halves, strict=True) if mine == half) for half in range(2))
    fitted = Fitted(tuple(models), seen)
    scored = score(fitted, [text for _, _, text in training], names, CONFIG)
    histograms = [thresholds.histogram(domain, [row]) for (domain, _, _), row in zip(training, scored, strict=True) if row is not None]
    return fitted, {domain: row["threshold"] for domain, row in thresholds.propose(histograms).items()}


def balanced(lines: Sequence[str]) -> list[str]:
    """The lines, of an abundant label a share."""
    counts = Counter(line.split(" ", 1)[0] for line in lines)
    most = CONFIG.max_label_ratio * min(counts.values())
    return [line for line in lines if keyed_fraction("balance", line.encode()) < most / counts[line.split(" ", 1)[0]]]


def by_the_rule(fitted: Fitted, proposed: Mapping[str, float]) -> Choose:
    """The domain by classifier, thresholds and language, as select decides."""

    def choose(texts: Sequence[str]) -> list[str]:
        found = []
        for text, row in zip(texts, score(fitted, texts, [b""] * len(texts), CONFIG), strict=True):
            known: dict[str, float | None] = dict.fromkeys(DOMAINS) if row is None else dict(zip(DOMAINS, row, strict=True))
            found.append(domain_of(FACTS, *language_of(text, LanguageConfig()), known, SELECT, proposed))
        return found

    return choose


def by_words_alone(training: Texts) -> Choose:
    """The baseline: the mean of a fastText classifier's probabilities over the pieces of a text; its likeliest domain, but multilingual
    where the language is another."""

    def lines_of(text: str) -> list[str]:
        return [" ".join(words(piece)).lower().replace(LABEL, "label") for piece in pieces(text, CONFIG.piece_chars, CONFIG.max_pieces)]

    lines = [f"{LABEL}{domain} {line}" for domain, _, text in training for line in lines_of(text)]
    model = load(train(balanced(lines), "benchmark", BASELINE))

    def choose(texts: Sequence[str]) -> list[str]:
        read = [lines_of(text) for text in texts]
        scores = probabilities(model, [line for some in read for line in some], DOMAINS)
        found = []
        for text, (start, end) in zip(texts, pairwise(np.cumsum([0, *map(len, read)])), strict=True):
            likeliest = DOMAINS[int(mean_vote(scores[start:end]).argmax())]
            language, probability = language_of(text, LanguageConfig())
            foreign = language != SELECT.primary_language and probability > SELECT.min_foreign_language_probability
            found.append("multilingual" if foreign and likeliest != "code" else likeliest)
        return found

    return choose


def mean_vote(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the lines that know a word; nothing but general where none does."""
    voted = rows[~np.isnan(rows).any(axis=1)] if len(rows) else rows
    return voted.mean(axis=0) if len(voted) else np.array([1.0, 0.0, 0.0, 0.0])


def measure(training: Texts, judged: Texts) -> Found:
    """What the whole rule chooses, by (source, domain)."""
    return chosen(by_the_rule(*classifier(training)), judged)


def chosen(choose: Choose, judged: Texts) -> Found:
    """What `choose` says, by (source, domain)."""
    found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (domain, source, _), choice in zip(judged, choose([text for _, _, text in judged]), strict=True):
        found[source, domain][choice] += 1
    return found


def accuracy(found: Found, kept: str, domains: Sequence[str] = DOMAINS) -> Accuracy:
    """Accuracy over `FILES` or `PAGES` of `domains`; zeros where there is no document."""
    counted = {domain: Counter[str]() for domain in domains}
    for (source, domain), counts in found.items():
        if source.startswith("web ") == (kept == PAGES) and domain in domains:
            counted[domain].update(counts)
    by_domain = {domain: round(counts[domain] / counts.total(), 4) for domain, counts in counted.items() if counts}
    right, documents = sum(counts[domain] for domain, counts in counted.items()), sum(counts.total() for counts in counted.values())
    mean_accuracy = sum(by_domain.values()) / max(len(by_domain), 1)
    return Accuracy(kept, documents, round(right / max(documents, 1), 4), round(mean_accuracy, 4), by_domain)


def report(name: str, choose: Choose, judged: Texts, pages: Sequence[Page], show: int) -> None:
    """Print a line per source, the accuracies over pieces of files and over web pages, and how many English pages leave the web class."""

    def say(**figures: Any) -> None:
        print(json.dumps({"classifier": name, **figures}, ensure_ascii=False), flush=True)

    started = time.process_time()
    found = chosen(choose, judged)
    for (source, domain), counts in sorted(found.items()):
        say(source=source, domain=domain, accuracy=round(counts[domain] / counts.total(), 4), chosen=dict(counts))
    for kept in (FILES, PAGES):
        say(**asdict(accuracy(found, kept)))
    leaving = [(choice, page) for choice, page in zip(choose([page.text for page in pages]), pages, strict=True) if choice != "general"]
    first = {page.url for page in pages[:ENGLISH_PAGES]}
    some = Counter(choice for choice, page in leaving if page.url in first)
    say(english_pages=len(first), leave_the_web_class=some.total(), to=dict(some), of_all=f"{len(leaving)} of {len(pages)}")
    seconds = time.process_time() - started
    say(process_s=round(seconds, 1), documents_per_s=round((len(judged) + len(pages)) / seconds))
    for choice, page in leaving[:show]:
        say(leaves=choice, url=page.url, text=page.text[:160])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the accuracies of the classifier and of the baseline."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds general/, math/, …")
    parser.add_argument("--show", type=int, default=0, help="print so many of the English pages that leave the web class")
    parser.add_argument("--judged", type=Path, help="a folder of labelled texts to judge in the place of sources kept out")
    options = parser.parse_args(arguments)
    training, kept = file_texts(options.corpus)
    judged = judged_pieces(kept) if options.judged is None else labelled_texts(options.judged)
    training = training if options.judged is None else training + kept
    judged, pages = judged + web_texts(options.corpus), english_pages(options.corpus)
    started = time.process_time()
    fitted, proposed = classifier(training)
    print(json.dumps({"classifier": "words and form", "training_s": round(time.process_time() - started, 1), "thresholds": proposed}))
    report("words and form", by_the_rule(fitted, proposed), judged, pages, options.show)
    report("fastText on words", by_words_alone(training), judged, pages, 0)


if __name__ == "__main__":
    main()
