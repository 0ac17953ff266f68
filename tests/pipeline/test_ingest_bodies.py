"""A small sample of the generated bodies of the acceptance."""

from __future__ import annotations

from tests.acceptance.generated_bodies import generate, run_cases, wrong_ones


def test_generated_bodies_become_their_text_or_a_counted_reason() -> None:
    """Charsets, declarations, codings and damage in any combination: the exact text, or a reason that fits, and never noise."""
    outcomes = run_cases(generate(seed=3, n=60))
    assert wrong_ones(outcomes) == []
    assert sum(bool(outcome.case.texts) for outcome in outcomes) >= 30
