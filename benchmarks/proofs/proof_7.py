"""Proof 7: gradients equal one process on all 69 meshes, resume sees the same samples, bfloat16 stays near float32; and sabotages."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.proofs.common import PROJECT, Proof, arguments


def main() -> None:
    """Run the two commands that print the figures; each fails when one falls short or a sabotage passes."""
    given = arguments(__doc__ or "")
    proof = Proof(7, "four dimensions of parallelism give one process's gradients")
    for name, module in (
        ("69 meshes, three sabotages, bfloat16", "tests.training.parity"),
        ("resume, one sabotage", "tests.training.resume"),
    ):
        flags = []
        if module.endswith("parity"):
            flags = ["--all", "--seed", str(given.seed), *(["--shards", str(given.shards)] if given.shards else [])]
        code = subprocess.run([sys.executable, "-m", module, *flags], cwd=PROJECT, stdin=subprocess.DEVNULL).returncode
        proof.check(name, f"exit {code}", "exit 0, figures above", code == 0)
    proof.finish()


if __name__ == "__main__":
    main()
