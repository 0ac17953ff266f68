"""Measures language identification on labelled texts: accuracy and texts per second and core.

    python -m benchmarks.measure_language --corpus ../shared/corpus

Reads `langid/*.jsonl.gz` (fields `text`, `lang`, `unit`). Accuracy is by unit (sentences, word pairs, single words), over all rows and
over the rows whose language the model knows at all; codes that name one language twice count as equal.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared_corpus import LANGUAGES, files, rows
from pipeline.ingest.config import LanguageConfig
from pipeline.ingest.language import language_of, load_model

SAME = {"nb": "no", "nn": "no", "fil": "tl", "iw": "he", "in": "id"}


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on the texts of one unit. `texts_per_s` is per core."""

    unit: str
    texts: int
    accuracy: float
    accuracy_known: float
    known_texts: int
    texts_per_s: float


def same_language(a: str, b: str) -> bool:
    """Whether two codes name one language as far as the model tells languages apart (it has one Norwegian written standard too many)."""
    return SAME.get(a, a) == SAME.get(b, b)


def rows_of(corpus: Path) -> list[dict[str, Any]]:
    """The labelled texts."""
    return [row for path in files(corpus, LANGUAGES) for row in rows(path)]


def measure(labelled: Sequence[dict[str, Any]], config: LanguageConfig) -> list[Accuracy]:
    """Accuracy by unit and over all."""
    labels, _ = load_model(config.model_sha256).getLabels("strict")
    known = {label.removeprefix("__label__") for label in labels}
    found: defaultdict[str, list[tuple[bool, bool, float]]] = defaultdict(list)
    for row in labelled:
        started = time.process_time()
        language, _ = language_of(row["text"], config)
        seconds = time.process_time() - started
        one = (same_language(language, row["lang"]), any(same_language(row["lang"], label) for label in known), seconds)
        found[row["unit"]].append(one)
        found["all"].append(one)
    return [_accuracy(unit, results) for unit, results in sorted(found.items())]


def _accuracy(unit: str, results: Sequence[tuple[bool, bool, float]]) -> Accuracy:
    known = [right for right, is_known, _ in results if is_known]
    return Accuracy(
        unit,
        len(results),
        round(sum(right for right, _, _ in results) / len(results), 4),
        round(sum(known) / len(known), 4) if known else 0.0,
        len(known),
        round(len(results) / max(sum(seconds for _, _, seconds in results), 1e-9), 1),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON line per unit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds langid/")
    options = parser.parse_args(arguments)
    for accuracy in measure(rows_of(options.corpus), LanguageConfig()):
        print(json.dumps(asdict(accuracy)), flush=True)


if __name__ == "__main__":
    main()
