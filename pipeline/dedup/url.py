"""Normalised URLs: two addresses that serve one page by the conventions of the web become one string.

Source: RFC 3986, section 6 (case, percent-encoding, path segments, scheme's default port), UTS 46 without transitional processing for
hosts, as browsers have it (ß and ss are two), HTML forms for queries (`+` is a space), and the usual conventions of crawlers (fragments,
tracking parameters in query and path, index pages, a trailing slash). A fragment that begins with ! or / is the page that a script shows,
and stays. Deviations from the RFC: http and https are one; parameters are sorted by name, those of one name stay in their order; `www.`
is kept.
"""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatchcase
from urllib.parse import SplitResult, unquote, urlsplit

import idna
from pydantic import Field

from storage.strict import Strict

TRACKING_PARAMETERS = (
    "utm_*", "fbclid", "gclid", "gclsrc", "dclid", "msclkid", "yclid", "mc_cid", "mc_eid", "igshid", "_ga", "_gl", "mkt_tok", "phpsessid",
    "jsessionid", "sessionid",
)  # fmt: skip
INDEX_PAGES = ("index.html", "index.htm", "index.php", "default.html", "default.htm", "default.asp", "default.aspx")
_PORTS = {"http": 80, "https": 443, "ftp": 21}
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
ROUTES = ("!", "/")
_NOT_IN_HOSTS = re.compile(r"[\x00-\x20\x7f#%/:<>?@\[\\\]^|]")
_SEMICOLON = re.compile(r"(;|%3B)")
_EQUALS = re.compile(r"=|%3D")
_AMPERSANDS = re.compile(r"^(?:amp;)+")  # of "&amp;" in HTML that was not unescaped
_ESCAPE = re.compile(rb"%(?:([0-9A-Fa-f]{2}))?")
_KEPT = frozenset(range(0x21, 0x7F)) - frozenset(b'"<>\\^`{|}')


class UrlConfig(Strict):
    """What of a URL does not count."""

    tracking_parameters: tuple[str, ...] = Field(
        TRACKING_PARAMETERS, description="parameters of query and path (;name=value) that are dropped; lower case, `*` stands for anything"
    )
    index_pages: tuple[str, ...] = Field(INDEX_PAGES, description="last path segments that mean the folder; lower case")


def normalize_url(url: str, config: UrlConfig) -> str | None:
    """The normalised form of an absolute URL with a host, without its scheme where that is http or https; None when `url` is no such URL.

    Idempotent when `http:` is put before a result that starts with `//`.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = _host(parts), parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if not host or not scheme:
        return None
    if port is not None and port != _PORTS.get(scheme):
        host = f"{host}:{port}"
    path, query = _path(parts.path, config), _query(parts.query, config)
    prefix = "" if scheme in ("http", "https") else f"{scheme}:"
    route = _escapes(parts.fragment) if parts.fragment.startswith(ROUTES) and len(parts.fragment.strip("!/")) > 0 else ""
    return f"{prefix}//{host}{path}{'?' + query if query else ''}{'#' + route if route else ''}"


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").rstrip(".")
    if ":" in host:
        return f"[{host}]"
    if "%" in host and not _NOT_IN_HOSTS.search(decoded := unquote(host)):
        host = decoded.lower()
    if host.isascii():
        return host
    try:
        mapped = idna.uts46_remap(host, std3_rules=False, transitional=False).rstrip(".")
    except idna.IDNAError:
        return host
    if _NOT_IN_HOSTS.search(mapped):
        return host
    # By hand: idna.encode also refuses what browsers and registries take, such as emoji.
    return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in mapped.split("."))


def _path(path: str, config: UrlConfig) -> str:
    segments: list[str] = []
    for whole in _escapes(path).split("/"):
        segment = _without_tracking(whole, config)
        if segment == "..":
            del segments[-1:]
        elif segment not in (".", ""):
            segments.append(segment)
    while segments and segments[-1].lower() in config.index_pages:
        segments.pop()
    return "".join(f"/{segment}" for segment in segments)


def _query(query: str, config: UrlConfig) -> str:
    fields = [_AMPERSANDS.sub("", _escapes(field.replace("+", " "))) for field in query.split("&") if field]
    kept = [_without_tracking(field, config) for field in fields if not _is_tracking(field, config)]
    return "&".join(sorted((field for field in kept if field), key=lambda field: field.partition("=")[0]))


def _without_tracking(segment: str, config: UrlConfig) -> str:
    """A path segment, or a field of a query, without the parameters behind it ("a;jsessionid=1") that are tracking."""
    first, *rest = _SEMICOLON.split(segment)  # separators are every second part
    kept = [mark + parameter for mark, parameter in zip(rest[::2], rest[1::2], strict=True) if not _is_tracking(parameter, config)]
    return "".join([first, *kept])


def _is_tracking(parameter: str, config: UrlConfig) -> bool:
    name = _EQUALS.split(parameter, maxsplit=1)[0].lower()
    return any(fnmatchcase(name, pattern) for pattern in config.tracking_parameters)


def _escapes(text: str) -> str:
    """Percent-encoding in one form: what needs none is decoded, what needs it is encoded, hex digits are capitals."""

    def once(match: re.Match[bytes]) -> bytes:
        byte = int(match[1], 16) if match[1] else 0x25  # a stray % is one that needs encoding
        return bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte

    data = _ESCAPE.sub(once, text.encode("utf-8", "surrogatepass"))
    return "".join(chr(byte) if byte in _KEPT else f"%{byte:02X}" for byte in data)


def url_key(url: str, config: UrlConfig) -> bytes | None:
    """16-byte hash of the normalised URL; None when there is none."""
    normal = normalize_url(url, config)
    return None if normal is None else hashlib.blake2b(normal.encode(), digest_size=16).digest()
