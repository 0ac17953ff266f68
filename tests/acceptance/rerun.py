"""A second run does nothing; a changed threshold, mixture or flag re-runs what depends on it and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from flows.graph.walk import STAGES
from storage.store import Store
from tests.acceptance.common import Checks, Place, arguments, of_other_bytes, place, work_folder

SCORING = ("ingest", "documents", "dedup", "quality", "domains")


def would_run(here: Place, *flags: str) -> list[str]:
    """The stages that `caravan run --dry-run` says would run, in order."""
    output = here.run("--dry-run", *flags).output
    found = re.search(r"would run: ([^\n]*)", output)
    return [stage for stage in found.group(1).split() if stage in STAGES] if found else []


class Threshold(NamedTuple):
    """A threshold that is a number, and how far it is moved."""

    text_class: str
    name: str
    value: float
    factor: float

    @property
    def field(self) -> str:
        """Its path in the recipe."""
        return f"select.thresholds.{self.text_class}.{self.name}"

    def moved(self, power: int) -> float:
        """The value times the factor to `power`, of the value's own type."""
        return type(self.value)(self.value * self.factor**power)


def a_threshold(recipe: Path) -> Threshold:
    """A threshold of the recipe: the first above 1, which is doubled; else the first that is a share, which is moved a little."""
    raw = yaml.safe_load(recipe.read_text())
    found = [
        Threshold(text_class, name, value, 2 if value > 1 else 1.05)
        for text_class, thresholds in raw["select"]["thresholds"].items()
        for name, value in thresholds.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and (value > 1 or 0 < value < 0.8)
    ]
    if not found:
        raise SystemExit(f"{recipe} has no numeric threshold to change")
    return max(found, key=lambda threshold: threshold.value > 1)


def with_threshold(here: Place, threshold: Threshold, value: float) -> Place:
    """The place with one threshold changed."""

    def change(raw: dict[str, Any]) -> None:
        raw["select"]["thresholds"][threshold.text_class][threshold.name] = value

    return here.with_recipe(change, "threshold.yaml")


def with_mixture(here: Place) -> Place:
    """The place with two percent of pretraining moved from its largest component to its smallest."""

    def change(raw: dict[str, Any]) -> None:
        shares = raw["pretrain"]["shares"]
        if len(shares) < 2:
            raise SystemExit(f"{here.recipe} has one component: there is no mixture to change")
        largest, smallest = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
        shares[largest], shares[smallest] = round(shares[largest] - 0.02, 6), round(shares[smallest] + 0.02, 6)

    return here.with_recipe(change, "mixture.yaml")


def is_select_and_after(stages: Sequence[str]) -> bool:
    """Whether select re-runs, and nothing that it depends on."""
    return "select" in stages and not set(stages) & set(SCORING)


def threshold_checks(checks: Checks, here: Place) -> None:
    """One threshold, up and then down: select and what follows, no scoring; `status` names the field."""
    threshold = a_threshold(here.recipe)
    for direction, power in (("up", 1), ("down", -1)):
        value = threshold.moved(power)
        changed = with_threshold(here, threshold, value)
        stages = would_run(changed)
        checks.check(
            f"{threshold.field} {direction}: would run",
            f"{len(stages)} stages",
            "select and what follows, no scoring",
            is_select_and_after(stages),
        )
        status = re.sub(r"\s+", "", changed.status().output)
        named = f"{threshold.field}:{threshold.value}→{value}" in status
        checks.check("  status names the field and both values", "yes" if named else "no", "yes", named)
        before = here.digests()
        changed.run("--to", "tokenize")
        after = changed.digests()
        kept = [key for key in before if key.partition("/")[0] in SCORING and before[key] != after[key]]
        checks.check("  digests of documents, clusters, signals, domains, after", "changed" if kept else "equal", "equal", not kept)
        here.run()


def flag_checks(checks: Checks, here: Place) -> None:
    """`--only` and `--force`."""
    fresh = here.run("--only", "dedup")
    checks.check("--only of a fresh stage", fresh.output.strip().splitlines()[0][:24], "fresh", "fresh" in fresh.output)
    threshold = a_threshold(here.recipe)
    changed = with_threshold(here, threshold, threshold.moved(2))  # moved once it was built before, so it would be fresh
    refused = changed.run("--only", "tokenize", check=False)
    is_refused = refused.code != 0 and "stale" in refused.output
    checks.check(
        "--only where the inputs are stale", f"exit {refused.code}", "refused, naming select", is_refused and "select" in refused.output
    )
    again = here.run("--only", "select", "--force")
    checks.check(
        "--force: executed again, compared",
        "equal" if "equal digest" in again.output else "not said to be",
        "equal",
        "equal digest" in again.output,
    )
    after = would_run(here)
    checks.check("  what would run after it", f"{len(after)} stages", "0 stages", not after)


def sabotage(checks: Checks, here: Place) -> None:
    """A change of scoring must not pass for one of a threshold; a stage that gives other bytes must not pass --force."""

    def split_anew(raw: dict[str, Any]) -> None:
        raw["dedup"]["held_out_fraction"] = 0.123

    rescored = would_run(here.with_recipe(split_anew, "split.yaml"))
    checks.sabotage("another held-out split taken for another threshold", not is_select_and_after(rescored), "dedup re-runs")
    store, manifest = Store(here.store_uri), here.state().need("select")
    path = f"{manifest.root}/manifest.json"
    true = store.read(path)
    store.write(path, of_other_bytes(manifest).to_json())
    forced = here.run("--only", "select", "--force", check=False)
    store.write(path, true)
    checks.sabotage("--force of a stage that gives other bytes", forced.code != 0 and "IntegrityError" in forced.output, "IntegrityError")


def main() -> None:
    """Run the checks."""
    given = arguments(__doc__ or "", ("recipe", "corpus"))
    checks = Checks("rerun", __doc__ or "")
    with work_folder("rerun") as folder:
        here = place(folder, given.recipe, raw_root=given.corpus)
        first = here.run()
        checks.note("first run", f"{first.wall_s:.1f} s")
        second = here.run()
        did_nothing = "nothing to do" in second.output
        checks.check(
            "the same run a second time", f"{second.wall_s:.1f} s", "under 20 s, nothing to do", did_nothing and second.wall_s < 20
        )
        threshold_checks(checks, here)
        stages = would_run(with_mixture(here))
        early = set(stages) & set(STAGES[: STAGES.index("mix")])
        checks.check("changed mixture: would run", " ".join(stages)[:24], "mix and what follows", "mix" in stages and not early)
        flag_checks(checks, here)
        sabotage(checks, here)
    checks.finish()


if __name__ == "__main__":
    main()
