"""Filter blocks of datatrove by name: each runs on a datatrove Document and its verdict becomes a signal (1 keeps, 0 drops).

A block gets Caravan's word tokenizer as `language`, unless the recipe names one, so that spaCy is not needed. FineWebQualityFilter
gets the paper's `char_duplicates_ratio`, 0.1 (datatrove has 0.01). An empty text is dropped unasked (Gopher's filters divide by zero).
URLFilter keeps what has no URL (it would fail) and uses the list of suffixes that tldextract brings.
Refused: what is no filter, what depends on the order of documents or on chance (SamplerFilter), what takes code (LambdaFilter), and
SingleBloomFilter, which drops nearly everything.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.pipeline.filters.url_filter import URLFilter
from datatrove.utils.word_tokenizers import WordTokenizer
from tldextract import TLDExtract

from pipeline.language_tags import widening
from pipeline.quality.config import DatatroveFilter
from pipeline.quality.sentences import sentence_spans
from pipeline.words import words
from storage.errors import CaravanError, ConfigError

REFUSED = {
    "SingleBloomFilter": "it drops nearly every document (1,999 of 2,000 unique ones)",
    "SamplerFilter": "its verdict depends on chance and on the order of documents",
    "LambdaFilter": "it takes code, which has no stable identity",
    "BaseFilter": "it is abstract",
}
REFUSED_ARGUMENTS = {
    "exclusion_writer": "it would write outside the stage; dropped documents are in samples.json",
    "keep_fraction": "its verdict would depend on chance and on the order of documents",  # C4BadWordsFilter
}
OVERRIDES: dict[str, dict[str, Any]] = {"FineWebQualityFilter": {"char_duplicates_ratio": 0.1}}


class CaravanTokenizer(WordTokenizer):  # type: ignore[misc]  # datatrove is not typed
    """pipeline/words.py in the shape in which datatrove's blocks take a tokenizer."""

    def __init__(self) -> None:
        super().__init__("caravan")

    def word_tokenize(self, text: str) -> list[str]:
        """Words, in order."""
        return words(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Sentences, stripped."""
        return [text[start:end].strip() for start, end in sentence_spans(text) if text[start:end].strip()]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of sentences, in characters."""
        return sentence_spans(text)


@functools.cache
def tokenizer() -> CaravanTokenizer:
    """One tokenizer per process: datatrove's own cache is keyed by it."""
    return CaravanTokenizer()


def block_class(wanted: DatatroveFilter) -> type[BaseFilter]:
    """The class that a recipe names, its arguments checked against its signature. Raises ConfigError, before any work."""
    where = f"quality.datatrove_filters[{wanted.name}]"
    module_name, _, class_name = wanted.block.rpartition(".")
    if class_name in REFUSED:
        raise ConfigError(f"{where}.block: {class_name} is refused: {REFUSED[class_name]}")
    if not module_name.startswith("datatrove."):
        raise ConfigError(f"{where}.block: {wanted.block!r} is not in datatrove; allowed are its filter classes, by module and name")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}.block: {wanted.block!r} cannot be found: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, BaseFilter)):
        raise ConfigError(f"{where}.block: {wanted.block!r} is not a filter of datatrove (a subclass of BaseFilter)")
    try:
        inspect.signature(found).bind(**wanted.kwargs)
    except TypeError as error:
        raise ConfigError(f"{where}.kwargs: {error}; {class_name} takes {list(inspect.signature(found).parameters)}") from error
    for name, why in REFUSED_ARGUMENTS.items():
        if wanted.kwargs.get(name):
            raise ConfigError(f"{where}.kwargs: {name} is refused: {why}")
    return found


def build(wanted: DatatroveFilter) -> BaseFilter:
    """The block, ready to run. Raises ConfigError when it refuses its arguments."""
    found = block_class(wanted)
    kwargs = {**OVERRIDES.get(found.__name__, {}), **wanted.kwargs}
    if "language" in inspect.signature(found).parameters:
        kwargs.setdefault("language", tokenizer())
    try:
        block = found(**kwargs)
    except Exception as error:
        raise ConfigError(f"quality.datatrove_filters[{wanted.name}]: {found.__name__} cannot be made: {error}") from error
    if isinstance(block, URLFilter):  # its own would ask the network for a newer list of suffixes, and results would change with it
        block.tldextractor = TLDExtract(suffix_list_urls=())
    return block


def verdict(block: BaseFilter, *, text: str, document: str, url: str | None, language: str, language_probability: float) -> int:
    """1 where the block keeps the document, else 0. The document it sees is its own copy: blocks may change its text.

    Its language is the widest tag: C4's lists have one Norwegian and one Chinese. URLFilter keeps what has no URL. Raises CaravanError,
    naming block and document, when the block fails.
    """
    if not text.strip():
        return 0
    if url is None and isinstance(block, URLFilter):
        return 1
    metadata = {"url": url or "", "language": widening(language)[-1], "language_score": language_probability}
    try:
        return int(bool(get_filter_result(block.filter(Document(text=text, id=document, metadata=metadata)))[0]))
    except Exception as error:  # blocks raise what they like
        raise CaravanError(f"{type(block).__name__} failed on document {document}: {type(error).__name__}: {error}") from error
