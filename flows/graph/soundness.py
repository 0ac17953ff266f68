"""What of a run does not verify, as far as can be told without reading large files: before anything is called fresh."""

from __future__ import annotations

from collections.abc import Mapping

from storage.artifact import Manifest
from storage.errors import IntegrityError
from storage.store import Store
from storage.verify import damage


def damaged(store: Store, found: Mapping[str, Manifest]) -> dict[str, IntegrityError]:
    """The first damage of each of these artifacts that has any, by key: missing files, other sizes, other sums of small files."""
    first = {key: next(damage(store, manifest.root, manifest.files), None) for key, manifest in found.items()}
    return {key: error for key, error in first.items() if error is not None}


def damage_line(key: str, error: IntegrityError) -> str:
    """What to say of a damaged artifact."""
    return f"damaged: {key}: {error}"
