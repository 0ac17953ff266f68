"""How implausible a text is as writing: what a wrong charset leaves behind, whatever the language.

Of the characters beyond ASCII these are implausible: replacement characters, C1 controls and private use; signs and symbols inside words
("¶wiat", "º" before a letter); words of two scripts, and single ideographs stuck to Latin letters ("caf茅"); four and more Latin letters
with marks in a row ("Êàðàâàí"); capitals behind small letters ("кАРАВАН"); ideographs and Hangul outside the common sets of China, Taiwan,
Japan and Korea; half-width kana.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata

_LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_MARKED_LATIN = "\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_OTHER_SCRIPTS = "\u0370-\u03ff\u0400-\u052f\u0590-\u05ff\u0600-\u06ff\u0e00-\u0e7f"
_IDEOGRAPH = "\u3400-\u4dbf\u4e00-\u9fff"
_BROKEN = re.compile("[\ufffd\x80-\x9f\ue000-\uf8ff\uff61-\uff9f]")
_TWO_SCRIPTS = re.compile(f"(?<=[{_LATIN}])[{_OTHER_SCRIPTS}]|[{_OTHER_SCRIPTS}](?=[{_LATIN}])")
_MARKED_RUN = re.compile(f"[{_MARKED_LATIN}]{{4,}}")
_BETWEEN_LATIN = re.compile(
    f"(?<=[A-Za-z])[{_IDEOGRAPH}](?![{_IDEOGRAPH}\u3040-\u30ff])|(?<![{_IDEOGRAPH}\u3040-\u30ff])[{_IDEOGRAPH}](?=[a-z])"
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_EAST_ASIAN = re.compile(f"[{_IDEOGRAPH}\uac00-\ud7a3]")
# Signs that stand inside or beside words in good text: apostrophes, dashes, dots, hyphens, quotes; marks of trade, degree, footnote.
_IN_WORDS = frozenset("\u00ad\u00b7\u2010\u2011\u2012\u2013\u2014\u2018\u2019\u201a\u201b\u02bc\u02b9\u2027\u30fb\u2026")
_BESIDE_WORDS = frozenset("\u00a9\u00ae\u2122\u00b0\u20ac\u00a3\u00aa\u00ba\u2116")
_SIGN = re.compile(r"[^\w\s\x00-\x7f\u3000-\u303f\uff00-\uff65]+|[\u00b2\u00b3\u00b9\u00bc-\u00be]")
_ORDINAL_BEFORE_LETTER = re.compile(r"[\u00aa\u00ba](?=[^\W\d_])")


def implausible_fraction(text: str) -> float:
    """Implausible characters / characters beyond ASCII, 0 to 1; 0 for ASCII."""
    beyond = sum(1 for char in text if char > "\x7f" and not char.isspace())
    if beyond == 0:
        return 0.0
    found = 3 * len(_BROKEN.findall(text)) + len(_TWO_SCRIPTS.findall(text))
    found += sum(len(run) for run in _MARKED_RUN.findall(text))
    found += len(_BETWEEN_LATIN.findall(text))
    found += sum(1 for char in _EAST_ASIAN.findall(text) if char not in _common_east_asian())
    found += sum(_implausible_signs(text, *signs.span()) for signs in _SIGN.finditer(text))
    found += len(_ORDINAL_BEFORE_LETTER.findall(text))
    found += sum(map(_case_turns, _WORD.findall(text)))
    return min(1.0, found / beyond)


def _implausible_signs(text: str, start: int, end: int) -> int:
    """How many signs of the run from `start` to `end` are where no sign stands, by the letters beside it."""
    before, behind = text[start - 1 : start].isalpha(), text[end : end + 1].isalpha()
    signs = text[start:end]
    if before and behind:
        return sum(1 for char in signs if char not in _IN_WORDS)
    if before or behind:
        return sum(1 for char in signs if char not in _BESIDE_WORDS and unicodedata.category(char)[0] in "SN")
    return 0


def _case_turns(word: str) -> int:
    """The letters of a word beyond ASCII in which a capital follows a small letter, else 0."""
    if word.isascii() or word.islower() or word.isupper():
        return 0
    return len(word) if any(first.islower() and second.isupper() for first, second in itertools.pairwise(word)) else 0


@functools.cache
def _common_east_asian() -> frozenset[str]:
    """The first levels of GB 2312, Big5 and JIS X 0208 and the syllables of KS X 1001, which make up nearly all of any text."""
    found = set[str]()
    for encoding, first, last in (("gb2312", 0xB0, 0xD7), ("big5", 0xA4, 0xC6), ("euc_jp", 0xB0, 0xCF), ("euc_kr", 0xB0, 0xC8)):
        for lead in range(first, last + 1):
            for trail in range(0x40, 0xFF):
                found.update(bytes([lead, trail]).decode(encoding, "ignore"))
    return frozenset(char for char in found if char > "\u3400")
