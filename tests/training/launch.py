"""Runs a function in forked ranks on gloo: torch is imported once, and ranks meet through a file."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from queue import Empty
from typing import Any

import torch
import torch.distributed as dist

COLLECTIVE_TIMEOUT = timedelta(seconds=120)


def run_ranks(function: Callable[..., Any], world_size: int, *args: Any, timeout_s: float = 240.0, initialize: bool = True) -> list[Any]:
    """`function(*args)` in `world_size` forked ranks with torch.distributed; their results by rank.

    With `initialize=False` the function joins the group itself, from the variables that torchrun would set.

    The caller must be single-threaded and must not have used s3fs. Raises RuntimeError with the first failing rank's traceback.
    """
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    with tempfile.TemporaryDirectory(prefix="caravan-ranks-") as folder:
        meet = f"file://{Path(folder) / 'meet'}" if initialize else f"127.0.0.1:{_free_port()}"
        arguments = [(rank, world_size, meet, function, args, results) for rank in range(world_size)]
        ranks = [context.Process(target=_rank, args=a, daemon=True) for a in arguments]
        for process in ranks:
            process.start()
        try:
            return _collect(ranks, results, time.monotonic() + timeout_s)
        finally:
            for process in ranks:
                process.kill()
            for process in ranks:
                process.join()


def _collect(ranks: list[Any], results: Any, deadline: float) -> list[Any]:
    found: dict[int, Any] = {}
    while len(found) < len(ranks):
        try:
            rank, value, error = results.get(timeout=1.0)
        except Empty:
            dead = [n for n, process in enumerate(ranks) if process.exitcode not in (None, 0) and n not in found]
            if dead:
                raise RuntimeError(f"rank {dead[0]} ended with exit code {ranks[dead[0]].exitcode}") from None
            if time.monotonic() > deadline:
                raise RuntimeError(f"ranks {sorted(set(range(len(ranks))) - set(found))} did not finish in time") from None
            continue
        if error is not None:
            raise RuntimeError(f"rank {rank}:\n{error}")
        found[rank] = value
    return [found[rank] for rank in range(len(ranks))]


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _rank(rank: int, world_size: int, meet: str, function: Callable[..., Any], args: tuple[Any, ...], results: Any) -> None:
    torch.set_num_threads(1)
    try:
        if meet.startswith("file://"):
            dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world_size, timeout=COLLECTIVE_TIMEOUT)
        else:
            host, _, port = meet.partition(":")
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR=host, MASTER_PORT=port)
        results.put((rank, function(*args), None))
        if dist.is_initialized():
            dist.barrier()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
    results.close()
    results.join_thread()
    os._exit(0)  # without teardown: the parent has what it wanted
