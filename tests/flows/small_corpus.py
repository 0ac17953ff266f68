"""A corpus of some 300 kB, made by arithmetic: every reader, every deduplication, four domains. For `flows/recipes/test.yaml`.

`python -m tests.flows.small_corpus FOLDER` writes it; then `CARAVAN_RAW_ROOT=FOLDER caravan run --recipe test`.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NOUNS = """river mountain teacher engine garden letter market winter village captain doctor window history silver harbour library machine
student science kitchen island forest soldier painter bridge merchant question answer language village farmer island journey castle
weather family country city morning evening battle treaty council worker school hospital railway station theatre museum captain
elephant sparrow granite copper cotton timber flour honey pepper saffron canvas velvet lantern compass anchor barrel chimney"""
VERBS = """carried followed watched repaired discovered described measured remembered painted answered questioned crossed visited
built guarded studied admired collected counted opened closed borrowed returned explained noticed changed improved protected"""
ADJECTIVES = """old young quiet large small bright heavy careful distant famous gentle honest narrow patient rapid silent sturdy
useful valuable warm wooden ancient curious empty faithful golden hidden lonely modern northern"""
NOUN_, VERB_, ADJ_ = NOUNS.split(), VERBS.split(), ADJECTIVES.split()
LINKS = ["because", "although", "while", "after", "before", "and then", "so that", "but"]

GERMAN = """Der Fluss fließt langsam durch das alte Dorf|Die Lehrerin erklärt den Kindern die Geschichte der Stadt|Im Winter liegt
viel Schnee auf den hohen Bergen|Der Kapitän hat gestern einen langen Brief geschrieben|Wir gehen jeden Morgen über die Brücke zum
Markt|Das Museum öffnet um neun Uhr und schließt am Abend|Die Bauern verkaufen Honig und frisches Brot|Niemand wusste, woher der
Fremde gekommen war""".replace("\n", " ").split("|")
FRENCH = """La rivière traverse lentement le vieux village|Le professeur explique aux enfants l'histoire de la ville|En hiver il y a
beaucoup de neige sur les montagnes|Le capitaine a écrit hier une longue lettre à sa famille|Nous allons chaque matin au marché par le
pont|Le musée ouvre à neuf heures et ferme le soir|Les paysans vendent du miel et du pain frais|Personne ne savait d'où venait
l'étranger""".replace("\n", " ").split("|")


def sentence(rng: random.Random) -> str:
    """An English sentence without sense."""
    text = f"the {rng.choice(ADJ_)} {rng.choice(NOUN_)} {rng.choice(VERB_)} the {rng.choice(NOUN_)} of the {rng.choice(NOUN_)}"
    if rng.random() < 0.6:
        text += f" {rng.choice(LINKS)} that {rng.choice(NOUN_)} have {rng.choice(VERB_)} a {rng.choice(ADJ_)} {rng.choice(NOUN_)}"
    return text[0].upper() + text[1:] + "."


def prose(rng: random.Random, paragraphs: int) -> list[str]:
    """English paragraphs."""
    return [" ".join(sentence(rng) for _ in range(rng.randint(4, 7))) for _ in range(paragraphs)]


def page(title: str, paragraphs: list[str]) -> str:
    """An HTML page with boilerplate around its text."""
    body = "".join(f"<p>{text}</p>\n" for text in paragraphs)
    links = "".join(f'<li><a href="/{n}">Section {n}</a></li>' for n in range(8))
    return (
        f"<!DOCTYPE html><html><head><title>{title}</title></head><body><nav><ul>{links}</ul></nav>"
        f"<main><article><h1>{title}</h1>{body}</article></main><footer>Imprint and contact</footer></body></html>"
    )


def record(n: int, url: str, date: str, html: str) -> bytes:
    """One response record of a WARC, a gzip member of its own."""
    http = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(html.encode())}\r\n\r\n{html}".encode()
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-{n:012d}>\r\nWARC-Target-URI: {url}\r\n"
        f"WARC-Date: {date}\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    ).encode()
    return gzip.compress(head + http + b"\r\n\r\n", mtime=0)


NOTICE = "All views in this article are those of the editors of the harbour gazette and of nobody else in the village."


def pages(rng: random.Random) -> list[tuple[str, str, str]]:
    """(URL, date, HTML) of web pages, with every kind of duplicate, a short one, and one with an address."""
    found = []
    for n in range(48):
        text = prose(rng, rng.randint(3, 6))
        if n % 4 == 0:
            text.append(NOTICE)
        if n == 5:
            text.append("Write to anna.example@mail.example.org or call the host at 10.20.30.40 for the other pages.")
        found.append((f"https://gazette.example/{n}", f"2024-01-{n % 28 + 1:02d}T00:00:00Z", page(f"Story {n}", text)))
        if n % 12 == 1:
            found.append((f"https://gazette.example/{n}", "2024-03-01T00:00:00Z", page(f"Story {n}, revised", prose(rng, 4))))
        if n % 12 == 2:
            found.append((f"https://mirror.example/{n}", "2024-02-01T00:00:00Z", found[-1][2]))
        if n % 6 == 3:
            words = " ".join(text).split()
            words[len(words) // 2] = "somewhere"
            found.append((f"https://copy.example/{n}", "2024-02-01T00:00:00Z", page(f"Story {n}", [" ".join(words)])))
    found.append(("https://gazette.example/short", "2024-01-01T00:00:00Z", page("Short", ["Nothing here."])))
    for n in range(8):
        formulas = [
            f"Let $x_{{{k}}} = {rng.randint(2, 99)}$ and $\\sum_{{i=1}}^{{n}} i^{k} \\leq {rng.randint(2, 99)} n^{k + 1}$."
            for k in range(9)
        ]
        found.append((f"https://math.example/{n}", "2024-01-01T00:00:00Z", page(f"Lemma {n}", ["Proof of the lemma follows.", *formulas])))
    return found


def proof(rng: random.Random, n: int) -> str:
    """Mathematical text."""
    lines = [f"Theorem {n}. Let $a, b \\in \\mathbb{{Z}}$ with $a = {rng.randint(2, 999)}$ and $b = {rng.randint(2, 999)}$."]
    for k in range(rng.randint(8, 14)):
        x, y = rng.randint(2, 99), rng.randint(2, 99)
        lines.append(
            f"Step {k}: we have ${x} \\cdot {y} = {x * y}$, hence $f_{{{k}}}(x) = \\frac{{{x} x^{k} + {y}}}{{\\sqrt{{{x + y}}}}}$."
        )
        lines.append(
            f"By induction the sum $\\sum_{{i=0}}^{{{x}}} i$ equals ${x * (x + 1) // 2}$ as was to be shown of {rng.choice(NOUN_)}."
        )
    return "\n".join(lines)


def code(rng: random.Random, n: int) -> str:
    """A Python module."""
    lines = [f'"""Module {n}: {sentence(rng)}"""', "", "import math", ""]
    for _ in range(rng.randint(4, 7)):
        name, argument, other = rng.choice(VERB_), rng.choice(NOUN_), rng.choice(NOUN_)
        lines += [f"def {name}_{argument}({argument}, {other}={rng.randint(1, 99)}):", f'    """{sentence(rng)}"""']
        lines += [
            f"    total_{other} = {argument} * {rng.randint(2, 9)} + math.sqrt({other})",
            f"    for step in range({rng.randint(3, 30)}):",
        ]
        lines += [f"        if step % {rng.randint(2, 5)} == 0:", f"            total_{other} += step", f"    return total_{other}", ""]
    return "\n".join(lines)


def write_corpus(folder: Path, *, seed: int = 7, extra_file: bool = False) -> Path:
    """Write the corpus. With `extra_file` one more file of essays. Returns `folder`."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    records = [record(n, *row) for n, row in enumerate(pages(rng))]
    (folder / "pages-0.warc.gz").write_bytes(b"".join(records[: len(records) // 2]))
    (folder / "pages-1.warc.gz").write_bytes(b"".join(records[len(records) // 2 :]))
    essays = [{"key": f"essay-{n}", "text": "\n\n".join(prose(rng, rng.randint(3, 6)))} for n in range(90)]
    (folder / "essays.jsonl").write_text("".join(json.dumps(row) + "\n" for row in essays))
    pq.write_table(pa.table({"body": [proof(rng, n) for n in range(70)]}), folder / "proofs.parquet")
    (folder / "code").mkdir(exist_ok=True)
    for n in range(70):
        (folder / "code" / f"module_{n:03d}.py").write_text(code(rng, n))
    foreign = []
    for n in range(70):
        lines = list(GERMAN if n % 2 else FRENCH)
        rng.shuffle(lines)
        text = "\n".join(f"{line}, {n * 31 + k * 7} {lines[(k + n) % 8].lower()}." for k, line in enumerate(lines))
        foreign.append({"text": text, "address": f"https://monde.example/{n}", "day": "2023-05-01"})
    with gzip.open(folder / "foreign.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in foreign)
    if extra_file:
        (folder / "essays-more.jsonl").write_text(json.dumps({"key": "one-more", "text": "\n\n".join(prose(rng, 4))}) + "\n")
    return folder


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
