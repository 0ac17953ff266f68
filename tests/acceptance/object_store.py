"""The same digests of every artifact, checkpoints included, in a folder and on a local MinIO (s3://)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from scripts.minio import running_minio
from storage.artifact import digest_of, read_verified
from storage.errors import IntegrityError
from storage.store import Store
from tests.acceptance.common import Checks, arguments, different, place, work_folder

BUCKET = "caravan-acceptance"
TRAINING = ("pretrain", "extend_context", "anneal")


def main() -> None:
    """Run the checks."""
    given = arguments(__doc__ or "", ("recipe", "corpus"))
    checks = Checks("object-store", __doc__ or "")
    with work_folder("object-store") as folder, tempfile.TemporaryDirectory() as data, running_minio(Path(data)) as minio:
        os.environ |= minio.environment()
        minio.create_bucket(BUCKET)
        here = place(folder / "file", given.recipe, raw_root=given.corpus)
        there = place(folder / "s3", given.recipe, raw_root=given.corpus, store_uri=f"s3://{BUCKET}/store")
        checks.note("the run in a folder", f"{here.run().wall_s:.1f} s")
        checks.note("the run on MinIO", f"{there.run().wall_s:.1f} s")
        ours, theirs = here.digests(), there.digests()
        unlike = different(ours, theirs)
        checks.check("artifacts with identical digests", f"{len(ours) - len(unlike)} of {len(ours)}", "all", bool(ours) and not unlike)
        checkpoints = [key for key in ours if key in TRAINING]
        trained = [stage for stage in TRAINING if here.state().recipe.get(stage)]
        checks.check(
            "checkpoints among them", len(checkpoints), f"{len(trained)}: one per training stage", sorted(checkpoints) == sorted(trained)
        )
        store, damaged = Store(there.store_uri), 0
        for key in ours:
            manifest = there.state().need(key)
            damaged += manifest.stage not in checkpoints and digest_of(manifest.files) != manifest.digest
        checks.check("digests computed again from the files' own sha256", f"{damaged} differ", "0 differ", damaged == 0)

        def reseed(raw: dict[str, Any]) -> None:
            raw["dedup"]["held_out_fraction"] = raw["dedup"].get("held_out_fraction", 0.05) * 1.5

        other = there.with_recipe(reseed, "other.yaml")
        other.run("--to", "dedup")
        checks.sabotage("another held-out split on MinIO", "dedup" in different(ours, other.digests()), "its digest differs")
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
        checks.sabotage("one bit of a table changed on MinIO", caught, "IntegrityError")
    checks.finish()


if __name__ == "__main__":
    main()
