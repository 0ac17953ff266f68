"""Deterministic fastText training: what the classifiers of domains and of quality are measured beside.

Training runs with one thread in a fresh process whose allocator fills new memory (`MALLOC_PERTURB_`): fastText may start from
uninitialised memory, and with more threads each run differs. So the same lines give the same model, bit for bit, on one processor type.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.classifier_steps import LABEL
from storage.errors import CaravanError
from storage.strict import Strict

LINE_END = "</s>"  # fastText's own word, of every line
SHUFFLE_BUCKETS = 64
MALLOC_PERTURB = "255"


class FastTextConfig(Strict):
    """What `fasttext supervised` takes. The seed is fixed: with one thread and one order of lines it adds nothing."""

    dim: int = Field(16, ge=1, description="size of an embedding, numbers")
    epochs: int = Field(5, ge=1, description="passes over the training lines")
    lr: float = Field(0.5, gt=0, description="first learning rate, falls linearly to 0")
    word_ngrams: int = Field(2, ge=1, le=5, description="longest word n-gram, words")
    min_count: int = Field(2, ge=1, description="words that occur less often are left out, occurrences")
    buckets: int = Field(200_000, ge=1, description="hash buckets of the word n-grams; the model has (words + buckets) x dim x 4 bytes")


class TrainingError(CaravanError):
    """fastText could not be trained; the message holds the child's last words."""


def shuffled(lines: Iterable[str], folder: Path, key: str) -> Iterator[str]:
    """The lines in an order that depends on (key, the lines) alone, through files in `folder`, so that memory holds one bucket."""
    files = [open(folder / f"bucket-{n:02d}", "w", encoding="utf-8") for n in range(SHUFFLE_BUCKETS)]  # noqa: SIM115
    try:
        for line in lines:
            digest = hashlib.blake2b(line.encode(), digest_size=8, key=key.encode()[:64]).hexdigest()
            files[int(digest[:4], 16) * SHUFFLE_BUCKETS >> 16].write(f"{digest} {line}\n")
    finally:
        for file in files:
            file.close()
    for file in files:
        path = Path(file.name)
        with open(path, encoding="utf-8", newline="\n") as reader:
            yield from (line.split(" ", 1)[1].rstrip("\n") for line in sorted(reader))
        path.unlink()


def train(lines: Iterable[str], key: str, config: FastTextConfig) -> bytes:
    """The bytes of a fastText model trained on `lines` (`__label__x word word …`, no line ends inside), shuffled by `key`.

    Raises TrainingError when the child fails (no line at all, an exhausted machine).
    """
    with tempfile.TemporaryDirectory(prefix="caravan-fasttext-") as name:
        folder = Path(name)
        with open(folder / "train.txt", "w", encoding="utf-8", newline="\n") as file:
            for line in shuffled(lines, folder, key):
                file.write(line + "\n")
        command = [sys.executable, "-c", _CHILD, str(folder / "train.txt"), str(folder / "model.bin"), config.model_dump_json()]
        environment = {**os.environ, "MALLOC_PERTURB_": MALLOC_PERTURB, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if child.returncode != 0:
            raise TrainingError(f"fastText training ended with {child.returncode}: {child.stderr.strip()[-500:]}")
        return (folder / "model.bin").read_bytes()


_CHILD = """
import json, sys
import fasttext
text, model, config = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
trained = fasttext.train_supervised(
    text, dim=config["dim"], epoch=config["epochs"], lr=config["lr"], wordNgrams=config["word_ngrams"],
    minCount=config["min_count"], bucket=config["buckets"], thread=1, seed=0, verbose=0,
)
trained.save_model(model)
"""


@dataclass(frozen=True)
class FastText:
    """A trained model, opened: its prediction, and the words that it knows."""

    predict: Callable[..., Any]
    words: frozenset[str]


def load(model: bytes) -> FastText:
    """The fastText model of these bytes (fastText reads files only)."""
    import fasttext

    with tempfile.NamedTemporaryFile(prefix="caravan-fasttext-", suffix=".bin") as file:
        file.write(model)
        file.flush()
        opened = fasttext.load_model(file.name)
    return FastText(opened.predict, frozenset(opened.words) - {LINE_END})


def probabilities(model: FastText, lines: Sequence[str], labels: Sequence[str]) -> NDArray[np.float64]:
    """For each line the probability of each of `labels` (without the prefix), 0 for a label that the model does not have: [lines, labels].

    A line without any word that the model knows is NaN: fastText gives it one label with a probability near 1, by the vector of its line
    end alone. fastText returns up to 1.00001: values are cut to [0, 1].
    """
    rows = np.full((len(lines), len(labels)), np.nan)
    known = [i for i, line in enumerate(lines) if not model.words.isdisjoint(line.split())]
    if known:
        found, scores = model.predict([lines[i].replace("\n", " ") for i in known], k=-1)
        for i, names, values in zip(known, found, scores, strict=True):
            row = {name.removeprefix(LABEL): min(1.0, max(0.0, float(value))) for name, value in zip(names, values, strict=True)}
            rows[i] = [row.get(label, 0.0) for label in labels]
    return rows
