"""The decision: `keep(signals, thresholds) -> None | reason`, a pure function of numbers. Scoring never sees a threshold.

Every field is `min_<signal>` or `max_<signal>`; a document is dropped where the signal lies below a minimum or above a maximum, as in
datatrove's filters. None = off, and a null signal passes (RULE 16). The reason is the signal's name.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from pipeline.language_tags import LanguageTag, canonical, widening
from storage.strict import LATER, Strict

GOPHER = "Gopher, arXiv 2112.11446, Table A1"
NO_BOUNDS = ("datatrove_filters", "min_quality_percentile")  # select turns a percentile into a score before it decides


class Thresholds(Strict):
    """A set of thresholds for one text class. Ratios are in [0, 1]; characters are Unicode code points."""

    min_language_probability: float | None = Field(None, description="probability of the document's language; FineWeb 0.65")

    min_gopher_word_count: int | None = Field(None, description=f"words that are not symbols alone; 50 ({GOPHER})")
    max_gopher_word_count: int | None = Field(None, description="words that are not symbols alone; 100,000")
    min_gopher_mean_word_length: float | None = Field(None, description="characters; 3")
    max_gopher_mean_word_length: float | None = Field(None, description="characters; 10")
    max_gopher_hash_ratio: float | None = Field(None, description="`#` per word; 0.1")
    max_gopher_ellipsis_ratio: float | None = Field(None, description="ellipses per word; 0.1")
    max_gopher_bullet_line_ratio: float | None = Field(None, description="lines that start with a bullet; 0.9")
    max_gopher_ellipsis_line_ratio: float | None = Field(None, description="lines that end with an ellipsis; 0.3")
    min_gopher_alpha_word_ratio: float | None = Field(None, description="words with a letter, of those that are not symbols alone; 0.8")
    min_gopher_alpha_token_ratio: float | None = Field(None, description="the same of all tokens, punctuation too, as datatrove; 0.8")
    min_gopher_stop_words: int | None = Field(None, description="different ones of the, be, to, of, and, that, have, with; 2")
    max_gopher_duplicate_paragraph_ratio: float | None = Field(None, description="paragraphs seen before in the document; 0.3")
    max_gopher_duplicate_paragraph_char_ratio: float | None = Field(None, description="their characters; 0.2")
    max_gopher_duplicate_line_ratio: float | None = Field(None, description="lines seen before in the document; 0.3")
    max_gopher_duplicate_line_char_ratio: float | None = Field(None, description="their characters; 0.2")
    max_gopher_top_2gram_char_ratio: float | None = Field(None, description="characters in the most frequent 2-gram; 0.20")
    max_gopher_top_3gram_char_ratio: float | None = Field(None, description="0.18")
    max_gopher_top_4gram_char_ratio: float | None = Field(None, description="0.16")
    max_gopher_duplicate_5gram_char_ratio: float | None = Field(None, description="characters in repeated 5-grams; 0.15")
    max_gopher_duplicate_6gram_char_ratio: float | None = Field(None, description="0.14")
    max_gopher_duplicate_7gram_char_ratio: float | None = Field(None, description="0.13")
    max_gopher_duplicate_8gram_char_ratio: float | None = Field(None, description="0.12")
    max_gopher_duplicate_9gram_char_ratio: float | None = Field(None, description="0.11")
    max_gopher_duplicate_10gram_char_ratio: float | None = Field(None, description="0.10")

    max_c4_lorem_ipsum_lines: int | None = Field(None, description="lines with `lorem ipsum`; 0 (C4, JMLR 21/20-074)")
    max_c4_curly_bracket_lines: int | None = Field(None, description="prose lines with `{`; 0")
    min_c4_sentences: int | None = Field(None, description="sentences in the lines that C4 keeps; 5")
    max_c4_curly_bracket_lines_any_end: int | None = Field(None, description="the same without C4's rule on line ends, as FineWeb; 0")
    min_c4_sentences_any_end: int | None = Field(None, description="the same without C4's rule on line ends, as FineWeb; 5")
    min_c4_kept_line_ratio: float | None = Field(None, description="lines that C4 keeps; not in the paper")
    max_c4_javascript_line_ratio: float | None = Field(None, description="lines with `javascript`; not in the paper")
    max_c4_policy_line_ratio: float | None = Field(None, description="lines about cookies and terms of use; not in the paper")

    min_fineweb_line_punctuation_ratio: float | None = Field(
        None, description="lines that end in terminal punctuation; 0.12 (FineWeb, arXiv 2406.17557)"
    )
    max_fineweb_short_line_ratio: float | None = Field(None, description="lines of at most 30 characters; 0.67")
    max_fineweb_duplicate_char_ratio: float | None = Field(
        None, description="characters in repeated lines; 0.1 (not datatrove's default, 0.01)"
    )
    max_fineweb_newline_ratio: float | None = Field(None, description="line ends per word; 0.3")

    min_stop_word_ratio: float | None = Field(None, description="English function words per word")
    min_character_count: int | None = Field(None, description="characters that are not white space")
    max_lost_character_ratio: float | None = Field(None, description="of them U+FFFD, C1 controls, private use, `?` inside words")
    min_native_letter_ratio: float | None = Field(None, description="of them letters of Chinese, Japanese, Thai, Korean, Arabic script")
    min_function_word_ratio: float | None = Field(
        None, description="letters (ko, ar: words) that are function words; null but in Chinese, Japanese, Thai, Korean, Arabic script"
    )
    max_short_piece_ratio: float | None = Field(
        None, description="characters in pieces of fewer than 15 that end no sentence; null as that"
    )
    max_dirty_words: int | None = Field(None, description="matches in the lists for the document's language; C4 0")
    max_dirty_word_ratio: float | None = Field(None, description="matches per word")
    min_quality_score: float | None = Field(None, description="probability of the positive label by the quality classifier")
    min_quality_percentile: Annotated[float | None, LATER] = Field(
        None, ge=0, lt=100, description="the lowest percents of the class by quality score go; instead of min_quality_score (RULE 18)"
    )
    datatrove_filters: tuple[str, ...] = Field((), description="names of the quality stage's datatrove_filters that must keep the document")

    @model_validator(mode="after")
    def _one_cut_by_score(self) -> Thresholds:
        if self.min_quality_score is not None and self.min_quality_percentile is not None:
            raise ValueError("min_quality_score and min_quality_percentile both cut by the quality score: give one of them")
        return self


class ClassThresholds(Thresholds):
    """Thresholds of a text class, and those of documents in some languages.

    A language's set takes the class's place field by field: what it names holds, null turning a field off, and what it does not name is
    as in the class; a set that names min_quality_score, be it null, inherits no percentile. Of several tags that cover a document's
    language the narrowest counts alone; sets do not add up.
    """

    languages: dict[LanguageTag, Thresholds] = Field({}, description="by BCP 47 tag; zh covers zh-Hant")

    @model_validator(mode="before")
    @classmethod
    def _as_fields(cls, value: Any) -> Any:
        """A plain set of thresholds is a class's without languages."""
        return {name: getattr(value, name) for name in value.model_fields_set} if isinstance(value, Thresholds) else value

    @field_validator("languages", mode="before")
    @classmethod
    def _tags_differ(cls, languages: Any) -> Any:
        if isinstance(languages, Mapping):
            named: dict[str, str] = {}
            for tag in map(str, languages):
                try:
                    same = canonical(tag)
                except ValueError:
                    continue  # said of the key itself
                if (other := named.setdefault(same, tag)) != tag:
                    raise ValueError(f"{other!r} and {tag!r} are one language, {same}; name it once")
        return languages

    @model_validator(mode="after")
    def _inherit(self) -> ClassThresholds:
        """Sets of languages become whole, so that what is stored says what holds. A set that is whole already stays."""
        own = {name: getattr(self, name) for name in Thresholds.model_fields}
        for tag, given in self.languages.items():
            if given.min_quality_percentile not in (None, self.min_quality_percentile):
                raise ValueError(f"languages.{tag}.min_quality_percentile: a percentile is of the whole class; null turns it off here")
            own_cut = "min_quality_score" in given.model_fields_set and "min_quality_percentile" not in given.model_fields_set
            inherited = own | {"min_quality_percentile": None} if own_cut else own
            self.languages[tag] = Thresholds(**inherited | {name: getattr(given, name) for name in given.model_fields_set})
        return self

    def at_score(self, score: float) -> ClassThresholds:
        """The class with `score` in the place of its percentile, and so each language that has not turned that off."""
        cut = {"min_quality_score": score, "min_quality_percentile": None}
        own = {name: getattr(self, name) for name in Thresholds.model_fields}
        languages = {
            tag: found if found.min_quality_percentile is None else found.model_copy(update=cut) for tag, found in self.languages.items()
        }
        return ClassThresholds(**own | cut, languages=languages)

    def of_language(self, language: str) -> Thresholds:
        """The set that holds for documents of `language`, a tag in canonical form."""
        return next((self.languages[tag] for tag in widening(language) if tag in self.languages), self.of_class)

    @functools.cached_property
    def of_class(self) -> Thresholds:
        """The set without those of languages."""
        return Thresholds(**{name: getattr(self, name) for name in Thresholds.model_fields})


class Bound(NamedTuple):
    """`signal` must be at least (or at most) `value`."""

    signal: str
    is_minimum: bool
    value: float
    reason: str


@functools.lru_cache(maxsize=64)
def bounds(thresholds: Thresholds) -> tuple[Bound, ...]:
    """The thresholds that are on, in the order of the fields. Values are rounded to float32, as signals are."""
    found = []
    for name in type(thresholds).model_fields:
        value = getattr(thresholds, name)
        if name not in NO_BOUNDS and value is not None:
            kind, signal = name.split("_", 1)
            reason = "language" if signal == "language_probability" else signal
            found.append(Bound(signal, kind == "min", float(np.float32(value)), reason))
    found += [Bound(f"datatrove_{name}", True, 1.0, f"datatrove_{name}") for name in thresholds.datatrove_filters]
    return tuple(found)


def keep(signals: Mapping[str, float | None], thresholds: Thresholds) -> str | None:
    """None to keep the document, else the first reason to drop it. A null signal passes. Raises KeyError for one never scored."""
    for signal, is_minimum, value, reason in bounds(thresholds):
        found = signals[signal]
        if found is not None:
            rounded = float(np.float32(found))  # as it is stored: a ratio that equals its threshold must pass
            if rounded < value if is_minimum else rounded > value:
                return reason
    return None


def keep_all(table: pa.Table, thresholds: Thresholds) -> list[str | None]:
    """`keep` for every row of a table with the columns that the thresholds name. Raises KeyError as `keep` does."""
    reasons = np.full(table.num_rows, None, object)
    for signal, is_minimum, value, reason in reversed(bounds(thresholds)):
        column = table.column(signal)
        compare = pc.less if is_minimum else pc.greater
        dropped = pc.fill_null(compare(pc.cast(column, pa.float64()), value), False)
        reasons[dropped.to_numpy()] = reason
    found: list[str | None] = reasons.tolist()
    return found


# What the three papers ask of English web pages, as FineWeb runs them (C4's curly bracket and terminal punctuation rules included).
PUBLISHED = Thresholds(
    min_language_probability=0.65,
    min_gopher_word_count=50,
    max_gopher_word_count=100_000,
    min_gopher_mean_word_length=3,
    max_gopher_mean_word_length=10,
    max_gopher_hash_ratio=0.1,
    max_gopher_ellipsis_ratio=0.1,
    max_gopher_bullet_line_ratio=0.9,
    max_gopher_ellipsis_line_ratio=0.3,
    min_gopher_alpha_token_ratio=0.8,
    min_gopher_stop_words=2,
    max_gopher_duplicate_paragraph_ratio=0.3,
    max_gopher_duplicate_paragraph_char_ratio=0.2,
    max_gopher_duplicate_line_ratio=0.3,
    max_gopher_duplicate_line_char_ratio=0.2,
    max_gopher_top_2gram_char_ratio=0.2,
    max_gopher_top_3gram_char_ratio=0.18,
    max_gopher_top_4gram_char_ratio=0.16,
    max_gopher_duplicate_5gram_char_ratio=0.15,
    max_gopher_duplicate_6gram_char_ratio=0.14,
    max_gopher_duplicate_7gram_char_ratio=0.13,
    max_gopher_duplicate_8gram_char_ratio=0.12,
    max_gopher_duplicate_9gram_char_ratio=0.11,
    max_gopher_duplicate_10gram_char_ratio=0.1,
    max_c4_lorem_ipsum_lines=0,
    max_c4_curly_bracket_lines=0,
    min_c4_sentences=5,
    min_fineweb_line_punctuation_ratio=0.12,
    max_fineweb_short_line_ratio=0.67,
    max_fineweb_duplicate_char_ratio=0.1,
    max_fineweb_newline_ratio=0.3,
)
