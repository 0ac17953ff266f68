"""`caravan gc` says what it would cost to remove something."""

from __future__ import annotations

from pathlib import Path

from flows.garbage import find_garbage
from storage.store import Store


def test_the_checkpoints_of_an_interrupted_training_are_named_as_such(tmp_path: Path) -> None:
    """No run points at what is unfinished, yet the next run would go on from it: whoever is asked must see that."""
    store = Store(str(tmp_path))
    for step in (4, 12):
        store.write(f"artifacts/pretrain/{'a' * 32}/steps/{step:09d}/manifest.json", b"{}")
    store.write(f"artifacts/dedup/{'b' * 32}/groups/keys-0.json", b"{}")
    reasons = {item.what.split("/")[1]: item.reason for item in find_garbage(store)}
    assert reasons == {"dedup": "no run refers to it", "pretrain": "unfinished: a run of its recipe would go on from step 12"}
