"""The mixture as integers: RULES 26 and 29."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from training import mix
from training.mix import Config, PhaseConfig
from training.order import PERIOD, Pattern

TOKENS = {"general": 60_000, "math": 20_000, "code": 20_000, "multilingual": 9_000, "math_hard": 900}


def config(**changes: Any) -> Config:
    """50/25/17/8 in two phases."""
    base: dict[str, Any] = {
        "stage": "pretrain",
        "seed": 1,
        "shares": {"general": 0.5, "math": 0.25, "code": 0.17, "multilingual": 0.08},
        "max_epochs": 4,
        "phases": [{"seq_len": 64, "global_batch_size": 8, "n_steps": 50}, {"seq_len": 128, "global_batch_size": 16, "n_steps": 25}],
    }
    return Config.model_validate(base | changes)


def tokens_artifact(store: Store, tokens: dict[str, int]) -> Manifest:
    """A tokenize artifact that holds counts.json alone."""
    payload = {"name": "f" * 32}
    attempt, entries = Attempt(store, "tokenize", fingerprint_of(payload)), list[FileEntry]()
    with attempt.create("counts.json", entries) as file:
        file.write(json.dumps({"train": {name: {"tokens": n} for name, n in tokens.items()}, "held_out": {}}).encode())
    return attempt.publish(payload, entries, counts={}, info={})


def test_plan_holds_the_mixture_in_integers(tmp_path: Path) -> None:
    """Samples within one of each share; blocks, epochs and leftovers add up; the plan is verified as it is read."""
    store = Store(str(tmp_path))
    manifest = mix.run(store=store, config=config(), inputs={"tokens": tokens_artifact(store, TOKENS)})
    made = mix.read_plan(store, manifest)
    assert made["block_len"] == 128
    assert made["unused"] == {"math_hard": 900}
    n_samples = 50 * 8 + 25 * 16
    for row in made["components"]:
        assert abs(row["samples"] - Fraction(row["share"] * n_samples, PERIOD)) < 1
        assert row["blocks"] == (row["tokens"] - 1) // 128
        assert row["blocks"] * row["epochs_finished"] + row["epoch_blocks_used"] == row["blocks_used"]
        assert row["tokens_past_last_block"] == row["tokens"] - 128 * row["blocks"]
        runs = [run for run in made["runs"] if run["component"] == row["name"]]
        assert sum(run["n_samples"] for run in runs) == row["samples"]
        assert sum(run["unused_slices"] for run in runs) == row["unused_slices"]
    assert sum(row["samples"] for row in made["components"]) == n_samples
    assert manifest.counts["samples:general"] == 400


def test_same_plan_is_found_again_and_other_shares_make_another(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    inputs = {"tokens": tokens_artifact(store, TOKENS)}
    first = mix.run(store=store, config=config(), inputs=inputs)
    assert mix.run(store=store, config=config(), inputs=inputs) == first
    other = mix.run(store=store, config=config(shares={"general": 0.4, "math": 0.35, "code": 0.17, "multilingual": 0.08}), inputs=inputs)
    assert other.fingerprint != first.fingerprint
    assert other.digest != first.digest


def test_golden_plan() -> None:
    """A plan's bytes may change only with VERSION."""
    made = mix.plan(config(), TOKENS)
    assert mix.VERSION == 1
    assert [
        (row["name"], row["share"], row["samples"], row["blocks_used"], row["unused_slices"]) for row in made["components"]
    ] == GOLDEN_ROWS
    assert made["runs"][0] == GOLDEN_RUN


def test_mixture_shows_target_available_realised_and_epochs() -> None:
    rows = {row.component: row for row in mix.mixture(mix.plan(config(), TOKENS))}
    assert rows["multilingual"].available_tokens == 9_000
    assert rows["multilingual"].target_share == 0.08
    assert abs(rows["multilingual"].realised_share - 0.08) < 0.001
    assert rows["multilingual"].epochs == pytest.approx(48 / 70)
    assert sum(row.realised_share for row in rows.values()) == pytest.approx(1)


def test_the_order_is_rebuilt_from_the_plan_and_a_changed_run_is_noticed() -> None:
    made = json.loads(json.dumps(mix.plan(config(), TOKENS)))
    order = mix.order_of(made)
    assert order.counts_before(order.n_samples) == {row["name"]: row["samples"] for row in made["components"]}
    made["runs"][1]["first_block"] += 1
    with pytest.raises(IntegrityError, match="RULE 24"):
        mix.order_of(made)


def test_too_large_a_budget_names_component_need_available_and_the_largest_feasible() -> None:
    """The named budget is feasible, one step more is not, and the named max_epochs is enough for all of it."""
    tokens = TOKENS | {"multilingual": 2_000}

    def asked(n_steps: int, max_epochs: int = 1) -> Config:
        return config(max_epochs=max_epochs, phases=[{"seq_len": 64, "global_batch_size": 8, "n_steps": n_steps}])

    with pytest.raises(ConfigError) as caught:
        mix.plan(asked(100), tokens)
    message = str(caught.value)
    assert "multilingual needs 4,096 tokens (2.06 epochs) for its share of 8.00%, available are 1,984 (1,984 x 1 epochs)" in message
    found = re.search(r"largest feasible budget is (\d+) steps .* raise max_epochs to (\d+)", message)
    assert found is not None
    mix.plan(asked(int(found[1])), tokens)
    with pytest.raises(ConfigError):
        mix.plan(asked(int(found[1]) + 1), tokens)
    mix.plan(asked(100, int(found[2])), tokens)


def test_the_largest_feasible_budget_is_found_across_phases() -> None:
    """A budget that fails in its second phase is cut there."""
    with pytest.raises(ConfigError, match=r"largest feasible budget is 54 steps \(464 samples, 33,792 tokens\)"):
        mix.plan(config(max_epochs=1), TOKENS | {"math": 8_450})


def test_need_within_the_limit_passes_and_one_block_more_does_not() -> None:
    """Exactly max_epochs is allowed."""
    phases = [{"seq_len": 16, "global_batch_size": 1, "n_steps": 20}]
    one: dict[str, Any] = {"shares": {"a": 1.0}, "phases": phases, "max_epochs": 2}
    mix.plan(config(**one), {"a": 16 * 10 + 1})
    with pytest.raises(ConfigError, match="largest feasible budget is 18 steps"):
        mix.plan(config(**one), {"a": 16 * 10})


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_blocks_needed_is_what_the_runs_use(data: st.DataObject) -> None:
    """The closed form that bounds the budget agrees with RULE 24 carried out."""
    phases = [
        PhaseConfig(
            seq_len=data.draw(st.sampled_from([4, 8, 16])),
            global_batch_size=data.draw(st.integers(1, 7)),
            n_steps=data.draw(st.integers(1, 30)),
        )
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    made = mix.plan(config(shares={"a": 0.7, "b": 0.3}, phases=phases, max_epochs=10**6), {"a": data.draw(st.integers(40, 900)), "b": 300})
    built = Pattern((7000, 3000))
    for number, row in enumerate(made["components"]):
        assert row["blocks_used"] == mix.blocks_needed(built, number, mix.order_phases(phases), sum(p.n_steps for p in phases))


def test_unknown_component_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no tokens of medicine; the components are code, general"):
        mix.plan(config(shares={"general": 0.5, "medicine": 0.5}), TOKENS)


def test_a_component_below_one_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="component math_hard has a positive share and 90 tokens"):
        mix.plan(config(shares={"general": 0.5, "math_hard": 0.5}), TOKENS | {"math_hard": 90})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": {"a": 0.5, "b": 0.4}}, "shares sum to 0.9, and must sum to 1"),
        ({"shares": {"a": 0.99999, "b": 0.00001}}, "share of b: 1e-05 rounds to 0"),
        ({"shares": {"a": 1.5, "b": -0.5}}, "at least 0"),
        ({"max_epochs": 0}, "greater than or equal to 1"),
        ({"phases": []}, "at least 1"),
        (
            {"phases": [{"seq_len": 48, "global_batch_size": 1, "n_steps": 1}, {"seq_len": 64, "global_batch_size": 1, "n_steps": 1}]},
            "48 does not divide 64",
        ),
        ({"epochs": 3}, "Extra inputs"),
    ],
)
def test_wrong_fields_are_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_zero_share_leaves_a_component_out() -> None:
    made = mix.plan(config(shares={"general": 1.0, "math": 0.0}), TOKENS)
    assert [row["name"] for row in made["components"]] == ["general"]
    assert "math" in made["unused"]


GOLDEN_ROWS = [("code", 1700, 136, 102, 0), ("general", 5000, 400, 300, 0), ("math", 2500, 200, 150, 0), ("multilingual", 800, 64, 48, 0)]
GOLDEN_RUN = {
    "component": "code",
    "phase": 0,
    "epoch": 0,
    "first_block": 0,
    "n_blocks": 34,
    "n_samples": 68,
    "first_ordinal": 0,
    "unused_slices": 0,
}
