"""Normalised URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup.url import UrlConfig, normalize_url, url_key

CONFIG = UrlConfig()
BASE = "//example.org/a/b"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a/b",
        "https://example.org/a/b",
        "  HTTP://EXAMPLE.ORG/a/b  ",
        "http://example.org:80/a/b",
        "https://example.org:443/a/b/",
        "http://example.org./a/b",
        "http://user:password@example.org/a/b#top",
        "http://example.org/a/./c/../b",
        "http://example.org//a//b",
        "http://example.org/%61/%62",
        "http://example.org/a/b/index.html",
        "http://example.org/a/b/Index.PHP?",
        "http://example.org/a/b?utm_source=x&fbclid=1",
        "http://example.org/a/b;jsessionid=1F",
        "http://example.org/a;JSESSIONID=1F.node2/b/index.html;jsessionid=2",
        "http://example.org/a/b%3Bjsessionid=1F",
        "http://example.org/a/b#!",
        "http://%65xample.org/a/b",
    ],
)
def test_these_are_one_page(url: str) -> None:
    """Scheme, case of the host, default port, fragment, dots, slashes, escapes, index pages and tracking parameters do not count."""
    assert normalize_url(url, CONFIG) == BASE


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://example.org/A/b", "//example.org/A/b"),
        ("http://example.org:8080/a/b", "//example.org:8080/a/b"),
        ("http://www.example.org/a/b", "//www.example.org/a/b"),
        ("http://example.org/a/b?page=2", "//example.org/a/b?page=2"),
        ("http://example.org/a/b?y=1&x=2&utm_id=3", "//example.org/a/b?x=2&y=1"),
        ("http://example.org/a/b?id=2&id=1&a=3", "//example.org/a/b?a=3&id=2&id=1"),
        ("http://example.org/a/b?id=1&a=3&id=2", "//example.org/a/b?a=3&id=1&id=2"),
        ("http://example.org/a/b?x=1&amp;utm_id=3&amp;amp;a=2", "//example.org/a/b?a=2&x=1"),
        ("http://example.org/a%2Fb", "//example.org/a%2Fb"),
        ("http://example.org/a/b/index.htm.html", "//example.org/a/b/index.htm.html"),
        ("ftp://example.org/a/b", "ftp://example.org/a/b"),
        ("http://example.org/a/b;v=2;jsessionid=1", "//example.org/a/b;v=2"),
        ("http://example.org/a/b?q=a+b", "//example.org/a/b?q=a%20b"),
        ("http://example.org/a/b?q=a%20b", "//example.org/a/b?q=a%20b"),
        ("http://example.org/a/b?q=a%2Bb", "//example.org/a/b?q=a%2Bb"),
        ("http://example.org/a+b", "//example.org/a+b"),
        ("http://example.org/a/b#!/page1", "//example.org/a/b#!/page1"),
        ("http://example.org/a/b#/page2", "//example.org/a/b#/page2"),
        ("http://faß.example/", "//xn--fa-hia.example"),
        ("http://fass.example/", "//fass.example"),
        ("http://FAẞ.example/", "//xn--fa-hia.example"),
        ("http://b%C3%BCcher.example/", "//xn--bcher-kva.example"),
        ("http://i❤.example/", "//xn--i-7iq.example"),
        ("http://例え。テスト/", "//xn--r8jz45g.xn--zckzah"),
        ("http://bücher.example/ä", "//xn--bcher-kva.example/%C3%A4"),
        ("http://[::1]:80/x", "//[::1]/x"),
        ("http://example.org/100%", "//example.org/100%25"),
    ],
)
def test_these_are_other_pages(url: str, normal: str) -> None:
    """What a server may answer differently stays apart: case of the path, ports, subdomains, parameters, escaped slashes."""
    assert normalize_url(url, CONFIG) == normal != BASE


@pytest.mark.parametrize(
    "url", ["", "no url", "/relative/path", "mailto:someone@example.org", "http://", "http://[::1", "http://example.org:port/"]
)
def test_what_is_no_url_has_no_key(url: str) -> None:
    """Without a scheme and a host, or malformed: None, so that such documents are never grouped by it."""
    assert normalize_url(url, CONFIG) is None
    assert url_key(url, CONFIG) is None


def test_lists_come_from_the_configuration() -> None:
    """A recipe's own tracking parameters and index pages replace the defaults."""
    own = UrlConfig(tracking_parameters=("ref*",), index_pages=("home.jsp",))
    assert normalize_url("http://example.org/home.jsp?referrer=x&utm_source=y", own) == "//example.org?utm_source=y"


_PIECES = st.lists(st.sampled_from([*"aB0%25~/.?&=#;! é+Zİ", "jsessionid=1", "amp;", "%3B", "..", "index.php"]), max_size=12).map("".join)


_HOSTS = st.text(st.sampled_from("aBß。.é%C3❤İx-ẞ\u200dع１"), max_size=8).map("Example{}.org".format)  # noqa: RUF001


@given(
    host=_HOSTS,
    path=_PIECES,
    query=_PIECES,
    port=st.sampled_from(["", ":80", ":443", ":81"]),
    tail=st.sampled_from(["", "/", "/index.html", "#x", "#!/x y"]),
)
def test_normalisation_is_idempotent(host: str, path: str, query: str, port: str, tail: str) -> None:
    """The normal form of a normal form is itself."""
    once = normalize_url(f"http://{host}{port}/{path}{tail}?{query}", CONFIG)
    assert once is not None
    assert normalize_url(f"http:{once}", CONFIG) == once
