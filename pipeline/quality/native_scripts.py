"""Signals of text in scripts that English rules do not fit: Chinese, Japanese, Thai, Korean, Arabic. All are counted in characters.

A text with hardly a letter of such a script has no `function_word_ratio` and no `short_piece_ratio`: null, which passes every threshold
(RULE 16). Which of the five a text is read as goes by its script alone, so that documents of equal text share their signals (RULE 14):
kana among the ideographs make them Japanese, Arabic letters are Arabic (Persian and Urdu get a value that no threshold should be about).

Function words make up much of any prose and little of menus, lists of links, and text read in a wrong charset. Where words are not
separated they are found as characters: particles and endings in hiragana, the Chinese particles, pronouns, prepositions and auxiliaries
that are one character, Thai ones that are seldom part of another word. Korean words count by their last syllables, Arabic ones by a list
and by the particles that are written together with the next word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.quality.view import ratio

COUNTS = ("character_count",)
RATIOS = ("lost_character_ratio", "native_letter_ratio")
NULLABLE_RATIOS = ("function_word_ratio", "short_piece_ratio")
SHORT_PIECE_CHARS, SHORT_ARABIC_PIECE_CHARS = 15, 30  # an item of a menu has as many words, and more letters a word, in Arabic

_IDEOGRAPH = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HIRAGANA, _KATAKANA = "\u3041-\u3096", "\u30a1-\u30fa\u30fc"
_HANGUL, _THAI, _ARABIC_LETTERS = "\uac00-\ud7a3", "\u0e01-\u0e3a\u0e40-\u0e4e", "\u0620-\u0652\u066e-\u06d3\u06fa-\u06ff"
_ANY = re.compile(f"[{_THAI}{_ARABIC_LETTERS}{_HIRAGANA}{_KATAKANA}{_IDEOGRAPH}{_HANGUL}]")
_RUNS = {
    name: re.compile(f"[{letters}]+")
    for name, letters in (
        ("zh", _IDEOGRAPH), ("hiragana", _HIRAGANA), ("katakana", _KATAKANA), ("ko", _HANGUL), ("th", _THAI), ("ar", _ARABIC_LETTERS)
    )
}  # fmt: skip
MIN_SHARE = 0.05  # of the characters: a text with fewer such letters only quotes them
KANA_SHARE = 0.05  # of the ideographs: from there they are Japanese

_CHINESE = re.compile(
    "[的了是在不我有他她它这這那和也就与與及为為以对對等而到从從并並将將或被把由于於之其但如会會可要个個您你们們所都很着著过過得能让讓给給向还還没沒"
    "因则則且该該此使]"
)
_THAI_WORDS = re.compile(
    "ที่|และ|ใน|ของ|ให้|ได้|เป็น|มี|ไม่|จะ|ว่า|จาก|หรือ|ก็|ซึ่ง|โดย|นี้|นั้น|คือ|แต่|เพื่อ|อยู่|ต้อง|แล้ว|ถ้า|เพราะ|เมื่อ|ด้วย|ถึง|ทั้ง|ย่อม|เขา|เรา|ผม|ครับ|ค่ะ|ยัง|กัน|ๆ"
)
_KOREAN_ENDINGS = frozenset("은는을를이가의에로와과도만다고며면지한할된될서게")
_KOREAN = "및 등 그 이 수 것 때 더 또 각 그리고 그러나 하지만 또는 부터 까지"
_ARABIC = (
    "في من على إلى الى أن ان إن عن مع هذا هذه ذلك تلك التي التى الذي الذى الذين ما لا لم لن كان كانت قد أو او ثم كل بين بعد قبل "
    "عند حيث كما لكن هو هي هم أي إذا اذا لأن حتى غير بعض منذ خلال دون تحت فوق به بها له لها لهم فيه فيها عليه عليها منه منها إليه "
    "عنه فإن أنه أنها وإن يكون تكون وقد ولا وفي ومن وعلى وأن وما وهو وهي يمكن عليك لك كنت أنا نحن ليس أيضا يجب"
)
_KOREAN_WORDS, _ARABIC_WORDS = frozenset(_KOREAN.split()), frozenset(_ARABIC.split())
_ARABIC_PREFIXES = ("و", "لل", "بال", "فال", "كال")  # and; to, by, so, as with the article
_ARABIC_MARKS = re.compile("[\u0640\u064b-\u0652]")

# Where a menu, a path or a list goes on: what stands between its items, and a space between letters of a script without spaces.
_CONTINUOUS = f"{_THAI}{_HIRAGANA}{_KATAKANA}{_IDEOGRAPH}"
_BETWEEN_PIECES = re.compile(rf"[\n\t|>»›·•│｜＞→／]+|[(（]\d+[)）]|\s/\s|  +|(?<=[{_CONTINUOUS}]) (?=[{_CONTINUOUS}])")  # noqa: RUF001
_SENTENCE_ENDS = ".。!！?？؟…”」』"  # noqa: RUF001
# What stands for a character that is lost: U+FFFD, C1 controls (NEL ends lines), private use; a question mark inside a word, a row of them.
_LOST = re.compile("[\ufffd\x80-\x84\x86-\x9f\ue000-\uf8ff]")
_LOST_QUESTION = re.compile(r"\?(?:\?{2,}|(?<=[^\W\d_]\?)(?<=[^\x00-\x7f]\?)(?=[^\W\d_])(?=[^\x00-\x7f]))")
_ASCII = bytes(range(128))
_ASCII_SPACES, _SPACES = ([char for char in map(chr, codes) if char.isspace()] for codes in (range(0x80), range(0x80, 0x3001)))


def signals(text: str) -> dict[str, float | None]:
    """`character_count`: characters that are not white space. Of them: `lost_character_ratio`, what stands for a lost one, and
    `native_letter_ratio`, letters of these scripts. `function_word_ratio`: letters of the text's script that are function words (Korean,
    Arabic: words). `short_piece_ratio`: characters in pieces between line ends and separators that have fewer than 15 (Arabic 30) and end
    no sentence.
    """
    characters = len(text) - sum(map(text.count, _ASCII_SPACES))
    found: dict[str, float | None] = dict.fromkeys(NULLABLE_RATIOS)
    found |= {"character_count": characters, "lost_character_ratio": 0.0, "native_letter_ratio": 0.0}
    if text.isascii():
        return found
    beyond_ascii = text.encode().translate(None, _ASCII).decode()  # in C: most of most texts is ASCII
    characters -= sum(map(beyond_ascii.count, _SPACES))
    lost = len(_LOST.findall(beyond_ascii)) + sum(map(len, _LOST_QUESTION.findall(text)))
    native = ratio(len(_ANY.findall(beyond_ascii)), characters)
    found |= {"character_count": characters, "lost_character_ratio": ratio(lost, characters), "native_letter_ratio": native}
    if native > MIN_SHARE:
        language, runs = _read_as(text)
        found["function_word_ratio"] = _function_word_ratio(text, language, runs)
        found["short_piece_ratio"] = _short_piece_ratio(text, SHORT_ARABIC_PIECE_CHARS if language == "ar" else SHORT_PIECE_CHARS)
    return found


def _read_as(text: str) -> tuple[str, dict[str, list[str]]]:
    """The language as which a text is read, by the script that most of its letters belong to; runs of letters by script."""
    runs = {name: pattern.findall(text) for name, pattern in _RUNS.items()}
    letters = {name: sum(map(len, found)) for name, found in runs.items()}
    kana = letters["hiragana"] + letters["katakana"]
    is_japanese = kana > KANA_SHARE * letters["zh"]
    letters["ja" if is_japanese else "zh"] = letters["zh"] + kana
    letters["zh" if is_japanese else "ja"] = 0
    return max(("zh", "ja", "ko", "th", "ar"), key=letters.__getitem__), runs


def _function_word_ratio(text: str, language: str, runs: Mapping[str, Sequence[str]]) -> float:
    if language == "ko":
        is_function = [word in _KOREAN_WORDS or (len(word) > 1 and word[-1] in _KOREAN_ENDINGS) for word in runs["ko"]]
        return ratio(sum(is_function), len(is_function))
    if language == "ar":
        words = _ARABIC_MARKS.sub("", " ".join(runs["ar"])).split()
        return ratio(sum(word in _ARABIC_WORDS or (len(word) > 3 and word.startswith(_ARABIC_PREFIXES)) for word in words), len(words))
    if language == "ja":
        letters = {name: sum(map(len, runs[name])) for name in ("zh", "hiragana", "katakana")}
        return ratio(letters["hiragana"], sum(letters.values()))
    pattern = _CHINESE if language == "zh" else _THAI_WORDS
    return ratio(sum(map(len, pattern.findall(text))), sum(map(len, runs[language])))


def _short_piece_ratio(text: str, short_chars: int) -> float:
    short = total = 0
    for piece in _BETWEEN_PIECES.split(text):
        if stripped := piece.strip():
            length = len(stripped) - stripped.count(" ")
            total += length
            if length < short_chars and stripped[-1] not in _SENTENCE_ENDS:
                short += length
    return ratio(short, total)
