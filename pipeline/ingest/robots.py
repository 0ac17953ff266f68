"""Pages whose publisher asks not to be used for AI: `noai` or `noimageai` among the directives of a robots meta tag or an X-Robots-Tag.

Either directive counts, and so does one that names a crawler ("ccbot: noai", `<meta name="googlebot">`): a wish about AI is one about
this use, whoever fetched the page. In doubt it is read as the publisher's wish.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LOOK_BYTES = 256 << 10  # heads with styles and scripts in them are long
MAX_TAG_BYTES = 1200

_DIRECTIVE = re.compile(r"(?<![\w-])no(?:image)?ai(?![\w-])", re.I)
_META = re.compile(rb"<meta(?=[\s/])", re.I)
_IN_TAG = re.compile(rb"""(?:[^<>"']|"[^"]*"|'[^']*'|["'])*""")
_ATTRIBUTE = re.compile(rb"""([^\s"'<>/=]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
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
    return any(_opts_out(head[tag.end() : tag.end() + MAX_TAG_BYTES]) for tag in _META.finditer(head))


def _opts_out(tag: bytes) -> bool:
    """Whether a robots meta tag says so; `tag` is what is behind its name, and more."""
    inside = _IN_TAG.match(tag)
    attributes: dict[bytes, bytes] = {}
    for name, *values in _ATTRIBUTE.findall(inside[0] if inside else b""):
        attributes.setdefault(name.lower(), b"".join(values).strip())
    names = attributes.get(b"name", b"").rstrip(b"/"), attributes.get(b"http-equiv", b"").lower()
    is_robots = _ROBOTS.fullmatch(names[0]) is not None or names[1] == b"x-robots-tag"
    return is_robots and _DIRECTIVE.search(attributes.get(b"content", b"").decode("latin-1")) is not None
