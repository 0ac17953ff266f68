"""storage/checkpoints.py: digests of tensors, safe metadata, verified loads."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata, TensorProperties, TensorStorageMetadata

from storage.artifact import Manifest, Shard, digest_of_shards, fingerprint_of
from storage.checkpoints import load_into, local_shards, parse_metadata, published_steps
from storage.errors import IntegrityError
from storage.store import Store
from training.checkpoint import Checkpointer


def saved(tmp_path: Path, state: dict[str, torch.Tensor], step: int = 1) -> tuple[Store, Manifest]:
    store = Store(str(tmp_path / "store"))
    checkpointer = Checkpointer(store=store, stage="pretrain", fingerprint=fingerprint_of({}), payload={}, scratch=tmp_path / "scratch")
    checkpointer.save(step, state)
    return store, checkpointer.finish(step)


def test_digest_is_of_values_alone_and_notices_each_of_them(tmp_path: Path) -> None:
    """Two saves of the same tensors have one digest although torch's files differ; name, dtype, shape or one bit change it."""
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    digest = digest_of_shards(local_shards(state))
    assert saved(tmp_path / "x", state)[1].digest == saved(tmp_path / "y", state)[1].digest == digest
    flipped = {**state, "a": state["a"].clone()}
    flipped["a"].view(torch.int32)[0, 0] ^= 1
    others = [{"c": state["a"], "b": state["b"]}, {**state, "a": state["a"].double()}, {**state, "a": state["a"].reshape(3, 2)}, flipped]
    assert len({digest, *(digest_of_shards(local_shards(other)) for other in others)}) == 5


def test_digest_counts_a_piece_held_by_several_ranks_once_and_has_no_order() -> None:
    a, b = Shard("w", (0,), (2,), "torch.float32", "00"), Shard("w", (2,), (2,), "torch.float32", "11")
    assert digest_of_shards([a, b]) == digest_of_shards([b, a, a])


def test_golden_digest() -> None:
    """The encoding of RULE 6 is fixed: this value may change only together with a format version."""
    shards = local_shards({"model.w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    assert digest_of_shards(shards) == GOLDEN_DIGEST


GOLDEN_DIGEST = "7bd510eb01fe16ef72a60bafa8bc6abc3fb3ca1e9c85400ef30aec9b5b1ba36e"


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("false",))


@pytest.mark.parametrize("payload", [Evil(), {"a": 1}, "text"], ids=["command", "dict", "string"])
def test_metadata_takes_only_listed_classes(payload: object) -> None:
    with pytest.raises(IntegrityError, match="torch checkpoint metadata"):
        parse_metadata(pickle.dumps(payload), where="m")


def test_metadata_of_torch_itself_is_read() -> None:
    tensor = TensorStorageMetadata(properties=TensorProperties(dtype=torch.float32), size=torch.Size([2]), chunks=[])
    assert parse_metadata(pickle.dumps(Metadata({"a": tensor})), where="m").state_dict_metadata == {"a": tensor}


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata"])
def test_one_flipped_byte_is_named_with_both_digests(tmp_path: Path, name: str) -> None:
    state = {"a": torch.arange(100.0)}
    store, manifest = saved(tmp_path, state)
    path = store.local_path(f"{manifest.root}/{manifest.file(name).path}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as error:
        load_into({"a": torch.zeros(100)}, store, manifest.root, manifest)
    assert name in error.value.file
    assert manifest.file(name).sha256 in error.value.expected
    assert error.value.actual.startswith("sha256 ")


def test_missing_tensor_and_other_shape_are_named(tmp_path: Path) -> None:
    store, manifest = saved(tmp_path, {"a": torch.arange(4.0)})
    with pytest.raises(IntegrityError, match="tensor b"):
        load_into({"b": torch.zeros(4)}, store, manifest.root, manifest)
    with pytest.raises(IntegrityError, match=r"\(5,\)"):
        load_into({"a": torch.zeros(5)}, store, manifest.root, manifest)


def test_steps_without_a_manifest_are_listed_but_not_found(tmp_path: Path) -> None:
    store, manifest = saved(tmp_path, {"a": torch.arange(4.0)}, step=7)
    store.write(f"{manifest.root}/steps/000000009/x/__0_0.distcp", b"half")
    assert published_steps(store, "pretrain", manifest.fingerprint) == [7, 9]
