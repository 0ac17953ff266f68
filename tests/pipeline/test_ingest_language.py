"""Languages of texts: capitals, digits, short texts, scripts, close languages, and what is said when a model is missing."""

# ruff: noqa: RUF001 - letters of other scripts are this module's subject

from __future__ import annotations

import importlib
import importlib.metadata
import re
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest import language as module
from pipeline.ingest.close_languages import ALPHABETS, GROUPS, WORDS, foreign_letters, listed_letters, missing_marks, yoruba_words
from pipeline.ingest.config import ELDC_VERSION, HELIPORT_VERSION, LID_176_FTZ_SHA256, LanguageConfig, check_identifier
from pipeline.ingest.language import eldc_scores, language_of, letters_of, load_heliport, load_model, model_path, with_script
from pipeline.ingest.scripts import main_script, scripts_in
from pipeline.language_tags import canonical
from storage.errors import ConfigError
from tests.pipeline.test_ingest_text import CHINESE, GERMAN, GREEK, JAPANESE, KOREAN, RUSSIAN, TRADITIONAL

CONFIG = LanguageConfig()
ENGLISH = "The teacher walked along the river and told the children where the boats had come from."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RUSSIAN, "ru"), (JAPANESE, "ja"), (CHINESE, "zh-Hans"), (TRADITIONAL, "zh-Hant"), (KOREAN, "ko"), (GERMAN, "de"), (GREEK, "el")
    ],
)  # fmt: skip
def test_languages(text: str, expected: str) -> None:
    """A sentence, its lines broken or in capitals, is of its language, with a high probability."""
    language, probability = language_of(text, CONFIG)
    assert language == expected
    assert 0.8 < probability <= 1
    assert language_of(text.replace(" ", "\n"), CONFIG)[0] == expected
    assert language_of(text.upper(), CONFIG)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "THE TEACHER WALKED ALONG THE RIVER WITH HIS CHILDREN. " * 6,
        "The Teacher Walked Along The River",
        "Sign in\nEmail\nPassword\nForgot password?\nCreate account",
        "Your cart is empty\nContinue shopping\nCheckout\n$0.00",
        "2024-03-17 12:45 https://www.beispiel.de/kaufen/schuhe #1234 the order was sent to info@beispiel.de on Monday 4,50 €",
    ],
)
def test_english_in_capitals_in_forms_and_between_digits_is_english(text: str) -> None:
    language, probability = language_of(text, CONFIG)
    assert language == "en"
    assert probability > 0.65


@pytest.mark.parametrize(
    "text", ["", "\n \n", "12345 67,8 €", "+49 30 1234567", "😀😀 🎉", "... --- !!!", "https://www.example.com/a?b=1", "١٢٣", "' - '"]
)
def test_where_there_is_no_word_nothing_is_known(text: str) -> None:
    assert language_of(text, CONFIG) == ("und", 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ово је реченица на српском језику", "sr-Cyrl"),
        ("Gde je dete? Ovde je uvek lepo vreme, a posle nedelje dolazi mesec.", "sr-Latn"),
        ("Tko je rekao da je tijekom lipnja i srpnja vlak uvijek kasnio?", "hr"),
        ("Šta je rekao o historiji Bosne i Hercegovine? Tokom januara vrijeme je bilo lijepo u Sarajevu.", "bs"),
        ("Jeg vet ikke hva hun gjør, men de kommer fra Norge.", "nb"),
        ("Eg veit ikkje kva ho gjer, men dei kjem frå Noreg.", "nn"),
        ("Saya ingin mengetahui karena perusahaan itu bisa menggunakan uang kami di kantor.", "id"),
        ("Saya mahu mengetahui kerana syarikat itu cuba menggunakan wang kami di pejabat universiti.", "ms"),
        ("Hulle het nie baie geld nie, maar hy sal vir ons wys.", "af"),
        ("Синот на учителот ќе дојде утре, ѓавол да го земе.", "mk"),
        ("Бұл мәтін қазақ тілінде жазылған", "kk"),
        ("Dies isch e Satz uf Schwiizerdütsch, wo mir gärn händ.", "gsw"),
        ("中文", "zh"),
        ("這是我們學習的語言", "zh-Hant"),
        ("Magandang umaga po sa inyong lahat", "tl"),
        ("Ogbeni Adewale je gomina ipinle naa lati odun to koja.", "yo"),
        ("Ó jẹ́ olóṣèlú àti alákòóso àgbà orílẹ̀-èdè náà tẹ́lẹ̀.", "yo"),
        ("She said the trip was fun for all of them.", "en"),
        ("שפה יפה מאוד", "he"),
        ("ᲥᲐᲠᲗᲣᲚᲘ ᲔᲜᲐ", "ka"),
    ],
)
def test_close_languages_and_scripts_are_told_apart(text: str, expected: str) -> None:
    assert language_of(text, CONFIG)[0] == expected


def test_a_language_is_not_one_that_the_script_of_the_text_cannot_write() -> None:
    """eldc has met the word on Thai pages, and is all but sure."""
    assert next(iter(eldc_scores("login"))) == "th"
    assert language_of("login", CONFIG)[0] != "th"


def test_the_golden_probability_of_a_sentence() -> None:
    """fastText's floats depend on the processor: a tolerance instead of a digest (RULE 12)."""
    language, probability = language_of("The caravan carries raw pages to a checkpoint.", CONFIG)
    assert language == "en"
    assert probability == pytest.approx(GOLDEN, abs=2e-3)
    assert eldc_scores("the river")["en"] == pytest.approx(ELDC_GOLDEN, abs=1e-3)


GOLDEN, ELDC_GOLDEN = 0.9413, 2.409


def test_only_the_first_characters_count() -> None:
    config = LanguageConfig(max_chars=300)
    assert language_of(GERMAN[:300] + RUSSIAN * 10, config) == language_of(GERMAN[:300], config)


@given(st.text(max_size=60) | st.text(alphabet="aàbcdeéö нжі中の1 .", max_size=60))
def test_every_text_has_a_tag_and_a_probability(text: str) -> None:
    """Whatever it is made of: a canonical tag, from 0 to 1 with four decimals, the same when asked again and on another thread."""
    language, probability = found = language_of(text, CONFIG)
    assert canonical(language) == language
    assert 0 <= probability <= 1
    assert abs(probability - round(probability, 4)) < 1e-7
    assert (language == "und") == (probability == 0)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(language_of, text, CONFIG).result() == found


@given(st.text(alphabet=st.characters(max_codepoint=0x7F), max_size=80))
def test_capitals_of_ascii_change_nothing(text: str) -> None:
    assert language_of(text.upper(), CONFIG) == language_of(text.lower(), CONFIG)


def test_many_threads_find_what_one_finds() -> None:
    """eldc and fastText are read by several threads at once."""
    texts = [text[:n] for text in (ENGLISH, GERMAN, RUSSIAN, JAPANESE) for n in range(1, 60)]
    alone = [language_of(text, CONFIG) for text in texts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda text: language_of(text, CONFIG), texts * 3)) == alone * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, WORLD! 42", "hello world"),
        ("see https://a.example/b?c=d and me@example.org now", "see and now"),
        ("don't well-known", "don't well-known"),
        ("Waffen\u00adschein b\u200bc", "waffenschein bc"),
        ("2024年に東京で", "年に東京で"),
        ("If x1<x2+3y then v2.0.1, else (1970)", "if then else"),
        ("हिन्दी में", "हिन्दी में"),
        ("1, 2, 3 - '", ""),
        ("a\ud800b\x00c", "a b c"),
    ],
)
def test_what_the_models_see(text: str, expected: str) -> None:
    """Lower case; no addresses, digits, punctuation; marks of scripts that write vowels so stay."""
    assert letters_of(text) == expected


def test_scripts() -> None:
    assert scripts_in("hello") == {"Latn"}
    assert scripts_in("привет мир abc") == {"Cyrl", "Latn"}
    assert scripts_in("中のハ") == {"Hani", "Kana"}
    assert main_script("привет мир abc", frozenset({"Latn", "Cyrl"})) == "Cyrl"
    assert main_script("123", frozenset({"Latn"})) is None
    assert [with_script("az", text) for text in ("salam", "салам")] == ["az", "az-Cyrl"]
    assert [with_script("zh", text) for text in ("国", "國", "中", "国國")] == ["zh-Hans", "zh-Hant", "zh", "zh"]


def test_words_mark_a_language_within_its_group_alone() -> None:
    """Each marks languages of one group and not all of it; the language with most marks misses none."""
    for word, languages in WORDS.items():
        assert word == word.lower()
        groups = [set(group) & set(languages) for group in GROUPS]
        assert all(found < set(group) for found, group in zip(groups, GROUPS, strict=True))
    assert missing_marks(["karena", "bisa", "dan"]) == {"ms": 2}
    assert missing_marks(["kerana", "bisa"]) == {}
    assert missing_marks(["gdje", "prije"]) == {"sr": 2}
    assert missing_marks(["karena"] * 9) == {"ms": 1}


def test_yoruba_is_known_by_its_words_with_their_marks_or_without() -> None:
    assert yoruba_words(["o", "je", "alakoso", "agba", "ile", "naa"]) == 3
    assert yoruba_words(["ó", "jẹ́", "alákòóso", "àgbà", "ilé", "náà"]) == 2
    assert yoruba_words(["the", "rest", "of", "them"]) == 0


def test_letters_that_a_language_does_not_write() -> None:
    letters = listed_letters("ћирилица")
    assert [foreign_letters(letters, language) for language in ("sr", "ru", "en")] == [0, 1, 0]
    assert listed_letters("latin") == frozenset()
    assert all(len(letters) == len(set(letters)) for letters in ALPHABETS.values())


def test_a_missing_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_MODELS", str(tmp_path))
    load_model.cache_clear()
    with pytest.raises(ConfigError, match="make setup"):
        load_model(LID_176_FTZ_SHA256)
    (tmp_path / module.MODEL_FILE).write_bytes(b"another model")
    with pytest.raises(ConfigError, match=r"has sha256 .* asks for 8f3472"):
        load_model(LID_176_FTZ_SHA256)


def test_where_the_model_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARAVAN_MODELS", raising=False)
    monkeypatch.setenv("CARAVAN_CACHE", "/cache")
    assert model_path() == Path("/cache/models/lid.176.ftz")


def test_the_versions_that_are_hashed_are_the_locked_ones(project: Path) -> None:
    """What enters the fingerprint is what is installed: a new lock needs a new default."""
    assert f"eldc=={ELDC_VERSION} " in (project / "requirements.txt").read_text()
    assert f"heliport=={HELIPORT_VERSION}\n" in (project / "requirements-heliport.in").read_text()
    assert not re.search(r"^heliport\b", (project / "requirements.txt").read_text(), flags=re.MULTILINE)
    check_identifier(CONFIG)
    with pytest.raises(ConfigError, match=r"asks for eldc 0\.3\.9, which is installed in version 0\.4\.0"):
        check_identifier(LanguageConfig(eldc_version="0.3.9"))


class Heliport:
    """Stands for the package, which is GPL-3 and not installed here: its interface as of 1.0.1."""

    Identifier: type

    def identify_with_score(self, text: str) -> tuple[str, float]:
        return ("zxx", 9.0) if text == "qqq" else ("hbssrp", 2.0)


def test_heliport_is_asked_where_it_is_named_and_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not installed, it is refused in one line; installed, its labels become tags and its confidence a probability."""
    config = LanguageConfig(identifier="heliport")
    real_version, real_import = importlib.metadata.version, importlib.import_module
    missing = importlib.metadata.PackageNotFoundError("heliport")

    def version(name: str) -> str:
        if name == "heliport":
            raise missing
        return real_version(name)

    load_heliport.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(
        ConfigError, match=r"heliport asks for heliport 1\.0\.1 \(GPL-3, so not part of Caravan\), which is not installed: pip"
    ):
        language_of(ENGLISH, config)
    fake = types.SimpleNamespace(Identifier=Heliport)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0.1" if name == "heliport" else real_version(name))
    monkeypatch.setattr(importlib, "import_module", lambda name: fake if name == "heliport" else real_import(name))
    language, probability = language_of("Ово је реченица", config)
    assert language == "sr-Cyrl"
    assert probability == pytest.approx(0.9064, abs=1e-3)
    assert language_of("Gde je dete", config)[0] == "sr-Latn"
    assert language_of("qqq", config) == ("und", 0.0)
    load_heliport.cache_clear()
