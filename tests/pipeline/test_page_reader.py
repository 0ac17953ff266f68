"""What the C that reads pages holds: the blocks that plain Python finds, on whatever HTML; errors that come through; no memory kept."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turbohtml.saxparse import sax_parse

import pipeline.native
from pipeline.ingest.main_text import blocks
from pipeline.native.page_reader import PageReader
from tests.pipeline import plain_page_reader


def blocks_in_plain_python() -> ModuleType:
    """`pipeline.ingest.main_text.blocks`, once more, on a reader in plain Python."""
    name = "tests.pipeline.blocks_in_plain_python"
    spec = importlib.util.spec_from_file_location(name, blocks.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {name: module}), mock.patch.object(pipeline.native, "page_reader", plain_page_reader):
        spec.loader.exec_module(module)
    return module


PLAIN = blocks_in_plain_python()
MATH = '<math alttext="{}"><mi>x</mi><annotation encoding="application/x-tex">y</annotation></math>'
TAGS = [
    "div", "p", "span", "a", "ul", "dl", "li", "table", "tr", "td", "th", "pre", "sup", "h1", "button", "math", "mi", "ruby", "rt", "br",
    "em", "img", "script", "select", "noscript", "mjx-container", "svg", "template", "input", "textarea", "body", "html", "plaintext",
    "x-y", "Ä",
]  # fmt: skip
VALUES = [
    "a", "b c", "", "MathJax", "x katex-html", "xMJX", "mjx-chtml", "MjX", "display:none", "DISPLAY : NONE", "d\u0131splay:none",
    "vi\u017fibility:hidden", "visibility:hidden", "display:block", "none", "until-found", "math/tex", "math/tex; mode=display",
    "MATH/TEX", "tex", "LaTeX x", "E=mc^2", "\\displaystyle x", "é", "漢", "\ud800", "\U0001f600", "/math/render/x", "ee_img", "&quot;",
]  # fmt: skip
NAMES = ["class", "id", "role", "itemprop", "style", "hidden", "alt", "src", "type", "data-x", "CLASS"]
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.text("a1\n \t\x0b\x1c\x1f\x85\xa0\u2003\u3000\u200b漢\U0001f600\ud800", max_size=8),
    st.sampled_from(
        [
            "10",
            "x",
            "st",
            "2",
            "<!-- c -->",
            "&nbsp;",
            "</",
            "<",
            "</p",
            "<p",
            MATH,
            "<br><br>",
            "<br>",
            '<script type="math/tex">y</script>',
        ]
    ),
)
ATTRIBUTES = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), st.sampled_from(VALUES))), max_size=3).map(
    lambda pairs: "".join(f" {name}" if value is None else f' {name}="{value}"' for name, value in pairs)
)
PARTS = st.one_of(TEXT, st.sampled_from(TAGS).map("</{}>".format), st.builds("<{}{}>".format, st.sampled_from(TAGS), ATTRIBUTES))
PAGES = st.lists(PARTS, max_size=40).map("".join)


def columns(module: ModuleType, html: str) -> dict[str, Any] | str:
    """A page's columns, to be compared; the error where the parser cannot take it (a lone surrogate in the name of an attribute)."""
    try:
        page = module.read_page(html)
    except UnicodeDecodeError as error:
        return str(error)
    return {field.name: list(getattr(page, field.name)) for field in dataclasses.fields(page)}


@settings(max_examples=1000, deadline=None)
@given(PAGES)
def test_a_page_has_the_blocks_that_plain_python_finds(html: str) -> None:
    assert columns(blocks, html) == columns(PLAIN, html)


PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), st.sampled_from(VALUES))), max_size=3).map(tuple)
EVENTS = st.recursive(
    st.text(st.characters(exclude_categories=()), max_size=6).map(lambda text: [("characters", text)]),
    lambda inner: st.builds(
        lambda tag, attrs, parts: [("start_element", tag, attrs), *(event for part in parts for event in part), ("end_element", tag)],
        st.sampled_from(TAGS), PAIRS, st.lists(inner, max_size=5),
    ),
    max_leaves=40,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(EVENTS)
def test_a_tree_that_no_parser_makes_has_them_too(events: list[tuple[Any, ...]]) -> None:
    found: list[tuple[Any, ...]] = []
    for module in (blocks, PLAIN):
        reader = module._Reader()
        for method, *arguments in events:
            getattr(reader, method)(*arguments)
        numbers = (reader.block_columns(), reader.element_columns(), reader.ended(), reader.controls, reader.marks, reader.breaks)
        texts = (reader.texts, reader.inline_names, reader.pieces, reader.tags, reader.element_names, reader.lines, reader.names)
        found.append((*numbers, *texts))
    assert found[0] == found[1]


@given(st.text(st.characters(exclude_categories=()), max_size=12), st.text(st.characters(exclude_categories=()), max_size=12))
def test_white_space_is_what_str_says_it_is(first: str, second: str) -> None:
    reader = blocks._Reader()
    reader.start_element("p", ())
    reader.characters(first)
    reader.characters(second)
    reader.end_element("p")
    line = " ".join((first + second).split())
    assert reader.texts == ([line] if line else [])


def test_every_character_alone_is_white_space_or_not_as_str_says() -> None:
    for code in range(0x110000):
        if chr(code).isspace():
            reader = blocks._Reader()
            reader.characters(f"a{chr(code)}{chr(code)}b{chr(code)}")
            reader.start_element("p", ())
            assert reader.texts == ["a b"]


@pytest.mark.parametrize("piece", ["<div>", "<b>", "<pre>", "<table><tr><td>", "<ul><li>", "<svg>", "<sup>", "<mjx-container>"])
def test_forty_thousand_open_elements_are_read(piece: str) -> None:
    html = piece * 40_000 + "x"
    assert columns(blocks, html) == columns(PLAIN, html)


def test_what_a_callback_raises_comes_through_and_the_reader_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("start_rare", "end_rare", "start_skipped", "start_aside", "end_aside", "aside_characters", "hides", "is_rendered_math"):
        with monkeypatch.context() as patched:
            patched.setattr(blocks._Reader, method, mock.Mock(side_effect=MemoryError(method)))
            reader = blocks._Reader()
            with pytest.raises(MemoryError, match=method):
                sax_parse(f'a<p>b<sup>2</sup><i style="display:none">{MATH}</i><i class="MathJax">c</i>{MATH}<textarea></textarea>', reader)
            reader.math, reader.is_aside = None, False
            reader.characters("more")
            assert reader.pieces[-1] == "more"


def test_an_element_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_ELEMENTS", 5)
    assert len(blocks.read_page("<p>a<p>b").tags) == 4
    with pytest.raises(blocks.PageTooLargeError, match="more than 5 elements"):
        blocks.read_page("<p>a<p>b<p>c<p>d")


def test_what_is_no_event_is_an_error() -> None:
    reader: Any = blocks._Reader()
    no_events: list[Any] = [(), ("p",), (1, ()), ("p", []), ("p", (("a",),)), ("p", (("a", 1),)), ("p", ("ab",))]
    for arguments in no_events:
        with pytest.raises(TypeError, match="start_element takes"):
            reader.start_element(*arguments)
    with pytest.raises(TypeError, match="characters takes"):
        reader.characters(b"a")
    with pytest.raises(TypeError):
        reader.end_element([])
    for tag in ("p", "td"):
        with pytest.raises(ValueError, match="has not begun"):
            reader.end_element(tag)
    reader.pieces.append(1)
    with pytest.raises(TypeError, match="list of str"):
        reader.start_element("p", ())


def test_settings_that_make_no_sense_are_refused() -> None:
    few, more, empty, upper, wide = (), ((), (), ()), ((), ("",), (), ()), (("A",), (), (), ()), (("é",), (), (), ())
    no_hints: list[Any] = [few, more, empty, upper, wide, (("a",) * 9, (), (), ()), ([], (), (), ())]
    for hints in no_hints:
        with pytest.raises(ValueError, match="hint"):
            PageReader({}, {}, hints, 1)
    with pytest.raises(TypeError):
        PageReader({}, {}, ((1,), (), (), ()), 1)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="refuse"):
        PageReader({}, {}, ((), (), (), ()), 0).start_element("p", ())
    with pytest.raises(TypeError):
        PageReader({"p": "x"}, {}, ((), (), (), ()), 1).start_element("p", ())  # type: ignore[dict-item]


def test_a_reader_in_a_cycle_is_collected() -> None:
    reader: Any = blocks._Reader()
    reader.math = reader.formula = reader
    reader.pieces.append(reader)
    gone = weakref.ref(reader)
    del reader
    gc.collect()
    assert gone() is None


def test_reading_keeps_no_memory() -> None:
    html = Path(blocks.__file__).read_text().replace("\n", "<p class='a' style='display:none'>é<sup>2</sup>") + MATH * 9
    html += "<table><tr><td>" * 200
    used = []
    for _ in range(3):
        for _ in range(150):
            blocks.read_page(html)
            with mock.patch.object(blocks, "MAX_ELEMENTS", 50), pytest.raises(blocks.PageTooLargeError):
                blocks.read_page(html)
        used.append(int(Path("/proc/self/statm").read_text().split()[1]))  # resident pages
    assert used[2] - used[1] < 1000


def test_columns_outlive_their_reader() -> None:
    page = blocks.read_page("<ul><li>a<li>b</ul>")
    gc.collect()
    assert [page.tags[element] for element in page.in_list.tolist()] == ["ul", "ul"]
