"""What training was fed, computed again from RULES 23 to 26 and the `.ds` files alone. Imports nothing of Caravan, on purpose.

    python tests/acceptance/mixture_recompute.py --plan plan.json --train FOLDER --fed FOLDER

FOLDER of --train holds <component>/part-*.ds and their .ds.metadata; that of --fed the logs <stage>-rank-*.jsonl. Prints JSON: samples
computed, lines and samples compared, mismatches, samples missing from the logs, and the largest distance from the mixture in any window
of 1 % of the run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from array import array
from pathlib import Path
from typing import Any

PERIOD = 10_000
ROUNDS = 6


def tokens_of(folder: Path) -> array[int]:
    """All tokens of a component, its parts in order."""
    stream: array[int] | None = None
    for path in sorted(folder.glob("part-*.ds")):
        token_size = int(Path(f"{path}.metadata").read_text().splitlines()[0].rpartition("|")[2])
        piece = array("H" if token_size == 2 else "I")
        piece.frombytes(path.read_bytes())
        if sys.byteorder == "big":
            piece.byteswap()
        if stream is None:
            stream = array(piece.typecode)
        stream.extend(piece)
    assert stream is not None, f"no part-*.ds in {folder}"
    return stream


def components_of_samples(shares: list[int], n_samples: int) -> list[int]:
    """RULE 26, one position after the other, in exact integers: everything multiplied by (2k - 2) * 10,000."""
    k, counts, chosen = len(shares), [0] * len(shares), []
    for n in range(1, n_samples + 1):
        if k == 1:
            chosen.append(0)
            continue
        width = 2 * k - 2
        best: tuple[int, int, int] | None = None  # numerator, share, component: the smallest numerator / share
        for c, share in enumerate(shares):
            ahead = width * (n * share - PERIOD * counts[c])
            if ahead < PERIOD:
                continue
            numerator = width * PERIOD - PERIOD - ahead
            if best is None or numerator * best[1] < best[0] * share:
                best = (numerator, share, c)
        assert best is not None
        counts[best[2]] += 1
        chosen.append(best[2])
    return chosen


def permuted(value: int, size: int, key: bytes) -> int:
    """RULE 25: a Feistel network over the smallest even number of bits that holds `size`, walked until the value is inside."""
    bits = (max(size - 1, 1).bit_length() + 1) // 2
    mask = (1 << bits) - 1
    while True:
        left, right = value >> bits, value & mask
        for n in range(ROUNDS):
            digest = hashlib.blake2b(key + bytes([n]) + right.to_bytes(8, "little"), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "little") & mask)
        value = left << bits | right
        if value < size:
            return value


def starts_of_samples(plan: dict[str, Any], lengths: list[int], chosen: list[int]) -> list[tuple[int, int, int]]:
    """(component, first token, seq_len) of every sample of the stage: RULES 23 and 24, run by run."""
    block_len = max(phase["seq_len"] for phase in plan["phases"])
    blocks = [(length - 1) // block_len for length in lengths]
    used = [0] * len(lengths)
    starts: list[tuple[int, int, int]] = [(0, 0, 0)] * len(chosen)
    first_sample = 0
    for phase in plan["phases"]:
        seq_len = phase["seq_len"]
        ratio, n_samples = block_len // seq_len, phase["global_batch_size"] * phase["n_steps"]
        for c, component in enumerate(plan["components"]):
            mine = [n for n in range(first_sample, first_sample + n_samples) if chosen[n] == c]
            while mine:
                epoch, place = divmod(used[c], blocks[c])
                n_run = min(len(mine), ratio * (blocks[c] - place))
                n_blocks = -(-n_run // ratio)
                name = "\0".join([str(plan["seed"]), plan["stage"], component["name"], str(epoch)])
                key = hashlib.blake2b(name.encode(), digest_size=16).digest()
                for j in range(n_run):
                    block = permuted(place + j % n_blocks, blocks[c], key)
                    starts[mine[j]] = (c, block * block_len + j // n_blocks * seq_len, seq_len)
                used[c] += n_blocks
                mine = mine[n_run:]
        first_sample += n_samples
    return starts


def worst_window(chosen: list[int], shares: list[int]) -> dict[str, float]:
    """Over every window of 1 % of the samples: the largest distance from the mixture, in samples and in percentage points."""
    size = max(1, len(chosen) // 100)
    worst = 0.0
    for c, share in enumerate(shares):
        inside = sum(x == c for x in chosen[:size])
        expected = size * share / PERIOD
        worst = max(worst, abs(inside - expected))
        for n in range(size, len(chosen)):
            inside += (chosen[n] == c) - (chosen[n - size] == c)
            worst = max(worst, abs(inside - expected))
    return {"window_samples": size, "worst_samples": worst, "worst_percentage_points": 100 * worst / size}


def compare(plan: dict[str, Any], train: Path, fed: Path) -> dict[str, Any]:
    """Compute every sample's hash and hold the logs against it."""
    names = [component["name"] for component in plan["components"]]
    assert names == sorted(names), "components in order of their names"
    shares = [component["share"] for component in plan["components"]]
    streams = [tokens_of(train / name) for name in names]
    n_samples = sum(phase["global_batch_size"] * phase["n_steps"] for phase in plan["phases"])
    chosen = components_of_samples(shares, n_samples)
    hashes = []
    for c, start, seq_len in starts_of_samples(plan, [len(stream) for stream in streams], chosen):
        tokens = array("i", streams[c][start : start + seq_len + 1])
        if sys.byteorder == "big":
            tokens.byteswap()
        hashes.append(hashlib.sha256(tokens.tobytes()).hexdigest())
    seen, n_lines, n_compared, mismatches = set[int](), 0, 0, 0
    for path in sorted(fed.glob(f"{plan['stage']}-rank-*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            n_lines += 1
            for sample, digest in zip(row["samples"], row["sha256"], strict=True):
                n_compared += 1
                seen.add(sample)
                mismatches += digest != hashes[sample]
    return {
        "stage": plan["stage"],
        "samples": n_samples,
        "log_lines": n_lines,
        "compared": n_compared,
        "mismatches": mismatches,
        "missing": n_samples - len(seen),
        **worst_window(chosen, shares),
    }


def main() -> None:
    """Read the arguments, print the comparison as JSON; exit code 1 when anything differs or is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, required=True, help="plan.json of the training stage")
    parser.add_argument("--train", type=Path, required=True, help="folder of token shards, one folder per component")
    parser.add_argument("--fed", type=Path, required=True, help="folder of the logs of what was fed")
    arguments = parser.parse_args()
    result = compare(json.loads(arguments.plan.read_text()), arguments.train, arguments.fed)
    print(json.dumps(result))
    sys.exit(1 if result["mismatches"] or result["missing"] else 0)


if __name__ == "__main__":
    main()
