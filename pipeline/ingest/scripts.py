"""The scripts in a text, and in which scripts a language is written: what is not written in any of a text's scripts is not its language.

Names are those of ISO 15924. Ranges are those of the Unicode blocks that the languages of the models use; Hani stands for ideographs.
"""

from __future__ import annotations

import bisect
import functools
from collections import Counter

LATIN = "Latn"
_RANGES = (
    (0x41, 0x5A, "Latn"), (0x61, 0x7A, "Latn"), (0xAA, 0xAA, "Latn"), (0xB5, 0xB5, "Latn"), (0xBA, 0xBA, "Latn"), (0xC0, 0x24F, "Latn"),
    (0x250, 0x2AF, "Latn"), (0x370, 0x3FF, "Grek"), (0x400, 0x52F, "Cyrl"), (0x531, 0x58F, "Armn"), (0x590, 0x5FF, "Hebr"),
    (0x600, 0x6FF, "Arab"), (0x700, 0x74F, "Syrc"), (0x750, 0x77F, "Arab"), (0x780, 0x7BF, "Thaa"), (0x8A0, 0x8FF, "Arab"),
    (0x900, 0x97F, "Deva"), (0x980, 0x9FF, "Beng"), (0xA00, 0xA7F, "Guru"), (0xA80, 0xAFF, "Gujr"), (0xB00, 0xB7F, "Orya"),
    (0xB80, 0xBFF, "Taml"), (0xC00, 0xC7F, "Telu"), (0xC80, 0xCFF, "Knda"), (0xD00, 0xD7F, "Mlym"), (0xD80, 0xDFF, "Sinh"),
    (0xE00, 0xE7F, "Thai"), (0xE80, 0xEFF, "Laoo"), (0xF00, 0xFFF, "Tibt"), (0x1000, 0x109F, "Mymr"), (0x10A0, 0x10FF, "Geor"),
    (0x1100, 0x11FF, "Hang"), (0x1200, 0x139F, "Ethi"), (0x1780, 0x17FF, "Khmr"), (0x1800, 0x18AF, "Mong"), (0x1C90, 0x1CBF, "Geor"),
    (0x1E00, 0x1EFF, "Latn"), (0x1F00, 0x1FFF, "Grek"), (0x2D00, 0x2D2F, "Geor"), (0x2D80, 0x2DDF, "Ethi"), (0x2DE0, 0x2DFF, "Cyrl"),
    (0x3005, 0x3007, "Hani"), (0x3041, 0x30FF, "Kana"), (0x3130, 0x318F, "Hang"), (0x31F0, 0x31FF, "Kana"), (0x3400, 0x9FFF, "Hani"),
    (0xA640, 0xA69F, "Cyrl"), (0xAB30, 0xAB6F, "Latn"), (0xAC00, 0xD7FF, "Hang"), (0xF900, 0xFAFF, "Hani"), (0xFB1D, 0xFB4F, "Hebr"),
    (0xFB50, 0xFDFF, "Arab"), (0xFE70, 0xFEFF, "Arab"), (0xFF21, 0xFF5A, "Latn"), (0xFF66, 0xFF9F, "Kana"), (0x20000, 0x3134F, "Hani"),
)  # fmt: skip
_STARTS = [start for start, _, _ in _RANGES]
_WRITTEN_IN = {
    "Cyrl": "ru uk be bg mk kk ky mn tg tt ba cv os ce av lez mhr mrj myv mdf kv udm sah tyv bxr xal rue krc sr bs uz az tk ms ku",
    "Latn": "sr bs uz az tk ms ku kk ky tg tt ug gom tl vi",
    "Arab": "ar arz fa ur ps sd ckb ug pnb azb mzn lrc glk ku pa ms kk uz",
    "Deva": "hi mr ne sa bho mai new gom dty sd", "Beng": "bn as bpy", "Guru": "pa", "Gujr": "gu", "Orya": "or", "Taml": "ta",
    "Telu": "te", "Knda": "kn", "Mlym": "ml", "Sinh": "si", "Thai": "th", "Laoo": "lo", "Tibt": "bo dz", "Mymr": "my shn", "Khmr": "km",
    "Geor": "ka xmf", "Armn": "hy", "Hebr": "he yi", "Grek": "el", "Hang": "ko", "Ethi": "am ti", "Thaa": "dv", "Mong": "mn",
    "Hani": "zh yue wuu ja ko vi", "Kana": "ja",
}  # fmt: skip


def _scripts_by_language() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for script, languages in _WRITTEN_IN.items():
        for language in languages.split():
            found.setdefault(language, set()).add(script)
    return {language: frozenset(scripts) for language, scripts in found.items()}


_SCRIPTS_OF = _scripts_by_language()
_LATIN_ONLY = frozenset({LATIN})


def scripts_of_language(language: str) -> frozenset[str]:
    """The scripts in which a language (without a script in its tag) is written; Latin where nothing is listed."""
    return _SCRIPTS_OF.get(language, _LATIN_ONLY)


@functools.lru_cache(maxsize=1 << 15)
def script_of(letter: str) -> str | None:
    """The script of a character; None for what has none, or one that no language of the models uses."""
    code = ord(letter)
    place = bisect.bisect_right(_STARTS, code) - 1
    if place < 0:
        return None
    _, end, script = _RANGES[place]
    return script if code <= end else None


def scripts_in(text: str) -> frozenset[str]:
    """The scripts in which `text`, which has letters, is written."""
    if text.isascii():
        return _LATIN_ONLY
    return frozenset(script for letter in set(text) if (script := script_of(letter)) is not None)


def main_script(text: str, among: frozenset[str]) -> str | None:
    """The script of `among` that most characters of `text` belong to, None for none; of several the first in the alphabet."""
    found: Counter[str] = Counter()
    for letter, count in Counter(text).items():
        if (script := script_of(letter)) in among:
            found[script] += count
    return max(sorted(found), key=lambda script: found[script]) if found else None
