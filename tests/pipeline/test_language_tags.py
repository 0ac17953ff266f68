"""Language tags: one form, and what covers what."""

from __future__ import annotations

import eldc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.ingest.config import LID_176_FTZ_SHA256, SourceConfig
from pipeline.ingest.language import load_model
from pipeline.language_tags import MODEL_TAGS, canonical, covers, model_tag, widening

TAGS = (
    "en",
    "zh",
    "zh-Hant",
    "zh-Hans",
    "zh-Hant-TW",
    "no",
    "nb",
    "nn",
    "sr",
    "sr-Latn",
    "pt-BR",
    "pt",
    "ckb",
    "ku",
    "gsw",
    "und",
    "az-Cyrl",
)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("en", "en"), ("EN", "en"), ("iw", "he"), ("in", "id"), ("deu", "de"), ("ger", "de"), ("cmn", "zh"), ("zh-hant", "zh-Hant"),
        ("ZH-tw", "zh-Hant-TW"), ("sh", "sr-Latn"), ("az-Latn", "az"), ("uz-cyrl", "uz-Cyrl"), ("pt-br", "pt-BR"), ("fil", "tl"),
        ("ceb", "ceb"), ("als", "sq"), ("gsw", "gsw"), ("und", "und"),
    ],
)  # fmt: skip
def test_one_form(tag: str, expected: str) -> None:
    assert canonical(tag) == expected


@pytest.mark.parametrize(
    ("tag", "match"),
    [("english", "is no BCP 47 tag"), ("zh_TW", "is no BCP 47 tag"), ("", "is no BCP 47 tag"), ("jp", "no code of ISO 639-1")],
)
def test_what_is_no_tag_is_refused(tag: str, match: str) -> None:
    """By a source of a recipe too."""
    with pytest.raises(ValueError, match=match):
        canonical(tag)
    with pytest.raises(ValidationError, match=match):
        SourceConfig(name="s", format="jsonl", path="*.jsonl", language=tag)


def test_a_source_declares_a_tag_in_any_form() -> None:
    assert SourceConfig(name="s", format="jsonl", path="*.jsonl", language="zh-tw").language == "zh-Hant-TW"


@pytest.mark.parametrize(
    ("wanted", "tag", "expected"),
    [
        ("zh", "zh-Hant", True), ("zh", "yue", True), ("zh-Hant", "zh", False), ("zh-Hant", "zh-Hans", False),
        ("zh-Hant", "zh-Hant-TW", True), ("no", "nb", True), ("no", "nn", True), ("nb", "no", False),
        ("nb", "nn", False), ("sr", "sr-Latn", True), ("ku", "ckb", True), ("ms", "id", False), ("en", "und", False), ("pt", "pt-BR", True),
    ],
)  # fmt: skip
def test_what_covers_what(wanted: str, tag: str, expected: bool) -> None:
    assert covers(wanted, tag) == expected


@given(st.sampled_from(TAGS), st.sampled_from(TAGS))
def test_covering_is_an_order(a: str, b: str) -> None:
    """A tag covers itself; two that cover each other are one; what covers a tag covers what that covers."""
    assert covers(a, a)
    assert canonical(a) == a
    assert not (covers(a, b) and covers(b, a)) or a == b
    if covers(a, b):
        assert all(covers(a, c) for c in TAGS if covers(b, c))
    assert widening(a)[0] == a


def test_every_label_of_the_models_is_a_tag() -> None:
    """What a model can say has one form: lid.176's `als` is Alemannic, its `no` Bokmål, eldc's `ku` Sorani."""
    labels = [label.removeprefix("__label__") for label in load_model(LID_176_FTZ_SHA256).getLabels("strict")[0]]
    assert len(labels) == 176
    tags = [model_tag("lid176", label) for label in labels] + [model_tag("eldc", label) for label in eldc.LANGUAGES]
    assert [tag for tag in tags if canonical(tag) != tag] == []
    assert [model_tag("lid176", label) for label in ("als", "no", "sh", "en")] == ["gsw", "nb", "sr-Latn", "en"]
    assert [model_tag("eldc", label) for label in ("ku", "no")] == ["ckb", "nb"]
    assert all(canonical(tag) == tag for named in MODEL_TAGS.values() for tag in named.values())
    assert [model_tag("heliport", label) for label in ("nob", "fink", "zxx", "hbssrp", "est")] == ["nb", "fi", "und", "sr", "et"]
