"""Signals of Chinese, Japanese, Thai, Korean and Arabic: prose and navigation, lost characters, and null for other scripts."""

# ruff: noqa: RUF001 - punctuation of these scripts
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quality.native_scripts import NULLABLE_RATIOS, signals

PROSE = {
    "zh": "人们在这里生活了很久，他们把自己的房子建在河边，因为那里的水是干净的，也可以用来灌溉田地。",
    "ja": "この町の人々は、川のそばに家を建てて長いあいだ暮らしてきました。水がきれいで、畑にも使えるからです。",
    "th": "ชาวบ้านที่อยู่ริมแม่น้ำจะปลูกข้าวและผักไว้กินเอง เพราะว่าน้ำจากแม่น้ำนี้ใช้ได้ทั้งปี แต่ถ้าฝนไม่ตกก็ต้องขุดบ่อเพื่อเก็บน้ำไว้",
    "ko": "이 마을의 사람들은 오래 전부터 강가에 집을 짓고 살아 왔다. 물이 맑고 밭에도 쓸 수 있기 때문이다.",
    "ar": "عاش الناس في هذه القرية منذ زمن بعيد على ضفة النهر، لأن الماء الذي فيه نظيف ويمكن أن يسقي الحقول التي حول البيوت.",
}
MENU = {
    "zh": "首页\n新闻中心\n产品展示\n客户服务\n网站地图\n登录\n注册\n体育\n财经\n科技",
    "ja": "ホーム\n会社概要\n製品情報\n採用情報\n利用規約\nログイン\n検索\n天気\n経済\n国際",
    "th": "หน้าแรก\nข่าวสาร\nสินค้า\nบริการ\nกีฬา\nเศรษฐกิจ\nสุขภาพ\nค้นหา",
    "ko": "홈\n회사소개\n공지사항\n고객센터\n장바구니\n로그인\n뉴스\n스포츠\n날씨",
    "ar": "الرئيسية\nالأخبار\nالمنتجات\nالخدمات\nرياضة\nاقتصاد\nثقافة\nبحث",
}


@pytest.mark.parametrize("language", PROSE)
def test_prose_has_function_words_and_long_pieces_and_a_menu_neither(language: str) -> None:
    """Twice as many function words and more; no short piece, against short pieces alone."""
    prose, menu = signals(PROSE[language]), signals(MENU[language])
    assert (prose["function_word_ratio"] or 0) > 2 * (menu["function_word_ratio"] or 0)
    assert (prose["short_piece_ratio"], menu["short_piece_ratio"]) == (0.0, 1.0)
    assert prose["lost_character_ratio"] == menu["lost_character_ratio"] == 0.0


def test_ratios_are_of_letters_in_the_texts_main_script() -> None:
    """By hand; a Chinese text is one of ideographs alone, and Latin letters do not count."""
    assert signals("我的書在桌子上")["function_word_ratio"] == pytest.approx(3 / 7)
    assert signals("東京へ行きます ABC")["function_word_ratio"] == pytest.approx(4 / 7)
    assert signals("사람은 바람")["function_word_ratio"] == 0.5
    assert signals("البيت في المدينة")["function_word_ratio"] == pytest.approx(1 / 3)
    assert signals("ที่บ้าน")["function_word_ratio"] == pytest.approx(3 / 7)


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("首页 新闻 体育", 1.0),  # a space between ideographs goes on to the next item
        ("首页 | 新闻 > 体育", 1.0),
        ("标签(12)天气(3)", 1.0),
        ("他来了。", 0.0),  # short, and a sentence
        ("这里有一个很长的句子，它没有在行尾结束而是继续写下去", 0.0),
        ("首页首页首页\n这里有一个很长的句子，它没有在行尾结束而是继续写下去", 6 / 32),
        ("السابق | التالي | الصفحة الرئيسية", 1.0),
    ],
)
def test_a_short_piece_ends_at_a_separator_and_ends_no_sentence(text: str, ratio: float) -> None:
    """Characters in such pieces, of all."""
    assert signals(text)["short_piece_ratio"] == pytest.approx(ratio)


def test_lost_characters_are_those_that_stand_for_another() -> None:
    """Replacement characters, controls, private use, question marks inside words and in rows; no question that somebody asks."""
    assert signals("ก\ufffd\x81\ue000")["lost_character_ratio"] == 0.75
    assert signals("中?中????中")["lost_character_ratio"] == pytest.approx(5 / 8)
    assert signals("本当ですか? そうです。なに？")["lost_character_ratio"] == 0.0
    assert signals("What????")["lost_character_ratio"] == 0.0


def test_what_is_read_in_a_wrong_charset_has_no_letter_of_its_script() -> None:
    """So that it goes although a source declares its language."""
    assert signals(PROSE["zh"])["native_letter_ratio"] == pytest.approx(40 / 45, abs=0.05)
    assert signals(PROSE["zh"].encode().decode("cp1252", "ignore"))["native_letter_ratio"] == 0.0


@given(st.text(st.characters(max_codepoint=0x5FF)))
def test_other_scripts_have_no_ratio_of_function_words(text: str) -> None:
    """Null, so that no threshold on them drops a document in Latin, Greek, Cyrillic or Hebrew script."""
    found = signals(text)
    assert all(found[name] is None for name in NULLABLE_RATIOS)
    assert found["character_count"] == sum(not char.isspace() for char in text)


@given(st.text(st.sampled_from("的人ア の가는ไมที่ من\n|。.?\ufffda1()")))
def test_ratios_lie_between_none_and_all(text: str) -> None:
    """Whatever the mixture of scripts."""
    assert all(value is None or 0 <= value <= 1 for name, value in signals(text).items() if name != "character_count")
