"""Why an artifact is not the one that is asked for now: the fields of the recipe and the inputs that differ, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.artifact import Manifest, find
from storage.errors import IntegrityError
from storage.store import Store

SHOWN_FIELDS = 3
SHOWN_VALUE_CHARS = 60
CHANGED = ": digest changed"

# The artifacts' stages that an input of that name may come from. `extract.*` is left out: its name is its file's, which says enough.
STAGES_OF_INPUT = {
    "documents": ("documents",),
    "dropped": ("dropped",),
    "clusters": ("dedup",),
    "quality": ("quality",),
    "domains": ("domains",),
    "selection": ("select",),
    "coverage": ("coverage",),
    "tokenizer": ("train_tokenizer",),
    "tokens": ("tokenize",),
    "held_out": ("held_out_tokens",),
    "tasks": ("build_tasks",),
    "plan": ("mix",),
    "checkpoint": ("pretrain", "extend_context", "anneal"),
    "export": ("export",),
}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], stage: str) -> list[str]:
    """What differs between two payloads of a stage: `select.thresholds.web.min_x: 50 → 60`, `input clusters: digest changed`."""
    lines = []
    if before["version"] != now["version"]:
        lines.append(f"{stage} version: {before['version']} → {now['version']}")
    fields = [f"{stage}{path}: {old} → {new}" for path, old, new in _changed(before["config"], now["config"], "")]
    lines += fields[:SHOWN_FIELDS] + ([f"and {len(fields) - SHOWN_FIELDS} more fields"] if len(fields) > SHOWN_FIELDS else [])
    old, new = before["inputs"], now["inputs"]
    lines += [f"input {name}: new" for name in sorted(new.keys() - old.keys())]
    lines += [f"input {name}: no longer there" for name in sorted(old.keys() - new.keys())]
    lines += [f"input {name}{CHANGED}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    return lines


def causes(store: Store, before: Mapping[str, Any], now: Mapping[str, Any], stage: str) -> list[str]:
    """As `differences`, with each input that changed followed to the field that changed it: `input selection: select.x: 50 → 60`.

    An input whose artifact of before is gone stays `digest changed`. What has one cause is named once.
    """
    lines, seen = list[str](), set[str]()
    for line in differences(before, now, stage):
        name = line.removeprefix("input ").removesuffix(CHANGED)
        if line != f"input {name}{CHANGED}":
            lines.append(line)
            continue
        roots = _roots(store, name, before["inputs"][name], now["inputs"][name])
        if new := [root for root in roots if root not in seen]:
            lines.append(f"input {name}: {'; '.join(new)}")
        elif not roots:
            lines.append(line)
        seen.update(roots)
    return lines


def root_of(key: str, stage: str, reason: str) -> str:
    """A reason as those behind it name it: the field alone, or, where none is known, with the artifact that it is about."""
    if reason.startswith(f"{stage}."):
        return reason
    if reason.startswith("input ") and not reason.endswith((CHANGED, ": new", ": no longer there")):
        return reason.partition(": ")[2]
    return f"{key} {reason}"


def _roots(store: Store, name: str, before: str, now: str) -> list[str]:
    """What made the input `name` another one, by the digests of before and now; nothing where that is not known."""
    old, new = made_with_digest(store, name, before), made_with_digest(store, name, now)
    if old is None or new is None:
        return []
    lines = [line for line in causes(store, old.payload, new.payload, new.stage) if not line.endswith(CHANGED)]
    return [line.partition(": ")[2] if line.startswith("input ") and line.count(": ") > 1 else line for line in lines]


def made_with_digest(store: Store, name: str, digest: str) -> Manifest | None:
    """The artifact that gave an input `name` of that digest, the oldest of several; None where it is gone."""
    found = [
        manifest
        for stage in STAGES_OF_INPUT.get(name.partition(".")[0], ())
        for fingerprint in store.list_dirs(f"artifacts/{stage}")
        if (manifest := _undamaged(store, stage, fingerprint)) is not None and manifest.digest == digest
    ]
    return min(found, key=lambda manifest: manifest.info.get("started_at_s", 0.0), default=None)


def _undamaged(store: Store, stage: str, fingerprint: str) -> Manifest | None:
    """The artifact, or None: of what is only looked through, damage is for its own readers to say."""
    try:
        return find(store, stage, fingerprint)
    except IntegrityError:
        return None


def _changed(before: Any, now: Any, path: str) -> list[tuple[str, str, str]]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [row for key in keys for row in _changed(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{path}.{key}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [row for n, (old, new) in enumerate(zip(before, now, strict=True)) for row in _changed(old, new, f"{path}[{n}]")]
    return [] if before == now else [(path, _shown(before), _shown(now))]


class _Absent:
    """Stands for a field that one side does not have."""


_ABSENT = _Absent()


def _shown(value: Any) -> str:
    text = "absent" if value is _ABSENT else repr(value)
    return text if len(text) <= SHOWN_VALUE_CHARS else text[: SHOWN_VALUE_CHARS - 1] + "…"
