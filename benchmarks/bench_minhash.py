"""MinHash signatures against datatrove's own on the same documents in one run: documents per second and core, and the ratio.

    python -m benchmarks.bench_minhash --corpus ../shared/corpus/general [--documents 1000] [--repeats 3]

Both sides go from texts in memory to 14 x 8 signatures of word 5-grams. datatrove's is `MinhashDedupSignature.get_shingles` and
`get_signature` with its default configuration, twice: with its English tokenizer where spaCy is installed (`stock`), and with the
cheapest tokenizer that it accepts, `re.findall(r"\\w+")`, passed as `language=` (`regex`). The ratio asked for is against `regex`, the
faster of the two. Time is the processor's; the sides take turns, and the best of `repeats` counts. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datatrove.pipeline.dedup.minhash import MinhashDedupSignature
from datatrove.utils.word_tokenizers import WordTokenizer

from pipeline.dedup.minhash import MinHashConfig, band_keys, signatures

ASKED_RATIO = 5.0


class _RegexTokenizer(WordTokenizer):  # type: ignore[misc]  # datatrove ships no types
    def word_tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text)

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def load_texts(corpus: Path, documents: int) -> list[str]:
    """Up to `documents` texts of at least one word from the `.jsonl` and `.jsonl.gz` files under `corpus`, the same number of each file."""
    files = sorted([*corpus.rglob("*.jsonl"), *corpus.rglob("*.jsonl.gz")])
    found = [text for path in files for text in _texts(path, -(-documents // len(files)))]
    if not found:
        raise SystemExit(f"{corpus} holds no .jsonl or .jsonl.gz file with texts")
    return found[:documents]


def _texts(path: Path, limit: int) -> list[str]:
    def rows() -> Iterator[str]:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line in file:
                text = json.loads(line).get("text") or ""
                if re.search(r"\w", text):
                    yield text

    return [text for _, text in zip(range(limit), rows(), strict=False)]


def compare(texts: Sequence[str], repeats: int) -> dict[str, Any]:
    """Documents per second and core of each side, and ratios of ours to theirs."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizers = {"regex": _RegexTokenizer(), **({"stock": "en"} if importlib.util.find_spec("spacy") else {})}
        sides = {f"datatrove_{name}": _datatrove(MinhashDedupSignature(folder, language=value)) for name, value in tokenizers.items()}
        seconds = _best({"caravan": _ours, **sides}, texts, repeats)
    result: dict[str, Any] = {"documents": len(texts), "words_per_document": round(sum(len(text.split()) for text in texts) / len(texts))}
    result |= {f"{name}_documents_per_core_s": round(len(texts) / value, 1) for name, value in seconds.items()}
    result |= {f"ratio_to_{name}": round(value / seconds["caravan"], 2) for name, value in seconds.items() if name != "caravan"}
    return {**result, "asked_ratio": ASKED_RATIO}


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; exit 1 when the ratio falls short."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="a folder with .jsonl or .jsonl.gz files")
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    result = compare(load_texts(options.corpus, options.documents), options.repeats)
    print(json.dumps(result), flush=True)
    if result["ratio_to_datatrove_regex"] < ASKED_RATIO:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
