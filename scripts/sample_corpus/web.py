"""The web part of the sample corpus: pages of real HTML manuals as captures, with the duplication that such pages have by nature."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .formats import Capture, Row
from .packages import licence_of
from .prose import HANDBOOK, Fetch, is_translated
from .text import html_blocks, pack, read_text, sample

INDEXES = re.compile(
    r"(?:genindex|search|modindex|sitemap|allclasses|allpackages|package-(?:tree|use|summary)|overview|index-all|class-use)"
)


@dataclass(frozen=True)
class Site:
    """A manual as a web site: pages of `package` below `root` that match `pattern`, from `low` to `high` bytes, under `url`."""

    package: str
    root: str
    url: str
    count: int
    pattern: str = "**/*.html"
    low: int = 3000
    high: int = 45_000
    content_type: str = "text/html; charset=utf-8"
    indexes: bool = False
    unwanted: str = r"^$"

    def pages(self, fetch: Fetch) -> list[Path]:
        """Its drawn pages, in the order of their names; index pages only where `indexes` asks for them."""
        root = self.folder(fetch)
        found = [
            p
            for p in sorted(root.glob(self.pattern))
            if self.low <= p.stat().st_size <= self.high
            and "_static" not in p.parts
            and bool(INDEXES.search(p.name)) == self.indexes
            and not re.search(self.unwanted, str(p.relative_to(root)))
        ]
        return sample(found, root, self.count)

    def other_pages(self, fetch: Fetch) -> list[Path]:
        """The pages that `pages` did not draw."""
        drawn = set(self.pages(fetch))
        return [p for p in dataclasses.replace(self, count=1_000_000).pages(fetch) if p not in drawn]

    def folder(self, fetch: Fetch) -> Path:
        """The folder of its pages."""
        return fetch(self.package) / self.root

    def address(self, fetch: Fetch, page: Path) -> str:
        """The URL of a page."""
        return self.url + str(page.relative_to(self.folder(fetch)))


APACHE = "usr/share/doc/apache2-doc/manual"
GNUCASH = "usr/share/doc/gnucash-docs"
SAGE = "usr/share/doc/sagemath/html"
PYTHON = "usr/share/doc/python3.11/html"
# Servers that send no charset leave it to the page: Apache's manual has EUC-KR, ISO-8859-1 and ISO-8859-2 pages beside UTF-8.
NO_CHARSET = "text/html"


def _apache(folder: str, count: int) -> Site:
    """Each language of Apache's manual has all pages; those that nobody has translated are the English ones."""
    url = f"https://httpd.apache.org/docs/2.4/{folder}/"
    return Site("apache2-doc", f"{APACHE}/{folder}", url, count, high=32_000, content_type=NO_CHARSET)


def _gnucash(language: str, folder: str, count: int) -> Site:
    path = f"gnucash-{folder}-{language}"
    code = "C" if language == "en" else language
    url = f"https://www.gnucash.org/docs/v4/{code}/gnucash-{folder}/"
    return Site("gnucash-docs", f"{GNUCASH}/{path}", url, count, high=30_000, content_type=NO_CHARSET)


def _sage(language: str, parts: str, count: int) -> Site:
    return Site(
        "sagemath-doc", f"{SAGE}/{language}/{parts}", f"https://doc.sagemath.org/html/{language}/{parts}/", count, unwanted="^index"
    )


GENERAL = (
    _gnucash("en", "guide", 54),
    _gnucash("en", "help", 20),
    Site("gimp-help-en", "usr/share/gimp/2.0/help/en", "https://docs.gimp.org/2.10/en/", 40, low=6000, high=20_000, unwanted="gfdl"),
    _apache("en", 18),
)
LANGUAGES = (
    *(_gnucash(language, "guide", 12) for language in ("de", "it", "ja", "pt")),
    *(_gnucash(language, "help", 5) for language in ("de", "it", "pt")),
    *(
        _apache(language, n)
        for language, n in (("de", 6), ("es", 8), ("fr", 13), ("ja", 12), ("ko", 12), ("tr", 10), ("pt-br", 3), ("ru", 2), ("zh-cn", 5))
    ),
)
MATHEMATICS = (
    Site("python-mpmath-doc", "usr/share/doc/python-mpmath-doc/html", "https://mpmath.org/doc/current/", 20, high=55_000),
    Site(
        "python-statsmodels-doc",
        "usr/share/doc/python-statsmodels-doc/html",
        "https://www.statsmodels.org/stable/",
        16,
        "*.html",
        high=60_000,
    ),
    _sage("en", "constructions", 16),
    _sage("en", "tutorial", 12),
    _sage("en", "thematic_tutorials", 26),
    _sage("en", "prep", 14),
    *(_sage(language, "tutorial", 5) for language in ("de", "es", "fr", "it", "ja", "pt", "ru")),
)
JAVADOC = "https://commons.apache.org/proper"
CODE = (
    Site("python3.11-doc", PYTHON, "https://docs.python.org/3.11/", 38, low=8000, high=34_000, unwanted="^(?:whatsnew|license|genindex)"),
    Site(
        "libcommons-lang-java-doc",
        "usr/share/doc/libcommons-lang-java/api",
        f"{JAVADOC}/commons-lang/javadocs/api-2.6/",
        12,
        "org/**/*.html",
        low=8000,
    ),
    Site(
        "libcommons-lang3-java-doc",
        "usr/share/doc/libcommons-lang3-java/api",
        f"{JAVADOC}/commons-lang/javadocs/api-3.12/",
        14,
        "org/**/*.html",
        low=8000,
    ),
    Site(
        "libcommons-collections3-java-doc",
        "usr/share/doc/libcommons-collections3-java/api",
        f"{JAVADOC}/commons-collections/javadocs/api-3.2/",
        7,
        "org/**/*.html",
        low=8000,
        high=30_000,
    ),
    Site(
        "libcommons-collections4-java-doc",
        "usr/share/doc/libcommons-collections4-java/api",
        f"{JAVADOC}/commons-collections/javadocs/api-4.2/",
        9,
        "org/**/*.html",
        low=8000,
        high=30_000,
    ),
)
LISTINGS = (
    Site(
        "libcommons-lang3-java-doc",
        "usr/share/doc/libcommons-lang3-java/api",
        f"{JAVADOC}/commons-lang/javadocs/api-3.12/",
        12,
        "src-html/**/*.html",
    ),
    Site("SQLAlchemy=1.4.46", "doc", "https://docs.sqlalchemy.org/en/14/", 10, "_modules/**/*.html", high=60_000),
)
INDEX_PAGES = (
    Site("python3.11-doc", PYTHON, "https://docs.python.org/3.11/", 4, "genindex-?.html", indexes=True),
    Site(
        "libcommons-lang3-java-doc",
        "usr/share/doc/libcommons-lang3-java/api",
        f"{JAVADOC}/commons-lang/javadocs/api-3.12/",
        4,
        indexes=True,
        high=20_000,
    ),
    Site("apache2-doc", f"{APACHE}/en", "https://httpd.apache.org/docs/2.4/en/", 2, "**/*.html", indexes=True, content_type=NO_CHARSET),
)
# Two versions of one manual at the same URLs: an earlier and a later capture.
VERSIONS = (
    (
        Site("SQLAlchemy=1.4.46", "doc", "https://docs.sqlalchemy.org/en/14/", 18, high=40_000, low=7000, unwanted="changelog|_modules"),
        Site("sqlalchemy=1.4.54", "doc", "https://docs.sqlalchemy.org/en/14/", 0),
    ),
    (
        Site("Mako=1.2.4", "doc", "https://docs.makotemplates.org/en/latest/", 9, high=65_000, unwanted="changelog|_modules|build"),
        Site("mako=1.3.10", "doc", "https://docs.makotemplates.org/en/latest/", 0),
    ),
)
LUAJIT = ("lupa", "third-party/luajit{}/doc", "https://luajit.org/")
HANDBOOK_WEB = (("en-US", 38), ("de-DE", 8), ("es-ES", 8), ("fr-FR", 8), ("ja-JP", 8), ("ru-RU", 8), ("zh-CN", 8))


class Clock:
    """Dates of captures: the start, then seven seconds more for each."""

    def __init__(self, start: str) -> None:
        self.now = datetime.fromisoformat(start).replace(tzinfo=UTC)

    def tick(self) -> str:
        """The next date, ISO 8601 UTC with "Z"."""
        self.now += timedelta(seconds=7)
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _captures(fetch: Fetch, sites: Iterable[Site], clock: Clock) -> Iterator[Capture]:
    for site in sites:
        for page in site.pages(fetch):
            yield Capture(site.address(fetch, page), clock.tick(), page.read_bytes(), site.content_type)


def _handbook(fetch: Fetch, clock: Clock, english_host: str, languages: Iterable[tuple[str, int]]) -> Iterator[Capture]:
    """Pages of the Debian handbook. Its English pages are published on two sites, byte for byte the same."""
    root = fetch("debian-handbook") / HANDBOOK
    for language, count in languages:
        folder = root / language
        pages = [p for p in folder.glob("*.html") if 6000 <= p.stat().st_size <= 34_000]
        if language != "en-US":
            pages = [p for p in pages if is_translated(p, root / "en-US" / p.name)]
        host = english_host if language == "en-US" else f"https://debian-handbook.info/browse/{language}/stable/"
        for page in sample(pages, root, count):
            yield Capture(host + page.name, clock.tick(), page.read_bytes())


def manuals(fetch: Fetch) -> list[Capture]:
    """First crawl: general manuals in English and other languages."""
    fetch("gimp-help-common")  # holds the copyright file of gimp-help-en
    clock = Clock("2023-03-05T06:00:00")
    handbook = _handbook(fetch, clock, "https://debian-handbook.info/browse/en-US/stable/", HANDBOOK_WEB)
    return [*_captures(fetch, (*GENERAL, *LANGUAGES), clock), *handbook]


def references(fetch: Fetch) -> list[Capture]:
    """First crawl: mathematics, programming references, their index pages, and the older versions of manuals that are captured again."""
    clock = Clock("2023-03-06T06:00:00")
    older = [old for old, _ in VERSIONS]
    return list(_captures(fetch, (*MATHEMATICS, *CODE, *LISTINGS, *INDEX_PAGES, *older), clock))


def recrawl(fetch: Fetch) -> list[Capture]:
    """Second crawl, a year later: newer versions at the same URLs, unchanged pages again, pages under a second URL, and what is no page."""
    clock = Clock("2024-04-11T18:00:00")
    found: list[Capture] = []
    for old, new in VERSIONS:
        for page in old.pages(fetch):
            name = page.relative_to(old.folder(fetch))
            again = new.folder(fetch) / name
            if again.exists():
                found.append(Capture(new.url + str(name), clock.tick(), again.read_bytes()))
    package, folder, url = LUAJIT
    luajit = Site(package, folder.format("21"), url, 13, low=1000, high=60_000, content_type=NO_CHARSET)
    found += _captures(fetch, [luajit], clock)
    found += _handbook(fetch, clock, "https://www.debian.org/doc/manuals/debian-handbook/", [("en-US", 18)])
    unchanged = [CODE[0], GENERAL[0], MATHEMATICS[2]]
    for site in unchanged:
        for page in site.pages(fetch)[::8]:
            found.append(Capture(site.address(fetch, page), clock.tick(), page.read_bytes(), site.content_type))
    return found + _no_pages(fetch, clock)


def _no_pages(fetch: Fetch, clock: Clock) -> list[Capture]:
    """Answers of servers that are no pages: an image, a style sheet, a redirect, an error page, an empty body."""
    static = fetch("python3.11-doc") / PYTHON / "_static"
    python = "https://docs.python.org/3.11/"
    moved = (
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n<title>{0}</title>\n</head><body>\n'
        "<h1>{1}</h1>\n<p>{2}</p>\n</body></html>\n"
    )
    redirect = moved.format(
        "301 Moved Permanently", "Moved Permanently", 'The document has moved <a href="https://httpd.apache.org/docs/2.4/en/">here</a>.'
    )
    missing = moved.format("404 Not Found", "Not Found", "The requested URL was not found on this server.")
    html = "text/html; charset=iso-8859-1"
    return [
        Capture(f"{python}_static/file.png", clock.tick(), (static / "file.png").read_bytes(), "image/png"),
        Capture(f"{python}_static/classic.css", clock.tick(), (static / "classic.css").read_bytes(), "text/css"),
        Capture(
            "http://httpd.apache.org/docs/2.4/en/",
            clock.tick(),
            redirect.encode(),
            html,
            "301 Moved Permanently",
            (("Location", "https://httpd.apache.org/docs/2.4/en/"),),
        ),
        Capture("https://httpd.apache.org/docs/2.4/en/old.html", clock.tick(), missing.encode(), html, "404 Not Found"),
        Capture("https://luajit.org/robots.txt", clock.tick(), b"", "text/plain"),
    ]


def early(fetch: Fetch) -> list[Capture]:
    """An early crawl, in ARC: the older manual of LuaJIT, at the URLs that the second crawl saw again."""
    package, folder, url = LUAJIT
    site = Site(package, folder.format("20"), url, 13, low=1000, high=60_000, content_type=NO_CHARSET)
    lua = Site(package, "third-party/lua51/doc", "https://www.lua.org/manual/5.1/", 3, low=1000, high=60_000, content_type=NO_CHARSET)
    return list(_captures(fetch, [site, lua], Clock("2014-07-20T09:00:00")))


def manuals_text(fetch: Fetch) -> Iterator[Row]:
    """Text of pages of the GnuCash guide and the GIMP manual that are not in the WARC files."""
    fetch("gimp-help-common")  # holds the copyright file of gimp-help-en
    for site in (GENERAL[0], GENERAL[2]):
        for page in site.other_pages(fetch):
            text = "\n\n".join(html_blocks(read_text(page)))
            if len(text) > 1500:
                yield {"id": site.address(fetch, page), "url": site.address(fetch, page), "text": text, "license": licence_of(site.package)}


def programming_guides(fetch: Fetch, size_bytes: int) -> Iterator[Row]:
    """Sources of Python's documentation for pages that are not in the WARC files, drawn by a hash of their names."""
    root = fetch("python3.11-doc") / PYTHON / "_sources"
    drawn = {site_url.removesuffix(".html") for site_url in (CODE[0].address(fetch, p) for p in CODE[0].pages(fetch))}
    names = [p for part in ("tutorial", "howto", "library", "faq") for p in (root / part).glob("*.txt")]
    names = [
        p
        for p in names
        if f"https://docs.python.org/3.11/{p.relative_to(root)}".removesuffix(".rst.txt") not in drawn and p.stat().st_size <= 40_000
    ]
    used = 0
    for path in sample(names, root, 90):
        name = str(path.relative_to(root))
        for i, text in enumerate(pack(read_text(path).split("\n\n"), 9000), 1):
            used += len(text.encode())
            if len(text) > 400 and used <= size_bytes:
                yield {"id": f"{name}#{i}", "url": f"https://docs.python.org/3.11/_sources/{name}", "text": text, "license": "PSF-2.0"}


def boilerplate(fetch: Fetch, per_site: int) -> Iterator[Row]:
    """Text that nobody would read: general indexes, class lists, change logs, licence lists, navigation pages, cut at 3.5 KB."""
    sites = (
        Site("python3.11-doc", PYTHON, "", per_site, "genindex-*.html", high=130_000, indexes=True),
        Site("python-sympy-doc", "usr/share/doc/python-sympy-doc/html", "", 2, "genindex*.html", high=2_000_000, indexes=True),
        Site("python-mpmath-doc", "usr/share/doc/python-mpmath-doc/html", "", 2, "*index.html", high=60_000, indexes=True),
        Site("libcommons-lang3-java-doc", "usr/share/doc/libcommons-lang3-java/api", "", per_site, high=60_000, indexes=True),
        Site("libcommons-collections4-java-doc", "usr/share/doc/libcommons-collections4-java/api", "", per_site, high=60_000, indexes=True),
        Site("apache2-doc", f"{APACHE}/fr", "", 4, high=60_000, indexes=True),
        Site("SQLAlchemy=1.4.46", "doc", "", 4, "changelog/*.html", high=600_000, unwanted="migration"),
        Site("sagemath-doc", f"{SAGE}/en", "", 6, "*/genindex.html", high=100_000, indexes=True),
    )
    for site in sites:
        for page in site.pages(fetch):
            name = site.package.split("=")[0]
            for i, text in enumerate(pack(html_blocks(read_text(page)), 3500, "\n")[:8], 1):
                if len(text) > 500:
                    yield {"id": f"{name}/{page.relative_to(site.folder(fetch))}#{i}", "text": text, "license": licence_of(site.package)}
