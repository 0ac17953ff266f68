"""The decision is a function of numbers: every threshold names a signal, nulls pass, and a table is judged as its rows are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.language_tags import covers, widening
from pipeline.quality.config import Config
from pipeline.quality.score import score, signals_schema
from pipeline.quality.thresholds import NO_BOUNDS, PUBLISHED, ClassThresholds, Thresholds, bounds, keep, keep_all
from pipeline.quality.view import view

SIGNALS = [field for field in Thresholds.model_fields if field not in NO_BOUNDS]
TAGS = ["zh", "zh-Hant", "zh-Hant-TW", "yue", "ar", "no"]


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


def test_a_languages_set_takes_the_place_of_the_classes_field_by_field() -> None:
    """What it names holds, null turns off, the rest is inherited; a set that was stored whole says the same again."""
    of_class = {"min_gopher_word_count": 50, "min_language_probability": 0.65}
    chinese = {"min_gopher_word_count": None, "min_character_count": 9}
    thresholds = ClassThresholds.model_validate({**of_class, "languages": {"zh": chinese}})
    wanted = Thresholds(min_language_probability=0.65, min_character_count=9)
    assert thresholds.of_language("zh") == wanted
    assert thresholds.of_language("ja") == thresholds.of_class == Thresholds(min_gopher_word_count=50, min_language_probability=0.65)
    assert ClassThresholds.model_validate_json(thresholds.model_dump_json()).of_language("zh") == wanted


def test_fifty_words_are_not_asked_of_chinese_japanese_and_thai() -> None:
    """What stands between two marks of punctuation is one word there: 50 are some 1,800, 1,750 and 650 characters. In characters: 50."""
    sentences = {"zh": "人们在这里生活了很久。", "ja": "この町の人は川のそばに家を建てた。", "th": "ชาวบ้านที่อยู่ริมแม่น้ำจะปลูกข้าวและผักไว้กินเอง "}
    in_characters = {"min_gopher_word_count": None, "min_character_count": 50}
    languages: dict[str, Any] = {language: in_characters for language in sentences}
    thresholds = ClassThresholds.model_validate({"min_gopher_word_count": 50, "languages": languages})
    for language, sentence in sentences.items():
        signals = score(view(sentence * 20))
        assert keep(signals, thresholds.of_class) == "gopher_word_count"
        assert keep(signals, thresholds.of_language(language)) is None
        assert keep(score(view(sentence)), thresholds.of_language(language)) == "character_count"


@given(
    st.sampled_from(["zh", "zh-Hant", "zh-Hans", "zh-Hant-TW", "yue", "ar", "arz", "nb", "no", "und", "en"]), st.sets(st.sampled_from(TAGS))
)
def test_the_narrowest_tag_that_covers_a_language_counts_alone(language: str, tags: set[str]) -> None:
    """And a language that no tag covers is judged as the class is."""
    sets = {tag: {"min_character_count": n} for n, tag in enumerate(sorted(tags), 1)}
    thresholds = ClassThresholds.model_validate({"min_gopher_word_count": 5, "languages": sets})
    found, covering = thresholds.of_language(language), [tag for tag in tags if covers(tag, language)]
    if not covering:
        assert found == thresholds.of_class
    else:
        narrowest = min(covering, key=widening(language).index)
        assert found == Thresholds(min_gopher_word_count=5, min_character_count=sets[narrowest]["min_character_count"])


@pytest.mark.parametrize(
    ("languages", "said"),
    [
        ({"xx1": {}}, "is no BCP 47 tag"),
        ({"zz": {}}, "no code of ISO 639-1"),
        ({"zh": {"min_charcter_count": 3}}, "min_charcter_count"),
        ({"zh": {"languages": {}}}, "languages"),
        ({"zh": {}, "chi": {}}, "'zh' and 'chi' are one language"),
    ],
)
def test_a_tag_or_field_that_does_not_exist_is_refused(languages: dict[str, Any], said: str) -> None:
    """By name; a language twice, too."""
    with pytest.raises(ValidationError, match=said):
        ClassThresholds.model_validate({"languages": languages})
