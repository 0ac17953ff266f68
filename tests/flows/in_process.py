"""Data stages without Prefect and without workers: for tests that look at bytes, and at what runs again."""

from __future__ import annotations

from collections.abc import Sequence

from flows.data_to_checkpoint import data_to_checkpoint
from flows.graph.walk import Asked, Job, Sources, StageName, Walk
from flows.running.driver import Plan
from flows.running.making import make
from pipeline.snapshot import snapshot
from storage.artifact import Manifest


def run_here(plan: Plan, last: StageName) -> list[str]:
    """Make what is stale as far as stage `last` (mix at most), in this process; the keys of what was made, in order."""

    def perform(jobs: Sequence[Job]) -> list[Manifest]:
        if isinstance(jobs[0].config, Sources):
            return [snapshot(plan.raw, plan.store, jobs[0].config.sources)]
        return [make(plan.store, plan.raw, {}, job) for job in jobs]

    walk = Walk(plan.store, plan.raw, plan.run, Asked(last=last), perform)
    data_to_checkpoint(plan.recipe, walk)
    return [visit.key for visit in walk.visits if visit.state == "ran"]
