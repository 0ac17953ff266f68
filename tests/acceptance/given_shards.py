"""Token shards from elsewhere, in datatrove's format, read as documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt


def components(folder: Path) -> dict[str, list[Path]]:
    """The `.ds` files of a folder by component: the folders that hold some (below `train/` where there is one); else each file is one.

    Ends the process when there is none.
    """
    root = folder / "train" if (folder / "train").is_dir() else folder
    found = {child.name: sorted(child.rglob("*.ds")) for child in sorted(root.iterdir()) if child.is_dir() and any(child.rglob("*.ds"))}
    found = found or {path.stem.replace("/", "-"): [path] for path in sorted(root.glob("*.ds"))}
    if not found:
        raise SystemExit(
            f"{folder} holds no token shards: a folder of .ds files for each component, each beside its .ds.index and .ds.metadata"
        )
    return found


def documents(path: Path) -> Iterator[npt.NDArray[np.int64]]:
    """The documents of a shard, in order: token ids, 1-D, int64."""
    token_size = int(Path(f"{path}.metadata").read_text().splitlines()[0].rpartition("|")[2])
    tokens = np.fromfile(path, dtype=f"<u{token_size}").astype(np.int64)
    start = 0
    for end in np.fromfile(f"{path}.index", dtype="<u8").tolist():
        yield tokens[start:end]
        start = end
