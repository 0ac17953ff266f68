"""Matches of the dirty-word lists that a recipe names, by the document's language. C4, JMLR 21/20-074; lists in the form of LDNOOBW's.

A list is a text file with an entry a line, its stem the language code (`en.txt`; `fr-CA-u-sd-caqc.txt` counts for `fr`, and `no` for
`nb`). An entry matches between non-word characters, whatever its case, as in C4; in languages written without spaces (zh, ja, th) anywhere.
Deviation: datatrove drops a document at the first match; here every match is counted and select has the threshold. No list is bundled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pipeline.language_tags import canonical, widening
from pipeline.quality.config import RawFiles
from pipeline.quality.raw_files import read_raw
from storage.errors import ConfigError
from storage.store import Store

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th"})
# Common parts of other words in unspaced languages; each alone drops over 10 % of its language's documents (as C4 allows them).
ALLOWED = {"ja": frozenset({"sm", "グロ", "女の子"}), "zh": frozenset({"性"})}
_WORD = re.compile(r"\w+")


@dataclass
class WordList:
    """The entries of one language: single words, phrases by their first word, and what no run of word characters describes."""

    words: set[str] = field(default_factory=set)
    phrases: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    pattern: re.Pattern[str] | None = None


def read_lists(raw: Store, lists: tuple[RawFiles, ...]) -> dict[str, WordList]:
    """The lists by language. Raises ConfigError for a file that is not UTF-8."""
    entries = dict[str, set[str]]()
    for i, files in enumerate(lists):
        for path, data in read_raw(raw, files, f"quality.dirty_words[{i}]"):
            language = _language_of(PurePosixPath(path).name.split(".")[0])
            try:
                lines = data.decode().splitlines()
            except UnicodeDecodeError as error:
                raise ConfigError(f"quality.dirty_words[{i}]: {path} is not UTF-8: {error}") from error
            entries.setdefault(language, set()).update(line.strip().lower() for line in lines if line.strip())
    return {language: word_list(found - ALLOWED.get(language, frozenset()), language) for language, found in sorted(entries.items())}


def _language_of(stem: str) -> str:
    """The language of a list, without script and region; what is no tag names itself."""
    code = stem.split("-")[0]
    try:
        return canonical(code).partition("-")[0]
    except ValueError:
        return code


def list_for(lists: Mapping[str, WordList], language: str) -> WordList | None:
    """The list of the narrowest tag that covers a document's language (nb, else no; zh for zh-Hant); None where there is none."""
    return next((lists[tag] for tag in widening(language) if tag in lists), None)


def word_list(entries: Iterable[str], language: str) -> WordList:
    """A list from its lower-case entries."""
    found, irregular = WordList(), list[str]()
    for entry in sorted(entries):
        tokens = tuple(_WORD.findall(entry))
        if language in UNSPACED_LANGUAGES or " ".join(tokens) != entry:
            irregular.append(entry)
        elif len(tokens) == 1:
            found.words.add(entry)
        else:
            found.phrases.setdefault(tokens[0], []).append(tokens)
    if irregular:
        joined = "|".join(re.escape(entry) for entry in sorted(irregular, key=len, reverse=True))
        found.pattern = re.compile(joined if language in UNSPACED_LANGUAGES else rf"(?<!\w)(?:{joined})(?!\w)")
    return found


def count_matches(text: str, entries: WordList | None) -> int:
    """How many times entries of the list occur in the text; 0 without a list. A phrase and a word inside it count both."""
    if entries is None:
        return 0
    lowered = text.lower()
    count = len(entries.pattern.findall(lowered)) if entries.pattern else 0
    if not entries.words and not entries.phrases:
        return count
    tokens = _WORD.findall(lowered)
    present = set(tokens)
    if not present.isdisjoint(entries.words):
        count += sum(token in entries.words for token in tokens)
    if entries.phrases and not present.isdisjoint(entries.phrases):
        for i, token in enumerate(tokens):
            count += sum(tuple(tokens[i : i + len(phrase)]) == phrase for phrase in entries.phrases.get(token, ()))
    return count
