"""What of a run was not made from what the run points at now: after a run in part, a checkpoint is of an earlier selection.

`status` asks the recipe and the raw files; this asks the run alone, for those who read what it points at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.graph.differences import CHANGED, STAGES_OF_INPUT, causes, root_of
from flows.graph.runs import Run
from flows.graph.walk import STAGES
from storage.artifact import Manifest

_DEDUP, _AFTER_TOKENIZE = STAGES.index("dedup"), STAGES.index("tokenize") + 1
# The artifacts' stages in order.
PATH = (
    "snapshot",
    "extract",
    "documents",
    "origins",
    "dropped",
    *STAGES[_DEDUP:_AFTER_TOKENIZE],
    "held_out_tokens",
    *STAGES[_AFTER_TOKENIZE:],
)
TRAINING = ("pretrain", "extend_context", "anneal")
UNFINISHED = "a newer one was begun and has not ended"


def in_order(run: Run) -> list[str]:
    """The keys of a run's artifacts in the order of the path."""
    return sorted(run.artifacts, key=lambda key: (PATH.index(key.partition("/")[0]), key))


def stale_artifacts(run: Run) -> dict[str, str]:
    """Why each artifact that was not made from what the run points at now was not, by key, in order of the path. Raises IntegrityError.

    Extractions are left out: each is of one raw file, and what the run has of them is in its documents.
    """
    found: dict[str, str] = {}
    for key in in_order(run):
        if key.partition("/")[0] not in ("snapshot", "extract") and (manifest := run.manifest(key)) is not None:
            reason = _why(run, key, manifest, found)
            if reason:
                found[key] = reason
    return found


def _why(run: Run, key: str, manifest: Manifest, stale: Mapping[str, str]) -> str:
    """Why an artifact is stale, given those before it that are; empty for one that is not."""
    before: dict[str, str] = manifest.payload["inputs"]
    now = {name: pointer.digest if (pointer := run.artifacts.get(_key_of(run, key, name))) else digest for name, digest in before.items()}
    if any(name.startswith("documents.") for name in before):
        now = _with_sources_of_now(run, now)
    if now != before:
        return "; ".join(causes(run.store, manifest.payload, {**manifest.payload, "inputs": now}, manifest.stage))
    if run.training.get(key, manifest.fingerprint) != manifest.fingerprint:
        return UNFINISHED
    for name in before:
        if (cause := _key_of(run, key, name)) in stale:
            return f"input {name}: {root_of(cause, cause.partition('/')[0], stale[cause])}"
    return ""


def _with_sources_of_now(run: Run, inputs: Mapping[str, str]) -> dict[str, str]:
    """Inputs with the documents of every source that the run has now, and of no other."""
    others = {name: digest for name, digest in inputs.items() if not name.startswith("documents.")}
    documents = {key.replace("/", ".", 1): pointer.digest for key, pointer in run.artifacts.items() if key.startswith("documents/")}
    return {**others, **documents}


def _key_of(run: Run, key: str, name: str) -> str:
    """Where a run points at the input `name` of its artifact `key`; a key that no run has for an input that nobody knows."""
    kind, _, rest = name.partition(".")
    label = key.partition("/")[2]
    match kind:
        case "extract":
            return f"extract/{label}/{rest}"
        case "documents":
            return f"documents/{rest or label}"
        case "dropped":
            return f"dropped/{rest}"
        case "plan":
            return f"mix/{key}"
        case "checkpoint":
            before = TRAINING[: TRAINING.index(key)] if key in TRAINING else TRAINING
            return next((stage for stage in reversed(before) if stage in run.artifacts), "")
    return "".join(STAGES_OF_INPUT.get(kind, ()))  # one stage, whose name is the key


def cause_of(reason: str) -> str:
    """What made an artifact stale, without the input by which it did: `input tokens: select.x: 50 → 60` is `select.x: 50 → 60`."""
    return reason.partition(": ")[2] if reason.startswith("input ") and not reason.endswith(CHANGED) else reason


def note(reason: str) -> str:
    """What to say beside something that was made from another thing than the run has now, for the `reason` that it is stale."""
    cause = cause_of(reason)
    if cause.endswith(UNFINISHED):
        return f"{cause}; run again to renew"
    what = "an earlier selection" if cause.startswith("select.") else "earlier inputs"
    return f"made from {what} ({cause}); run again to renew"


def stale_lines(stale: Mapping[str, str], keys: Iterable[str] | None = None) -> list[str]:
    """A line for each cause: the stages that it made stale, and how to renew them. `keys`: only about these artifacts."""
    found: dict[str, dict[str, None]] = {}
    for key in stale if keys is None else [key for key in keys if key in stale]:
        found.setdefault(note(stale[key]), {})[key.partition("/")[0]] = None
    return [f"{', '.join(stages)}: {line}" for line, stages in found.items()]
