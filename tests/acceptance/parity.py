"""Gradients on 69 meshes equal those of one process; a resume sees the same samples; bfloat16 is near float32."""

from __future__ import annotations

import subprocess
import sys

from tests.acceptance.common import PROJECT, Checks, arguments


def main() -> None:
    """Run the two commands that print the figures; each fails when one falls short or a sabotage passes."""
    given = arguments(__doc__ or "", ("shards", "seed"))
    checks = Checks("parity", __doc__ or "")
    for name, module in (
        ("gradients on 69 meshes, three sabotages, bfloat16", "tests.training.parity"),
        ("resume after SIGTERM and kill -9, one sabotage", "tests.training.resume"),
    ):
        flags = []
        if module.endswith("parity"):
            flags = ["--all", "--seed", str(given.seed), *(["--shards", str(given.shards)] if given.shards else [])]
        code = subprocess.run([sys.executable, "-m", module, *flags], cwd=PROJECT, stdin=subprocess.DEVNULL).returncode
        checks.check(name, f"exit {code}", "exit 0: the figures above are as asked", code == 0)
    checks.finish()


if __name__ == "__main__":
    main()
