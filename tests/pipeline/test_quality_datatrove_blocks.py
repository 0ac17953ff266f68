"""datatrove's filters by name: what is refused before any work, what is set for them, and that a block's verdict is a signal."""

from __future__ import annotations

from typing import Any

import pytest
from datatrove.data import Document
from pydantic import ValidationError

from pipeline.quality.config import Config, DatatroveFilter
from pipeline.quality.datatrove_blocks import block_class, build, tokenizer, verdict
from storage.errors import CaravanError, ConfigError

FILTERS = "datatrove.pipeline.filters."
KNOWN: dict[str, Any] = {"document": "", "language": "en", "language_probability": 1.0}


@pytest.mark.parametrize(
    ("block", "kwargs", "message"),
    [
        ("datatrove.pipeline.dedup.bloom_filter.SingleBloomFilter", {}, "SingleBloomFilter is refused: it drops nearly every document"),
        (f"{FILTERS}sampler_filter.SamplerFilter", {}, "depends on chance"),
        (f"{FILTERS}lambda_filter.LambdaFilter", {}, "takes code"),
        (f"{FILTERS}no_such.Filter", {}, "cannot be found"),
        (f"{FILTERS}regex_filter.NoSuchFilter", {}, "cannot be found"),
        (f"{FILTERS}base_filter.Document", {}, "not a filter of datatrove"),
        ("os.path.join", {}, "not in datatrove"),
        (f"{FILTERS}regex_filter.RegexFilter", {}, "missing a required argument: 'regex_exp'"),
        (f"{FILTERS}regex_filter.RegexFilter", {"regex_exp": "x", "speed": 3}, "unexpected keyword argument 'speed'"),
        (f"{FILTERS}regex_filter.RegexFilter", {"regex_exp": "x", "exclusion_writer": "y"}, "exclusion_writer"),
        (f"{FILTERS}c4_filters.C4BadWordsFilter", {"keep_fraction": 0.1}, "keep_fraction is refused: its verdict would depend on chance"),
    ],
)
def test_what_is_no_usable_filter_is_refused_by_name(block: str, kwargs: dict[str, Any], message: str) -> None:
    """A ConfigError that names the recipe's field."""
    with pytest.raises(ConfigError, match=message) as error:
        block_class(DatatroveFilter(name="mine", block=block, kwargs=kwargs))
    assert "quality.datatrove_filters[mine]" in str(error.value)


def test_a_block_that_refuses_its_arguments_is_a_config_error() -> None:
    """A pattern that does not compile."""
    with pytest.raises(ConfigError, match=r"datatrove_filters\[mine\]: RegexFilter cannot be made"):
        build(DatatroveFilter(name="mine", block=f"{FILTERS}regex_filter.RegexFilter", kwargs={"regex_exp": "("}))


def test_two_filters_of_one_name_are_refused() -> None:
    """They would write one signal."""
    one = DatatroveFilter(name="a", block=f"{FILTERS}c4_filters.C4ParagraphFilter")
    with pytest.raises(ValidationError, match="a name occurs twice"):
        Config(datatrove_filters=(one, one))


def test_fineweb_gets_the_papers_ratio_and_caravans_words_unless_the_recipe_says_otherwise() -> None:
    """FACTS: the default of 0.01 is not the paper's 0.1; spaCy is not needed."""
    block = f"{FILTERS}fineweb_quality_filter.FineWebQualityFilter"
    assert build(DatatroveFilter(name="f", block=block)).char_duplicates_ratio == 0.1
    assert build(DatatroveFilter(name="f", block=block)).language is tokenizer()
    assert build(DatatroveFilter(name="f", block=block, kwargs={"char_duplicates_ratio": 0.3})).char_duplicates_ratio == 0.3


def test_a_verdict_is_one_or_zero_and_an_empty_text_is_dropped_unasked() -> None:
    """RegexFilter drops what it finds; Gopher's filters would divide by zero."""
    block = build(DatatroveFilter(name="r", block=f"{FILTERS}regex_filter.RegexFilter", kwargs={"regex_exp": "secret"}))
    assert [verdict(block, text=text, url=None, **KNOWN) for text in ("open", "a secret", "", " \n")] == [1, 0, 0, 0]
    gopher = build(DatatroveFilter(name="g", block=f"{FILTERS}gopher_quality_filter.GopherQualityFilter"))
    assert verdict(gopher, text="", url=None, **KNOWN) == 0


@pytest.mark.filterwarnings("ignore:The 'registered_domain' property is deprecated:DeprecationWarning")
def test_url_filter_keeps_what_has_no_url_and_asks_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """datatrove's fails without a URL, and its tldextract would fetch a list of suffixes that changes."""
    wanted = DatatroveFilter(
        name="u", block=f"{FILTERS}url_filter.URLFilter", kwargs={"use_integrated_lists": False, "extra_domains": ["bad.org"]}
    )
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it asks the network"))
    block = build(wanted)
    urls = ("http://www.bad.org/x", "http://good.org/x", None)
    assert [verdict(block, text="x", url=url, **KNOWN) for url in urls] == [0, 1, 1]


def test_a_block_that_fails_is_named_with_the_document() -> None:
    """C4's lists have no such language, and its filter raises a bare ValueError."""
    block = build(DatatroveFilter(name="c", block=f"{FILTERS}c4_filters.C4BadWordsFilter"))
    with pytest.raises(CaravanError, match="C4BadWordsFilter failed on document 0a: ValueError"):
        verdict(block, text="x", url=None, document="0a", language="xx", language_probability=1.0)


@pytest.mark.parametrize("language", ["nb", "zh-Hant", "en-GB"])
def test_a_block_is_told_the_widest_tag(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C4's lists have one Norwegian (`no`), one Chinese, one English."""
    block = build(DatatroveFilter(name="c", block=f"{FILTERS}c4_filters.C4BadWordsFilter"))
    seen = list[str]()

    def keeps(document: Document) -> bool:
        seen.append(document.metadata["language"])
        return True

    monkeypatch.setattr(block, "filter", keeps)
    assert verdict(block, text="x", url=None, document="0a", language=language, language_probability=1.0) == 1
    assert seen == [{"nb": "no", "zh-Hant": "zh", "en-GB": "en"}[language]]
