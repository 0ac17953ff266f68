"""Scores of a checkpoint: bits per byte on held-out documents by the checkpoint itself, and tasks by lm-evaluation-harness on its export.

`scores.json` holds numbers only:

    bits_per_byte          by domain, and `all` over every byte of them
    unigram_bits_per_byte  the same of an add-one unigram model of the training tokens, on the same held-out tokens
    held_out               by domain: tokens (targets), bytes, documents
    tasks                  by task: its metrics, and `n` items

Bits per byte = sum of -log2 p(token) over all tokens after BOS (EOS included) / UTF-8 bytes of the edited texts. Held-out documents
are cut in windows of seq_len as in training, so a document that crosses a window loses its context there. A domain is judged on the
documents at the start of its stream, at most `max_held_out_tokens`: id order is a shuffle, so they are a sample, and the same in every run.
Memory: the model, one batch of windows, and one task of the harness.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor

from storage.artifact import Attempt, FileEntry, Manifest, canonical_json, find, identity, read_verified
from storage.checkpoints import load_into
from storage.disk import temporary_folder
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.token_shards import TokenStream, stream_names
from training.checkpoint import model_state
from training.config import EvaluateConfig, ModelConfig
from training.export import download
from training.loss import NO_TARGET, document_numbers, next_tokens, summed_cross_entropy
from training.model import Llama
from training.task_files import FOLDER, RowError, check_answer, check_choices

NAME = "evaluate"
VERSION = 2
READ_TOKENS = 1 << 20


Config = EvaluateConfig
Report = Callable[[int, int, str], None]  # tokens done, tokens in all, and what it is at, in words


def no_report(done: int, total: int, beside: str) -> None:
    """Say nothing."""


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    raw: Store | None = None,
    info: Mapping[str, Any] | None = None,
    report: Report = no_report,
) -> Manifest:
    """Write the scores. `inputs`: `checkpoint`, `export`, `tasks`, `tokenizer`, `held_out` (tokens to judge on), `tokens` (trained on).

    `raw` holds the files of `local_tasks`. Raises IntegrityError for damaged inputs, ConfigError for a task that cannot be loaded.
    """
    fingerprint, payload = identity(NAME, VERSION, config, {name: manifest.digest for name, manifest in inputs.items()})
    if standing := find(store, NAME, fingerprint):
        return standing
    attempt, entries = Attempt(store, NAME, fingerprint), list[FileEntry]()
    special = json.loads(read_verified(store, inputs["tokenizer"], "special_tokens.json"))
    model = load_model(store, config.model, inputs["checkpoint"])
    ends = special["eos_id"] == special["bos_id"]
    unigram_bits = unigram_model(store, inputs["tokens"], special["vocab_size"], config.max_unigram_tokens)
    scores = held_out_scores(
        store, config, inputs["held_out"], model, unigram_bits, bos_id=special["bos_id"], bos_is_eos=ends, report=report
    )
    n_tokens = sum(row["tokens"] + row["documents"] for row in scores["held_out"].values())  # a BOS is no target
    del model  # the harness loads the export
    scores["tasks"] = task_scores(store, config, inputs, raw, lambda beside: report(n_tokens, n_tokens, beside))
    with attempt.create("scores.json", entries) as file:
        file.write(canonical_json(scores))
    return attempt.publish(payload, entries, counts={}, info=dict(info or {}))


def device_here() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(store: Store, config: ModelConfig, checkpoint: Manifest) -> Llama:
    """The whole model in this process, with the weights of a checkpoint artifact. Raises IntegrityError."""
    with torch.device("meta"):
        model = Llama(config)
    model.to_empty(device=device_here()).eval()
    load_into(model_state([model]), store, checkpoint.root, checkpoint)
    return model


class Judged(NamedTuple):
    """What a domain is judged on: the first `n_tokens` of its stream, whole documents."""

    domain: str
    stream: TokenStream
    n_tokens: int
    n_bytes: int
    n_documents: int


def held_out_scores(
    store: Store,
    config: Config,
    held_out: Manifest,
    model: Llama,
    unigram_bits: npt.NDArray[np.float64],
    *,
    bos_id: int,
    bos_is_eos: bool = False,
    report: Report = no_report,
) -> dict[str, dict[str, Any]]:
    """Bits per byte of the model and of the unigram model (bits by token id) by domain, and over all domains.

    Raises IntegrityError when nothing is held out.
    """
    scores: dict[str, dict[str, Any]] = {"bits_per_byte": {}, "unigram_bits_per_byte": {}, "held_out": {}}
    total_bits, total_unigram_bits, total_bytes, done = 0.0, 0.0, 0, 0
    judged = [judged_on(store, held_out, domain, config.max_held_out_tokens) for domain in stream_names(held_out, "held_out")]
    total = sum(one.n_tokens for one in judged)
    for domain, stream, n_tokens, n_bytes, n_documents in judged:
        bits, unigram, n_targets = 0.0, 0.0, 0
        for batch in _windows(stream, n_tokens, config.seq_len, config.batch_size, bos_id, bos_is_eos):
            report(done, total, f"held-out {domain}")
            bits += nll_bits(model, batch)
            targets = batch.targets[batch.targets != NO_TARGET].numpy()
            unigram += float(unigram_bits[targets].sum())
            n_targets += int(targets.size)
            done = min(done + batch.inputs.numel(), total)
        scores["bits_per_byte"][domain] = bits / n_bytes
        scores["unigram_bits_per_byte"][domain] = unigram / n_bytes
        scores["held_out"][domain] = {"tokens": n_targets, "bytes": n_bytes, "documents": n_documents}
        total_bits, total_unigram_bits, total_bytes = total_bits + bits, total_unigram_bits + unigram, total_bytes + n_bytes
    if not total_bytes:
        raise IntegrityError(held_out.root, expected="held-out documents", actual="none")
    scores["bits_per_byte"]["all"] = total_bits / total_bytes
    scores["unigram_bits_per_byte"]["all"] = total_unigram_bits / total_bytes
    return scores


def judged_on(store: Store, held_out: Manifest, domain: str, max_tokens: int | None) -> Judged:
    """The documents at the start of a domain's stream that fit `max_tokens`; at least one document."""
    stream, n_tokens, n_bytes, n_documents = TokenStream(store, held_out, f"held_out/{domain}"), 0, 0, 0
    for document in stream.documents():
        if n_documents and max_tokens is not None and document.end > max_tokens:
            break
        n_tokens, n_bytes, n_documents = document.end, n_bytes + document.n_bytes, n_documents + 1
    return Judged(domain, stream, n_tokens, n_bytes, n_documents)


class Windows(NamedTuple):
    """Held-out tokens to predict: int64 tensors [b, seq_len]; `documents` numbers each input's document in its row."""

    inputs: Tensor
    targets: Tensor
    documents: Tensor


def _windows(stream: TokenStream, n_tokens: int, seq_len: int, batch_size: int, bos_id: int, bos_is_eos: bool) -> Iterator[Windows]:
    """The first `n_tokens`, up to `batch_size` windows at a time, each window beginning with the last token of the one before.

    The last window is filled up with BOS, which is no target there.
    """
    step = seq_len * batch_size
    for start in range(0, max(n_tokens - 1, 0), step):
        piece = stream.read(start, min(start + step + 1, n_tokens)).astype(np.int64)
        n_rows = -(-(len(piece) - 1) // seq_len)
        padded = np.full(n_rows * seq_len + 1, bos_id, dtype=np.int64)
        padded[: len(piece)] = piece
        rows = torch.from_numpy(np.stack([padded[row * seq_len : (row + 1) * seq_len + 1] for row in range(n_rows)]))
        targets = next_tokens(rows, bos_id, bos_is_eos)
        targets.view(-1)[len(piece) - 1 :] = NO_TARGET
        yield Windows(rows[:, :-1], targets, document_numbers(rows, bos_id, bos_is_eos)[:, :-1])


@torch.inference_mode()
def nll_bits(model: Llama, windows: Windows) -> float:
    """Sum of -log2 p over the targets of windows."""
    if not bool((windows.targets != NO_TARGET).any()):
        return 0.0
    device = model.norm.weight.device if model.norm is not None else torch.device("cpu")
    inputs, targets, documents = (tensor.to(device) for tensor in windows)
    positions = torch.arange(inputs.shape[1], device=device).expand_as(inputs)
    logits = model(inputs, positions, documents)
    return float(summed_cross_entropy(logits, targets, None)) / math.log(2)


def unigram_model(store: Store, tokens: Manifest, vocab_size: int, max_tokens: int) -> npt.NDArray[np.float64]:
    """-log2 of the add-one probability of each token id [vocab_size], from the first `max_tokens` training tokens of every component."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for component in stream_names(tokens, "train"):
        stream = TokenStream(store, tokens, f"train/{component}")
        for start in range(0, min(stream.n_tokens, max_tokens), READ_TOKENS):
            piece = stream.read(start, min(start + READ_TOKENS, stream.n_tokens, max_tokens))
            counts += np.bincount(piece, minlength=vocab_size)
    bits: npt.NDArray[np.float64] = -np.log2((counts + 1) / (counts.sum() + vocab_size))
    return bits


def task_scores(
    store: Store, config: Config, inputs: Mapping[str, Manifest], raw: Store | None, report: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, float]]:
    """Metrics by task, from lm-evaluation-harness on the export, a task after the other; offline. `report` is told at which it is.

    Raises ConfigError for a task that it cannot load or ask, IntegrityError for a local file that is not the one the config names.
    """
    import lm_eval  # imports transformers and datasets: seconds, and only here
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with temporary_folder() as folder:
        model_folder = download(store, inputs["export"], folder / "export")
        task_folder = download(store, inputs["tasks"], folder / "tasks")
        names = sorted(path.stem for path in task_folder.glob("*.yaml"))
        for group in config.local_tasks:
            names += group.names
            _put_local_files(raw, group.sha256, task_folder / "local")
        _make_paths_absolute(task_folder)
        manager = TaskManager(include_path=str(task_folder), include_defaults=False)
        unknown = sorted(set(names) - set(manager.all_tasks))
        if unknown:
            raise ConfigError(f"evaluate.local_tasks: no task {', '.join(unknown)}; the files define {', '.join(manager.all_tasks)}")
        _check_rows(manager, names, model_folder)
        model = HFLM(pretrained=str(model_folder), dtype="float32", batch_size=config.batch_size, device=str(device_here()))
        scores = {}
        for number, name in enumerate(names, start=1):
            report(f"{name}, task {number} of {len(names)}")
            results = lm_eval.simple_evaluate(
                model=model,
                tasks=[name],
                task_manager=manager,
                limit=config.task_items,
                bootstrap_iters=0,
                random_seed=0,
                numpy_random_seed=0,
                torch_random_seed=0,
                fewshot_random_seed=0,
            )
            assert results is not None
            scores[name] = _numbers(results["results"][name], results["n-samples"][name]["effective"])
        return scores


def _put_local_files(raw: Store | None, sha256: Mapping[str, str], folder: Path) -> None:
    """Copy local task files to their own places below `folder`: files of one name in two folders stay two."""
    assert raw is not None, "local tasks need the raw store"
    for path, expected in sha256.items():
        data = raw.read(path)
        if (actual := hashlib.sha256(data).hexdigest()) != expected:
            raise IntegrityError(path, expected=f"sha256 {expected}", actual=f"sha256 {actual}")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _make_paths_absolute(folder: Path) -> None:
    """Task files say `{folder}` for the folder they lie in; the harness takes paths relative to its working directory."""
    for path in folder.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(FOLDER, str(path.parent)), encoding="utf-8")


def _check_rows(manager: Any, names: Sequence[str], model_folder: Path) -> None:
    """Raises ConfigError, naming task and row, for what the harness would end in a traceback over; with the export's own tokens."""
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    max_tokens = json.loads((model_folder / "config.json").read_text())["max_position_embeddings"]

    def count_tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    for name in names:
        number = 0
        try:
            for task in manager.load([name])["tasks"].values():
                number = 0
                for row in task.eval_docs:
                    number += 1
                    _check_row(task, row, count_tokens, max_tokens)
                if not number:
                    raise RowError("it has no rows")
        except Exception as error:  # what a task's own functions, its data's parser and the harness raise
            where = f"task {name}, row {number}" if number else f"task {name}"
            why = str(error) if isinstance(error, RowError) else f"{type(error).__name__}: {error}"
            raise ConfigError(f"evaluate: {where}: {why}") from error


def _check_row(task: Any, row: Mapping[str, Any], count_tokens: Callable[[str], int], max_tokens: int) -> None:
    task.doc_to_text(row)
    target = task.doc_to_target(row)
    if task.OUTPUT_TYPE == "multiple_choice" and not task.multiple_input:
        check_choices(task.doc_to_choice(row), target, count_tokens, max_tokens)
    elif task.OUTPUT_TYPE == "loglikelihood":
        check_answer("the target", target, count_tokens, max_tokens)


def _numbers(result: Mapping[str, Any], n_items: int) -> dict[str, float]:
    """The numeric metrics of a task's result: `acc,none` becomes `acc`."""
    metrics = {key.removesuffix(",none"): value for key, value in result.items() if isinstance(value, int | float)}
    finite = {key: float(value) for key, value in metrics.items() if math.isfinite(value) and key not in ("sample_len",)}
    return {**finite, "n": float(n_items)}
