"""The decision is a function of numbers: every threshold names a signal, nulls pass, and a table is judged as its rows are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.quality.config import Config
from pipeline.quality.score import signals_schema
from pipeline.quality.thresholds import NO_BOUNDS, PUBLISHED, Thresholds, bounds, keep, keep_all

SIGNALS = [field for field in Thresholds.model_fields if field not in NO_BOUNDS]


def test_every_threshold_names_its_direction_and_a_signal_that_is_scored() -> None:
    """`min_` or `max_`, then a column of the signals table (or the language's probability, which documents hold)."""
    scored = {*signals_schema(Config()).names, "language_probability"}
    for name in SIGNALS:
        direction, signal = name.split("_", 1)
        assert direction in ("min", "max")
        assert signal in scored, name


def test_none_is_off_and_the_first_field_in_order_gives_the_reason() -> None:
    """A set without thresholds keeps everything; of two broken thresholds the first field counts."""
    signals = {"language_probability": 0.1, "gopher_word_count": 3.0}
    assert keep({}, Thresholds()) is None
    assert keep(signals, Thresholds(min_gopher_word_count=50)) == "gopher_word_count"
    assert keep(signals, Thresholds(min_gopher_word_count=50, min_language_probability=0.65)) == "language"


def test_a_null_signal_passes_and_a_missing_one_is_an_error() -> None:
    """What the recipe does not ask for passes; a signal that nobody scored is a mistake, not a pass."""
    thresholds = Thresholds(min_quality_score=0.5)
    assert keep({"quality_score": None}, thresholds) is None
    assert keep({"quality_score": 0.5}, thresholds) is None
    assert keep({"quality_score": 0.49}, thresholds) == "quality_score"
    with pytest.raises(KeyError):
        keep({}, thresholds)


def test_a_datatrove_filter_must_keep_the_document() -> None:
    """Its signal is 1 or 0, and its name is the reason."""
    thresholds = Thresholds(datatrove_filters=("urls",))
    assert keep({"datatrove_urls": 1}, thresholds) is None
    assert keep({"datatrove_urls": 0}, thresholds) == "datatrove_urls"


@pytest.mark.parametrize("value", [0.1, 0.2, 0.3, 0.8, 0.12, 0.67])
def test_a_ratio_that_equals_its_threshold_passes_although_it_is_stored_in_32_bits(value: float) -> None:
    """0.1 and its float32 differ; both sides are rounded alike."""
    stored = pa.array([value], pa.float32()).to_pylist()[0]
    for signal in (value, stored):
        assert keep({"stop_word_ratio": signal}, Thresholds(min_stop_word_ratio=value)) is None
        assert keep({"dirty_word_ratio": signal}, Thresholds(max_dirty_word_ratio=value)) is None


def test_a_threshold_that_does_not_exist_is_refused() -> None:
    """No silent off by a misspelt name."""
    with pytest.raises(ValidationError, match="max_gopher_words"):
        Thresholds.model_validate({"max_gopher_words": 3})


ROW = st.fixed_dictionaries(
    {bound.signal: st.one_of(st.none(), st.sampled_from([bound.value, 0.0, 1e6]), st.floats(0, 1, width=32)) for bound in bounds(PUBLISHED)}
)


@given(st.lists(ROW, max_size=8))
def test_a_table_is_judged_as_its_rows_are(rows: list[dict[str, Any]]) -> None:
    """keep_all equals keep on every row, nulls included."""
    names = [bound.signal for bound in bounds(PUBLISHED)]
    table = pa.table({name: pa.array([row[name] for row in rows], pa.float32()) for name in dict.fromkeys(names)})
    assert keep_all(table, PUBLISHED) == [keep(row, PUBLISHED) for row in table.to_pylist()]
