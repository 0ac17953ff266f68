"""MinHash signatures against datatrove's own on the same documents in one run: documents per second and core, and the ratio.

Both sides go from texts in memory to 14 x 8 signatures of word 5-grams. datatrove's is `MinhashDedupSignature.get_shingles` and
`get_signature` with its default configuration, twice: with its English tokenizer where spaCy is installed (`stock`), and with the
cheapest tokenizer that it accepts, `re.findall(r"\\w+")`, passed as `language=` (`regex`). The ratio asked for is against `regex`, the
faster of the two. Time is the processor's; the sides take turns, and the best of `repeats` counts.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datatrove.pipeline.dedup.minhash import MinhashDedupSignature
from datatrove.utils.word_tokenizers import WordTokenizer

from benchmarks.data_path import texts_of
from benchmarks.figure import Figure
from pipeline.dedup.minhash import MinHashConfig, band_keys, signatures
from pipeline.documents import DOMAINS

ASKED_RATIO = 5.0
DOCUMENTS, REPEATS = 400, 2


class _RegexTokenizer(WordTokenizer):  # type: ignore[misc]  # datatrove ships no types
    def word_tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text)

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def load_texts(corpus: Path, documents: int, seed: int) -> list[str]:
    """Up to `documents` texts of at least one word, as many of each domain; the seed gives which."""
    found = list[str]()
    for domain in DOMAINS:
        texts = [text for line in texts_of(corpus, domain) if re.search(r"\w", text := json.loads(line)["text"])]
        random.Random(seed).shuffle(texts)
        found += texts[: documents // len(DOMAINS)]
    return found


def compare(texts: Sequence[str], repeats: int) -> dict[str, float]:
    """Documents per second and core of `caravan`, `datatrove_regex` and, with spaCy, `datatrove_stock`."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizers = {"regex": _RegexTokenizer(), **({"stock": "en"} if importlib.util.find_spec("spacy") else {})}
        sides = {f"datatrove_{name}": _datatrove(MinhashDedupSignature(folder, language=value)) for name, value in tokenizers.items()}
        seconds = _best({"caravan": _ours, **sides}, texts, repeats)
    return {name: len(texts) / value for name, value in seconds.items()}


def _ours(texts: Sequence[str]) -> None:
    config = MinHashConfig()
    for start in range(0, len(texts), 256):
        band_keys(signatures(texts[start : start + 256], config)[0], config)


def _datatrove(step: Any) -> Callable[[Sequence[str]], None]:
    def run(texts: Sequence[str]) -> None:
        for text in texts:
            shingles = step.get_shingles(text)
            if shingles.size:
                step.get_signature(shingles)

    return run


def _best(sides: dict[str, Callable[[Sequence[str]], None]], texts: Sequence[str], repeats: int) -> dict[str, float]:
    best = dict.fromkeys(sides, float("inf"))
    for side in sides.values():
        side(texts[:8])  # tables and tokenizers are built once in a worker's life
    for _ in range(repeats):
        for name, side in sides.items():
            started = time.process_time()
            side(texts)
            best[name] = min(best[name], time.process_time() - started)
    return best


def figures(corpus: Path, seed: int) -> list[Figure]:
    """Against the cheapest tokenizer, which is what is asked, and against the default one where it is there."""
    texts = load_texts(corpus, DOCUMENTS, seed)
    speeds = compare(texts, REPEATS)
    words = round(sum(len(text.split()) for text in texts) / len(texts))
    return [
        Figure(
            name="MinHash signatures",
            unit="documents/s/core",
            ours=speeds["caravan"],
            peer=speed,
            peer_name=name.replace("_", ", "),
            asked=ASKED_RATIO if name == "datatrove_regex" else None,
            note=f"{len(texts)} documents of {words} words in the mean",
        )
        for name, speed in speeds.items()
        if name != "caravan"
    ]
