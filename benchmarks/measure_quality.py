"""How well the quality score ranks labelled web pages that taught nothing, and what the default web thresholds drop of them.

    python -m benchmarks.measure_quality --corpus ../shared/corpus [--judged FOLDER] [--fasttext] [--show 10]

Trains the classifier of flows/recipes/corpus.yaml as its stage would: pages of `web-crawl` beside what extraction leaves out of them, and
the recipe's positive sources; a half each for two models, all pages of a registered domain in one half. Judged are the pages of the crawl
whose type is known, each by the model that did not see its domain: articles, documentation and forum threads are good, lists, collections,
products and pages that are forms (log in, register, search, contact) are not; services are neither. `--judged FOLDER` names labelled texts
to judge in their place (`quality/*.jsonl.gz`: text, label 0 or 1), by both models. English pages alone, as the signals count English words.

AUC stands beside that of the stop-word ratio and of the number of words on the same texts, and the difference from the stop-word ratio
with the 95 % interval of a paired bootstrap. Texts go through the function that scores documents, and its numbers through that which keeps
them. `--fasttext` adds fastText on the words of the same examples; `--show` prints the first words of texts on the wrong side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import tldextract
import yaml

from benchmarks import fasttext_training
from benchmarks.measure_extraction import fold_of
from benchmarks.shared_corpus import EXTRACTION, LABELS, files, rows, stem, web_records
from pipeline.classifier_steps import LABEL, Fitted
from pipeline.documents import keyed_fraction
from pipeline.ingest.config import LanguageConfig
from pipeline.ingest.extract import text_of
from pipeline.ingest.language import language_of
from pipeline.quality.classifier import NEGATIVE, POSITIVE, auc, example, quality_classifier
from pipeline.quality.config import Config, QualityClassifier
from pipeline.quality.contrast import contrast
from pipeline.quality.score import Scorer
from pipeline.quality.thresholds import ClassThresholds, Thresholds, keep_all

RECIPE = Path(__file__).parents[1] / "flows/recipes/corpus.yaml"
QUALITY = "quality/*.jsonl.gz"
GOOD_TYPES, BAD_TYPES, FORMS = ("article", "documentation", "forum"), ("listing", "collection", "product"), "formasaurus"
TAUGHT_SHARE = 0.3  # of the crawl's pages
TAUGHT_DOCUMENTS = 250  # of each positive source
SCORED, STOP_WORDS, WORDS = "quality_score", "stop_word_ratio", "gopher_word_count"
RESAMPLES = 1000


class Page(NamedTuple):
    """An English page of the crawl: its registered domain, its text, what was left out of it, whether it is good (None: not judged), and
    whether it is among those that teach."""

    domain: str
    text: str
    left_out: str
    is_good: bool | None
    teaches: bool


class Example(NamedTuple):
    """A text that teaches, and what tells which half it teaches."""

    domain: str
    is_good: bool
    text: str


class Judged(NamedTuple):
    """A labelled text; `domain` as in `Example`, "" where it is of no page."""

    domain: str
    text: str
    is_good: bool


@dataclass(frozen=True)
class Ranking:
    """AUC of the score and of what costs nothing; `above_stop_words`: the difference, with the bounds of its 95 % interval."""

    texts: int
    good: int
    auc: float
    stop_words_auc: float
    word_count_auc: float
    above_stop_words: tuple[float, float, float]


@dataclass(frozen=True)
class Dropping:
    """What thresholds drop: of the dropped the share that is bad, and of the bad the share that is dropped."""

    dropped: int
    precision: float
    recall: float
    reasons: dict[str, int]


def recipe() -> tuple[QualityClassifier, Thresholds]:
    """The classifier and the web thresholds of the corpus's recipe."""
    raw = yaml.safe_load(RECIPE.read_text())
    return QualityClassifier(**raw["quality"]["classifier"]), ClassThresholds(**raw["select"]["thresholds"]["web"]).of_class


def is_english(text: str) -> bool:
    """Whether a text is in English, as ingest finds."""
    return language_of(text, LanguageConfig())[0] == "en"


def crawl_pages(corpus: Path, judged: bool = True) -> Iterator[Page]:
    """The English pages of a crawl that teach or, where `judged`, are judged."""
    labels = {row["record_id"]: row for path in files(corpus, LABELS) for row in rows(path)}
    types = {row["record_id"]: row.get("page_type") for path in files(corpus, EXTRACTION) for row in rows(path)}
    suffixes = tldextract.TLDExtract(suffix_list_urls=())
    for record in web_records(corpus):
        key = str(record.key)
        row = labels.get(key, {})
        is_good = _is_good(types.get(key), row.get("source")) if judged else None
        teaches = keyed_fraction("measure quality", key.encode()) < TAUGHT_SHARE
        if teaches or is_good is not None:
            left_out = list[str]()
            text = text_of(record, "blocks", left_out)
            if isinstance(text, str) and text.strip() and is_english(text):
                domain = suffixes(row.get("url") or "").top_domain_under_public_suffix or key
                yield Page(domain, text, "\n\n".join(left_out), is_good, teaches)


def _is_good(page_type: str | None, source: str | None) -> bool | None:
    if page_type in GOOD_TYPES:
        return True
    return False if page_type in BAD_TYPES or source == FORMS else None


def examples(corpus: Path, pages: Sequence[Page], config: QualityClassifier) -> list[Example]:
    """What teaches: the pages by contrast, and documents of the positive sources."""
    assert config.contrast is not None
    limits = (config.contrast.min_main_words, config.contrast.min_dropped_words)
    found = [
        Example(page.domain, is_good, text)
        for page in pages
        if page.teaches
        for is_good, text in contrast(page.text, page.left_out, *limits)
    ]
    for path in files(corpus, "general/*.jsonl.gz"):
        if stem(path) in config.positive_sources:
            some = sorted((row["text"] for row in rows(path)), key=lambda text: hashlib.sha256(text.encode()).digest())
            found += [Example(f"{stem(path)} {i}", True, text) for i, text in enumerate(some[:TAUGHT_DOCUMENTS])]
    return found


def classifier(taught: Sequence[Example], config: QualityClassifier) -> Fitted:
    """Two models, of a half of the registered domains each; clusters are named as domains."""
    made, models, domains = quality_classifier(config), list[Any](), list[frozenset[bytes]]()
    for half in range(2):
        mine = [one for one in taught if fold_of(one.domain) % 2 == half]
        lines = [f"{LABEL}{POSITIVE if one.is_good else NEGATIVE} {example(one.text)}" for one in mine]
        models.append(made.load(made.train(lines, made.key)))
        domains.append(frozenset(one.domain.encode() for one in mine))
    return Fitted(tuple(models), tuple(domains))


def judged_texts(pages: Sequence[Page]) -> list[Judged]:
    """The pages whose type is known."""
    return [Judged(page.domain, page.text, page.is_good) for page in pages if page.is_good is not None]


def labelled_texts(folder: Path) -> list[Judged]:
    """The rows (text, label) of the files of a folder."""
    return [Judged("", row["text"], bool(int(row["label"]))) for path in files(folder, QUALITY) for row in rows(path)]


def signals(fitted: Fitted, judged: Sequence[Judged], config: QualityClassifier) -> pa.Table:
    """The signals of texts, as the stage writes them, and the probability of their language."""
    languages = [language_of(one.text, LanguageConfig()) for one in judged]
    columns: dict[str, Any] = {
        "id": [hashlib.sha256(one.text.encode()).digest()[:16] for one in judged],
        "text": [one.text for one in judged],
        "url": pa.nulls(len(judged), pa.string()),
        "language": [language for language, _ in languages],
        "language_probability": [probability for _, probability in languages],
    }
    scorer = Scorer(Config(classifier=config), fitted=fitted)
    table = scorer.table(pa.table(columns), [_half_name(fitted, one.domain) for one in judged])
    return table.append_column("language_probability", pa.array(columns["language_probability"], pa.float64()))


def _half_name(fitted: Fitted, domain: str) -> bytes:
    """A cluster id that the model which saw a domain's fold has seen: one of its own, as a judged page itself may not have taught."""
    return min(fitted.clusters[fold_of(domain) % 2]) if domain else b""


def ranking(table: pa.Table, is_good: Sequence[bool], seed: int) -> Ranking:
    """AUCs of the columns, and the paired bootstrap of the difference: texts drawn anew, with their labels and both numbers."""
    good = np.array(is_good, np.bool_)
    columns = {name: table[name].to_numpy().astype(np.float64) for name in (SCORED, STOP_WORDS, WORDS)}

    def found(name: str, places: Any) -> float:
        values, labels = columns[name][places], good[places]
        value = auc(values[labels].tolist(), values[~labels].tolist())
        return 0.5 if value is None else value

    everything, drawn = np.arange(len(good)), np.random.Generator(np.random.Philox(seed))
    differences = []
    for _ in range(RESAMPLES):
        places = drawn.integers(len(good), size=len(good))
        differences.append(found(SCORED, places) - found(STOP_WORDS, places))
    own, stop_words, words = (round(found(name, everything), 4) for name in (SCORED, STOP_WORDS, WORDS))
    low, high = np.quantile(differences, [0.025, 0.975])
    return Ranking(len(good), int(good.sum()), own, stop_words, words, (round(own - stop_words, 4), round(low, 4), round(high, 4)))


def dropping(table: pa.Table, is_good: Sequence[bool], thresholds: Thresholds) -> Dropping:
    """What thresholds drop of labelled texts."""
    reasons = keep_all(table, thresholds)
    bad_dropped = sum(reason is not None and not good for reason, good in zip(reasons, is_good, strict=True))
    dropped = [reason for reason in reasons if reason is not None]
    counts = {reason: dropped.count(reason) for reason in sorted(set(dropped), key=lambda name: -dropped.count(name))}
    return Dropping(
        len(dropped), round(bad_dropped / max(len(dropped), 1), 4), round(bad_dropped / max(len(is_good) - sum(is_good), 1), 4), counts
    )


def fasttext_auc(taught: Sequence[Example], judged: Sequence[Judged]) -> float | None:
    """AUC of fastText on the words of the same examples, texts judged as in `signals`."""
    config, scores = fasttext_training.FastTextConfig(), np.zeros((len(judged), 2))
    for half in range(2):
        mine = [one for one in taught if fold_of(one.domain) % 2 == half]
        lines = [f"{LABEL}{POSITIVE if one.is_good else NEGATIVE} {_words_of(one.text)}" for one in mine]
        model = fasttext_training.load(fasttext_training.train(lines, "benchmark", config))
        scores[:, half] = fasttext_training.probabilities(model, [_words_of(one.text) for one in judged], [POSITIVE])[:, 0]
    halves = [fold_of(one.domain) % 2 if one.domain else None for one in judged]
    found = [float(np.mean(row)) if half is None else float(row[1 - half]) for row, half in zip(scores, halves, strict=True)]
    values = {good: [value for value, one in zip(found, judged, strict=True) if one.is_good == good] for good in (True, False)}
    return auc(np.nan_to_num(values[True], nan=0.5).tolist(), np.nan_to_num(values[False], nan=0.5).tolist())


def _words_of(text: str) -> str:
    return " ".join(text.split()[:1000]).lower().replace(LABEL, "label")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rankings and what is dropped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds web-crawl/ and general/")
    parser.add_argument("--judged", type=Path, help="a folder of labelled texts to judge in the place of pages of the crawl")
    parser.add_argument("--seed", type=int, default=1, help="of the bootstrap")
    parser.add_argument("--fasttext", action="store_true", help="measure fastText on the same examples, too")
    parser.add_argument("--show", type=int, default=0, help="print so many texts that are on the wrong side of the thresholds")
    options = parser.parse_args(arguments)
    started = time.process_time()
    config, thresholds = recipe()
    pages = list(crawl_pages(options.corpus, options.judged is None))
    taught = examples(options.corpus, pages, config)
    fitted = classifier(taught, config)
    judged = judged_texts(pages) if options.judged is None else labelled_texts(options.judged)
    print(
        json.dumps({"examples": len(taught), "good": sum(one.is_good for one in taught), "process_s": round(time.process_time() - started)})
    )
    started = time.process_time()
    table, is_good = signals(fitted, judged, config), [one.is_good for one in judged]
    print(json.dumps({"texts_per_s": round(len(judged) / (time.process_time() - started))}))
    print(json.dumps(asdict(ranking(table, is_good, options.seed))))
    print(json.dumps(asdict(dropping(table, is_good, thresholds))))
    if options.fasttext:
        print(json.dumps({"fasttext_auc": fasttext_auc(taught, judged)}))
    wrong = [(reason, one) for reason, one in zip(keep_all(table, thresholds), judged, strict=True) if (reason is None) != one.is_good]
    for reason, one in sorted(wrong, key=lambda row: hashlib.sha256(row[1].text.encode()).digest())[: options.show]:
        print(json.dumps({"good": one.is_good, "dropped": reason, "text": one.text[:160]}, ensure_ascii=False))


if __name__ == "__main__":
    main()
