"""What each rank is fed at each step: plan and token shards in, blocks of token ids out; nothing to save but the step.

The global batch of step k is samples `order.first_sample(k)` + 0 … global_batch_size - 1. Data-parallel rank r of n takes the r-th of n
equal contiguous pieces; ranks that differ only in tensor, context or pipeline coordinate take the same piece. A rank's micro-batches are
consecutive pieces of its own. So the samples of a step, and their order, do not depend on the mesh.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.artifact import Manifest
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.token_shards import TokenStream
from training.order import Order

POLL_S = 0.1


@dataclass(frozen=True)
class Batch:
    """One rank's part of a step: `samples` int64 [n], `tokens` int64 [n, seq_len + 1]; row i is sample `samples[i]`.

    Inputs are `tokens[:, :-1]`, targets `tokens[:, 1:]`; a target that begins a document lies on the other side of another's end (RULE 28).
    """

    step: int
    samples: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]


def open_streams(store: Store, tokens: Manifest, order: Order) -> dict[str, TokenStream]:
    """The stream of each component that the order draws from, by name.

    Raises IntegrityError when a stream's length is not the one that the plan was made for.
    """
    streams = {component.name: TokenStream(store, tokens, f"train/{component.name}") for component in order.components}
    for component in order.components:
        if (found := streams[component.name].n_tokens) != component.n_tokens:
            raise IntegrityError(f"{tokens.root}/train/{component.name}", expected=f"{component.n_tokens} tokens", actual=f"{found} tokens")
    return streams


def rank_samples(order: Order, step: int, *, dp_rank: int, dp_size: int) -> range:
    """The samples of data-parallel rank `dp_rank` of `dp_size` at `step`. Raises ConfigError when the ranks do not divide the batch."""
    size = order.phase_of_step(step).global_batch_size
    if size % dp_size:
        raise ConfigError(f"global_batch_size {size:,} of step {step:,} of {order.stage} does not divide by {dp_size} data-parallel ranks")
    each = size // dp_size
    first = order.first_sample(step) + dp_rank * each
    return range(first, first + each)


def read_samples(order: Order, streams: Mapping[str, TokenStream], samples: Sequence[int]) -> npt.NDArray[np.int64]:
    """The tokens of `samples`, which have one sequence length: int64 [len(samples), seq_len + 1]. Raises IntegrityError."""
    found = [order.sample(index) for index in samples]
    return np.stack([streams[sample.component].read(sample.start, sample.end).astype(np.int64) for sample in found])


def read_batch(order: Order, streams: Mapping[str, TokenStream], step: int, *, dp_rank: int, dp_size: int) -> Batch:
    """What rank `dp_rank` of `dp_size` is fed at `step`. Raises IntegrityError."""
    samples = rank_samples(order, step, dp_rank=dp_rank, dp_size=dp_size)
    return Batch(step, np.asarray(samples, dtype=np.int64), read_samples(order, streams, samples))


def batches(
    order: Order, streams: Mapping[str, TokenStream], *, dp_rank: int, dp_size: int, first_step: int = 0, prefetch_steps: int = 2
) -> Generator[Batch, None, None]:
    """One rank's batches from `first_step` to the end of the stage, read up to `prefetch_steps` ahead by a thread.

    The thread alone uses `streams` until the iterator is exhausted or closed. What it raises is raised here.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(prefetch_steps)
    stop = threading.Event()

    def hand_over(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=POLL_S)
            except queue.Full:
                continue

    def read_ahead() -> None:
        try:
            for step in range(first_step, order.n_steps):
                if stop.is_set():
                    return
                hand_over(read_batch(order, streams, step, dp_rank=dp_rank, dp_size=dp_size))
            hand_over(None)
        except BaseException as error:  # handed to the consumer, who raises it
            hand_over(error)

    thread = threading.Thread(target=read_ahead, name="caravan-data", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def sample_hash(tokens: npt.NDArray[np.integer]) -> str:
    """What names the fed sample in the log: sha256, hex, over its seq_len + 1 token ids as little-endian int32."""
    return hashlib.sha256(np.ascontiguousarray(tokens, dtype="<i4").tobytes()).hexdigest()
