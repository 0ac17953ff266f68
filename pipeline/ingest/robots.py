"""Pages whose publisher asks not to be used for AI: `noai` or `noimageai` among the directives of a robots meta tag or an X-Robots-Tag.

Either directive counts, and so does one that names a crawler ("ccbot: noai", `<meta name="googlebot">`): a wish about AI is one about
this use, whoever fetched the page. In doubt it is read as the publisher's wish.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LOOK_BYTES = 256 << 10  # heads with styles and scripts in them are long

_DIRECTIVE = re.compile(r"(?<![\w-])no(?:image)?ai(?![\w-])", re.I)
_META = re.compile(rb"<meta\s([^<>]{0,1000})", re.I)
_NAME = re.compile(rb"""(?<![\w-])name\s*=\s*["']?\s*([\w.-]+)""", re.I)
_CONTENT = re.compile(rb"""(?<![\w-])content\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.I)
_ROBOTS = re.compile(rb"robots|[\w.-]*bot|[\w.-]*(?:crawler|spider)|google-extended|anthropic-ai|claude-web", re.I)


def header_opts_out(headers: Mapping[str, str]) -> bool:
    """Whether the headers of a response (names in lower case) say so."""
    return _DIRECTIVE.search(headers.get("x-robots-tag", "")) is not None


def page_opts_out(page: bytes) -> bool:
    """Whether a robots meta tag of an HTML page says so."""
    head = page[:LOOK_BYTES]
    if b"\0" in head:  # UTF-16: its tags are ASCII
        head = head.replace(b"\0", b"")
    lower = head.lower()
    if b"noai" not in lower and b"noimageai" not in lower:
        return False
    for tag in _META.finditer(head):
        name, content = _NAME.search(tag[1]), _CONTENT.search(tag[1])
        if name is not None and content is not None and _ROBOTS.fullmatch(name[1]):
            value = next(group for group in content.groups() if group is not None)
            if _DIRECTIVE.search(value.decode("latin-1")):
                return True
    return False
