"""The main text of a page: its blocks, those of them that the model keeps, as text.

Bounds are on what a page is, never on time: bytes (the recipe's `max_record_bytes`) and elements (`blocks.MAX_ELEMENTS`); every step is
linear in them, whatever the nesting.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.ingest.main_text.blocks import read_page
from pipeline.ingest.main_text.network import kept, network, scores
from pipeline.ingest.main_text.render import render
from pipeline.ingest.main_text.signals import signals_of


class MainText(NamedTuple):
    """What a page says, and the blocks that were left out, in the order of the page. Neither is in normal form."""

    text: str
    dropped: tuple[str, ...]


def main_text(html: str) -> MainText:
    """The main text of a page; empty where nothing on it is text. Raises PageTooLargeError."""
    page = read_page(html)
    if not page.texts:
        return MainText("", ())
    signals = signals_of(page)
    net = network()
    keep = kept(scores(page, signals, net), signals.n_words, net)
    return MainText(render(page, keep), tuple(text for text, is_kept in zip(page.texts, keep, strict=True) if not is_kept))
