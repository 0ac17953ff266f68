"""What the flattening of a page into blocks keeps true: every visible word once, lines where a reader sees them, nothing hidden."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest.main_text.blocks import Page, read_page
from pipeline.ingest.main_text.render import render


def text_of(body: str) -> str:
    """Every block of a page with this body, as text."""
    page = read_page(f"<!DOCTYPE html><html><head><title>T</title></head><body><main>{body}</main></body></html>")
    return render(page, [True] * len(page.texts))


LISTS = {
    "plain": "<ul><li>Fill the kettle.</li><li>Boil it.</li></ul>",
    "classed": '<ul class="steps"><li class="a">Fill the kettle.</li><li class="b">Boil it.</li></ul>',
    "paragraphs": "<ol><li><p>Fill the kettle.</p></li><li><p>Boil it.</p></li></ol>",
    "unclosed": "<ul><li>Fill the kettle.<li>Boil it.</ul>",
    "nested": "<ul><li>Fill the kettle.<ul><li>Boil it.</li></ul></li></ul>",
}


@pytest.mark.parametrize("body", LISTS.values(), ids=LISTS)
def test_a_list_is_one_item_a_line(body: str) -> None:
    assert text_of(f"<p>Before.</p>{body}<p>After.</p>") == "Before.\n\nFill the kettle.\nBoil it.\n\nAfter."


FORMULAS = {
    "hidden MathML beside an image": (
        '<span class="mwe-math-element"><span class="mwe-math-mathml-inline" style="display: none;"><math alttext="{\\displaystyle E}">'
        '<mi>E</mi><annotation encoding="application/x-tex">{\\displaystyle E}</annotation></math></span>'
        '<img class="mwe-math-fallback-image-inline" alt="{\\displaystyle E}" src="e.svg"></span>',
        "${\\displaystyle E}$",
    ),
    "an image alone": ('<img class="mwe-math-fallback-image-inline" alt="E=mc^2" src="e.svg">', "$E=mc^2$"),
    "alttext and annotation": (
        '<math alttext="x_1"><semantics><msub><mi>x</mi><mn>1</mn></msub><annotation encoding="application/x-tex">x_{1}</annotation>'
        "</semantics></math>",
        "$x_{1}$",
    ),
    "alttext alone": ('<math alttext="x_1"><msub><mi>x</mi><mn>1</mn></msub></math>', "$x_1$"),
    "a script": ('<script type="math/tex">a<b</script>', "$a<b$"),
    "a script for display": ('<script type="math/tex; mode=display">a</script>', "$$a$$"),
    "a rendered form beside its script": (
        '<span class="MathJax_Preview">ab</span><span class="MathJax"><nobr>ab</nobr></span><script type="math/tex">ab</script>',
        "$ab$",
    ),
    "assistive MathML": (
        "<mjx-container><svg><g></g></svg><mjx-assistive-mml><math><msup><mi>x</mi><mn>2</mn></msup></math></mjx-assistive-mml>"
        "</mjx-container>",
        "$x^2$",
    ),
    "KaTeX": (
        '<span class="katex"><span class="katex-mathml"><math><semantics><mi>y</mi><annotation encoding="application/x-tex">y</annotation>'
        '</semantics></math></span><span class="katex-html" aria-hidden="true"><span>y</span></span></span>',
        "$y$",
    ),
    "a fraction": ("<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math>", "$\\frac{a}{b}$"),
    "a fraction of bare text": ("<math><mfrac>a b</mfrac></math>", "$\\frac{a}{b}$"),
    "a root and a sum": (
        "<math><munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><msqrt><mi>x</mi></msqrt></math>",
        "${\\sum}_i^n\\sqrt{x}$",
    ),
}


@pytest.mark.parametrize(("body", "tex"), FORMULAS.values(), ids=FORMULAS)
def test_a_formula_is_its_tex_once(body: str, tex: str) -> None:
    assert text_of(f"<p>See {body} here.</p>") == f"See {tex} here."


def test_preformatted_text_stays_as_it_stands() -> None:
    code = "def f(x):\n    if x:\n\treturn  1\n\n    return 2"
    assert text_of(f"<p>So:</p><pre>\n{code}</pre>") == f"So:\n\n{code}"
    assert text_of(f"<pre><code class='language-python'>{code}</code></pre>") == code
    assert text_of("<pre>a<br>  b</pre>") == "a\n  b"


def test_a_row_of_data_is_a_line_with_its_cells_apart_and_in_their_columns() -> None:
    table = "<table><tr><th>k</th><th>v</th><th>w</th></tr><tr><td>a</td><td></td><td>c<br>d</td></tr></table>"
    assert text_of(table) == "k\tv\tw\na\t\tc d"


def test_a_table_that_lays_out_a_page_is_no_row() -> None:
    assert text_of("<table><tr><td><p>One.</p><p>Two.</p></td><td>Three.</td></tr></table>") == "One.\n\nTwo.\n\nThree."


LINES = {
    "self-closed line breaks between paragraphs": ("<p>A</p><br/><p>B</p><hr/>", "A\n\nB"),
    "a break": ("<p>one<br>two<br><br>three</p>", "one\ntwo\n\nthree"),
    "inline elements that end no sentence": ("<p>The word<wbr>break and <button>press</button> more</p>", "The wordbreak and press more"),
    "a block inside an inline element": ("<a href='#'><div>One</div><div>Two</div></a>", "One\n\nTwo"),
    "a heading": ("<h2>Head</h2>text", "Head\n\ntext"),
    "ruby": ("<p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp>字<rt>じ</rt></ruby>です</p>", "漢(かん)字(じ)です"),
    "exponents, ordinals and notes": (
        "<p>10<sup>6</sup> km<sup>2</sup>, 1<sup>st</sup>, word<sup>1</sup>, x<sup>n</sup></p>",
        "10^6 km^2, 1st, word1, x^n",
    ),
}


@pytest.mark.parametrize(("body", "expected"), LINES.values(), ids=LINES)
def test_lines_are_where_a_reader_sees_them(body: str, expected: str) -> None:
    assert text_of(body) == expected


def test_what_is_hidden_is_no_text() -> None:
    hidden = "<div hidden>a</div><p style='display:none'>b</p><p>shown <span style='visibility: hidden'>c</span></p>"
    unread = "<svg><text>d</text></svg><select><option>e</option></select><script>f</script><style>g</style><template>h</template>"
    assert text_of(hidden + unread) == "shown"


def test_a_page_that_a_script_would_show_is_read() -> None:
    assert text_of('<p>Loading</p><div hidden id="S:0"><p>The whole article is in here, to be moved.</p></div>').endswith("to be moved.")


@pytest.mark.parametrize("piece", ["<div>", "<b><p>", "<ul><li>", "<table><tr><td>", "<math><msqrt>", "<sup>", "<ruby><rt>", "<pre>"])
def test_no_depth_of_nesting_is_too_deep(piece: str) -> None:
    assert "x" in text_of(piece * 20_000 + "x")


tags = st.sampled_from(
    ["div", "p", "span", "a", "ul", "li", "table", "tr", "td", "pre", "sup", "h1", "button", "math", "ruby", "rt", "br", "em"]
)
pages = st.recursive(
    st.text("ab \n<&", min_size=0, max_size=8),
    lambda inner: st.builds(lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>", tags, st.lists(inner, max_size=4)),
    max_leaves=30,
)


def check(page: Page) -> None:
    """What holds of every page."""
    blocks, elements = len(page.texts), len(page.tags)
    assert all(text.strip() for text in page.texts)
    assert sorted(page.end_order) == list(range(elements))
    for element, parent in enumerate(page.parents):
        assert parent < element
        assert page.first_block[element] <= page.end_block[element] <= blocks
        if parent >= 0:
            assert page.first_block[parent] <= page.first_block[element]
            assert page.end_block[element] <= page.end_block[parent]
    for block, element in enumerate(page.elements):
        assert page.first_block[element] <= block < page.end_block[element]


@settings(max_examples=300, deadline=None)
@given(html=pages)
def test_ranges_of_elements_nest_and_hold_their_blocks(html: str) -> None:
    page = read_page(html)
    check(page)
    render(page, [block % 2 == 0 for block in range(len(page.texts))])
