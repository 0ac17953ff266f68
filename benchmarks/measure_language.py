"""Measures language identification on labelled texts: accuracy and texts per second and core, beside each model alone.

    python -m benchmarks.measure_language --corpus ../shared/corpus

Reads `langid/*.jsonl.gz` (fields `text`, `lang`, and `unit` where there is one). Identifiers: `caravan`, the pipeline's; `lid176` and
`eldc`, the models it is made of, each asked for the text as it stands and as its own users ask; `heliport` where it is installed. Each is
judged by unit on all rows, and on those whose language every identifier knows (`covered`). A tag is right that covers the label or that
the label covers: `nb` for `no`, `zh-Hant` for `zh`. Beside the texts as they are (`raw`) there are the same in capitals, with initials
in capitals, cut to 20, 50 and 200 characters, and with dates, prices and addresses between their words (`mixed`).
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import eldc

from benchmarks.shared_corpus import LANGUAGES, files, rows
from pipeline.ingest.config import LanguageConfig
from pipeline.ingest.language import language_of, load_heliport, load_model
from pipeline.language_tags import UNKNOWN, canonical, covers, model_tag

Identify = Callable[[str], str]
BETWEEN_WORDS = ("https://www.example.com/shop/item?id=48213", "2024-03-17", "4,50", "#1234", "12:45", "info@example.net", "3.1415", "1998")
CUTS = {"cut20": 20, "cut50": 50, "cut200": 200}


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of an identifier on the texts of one unit in one form. `texts_per_s` is per core."""

    identifier: str
    form: str
    unit: str
    texts: int
    accuracy: float
    covered_texts: int
    accuracy_covered: float
    texts_per_s: float


def same_language(tag: str, label: str) -> bool:
    """Whether a tag says what a label does, or narrower or wider than it: a script counts where both name one, a region never."""
    (language, script), (labelled, labelled_script) = _parts(tag), _parts(canonical(label))
    if script and labelled_script and script != labelled_script:
        return False
    return covers(language, labelled) or covers(labelled, language)


def _parts(tag: str) -> tuple[str, str]:
    language, *rest = tag.split("-")
    return language, next((part for part in rest if len(part) == 4), "")


def rows_of(corpus: Path) -> list[dict[str, Any]]:
    """The labelled texts."""
    return [row for path in files(corpus, LANGUAGES) for row in rows(path)]


def in_form(text: str, form: str) -> str:
    """The text as `raw`, `upper`, `title`, `mixed`, or cut; equal texts have equal forms."""
    if form in CUTS:
        return text[: CUTS[form]]
    if form == "mixed":
        rng = random.Random(hashlib.blake2b(text.encode()).hexdigest())
        words = text.split(" ")
        for _ in range(max(1, len(words) // 5)):
            words.insert(rng.randrange(len(words) + 1), rng.choice(BETWEEN_WORDS))
        return " ".join(words)
    return {"raw": text, "upper": text.upper(), "title": text.title()}[form]


FORMS = ("raw", "upper", "title", "mixed", *CUTS)


def identifiers(config: LanguageConfig) -> dict[str, Identify]:
    """The pipeline's identifier and its peers, by name."""
    found: dict[str, Identify] = {
        "caravan": lambda text: language_of(text, config)[0],
        "lid176": functools.partial(_by_lid176, config=config),
        "eldc": lambda text: model_tag("eldc", eldc.detect(text)),
    }
    if importlib.util.find_spec("heliport"):
        model = load_heliport(config)
        found["heliport"] = lambda text: model_tag("heliport", model.identify(text))
    return found


def _by_lid176(text: str, config: LanguageConfig) -> str:
    found = load_model(config.model_sha256).predict(text[: config.max_chars].replace("\n", " ") + "\n", 1, 0.0, "strict")
    return model_tag("lid176", found[0][1].removeprefix("__label__")) if found else UNKNOWN


def covered_languages(config: LanguageConfig) -> set[str]:
    """Tags that every identifier at hand can give, without scripts."""
    labels, _ = load_model(config.model_sha256).getLabels("strict")
    known = [
        {model_tag("lid176", label.removeprefix("__label__")) for label in labels},
        {model_tag("eldc", label) for label in eldc.LANGUAGES},
    ]
    if importlib.util.find_spec("heliport"):
        known.append({model_tag("heliport", label) for label in load_heliport(config).get_confidence_all()})
    return set.intersection(*({tag.partition("-")[0] for tag in tags} for tags in known))


def measure(
    labelled: Sequence[Mapping[str, Any]], identify: Identify, covered: Collection[str], *, name: str = "caravan", form: str = "raw"
) -> list[Accuracy]:
    """Accuracy by unit and over all."""
    found: defaultdict[str, list[tuple[bool, bool, float]]] = defaultdict(list)
    for row in labelled:
        text = in_form(row["text"], form)
        started = time.process_time()
        tag = identify(text)
        seconds = time.process_time() - started
        is_covered = any(same_language(language, row["lang"]) for language in covered)
        one = (same_language(tag, row["lang"]), is_covered, seconds)
        found[row.get("unit", "texts")].append(one)
        found["all"].append(one)
    return [_accuracy(name, form, unit, results) for unit, results in sorted(found.items())]


def _accuracy(name: str, form: str, unit: str, results: Sequence[tuple[bool, bool, float]]) -> Accuracy:
    covered = [right for right, is_covered, _ in results if is_covered]
    return Accuracy(
        name,
        form,
        unit,
        len(results),
        round(sum(right for right, _, _ in results) / len(results), 4),
        len(covered),
        round(sum(covered) / len(covered), 4) if covered else 0.0,
        round(len(results) / max(sum(seconds for _, _, seconds in results), 1e-9), 1),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON line per form, identifier and unit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds langid/")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="the forms of the texts")
    options = parser.parse_args(arguments)
    config = LanguageConfig()
    labelled, covered = rows_of(options.corpus), covered_languages(config)
    for form in options.forms:
        for name, identify in identifiers(config).items():
            for accuracy in measure(labelled, identify, covered, name=name, form=form):
                print(json.dumps(asdict(accuracy)), flush=True)


if __name__ == "__main__":
    main()
