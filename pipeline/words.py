"""Words of a text, two ways, and a vectorised kernel that hashes them. One tokenisation per document is shared by all that need it.

`words(text)`             tokens as prose filters count them: case kept, punctuation marks are tokens of their own. It follows the published
                          algorithm of spaCy's tokenizer with its rules for English (affixes, then infixes, in each chunk between white
                          space), which is what datatrove's filters call; a chunk seen before is looked up. For quality signals.
`normalized_words(text)`  lower-cased runs of letters, digits, marks and `_`; no punctuation; each character of a script written without
                          spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) is a word. Wherever texts are compared: MinHash,
                          Jaccard, n-gram overlap.
`word_hashes(texts)`      64-bit hashes of `normalized_words` of many texts at once, in numpy: (hashes, offsets per text).
`has_words(text, n)`      whether there are at least n normalized words.
`ngram_hashes(...)`       64-bit hashes of their word n-grams; equal n-grams have equal hashes, whichever text they come from.

`word_hash` and `ngram_hash` are the same functions for one word and one n-gram in plain Python: the definition, and the reference in tests.
Every function is pure: the same text gives the same words on every machine (of one Unicode version, that of Python's tables).
"""

# ruff: noqa: RUF001 - quotation marks and dashes of many scripts are this module's subject
from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

# --- tokens for prose signals -------------------------------------------------------------------------------------------------------------

_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_PUNCTUATION = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_CURRENCY = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
# Symbols that spaCy calls icons: pictographs, arrows, box drawing, dingbats.
_ICONS = "\u2190-\u21ff\u2300-\u23ff\u2500-\u27bf\u2900-\u297f\u2b00-\u2bff\ufffd¦©®°\U0001f000-\U0001faff"
_UNITS = (
    "km²|km³|km|m²|m³|m|dm²|dm³|dm|cm²|cm³|cm|mm²|mm³|mm|ha|µm|nm|yd|in|ft|kg|g|mg|µg|t|lb|oz|m/s|km/h|mph|hPa|Pa|mbar"
    "|mb|MB|kb|KB|gb|GB|tb|TB|T|G|M|K|%"
)
CONTINUOUS = (  # scripts written without spaces, as ranges for a character class
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3021-\u3029\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f"
)
_E = re.escape
_PREFIX = re.compile(rf"§|%|=|—|–|\+(?![0-9])|\.\.+|[{_E(_PUNCTUATION + _QUOTES + _CURRENCY)}{_ICONS}]")
_SUFFIX = re.compile(
    rf"(?:['’][sS]|—|–|\.\.+|[{_E(_PUNCTUATION + _QUOTES)}{_ICONS}]"
    rf"|(?<=[0-9])(?:\+|[{_E(_CURRENCY)}]|{_UNITS})|(?<=°[FfCcKk])\.|(?<=[^\W_A-ZÀ-ÖØ-Þ])\.|(?<=[%²\-+{_E(_PUNCTUATION + _QUOTES)}])\."
    r"|(?<=[A-Z][A-Z])\.)\Z"
)
_INFIX = re.compile(
    rf"\.\.+|…|[{_ICONS}]|(?<=[0-9])[+\-*^](?=[0-9\-])|(?<=[a-zß-öø-ÿ{_E(_QUOTES)}])\.(?=[A-ZÀ-ÖØ-Þ{_E(_QUOTES)}])"
    r"|(?<=[^\W\d_]),(?=[^\W\d_])|(?<=[^\W_])(?:---|--|——|-|–|—|~)(?=[^\W\d_])|(?<=[^\W_])[:<>=/](?=[^\W\d_])"
)
_URL = re.compile(
    r"(?:[a-z]{2,9}://|www\.)\S+\w/?|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|co|info|uk|de|fr|ru)(?:/\S*)?",
    re.I,
)
_CONTRACTION = re.compile(r"(?i)(.+)(n['’]t|['’](?:ll|ve|re|m|d))")
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        "Mr. Mrs. Ms. Dr. St. Mt. Jr. Sr. Co. Corp. Inc. Ltd. Bros. Prof. Gen. Gov. Rep. Rev. Sen. Messrs. Adm. vs. v.s. e.g. E.g. i.e. "
        "I.e. a.m. p.m. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. Ph.D. D.C. U.S. N.Y. 'Cause 'em 'cause",
    )
) | {f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyz"}
_EXCEPTIONS = {
    **{chunk: (chunk[0], chunk[1:]) for chunk in ("im", "Im", "id", "Id")},
    **{chunk: (chunk[:3], chunk[3:]) for chunk in ("cannot", "Cannot", "gonna", "Gonna", "gotta", "Gotta")},
    **{
        chunk: (chunk[:-2], chunk[-2:])
        for chunk in ("dont", "Dont", "doesnt", "didnt", "isnt", "wasnt", "cant", "couldnt", "wouldnt", "shouldnt")
    },
    **{chunk: (chunk,) for chunk in (*_ABBREVIATIONS, "and/or")},
}
_LONGEST_EXCEPTION = max(map(len, _EXCEPTIONS))
_LONGEST_SUFFIX = 4  # km/h
_SUFFIX_WINDOW = 64 + 2  # a suffix begins in the last 64 characters, and looks two characters back
_REMEMBERED_CHUNKS = 1 << 18


class _Chunks(dict[str, tuple[str, ...]]):
    """Tokens of a whitespace-free chunk, computed once; emptied when full, so that memory stays bounded. It never changes a result."""

    def __missing__(self, chunk: str) -> tuple[str, ...]:
        if len(self) >= _REMEMBERED_CHUNKS:
            self.clear()
        tokens = tuple(_tokenize_chunk(chunk))
        if len(chunk) <= 64:
            self[chunk] = tokens
        return tokens


_chunks = _Chunks()


def words(text: str) -> list[str]:
    """The tokens of `text` in order, punctuation marks included, case kept; no token is empty or holds white space.

    Source: the algorithm in spaCy's documentation ("How spaCy's tokenizer works") with its English rules. Deviation: most of its list of
    exceptions (emoticons, slang) is left out. Chunks of a script written without spaces are split at punctuation only, as it does.
    """
    remembered = _chunks
    return [token for chunk in text.split() for token in remembered[chunk]]


def _tokenize_chunk(chunk: str) -> Iterator[str]:
    """The tokens of a chunk. What is left of it is `start` to `stop`: cutting it at each affix would take quadratic time."""
    tail: list[str] = []
    start, stop = 0, len(chunk)
    while start < stop and not _is_exception(chunk, start, stop):
        if prefix := _PREFIX.match(chunk, start, stop):
            yield prefix[0]
            start = prefix.end()
            if start == stop or _is_exception(chunk, start, stop):
                break
        if suffix := _suffix(chunk[max(start, stop - _SUFFIX_WINDOW) : stop]):
            if stop - len(suffix) > start:
                tail.append(suffix)
                stop -= len(suffix)
                continue
            yield suffix
            start = stop
        elif prefix is None:
            break
    if start < stop:
        yield from _tokenize_core(chunk[start:stop])
    yield from reversed(tail)


def _suffix(end: str) -> str:
    """The longest suffix that the end of a chunk has, "" for none."""
    dots = len(end) - len(end.rstrip("."))  # the one suffix that may be long
    found = _SUFFIX.search(end, max(0, len(end) - min(64, max(dots, _LONGEST_SUFFIX))))
    return found[0] if found else ""


def _is_exception(chunk: str, start: int, stop: int) -> bool:
    return stop - start <= _LONGEST_EXCEPTION and chunk[start:stop] in _EXCEPTIONS


def _tokenize_core(core: str) -> Iterator[str]:
    if core in _EXCEPTIONS:
        yield from _EXCEPTIONS[core]
    elif _URL.fullmatch(core):
        yield core
    elif contraction := _CONTRACTION.fullmatch(core):
        yield from _split_infixes(contraction[1])
        yield contraction[2]
    else:
        yield from _split_infixes(core)


def _split_infixes(core: str) -> Iterator[str]:
    position = 0
    for infix in _INFIX.finditer(core):
        if infix.start() > position:
            yield core[position : infix.start()]
        if infix[0]:
            yield infix[0]
        position = infix.end()
    if position < len(core):
        yield core[position:]


# --- words for comparison -----------------------------------------------------------------------------------------------------------------

BLOCK_CHARACTERS = 1 << 16  # a run of word characters longer than this is cut into words of this length: it bounds the kernel's memory
_CODE_POINTS = sys.maxunicode + 1
_SEPARATOR, _JOINS, _ALONE = 0, 1, 2
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_GRAM_BASE = 0xD6E8FEB86659FD93  # odd
_MASK = (1 << 64) - 1


@lru_cache(1)
def _classes() -> npt.NDArray[np.uint8]:
    """Class of every code point: separates, joins its neighbours into a word, or is a word alone."""
    classes = np.zeros(_CODE_POINTS, np.uint8)
    for code in (*range(0x32400), *range(0xE0100, 0xE01F0)):
        character = chr(code)
        if character == "_" or character.isalnum() or unicodedata.category(character) in ("Mn", "Mc"):
            classes[code] = _JOINS
    for low, high in re.findall("(.)-(.)", CONTINUOUS):
        part = classes[ord(low) : ord(high) + 1]
        part[part == _JOINS] = _ALONE
    return classes


@lru_cache(1)
def _word_pattern() -> re.Pattern[str]:
    classes = _classes()
    alone, joins = (_character_class(np.flatnonzero(classes == kind)) for kind in (_ALONE, _JOINS))
    return re.compile(f"{joins}{{1,{BLOCK_CHARACTERS}}}|{alone}")


def _character_class(codes: I64) -> str:
    ranges = np.split(codes, np.flatnonzero(np.diff(codes) != 1) + 1)
    return "[" + "".join(f"{_E(chr(span[0]))}-{_E(chr(span[-1]))}" for span in ranges) + "]"


def fold(text: str) -> str:
    """Lower case, Unicode NFC: the form in which texts are compared."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).lower()


def normalized_words(text: str) -> list[str]:
    """Words of the folded text without punctuation; characters of scripts written without spaces are words. See the module's docstring."""
    return _word_pattern().findall(fold(text))


def has_words(text: str, n: int) -> bool:
    """Whether a text has at least `n` normalized words; it is read no further than that."""
    return n == 0 or next(islice(_word_pattern().finditer(text), n - 1, None), None) is not None


def _mix(value: int) -> int:
    """The 64-bit finalizer of MurmurHash3, a bijection."""
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


def word_hash(word: str) -> int:
    """64-bit hash of a word: mix(sum of mix(code point + 1) * BASE^position), modulo 2^64."""
    return _mix(sum(_mix(ord(c) + 1) * pow(_BASE, i, 1 << 64) for i, c in enumerate(word)) & _MASK)


def ngram_hash(gram: Sequence[str]) -> int:
    """64-bit hash of a sequence of words: mix(sum of word_hash * GRAM_BASE^position), modulo 2^64."""
    return _mix(sum(word_hash(word) * pow(_GRAM_BASE, i, 1 << 64) for i, word in enumerate(gram)) & _MASK)


def mix64(values: U64) -> U64:
    """`_mix` on an array, in place."""
    shift = np.uint64(33)
    values ^= values >> shift
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> shift
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> shift
    return values


@lru_cache(1)
def _tables() -> tuple[U64, U64, U64]:
    """(mixed code points, powers of BASE, powers of its inverse)."""
    powers, inverses = np.full(BLOCK_CHARACTERS, _BASE, np.uint64), np.full(BLOCK_CHARACTERS, pow(_BASE, -1, 1 << 64), np.uint64)
    powers[0] = inverses[0] = 1
    codes = mix64(np.arange(1, _CODE_POINTS + 1, dtype=np.uint64))
    return codes, np.multiply.accumulate(powers), np.multiply.accumulate(inverses)


def word_hashes(texts: Sequence[str]) -> tuple[U64, I64]:
    """Hashes of the normalized words of `texts`, concatenated, and where each text's begin.

    Returns (hashes, uint64 [words]; offsets, int64 [texts + 1]). Equals `[word_hash(w) for t in texts for w in normalized_words(t)]`.
    Memory: about 20 bytes a character of `texts`; pass batches of about a million characters.
    """
    folded = [fold(text) for text in texts]
    codes = np.frombuffer("\n".join(folded).encode("utf-32-le", "surrogatepass"), np.uint32)
    classes = _classes()[codes]
    hashes, begins = list[U64](), list[I64]()
    position = 0
    while position < len(codes):
        end = _block_end(classes, position)
        block, starts = _hash_block(codes[position:end], classes[position:end])
        hashes.append(block)
        begins.append(starts + position)
        position = end
    if not hashes:
        return np.empty(0, np.uint64), np.zeros(len(texts) + 1, np.int64)
    lengths = np.fromiter(map(len, folded), np.int64, len(folded)) + 1  # with the line end that joins them
    limits = np.concatenate(([0], np.cumsum(lengths)))
    return np.concatenate(hashes), np.searchsorted(np.concatenate(begins), limits).astype(np.int64)


def _block_end(classes: npt.NDArray[np.uint8], position: int) -> int:
    """The end of the block at `position`: at most BLOCK_CHARACTERS on, and not inside a run unless the run fills the block."""
    end = position + BLOCK_CHARACTERS
    if end >= len(classes) or classes[end] != _JOINS:
        return min(end, len(classes))
    breaks = np.flatnonzero(classes[position:end] != _JOINS)
    return end if len(breaks) == 0 else position + int(breaks[-1]) + 1


def _hash_block(codes: npt.NDArray[np.uint32], classes: npt.NDArray[np.uint8]) -> tuple[U64, I64]:
    """Hashes of the words in one block, and where each starts."""
    mixed, powers, inverses = _tables()
    joins = classes == _JOINS
    alone = classes == _ALONE
    first, last = joins.copy(), joins.copy()
    first[1:] &= ~joins[:-1]
    last[:-1] &= ~joins[1:]
    starts, ends = np.flatnonzero(first | alone), np.flatnonzero(last | alone) + 1
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(mixed[codes] * powers[: len(codes)], out=sums[1:])
    # The prefix sums differ by sum(mixed * BASE^i) over the word; the inverse power moves i to the position inside the word.
    return mix64((sums[ends] - sums[starts]) * inverses[starts]), starts


def ngram_hashes(hashes: U64, offsets: I64, n: int) -> tuple[U64, I64]:
    """Hashes of the n-grams of words of each text, from `word_hashes`.

    A text of fewer than n words, but at least one, has one gram: all its words. Returns (uint64 [grams], offsets int64 [texts + 1]); grams
    in order, repeats included. Equals `ngram_hash` of each gram.
    """
    counts = np.diff(offsets)
    grams = np.where(counts >= n, counts - n + 1, np.minimum(counts, 1))
    bounds = np.concatenate(([0], np.cumsum(grams)))
    powers = np.array([pow(_GRAM_BASE, k, 1 << 64) for k in range(n)], np.uint64)
    padded = np.concatenate((hashes, np.zeros(n - 1, np.uint64)))
    sums = padded[: len(hashes)] * powers[0]
    for k in range(1, n):
        sums += padded[k : k + len(hashes)] * powers[k]
    # Gram g of a text starts at its word g: shift each gram's number by how many words the texts before have more than grams.
    where = np.arange(bounds[-1]) + np.repeat(offsets[:-1] - bounds[:-1], grams)
    result = sums[where]
    for text in np.flatnonzero((counts > 0) & (counts < n)):
        few = hashes[offsets[text] : offsets[text + 1]]
        result[bounds[text]] = (few * powers[: len(few)]).sum(dtype=np.uint64)
    return mix64(result), bounds
