"""HTML to text by one of three extractors, and the one normal form of every text.

`blocks` (default) is `pipeline/ingest/main_text`. resiliparse takes the main content by rules on the tree; where those leave less than
`MIN_MAIN_CHARS`, the whole page's text is taken (trafilatura does the same with its baseline). trafilatura runs without its
deduplication, which would make a text depend on the documents before it, and without a time limit, which would make it depend on the
machine's load.
"""

from __future__ import annotations

import re
import unicodedata

from resiliparse.extract.html2text import extract_plain_text

from pipeline.ingest.config import Extractor
from pipeline.ingest.main_text.extract import main_text

MIN_MAIN_CHARS = 250

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def html_to_text(html: str, extractor: Extractor) -> str:
    """The main text of a page, not yet in normal form; empty when there is none. Raises whatever the extractor raises on a page it
    cannot take."""
    if extractor == "blocks":
        return main_text(html).text
    if extractor == "trafilatura":
        import trafilatura  # takes a second and 100 MB, which the default need not pay

        return trafilatura.extract(html, deduplicate=False, include_comments=False) or ""
    text = _plain_text(html, main_content=True)
    return text if len(text) >= MIN_MAIN_CHARS else _plain_text(html, main_content=False)


def _plain_text(html: str, *, main_content: bool) -> str:
    text: str = extract_plain_text(html, main_content=main_content, preserve_formatting=True, alt_texts=False, list_bullets=False)
    return text


def normal_text(text: str) -> str:
    r"""The one form in which text enters a document: a function of the text alone, and idempotent.

    Unicode NFC; line ends (\r\n, \r, VT, FF, NEL, LS, PS) become \n; other controls except tab, byte-order marks and non-characters go;
    lone surrogates become U+FFFD; white space at the end of a line goes, and so do blank lines at the beginning and at the end.
    """
    text = _DROPPED.sub("", _LINE_ENDS.sub("\n", text))
    if not text.isascii():
        text = _SURROGATES.sub("\ufffd", text)
        if not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
    return "\n".join([line.rstrip() for line in text.split("\n")]).strip("\n")
