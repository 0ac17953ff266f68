"""A byte flipped in each kind of artifact: whoever reads it next stops with an IntegrityError that names the file and both digests."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator

from flows.graph.logs import logs_of
from flows.history.lineage import order_in
from storage.artifact import Manifest
from storage.checkpoints import find_step, published_steps, step_dir, steps_root
from storage.store import Store
from storage.token_shards import TokenStream
from tests.acceptance.bad_input_cases import Bench, Case, Outcome
from tests.acceptance.common import Finished


@contextlib.contextmanager
def flipped(store: Store, path: str, position: int | None = None) -> Iterator[None]:
    """One byte of a stored file changed (the middle one unless given) for the length of the block."""
    true = store.read(path)
    at = len(true) // 2 if position is None else position
    store.write(path, true[:at] + bytes([true[at] ^ 0xFF]) + true[at + 1 :])
    try:
        yield
    finally:
        store.write(path, true)


@contextlib.contextmanager
def cut(store: Store, path: str) -> Iterator[None]:
    """A stored file's second half gone for the length of the block."""
    true = store.read(path)
    store.write(path, true[: len(true) // 2])
    try:
        yield
    finally:
        store.write(path, true)


def _flip(key: Callable[[Bench], str], name: Callable[[Manifest], str], act: Callable[[Bench], Finished]) -> Callable[[Bench], Outcome]:
    """A byte of a file of an artifact flipped; `act` reads it. The message names the file, and the sha256 that was and is."""

    def flip(bench: Bench) -> Outcome:
        manifest = bench.here.state().need(key(bench))
        entry = manifest.file(name(manifest))
        path = f"{manifest.root}/{entry.path}"
        with flipped(bench.store, path):
            actual = hashlib.sha256(bench.store.read(path)).hexdigest()
            seen = act(bench)
        return Outcome(seen, "IntegrityError", (path, f"expected sha256 {entry.sha256}", f"found sha256 {actual}"))

    return flip


def _first(end: str, start: str = "") -> Callable[[Manifest], str]:
    return lambda manifest: next(name for name in manifest.names(start) if name.endswith(end))


def _last_training(bench: Bench) -> str:
    return next(stage for stage in ("anneal", "extend_context", "pretrain") if bench.recipe.get(stage))


def _first_documents(bench: Bench) -> str:
    return f"documents/{bench.recipe['sources'][0]['name']}"


def flip_cases() -> list[Case]:
    """A byte flipped in each kind of artifact; whoever reads it next stops."""
    return [
        Case("a byte of a table (select reads it)", _flip(lambda _: "quality", _first(".parquet"), _force("select"))),
        Case("a byte of the documents (explain reads them)", _flip(_first_documents, _first(".parquet"), lambda b: b.ask("explain", "0"))),
        Case("a byte of the funnel (report reads it)", _flip(lambda _: "select", _first("funnel.json"), lambda b: b.ask("report"))),
        Case("a byte of a token shard (pretrain reads it)", _flipped_tokens),
        Case("a byte of a checkpoint (export reads it)", _flip(_last_training, _first(".distcp"), _force("export"))),
        Case(
            "a byte of an export (generate reads it)", _flip(lambda _: "export", _first(".safetensors"), lambda b: b.ask("generate", "A"))
        ),
        Case("half a manifest (status reads it)", _cut_manifest),
        Case("half a run file (report reads it)", _cut_run),
    ]


def _force(stage: str) -> Callable[[Bench], Finished]:
    return lambda bench: bench.run("--only", stage, "--force")


def _flipped_tokens(bench: Bench) -> Outcome:
    """A byte of the first token that the first step reads; shards are verified by the page."""
    run = bench.here.state()
    tokens, sample = run.need("tokenize"), order_in(run, "pretrain").sample(0)
    stream, at = TokenStream(run.store, tokens, f"train/{sample.component}"), sample.start
    token_size = stream.read(0, 1).itemsize
    for stem in stream.stems:
        entry = tokens.file(f"{stem}.ds")
        if at < (n_tokens := entry.size_bytes // token_size):
            break
        at -= n_tokens
    path = f"{tokens.root}/{entry.path}"
    with flipped(bench.store, path, at * token_size):
        seen = bench.run("--only", "pretrain", "--force")
    digests = re.findall(r"(?:expected|found) blake2b-64 ([0-9a-f]{16})", seen.output)
    problems = [] if len(set(digests)) > 1 else [f"two page digests expected, found {digests}"]
    return Outcome(seen, "IntegrityError", (f"{path} page ",), (), problems)


def _cut_manifest(bench: Bench) -> Outcome:
    path = f"{bench.here.state().need('dedup').root}/manifest.json"
    with cut(bench.store, path):
        seen = bench.command(["status", *bench.here.arguments], bench.here.env)
    return Outcome(seen, "IntegrityError", (path, "expected a manifest"))


def _cut_run(bench: Bench) -> Outcome:
    path = f"{bench.here.state().root}/run.json"
    with cut(bench.store, path):
        seen = bench.ask("report")
    return Outcome(seen, "IntegrityError", (path, "expected a run"))


def resumed_past_damage(bench: Bench) -> list[str]:
    """What does not hold, in words, of a resume whose newest step checkpoint has a flipped byte: named, and the one before taken.

    Takes pretrain's last checkpoint away, so that it is unfinished, and runs it again; the digest has to be the same.
    """
    made, store = bench.here.state().need("pretrain"), bench.store
    steps = published_steps(store, "pretrain", made.fingerprint)
    newest = find_step(store, "pretrain", made.fingerprint, steps[-2])
    assert newest is not None
    root = f"{steps_root('pretrain', made.fingerprint)}/{step_dir(steps[-2])}"
    path = f"{root}/{newest.file(_first('.distcp')(newest)).path}"
    store.remove(f"{made.root}/manifest.json")
    store.remove(f"{steps_root('pretrain', made.fingerprint)}/{step_dir(steps[-1])}/manifest.json")
    with flipped(store, path):
        seen = bench.run("--only", "pretrain")
    logs_root = logs_of(bench.here.state().name, "pretrain", made.fingerprint)
    logs = [store.read(file.path).decode(errors="replace") for file in store.list_files(logs_root)]
    named = any(path in line and "expected sha256" in line and "found sha256" in line for log in logs for line in log.splitlines())
    again = bench.here.state().need("pretrain").digest if seen.code == 0 else ""
    return [
        *([f"exit code {seen.code}"] if seen.code else []),
        *(["the log does not name the damaged file with both digests"] if not named else []),
        *(["another digest than before"] if again != made.digest else []),
    ]
