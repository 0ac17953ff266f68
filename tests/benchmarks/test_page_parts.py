"""What is measured of pages shows what an extractor loses: each part that goes lowers its own share alone."""

from __future__ import annotations

from benchmarks.page_parts import Kept, formulas, list_items, preformatted, table_rows

HTML = """<main><p>Before the list.</p><ul><li>Fill the kettle first.</li><li>Boil the water <b>well</b>.</li><li><a href="/">All our
kettles</a></li></ul><pre>
def boil(water):
    return water + 80
</pre><table><tr><td>Copper</td><td>384</td></tr><tr><td>Iron</td><td>449</td></tr></table>
<p><math alttext="E=mc^2"><mi>E</mi></math></p></main>"""
TEXT = """Before the list.

Fill the kettle first.
Boil the water well.

def boil(water):
    return water + 80

Copper\t384
Iron\t449

$E=mc^2$"""


def shares(text: str) -> dict[str, float]:
    """The shares of the page's parts in `text`, its main text being all of it."""
    kept = Kept.none()
    kept.add(HTML, None, text)
    return {name: share.value for name, share in vars(kept).items()}


def test_the_parts_of_a_page_are_found() -> None:
    assert list(list_items(HTML)) == ["Fill the kettle first.", "Boil the water well."]
    assert list(preformatted(HTML)) == ["def boil(water):\n    return water + 80"]
    assert list(table_rows(HTML)) == [["Copper", "384"], ["Iron", "449"]]
    assert list(formulas(HTML)) == ["E=mc^2"]


def test_a_text_with_all_parts_has_all_shares() -> None:
    assert set(shares(TEXT).values()) == {1.0}


def test_each_loss_shows_in_its_own_share() -> None:
    losses = {
        "items": TEXT.replace("Fill the kettle first.\n", ""),
        "item_lines": TEXT.replace("first.\nBoil", "first. Boil"),
        "preformatted": TEXT.replace("    return", "return"),
        "rows": TEXT.replace("Copper\t384", "Copper384"),
        "formulas": TEXT.replace("$E=mc^2$", "E"),
    }
    for name, text in losses.items():
        found = shares(text)
        assert found.pop(name) < 1
        assert set(found.values()) == {1.0}
