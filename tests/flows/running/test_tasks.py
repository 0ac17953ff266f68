"""flows/running/tasks.py: retries where a retry can mend, and nowhere twice."""

from __future__ import annotations

from flows.recipe.recipe import TRAINING_STAGES
from flows.running.tasks import RETRY_DELAYS_S, TASKS


def test_training_has_the_attempts_of_its_launcher_and_no_more() -> None:
    """`max_attempts: 3` of an execution would be nine tries of hours with Prefect's own retries around it."""
    retries = {name: task.retries for name, task in TASKS.items()}
    assert {name for name, count in retries.items() if count == 0} == set(TRAINING_STAGES)
    assert set(retries.values()) == {0, len(RETRY_DELAYS_S)}
