"""Bytes to text: charsets, HTML, the normal form, dates."""

from __future__ import annotations

import datetime
import unicodedata
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.charset import EQUALLY_LEGIBLE, declared_in_page, decode, python_name
from pipeline.ingest.config import Extractor
from pipeline.ingest.html import html_to_text, normal_text
from pipeline.ingest.legibility import implausible_fraction
from pipeline.ingest.records import iso_utc
from pipeline.ingest.sniff import looks_like_html, looks_like_text
from tests.pipeline.ingest_cases import WORDS

RUSSIAN = "Караван несёт страницы от сырых данных к обученной модели, и каждая страница сохраняет своё имя. " * 6
JAPANESE = "隊商は生のページを学習済みのモデルまで運び、どのページも道中でその名前を失うことはありません。" * 6
CHINESE = "商队把原始网页一路运到训练好的模型。每个网页在途中都保留自己的名字。" * 8
TRADITIONAL = "商隊把原始網頁運到訓練好的模型。每個網頁都保留自己的名字。" * 8
KOREAN = "대상은 원시 페이지를 훈련된 모델까지 나르며, 모든 페이지는 가는 길에 자기 이름을 지킵니다. " * 6
GERMAN = "Die Karawane trägt rohe Seiten über weite Strecken bis zum geprüften Modell, und jede behält ihren Namen für immer. " * 6
GREEK = "Το καραβάνι μεταφέρει τις σελίδες μέχρι το εκπαιδευμένο μοντέλο και κάθε σελίδα κρατά το όνομά της. " * 6  # noqa: RUF001

LEGACY = [
    (RUSSIAN, "windows-1251"),
    (RUSSIAN, "koi8-r"),
    (JAPANESE, "shift_jis"),
    (JAPANESE, "euc-jp"),
    (JAPANESE, "iso-2022-jp"),
    (CHINESE, "gb2312"),
    (TRADITIONAL, "big5"),
    (KOREAN, "euc-kr"),
    (GERMAN, "iso-8859-1"),
    (GREEK, "windows-1253"),
]


def html(text: str, meta: str = "") -> str:
    return f"<html><head>{meta}<title>{text[:20]}</title></head><body><p class='x'>{text}</p></body></html>"


@pytest.mark.parametrize(("text", "encoding"), LEGACY)
def test_a_legacy_charset_is_read_by_header_by_meta_and_by_detection(text: str, encoding: str) -> None:
    plain = html(text).encode(encoding)
    assert decode(plain, declared=encoding, is_html=True) == html(text)
    meta = html(text, f'<meta http-equiv="Content-Type" content="text/html; charset={encoding}">')
    assert decode(meta.encode(encoding), is_html=True) == meta
    assert decode(plain, is_html=True) == html(text)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_beats_every_declaration(mark: str) -> None:
    text = html(GERMAN, '<meta charset="koi8-r">')
    data = text.encode(mark) if mark == "utf-8-sig" else ("\ufeff" + text).encode(mark)
    assert decode(data, declared="windows-1251", is_html=True) == text


@pytest.mark.parametrize(
    ("declared", "meta"),
    [("iso-8859-1", ""), ("windows-1251", ""), (None, '<meta charset="latin1">'), ("utf-8", '<meta charset="koi8-r">'), ("nonsense", "")],
)
def test_valid_utf8_is_not_taken_for_a_single_byte_charset(declared: str | None, meta: str) -> None:
    text = html(RUSSIAN, meta)
    assert decode(text.encode(), declared=declared, is_html=True) == text


def test_a_false_declaration_of_utf8_falls_to_the_page_and_then_to_detection() -> None:
    meta = html(RUSSIAN, '<meta charset="windows-1251">')
    assert decode(meta.encode("windows-1251"), declared="utf-8", is_html=True) == meta
    assert decode(html(RUSSIAN).encode("windows-1251"), declared="utf-8", is_html=True) == html(RUSSIAN)


def test_utf8_with_a_few_bad_bytes_stays_utf8() -> None:
    data = RUSSIAN.encode() + b"\xff" + RUSSIAN.encode()
    assert decode(data, declared="utf-8") == f"{RUSSIAN}\ufffd{RUSSIAN}"
    assert decode(data) == f"{RUSSIAN}\ufffd{RUSSIAN}"


@pytest.mark.parametrize("label", ["gbk", "gb2312", "big5", "euc-jp", "euc-kr", "shift_jis", "iso-8859-1", "windows-1256", "utf-16", "x"])
@pytest.mark.parametrize("text", [GERMAN, RUSSIAN, JAPANESE, CHINESE, KOREAN, GREEK])
def test_valid_utf8_is_utf8_whatever_is_declared(text: str, label: str) -> None:
    page = html(text, f'<meta charset="{label}">')
    assert decode(page.encode(), declared=label, is_html=True) == page


@pytest.mark.parametrize("declared", ["utf-8", None, "iso-8859-1", "gbk"])
@pytest.mark.parametrize("bad", [b"\xe9", b"\xff", b"\xe2\x80", b"\xc3"])
def test_a_bad_byte_in_utf8_costs_itself_alone(bad: bytes, declared: str | None) -> None:
    """An English page with five dashes and quotes and one bad byte is not re-decoded."""
    head, tail = "It’s a long way — they said — and “nobody ", "cares." + WORDS * 3  # noqa: RUF001
    assert decode(head.encode() + bad + tail.encode(), declared=declared) == f"{head}\ufffd{tail}"


@pytest.mark.parametrize(("text", "encoding"), [row for row in LEGACY if row[1] not in ("iso-2022-jp", "iso-8859-1")])
def test_the_bytes_decide_between_header_and_page(text: str, encoding: str) -> None:
    """A wrong header beside a right meta tag, a right one beside a wrong one, and both wrong."""
    others = ["iso-8859-1", "utf-8", "euc-kr" if encoding != "euc-kr" else "gbk"]
    for wrong in others:
        right_meta, wrong_meta = html(text, f'<meta charset="{encoding}">'), html(text, f'<meta charset="{wrong}">')
        assert decode(right_meta.encode(encoding), declared=wrong, is_html=True) == right_meta
        assert decode(wrong_meta.encode(encoding), declared=encoding, is_html=True) == wrong_meta
        assert decode(wrong_meta.encode(encoding), declared=wrong, is_html=True) == wrong_meta


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("declared", [None, "utf-16", "utf-8", "iso-8859-1"])
@pytest.mark.parametrize("text", [GERMAN, CHINESE])
def test_utf16_without_a_mark_is_seen(text: str, encoding: str, declared: str | None) -> None:
    assert decode(html(text).encode(encoding), declared=declared, is_html=True) == html(text)


@pytest.mark.parametrize("is_html", [True, False])
@pytest.mark.parametrize("cut", [b"\xe2\x80", b"\xe2", b"\xc3", b"\xf0\x9f\x98"])
def test_utf8_that_is_cut_within_its_last_character_stays_utf8(cut: bytes, is_html: bool) -> None:
    """Also where all before it is ASCII, if header, page or mark say UTF-8; without, it is a letter of a legacy charset."""
    page = html("A ship of state.", "<meta charset=utf-8>")[:-20]
    assert decode(page.encode() + cut, declared="utf-8", is_html=is_html) == f"{page}\ufffd"
    assert decode(page.encode() + "it’s".encode() + cut, is_html=is_html) == f"{page}it’s\ufffd"  # noqa: RUF001
    if len(cut) > 1:
        assert decode(b"\xef\xbb\xbf" + page.encode() + cut, is_html=is_html) == f"{page}\ufffd"
    assert decode(b"caf\xe9") == decode(b"caf\xe9", declared="utf-8") == "café"


def test_declared_utf8_with_more_bad_bytes_than_good_ones_stays_utf8_where_that_is_sure() -> None:
    """Pasted windows-1252 in a page of UTF-8 costs its own bytes; legacy text that is declared as UTF-8 is read as what it is."""
    for good in ("é—’", "😀 ", "déjà été "):  # noqa: RUF001
        mixed = good.encode() + "It’s “here” – a naïve café".encode("cp1252")  # noqa: RUF001
        assert decode(mixed, declared="utf-8") == mixed.decode("utf-8", "replace")
    french = "« Il a pensé…» dit-elle à Zoé, près du café…»" * 3
    assert decode(french.encode("cp1252"), declared="utf-8") == french
    assert decode(RUSSIAN.encode("cp1251") + "—".encode(), declared="utf-8").startswith(RUSSIAN)


def test_surrogates_that_were_encoded_one_by_one_are_the_character() -> None:
    """CESU-8, as Java and MySQL wrote emoji; a lone half is damage."""
    pair = "\ud83d\ude00".encode("utf-8", "surrogatepass")
    assert decode(b"so " + pair + b"!" + pair, declared="utf-8") == decode(b"so " + pair + b"!" + pair) == "so 😀!😀"
    assert decode(RUSSIAN.encode() + pair[:3] + b"x") == f"{RUSSIAN}\ufffd\ufffd\ufffdx"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("windows-1254", "Yarın ülkenin güneyinde yağış bekleniyor."),  # noqa: RUF001
        ("iso-8859-9", "Kış gecesi şehir ışıkları altında yürüdü."),  # noqa: RUF001
        ("windows-1250", "Żółta łódź płynęła ciężko, a sternik śpiewał."),
        ("windows-1257", "Rīta migla pār ezeru izklīda lēnām."),
        ("iso-8859-13", "Šiandien prie ežero žvejai gėrė kavą."),
    ],
)
def test_a_special_latin_charset_of_the_page_goes_before_a_header_of_latin1(encoding: str, text: str) -> None:
    """Servers send ISO-8859-1 for every page; one sentence is too little for detection."""
    page = html(text, f'<meta charset="{encoding}">')
    assert decode(page.encode(encoding), declared="iso-8859-1", is_html=True) == page


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_without_a_mark_is_what_the_header_declares(encoding: str) -> None:
    """Also text of ideographs alone, which has next to no NUL bytes; a false declaration makes ideographs of no other text."""
    for text in (CHINESE, TRADITIONAL, html(CHINESE), RUSSIAN):
        data = text.encode(encoding)
        assert looks_like_text(data, encoding)
        assert decode(data, declared=encoding.replace("-le", "le").replace("-be", "be")) == text
        for plain, right in ((GERMAN, "utf-8"), (GERMAN, "cp1252"), (WORDS, "ascii"), (RUSSIAN, "cp1251")):
            assert decode(plain.encode(right), declared=encoding) == plain


def test_a_sign_between_two_letters_counts_for_both() -> None:
    """The letter between two signs belongs to both: the runs are weighed alike in any place."""
    assert implausible_fraction("a¶b¶c¶d") == implausible_fraction("a¶b c¶d") == 1
    assert implausible_fraction("d’un ami qu’on l’a vu") == 0  # noqa: RUF001
    assert implausible_fraction("nº 5, 1ª vez") < implausible_fraction("baº\u0131na ªehir")


def test_a_false_mark_of_utf8_is_no_text() -> None:
    assert decode(b"\xef\xbb\xbfcaf\xe9") == "café"


def test_a_false_byte_order_mark_is_not_believed() -> None:
    assert decode(b"\xef\xbb\xbf" + html(RUSSIAN).encode("windows-1251"), is_html=True).endswith(html(RUSSIAN))


def test_seven_bit_charsets_are_read_where_they_show_or_are_declared() -> None:
    assert decode(KOREAN.encode("iso2022_kr")) == KOREAN
    assert decode(CHINESE.encode("hz"), declared="hz-gb-2312") == CHINESE
    assert decode(b"~{ is a smile") == "~{ is a smile"


@given(st.text(st.characters(exclude_characters="\0\x1b\ufeff~", exclude_categories=["Cs"])), st.sampled_from(["gbk", "koi8-r", "hz"]))
def test_utf8_survives_any_label(text: str, label: str) -> None:
    assert decode(text.encode(), declared=label) == text


def test_legible_text_is_more_plausible_than_the_same_bytes_in_another_charset() -> None:
    for text, right, wrong in (
        (RUSSIAN, "cp1251", "koi8-r"),
        (RUSSIAN, "koi8-r", "cp1251"),
        (RUSSIAN, "cp1251", "cp1252"),
        (GERMAN, "cp1252", "gb18030"),
        (GREEK, "cp1253", "cp1252"),
        (JAPANESE, "cp932", "cp949"),
    ):
        data = text.encode(right)
        assert implausible_fraction(data.decode(right)) < 0.03
        assert implausible_fraction(data.decode(wrong, "replace")) > 0.03 + EQUALLY_LEGIBLE


def test_undefined_bytes_of_windows_1252_are_controls_and_nothing_fails() -> None:
    assert decode(b"a\x81b\x93", declared="iso-8859-1") == "a\x81b\u201c"


@given(
    st.binary(max_size=300),
    st.sampled_from([None, "utf-8", "gb2312", "shift_jis", "iso-2022-jp", "utf-7", "hz-gb-2312", "x-user-defined", "\x00"]),
)
def test_decoding_never_fails(data: bytes, declared: str | None) -> None:
    assert isinstance(decode(data, declared=declared, is_html=True), str)


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b"<meta charset=utf-8>", "utf-8"),
        (b"<META HTTP-EQUIV='x' CONTENT='text/html; charset=Shift_JIS'>", "shift_jis"),
        (b'<?xml version="1.0" encoding="ISO-8859-2"?>', "iso-8859-2"),
        (b"<meta charset='utf-16'>", "utf-8"),
        (b"<p>charset=koi8-r</p>", None),
    ],
)
def test_declarations_in_a_page(data: bytes, label: str | None) -> None:
    assert declared_in_page(data) == label


@pytest.mark.parametrize(
    ("label", "name"), [("latin1", "cp1252"), ("GB2312", "gb18030"), ("sjis", "cp932"), ("ks_c_5601-1987", "cp949"), ("no", None)]
)
def test_labels_mean_what_the_standard_says(label: str, name: str | None) -> None:
    assert python_name(label) == name


NAVIGATION = "".join(f"<li><a href='/{n}'>Section number {n}</a></li>" for n in range(30))
MAIN = "The caravan carries raw pages to a checkpoint and keeps every name. " * 12


@pytest.mark.parametrize("extractor", get_args(Extractor))
def test_the_main_text_stays_and_navigation_scripts_and_styles_go(extractor: Extractor) -> None:
    page = (
        f"<html><head><style>.x{{}}</style><script>var hidden=1</script></head><body><nav><ul>{NAVIGATION}</ul></nav>"
        f"<article><h1>Heading</h1><p>{MAIN}</p></article></body></html>"
    )
    text = normal_text(html_to_text(page, extractor))
    assert MAIN.strip() in text
    assert not any(word in text for word in ("Section number", "hidden", ".x{"))
    assert html_to_text(page, extractor) == html_to_text(page, extractor)


@pytest.mark.parametrize("extractor", get_args(Extractor))
@pytest.mark.parametrize("page", ["", "<html>", "<p", "\x00", "<div>" * 3000, "not html at all"])
def test_odd_pages_give_a_text_or_none(extractor: Extractor, page: str) -> None:
    assert isinstance(html_to_text(page, extractor), str)


def test_a_page_without_a_main_part_gives_its_whole_text() -> None:
    assert "only a footer" in html_to_text("<html><body><footer>only a footer</footer></body></html>", "resiliparse")


def test_what_looks_like_html() -> None:
    assert looks_like_html(b"  <!DOCTYPE html>\n")
    assert looks_like_html(b"<?xml?><HTML lang=x>")
    assert looks_like_html("\ufeff<html>".encode("utf-16-le"))
    assert looks_like_html(b"<!-- made by hand --> <title>x</title>")
    assert not looks_like_html(b"<svg>")
    assert not looks_like_html(b"a text that says <p>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\x0bd\x0ce\x85f\u2028g", "a\nb\nc\nd\ne\nf\ng"),
        ("  keeps\n\tindentation  \t\n\n\nand blank lines \n\n", "  keeps\n\tindentation\n\n\nand blank lines"),
        ("nul\x00 bell\x07 bom\ufeff c1\x9f", "nul bell bom c1"),
        ("e\u0301", "é"),
        ("e\x00\u0301", "é"),
        ("lone \ud800 half", "lone \ufffd half"),
        (" \n\t\n", ""),
    ],
)
def test_normal_form(text: str, expected: str) -> None:
    assert normal_text(text) == expected


@given(st.text())
def test_the_normal_form_is_normal(text: str) -> None:
    """Idempotent, NFC, storable as UTF-8, without blank ends or spaces at line ends."""
    once = normal_text(text)
    assert normal_text(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once.encode().decode() == once
    assert all(line == line.rstrip() for line in once.split("\n"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-03-01T12:00:00Z", "2024-03-01T12:00:00Z"),
        ("2024-03-01T12:00:00.987654Z", "2024-03-01T12:00:00Z"),
        ("2024-03-01T14:30:00+02:30", "2024-03-01T12:00:00Z"),
        ("2024-03-01 12:00:00", "2024-03-01T12:00:00Z"),
        (" 2024-03-01 ", "2024-03-01T00:00:00Z"),
        ("20240301120000", "2024-03-01T12:00:00Z"),
        (1709294400, "2024-03-01T12:00:00Z"),
        (1709294400.9, "2024-03-01T12:00:00Z"),
        (datetime.datetime(2024, 3, 1, 12, tzinfo=datetime.UTC), "2024-03-01T12:00:00Z"),
        (datetime.date(2024, 3, 1), "2024-03-01T00:00:00Z"),
        ("2024", "2024-01-01T00:00:00Z"),
        ("2024-03", "2024-03-01T00:00:00Z"),
        ("202403", "2024-03-01T00:00:00Z"),
        ("20240301", "2024-03-01T00:00:00Z"),
        ("202403011200", "2024-03-01T12:00:00Z"),
        ("2024-03-01 12:00:00 UTC", "2024-03-01T12:00:00Z"),
        ("2024-03-01t12:00z", "2024-03-01T12:00:00Z"),
        ("2024-03-01 14:30:00 +0230", "2024-03-01T12:00:00Z"),
        ("2024/3/1", "2024-03-01T00:00:00Z"),
        ("Fri, 01 Mar 2024 12:00:00 GMT", "2024-03-01T12:00:00Z"),
        ("1709294400", "2024-03-01T12:00:00Z"),
        (2024, "2024-01-01T00:00:00Z"),
        (2024.0, "2024-01-01T00:00:00Z"),
        (202403, "2024-03-01T00:00:00Z"),
        (20240301, "2024-03-01T00:00:00Z"),
        (202403011200, "2024-03-01T12:00:00Z"),
        (20240301120000, "2024-03-01T12:00:00Z"),
        ("2024030112", "2024-03-01T12:00:00Z"),
        ("2000000000", "2033-05-18T03:33:20Z"),  # no day, so seconds
        (1709294400123, "2024-03-01T12:00:00Z"),
        ("1709294400123", "2024-03-01T12:00:00Z"),
        (951912000000, "2000-03-01T12:00:00Z"),
        (1709294400123456, "2024-03-01T12:00:00Z"),
        (1709294400123456789, "2024-03-01T12:00:00Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ("2024-02-29T24:00:00Z", "2024-03-01T00:00:00Z"),
        ("2024-02-29 24:00", "2024-03-01T00:00:00Z"),
        ("20240229240000", "2024-03-01T00:00:00Z"),
        ("March 1, 2024", "2024-03-01T00:00:00Z"),
        ("Mar. 1st, 2024 12:00 UTC", "2024-03-01T12:00:00Z"),
        ("Friday, 1 March 2024", "2024-03-01T00:00:00Z"),
        ("Sept 2024", "2024-09-01T00:00:00Z"),
        ("2024-061", "2024-03-01T00:00:00Z"),
        (202413, None),
        (20240230, None),
        (0, None),
        (12, None),
        ("202413011200", None),
        ("2024-02-29T24:01:00Z", None),
        ("2024-366", "2024-12-31T00:00:00Z"),
        ("2023-366", None),
        ("Smarch 1, 2024", None),
        ("February 30, 2024", None),
        (float("nan"), None),
        (float("inf"), None),
        ("2024-02-30", None),
        ("2024-03-01 12:00:00 Mars", None),
        ("202413", None),
        ("2024-13-01T12:00:00Z", None),
        ("20241301120000", None),
        ("yesterday", None),
        ("", None),
        (1e30, None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_dates(value: Any, expected: str | None) -> None:
    assert iso_utc(value) == expected
