"""Proof 3: the same recipe on file:// and on s3:// in a local MinIO gives identical digests for every artifact, checkpoints included."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.proofs.common import Proof, arguments, place, work_folder
from scripts.minio import running_minio
from storage.artifact import digest_of, read_verified
from storage.errors import IntegrityError
from storage.store import Store

BUCKET = "caravan-proof"


def differing(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Keys whose digests differ, or that one side lacks."""
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


def main() -> None:
    """Run the proof."""
    given = arguments(__doc__ or "")
    proof = Proof(3, "a folder and an object store give the same bytes")
    with work_folder("proof-3") as folder, tempfile.TemporaryDirectory() as data, running_minio(Path(data)) as minio:
        os.environ |= minio.environment()
        minio.create_bucket(BUCKET)
        here = place(folder / "file", given.recipe, raw_root=given.corpus)
        there = place(folder / "s3", given.recipe, raw_root=given.corpus, store_uri=f"s3://{BUCKET}/store")
        proof.note("on file://", f"{here.run().wall_s:.1f} s")
        proof.note("on s3://", f"{there.run().wall_s:.1f} s")
        ours, theirs = here.digests(), there.digests()
        different = differing(ours, theirs)
        proof.check("artifacts with identical digests", f"{len(ours) - len(different)} of {len(ours)}", "all", bool(ours) and not different)
        checkpoints = [key for key in ours if key.partition("/")[0] in ("pretrain", "extend_context", "anneal")]
        proof.check("checkpoints among them", len(checkpoints), "every training stage", len(checkpoints) >= 1)
        store, damaged = Store(there.store_uri), 0
        for key in ours:
            manifest = there.state().need(key)
            damaged += manifest.stage not in checkpoints and digest_of(manifest.files) != manifest.digest
        proof.check("digests computed again from the files' own sha256", f"{damaged} differ", "0 differ", damaged == 0)

        def reseed(raw: dict[str, Any]) -> None:
            raw["dedup"]["held_out_fraction"] = raw["dedup"].get("held_out_fraction", 0.05) * 1.5

        other = there.with_recipe(reseed, "other.yaml")
        other.run("--to", "dedup")
        proof.sabotage("another split on s3://", "dedup" in differing(ours, other.digests()), "its digest differs")
        entry = there.state().need("select").files[0]
        manifest = there.state().need("select")
        path = f"{manifest.root}/{entry.path}"
        data_bytes = bytearray(store.read(path))
        data_bytes[len(data_bytes) // 2] ^= 1
        store.write(path, bytes(data_bytes))
        try:
            read_verified(store, manifest, entry.name)
            caught = False
        except IntegrityError:
            caught = True
        proof.sabotage("one bit of a table on s3://", caught, "IntegrityError")
    proof.finish()


if __name__ == "__main__":
    main()
