"""Figures, each printed by a script here: `bench_*` next to its peer's on the same input, `measure_*` against labelled data."""
