"""Text stays true: code unchanged, addresses as labelled by hand, lines only where they repeat, bodies decoded.

CORPUS= names a folder with any of `code/*.jsonl.gz` (text), `crawl/*.warc.gz`, `documents/*.jsonl.gz` (text, url, date); without it
../shared/corpus. SEED= draws the generated bodies. The labels are of ../shared/corpus: they are compared with where that is.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from flows.graph.runs import Run
from pipeline.documents import Edit, apply_edits, parts_of, read_beside, read_documents
from pipeline.ingest.html import normal_text
from pipeline.quality.pii import Pii, pii_spans
from tests.acceptance.addresses import measure_addresses, naive_spans, read_labels
from tests.acceptance.common import SHARED, Checks, Place, arguments, place, work_folder
from tests.acceptance.generated_bodies import generate, run_cases, wrong_ones
from tests.acceptance.raw_sources import link_corpus, recipe_of
from tests.acceptance.text_rows import run_rows

BODIES = 2000
SHOWN = 5
MIN_PRECISION, MIN_RECALL = 0.99, 0.9
MIN_PRECISION_OF_FEW = 0.95  # where some fifty addresses are labelled, one that is none is 2 %
PLANTED, PLANTED_CHARACTERS = 400, 4000  # texts, and what of each is read
ADDRESSES = [  # a line, and the address in it
    ("# Author: Jane Doe <jane.doe@mail.acme-works.org>", "jane.doe@mail.acme-works.org"),
    ("Please write to info@stadtbibliothek-koeln.de for details.", "info@stadtbibliothek-koeln.de"),
    ("contact: o'brien.k+list@cs.ucl.ac.uk", "o'brien.k+list@cs.ucl.ac.uk"),
    ("联系我们support@example-shop.com.cn谢谢", "support@example-shop.com.cn"),
    ("Maintainer: m.rossi@unibo.it (primary)", "m.rossi@unibo.it"),
    ('<a href="mailto:press@gov.scot">press office</a>', "press@gov.scot"),
    ("Connection from host 84.112.7.9 port 22", "84.112.7.9"),
]
LOOKALIKES = [
    ("this@SettingsActivity.finish()", ""),
    ("return self.weights@inputs.transpose(1)", ""),
    ('label = "#{@cart.total.round}"', ""),
    ('<script src="https://cdn.example.net/npm/react@latest.min.js"></script>', ""),
    ("background: url(logo@2x.png)", ""),
    ("implementation group version 3.1.4.1", ""),
    ("OID 1.3.6.1.4.1.311", ""),
    ("see chapter 2.10.5.12 of the manual", ""),
    ("npm install left-pad@1.3.0", ""),
    ("git clone git@github.com:torvalds/linux.git", ""),
    ("@property.setter", ""),
]
ALL_CLASSES = ["web", "general", "math", "code", "multilingual"]


class Edited(NamedTuple):
    """A document and what select would change of it."""

    source: str
    text_class: str
    text: str
    edits: list[Edit]


def edited_documents(run: Run) -> Iterator[Edited]:
    """Every document of a run, kept or not."""
    for source, documents in run.manifests("documents").items():
        for part in range(parts_of(documents)):
            table = read_documents(run.store, documents, part, ["id", "text"])
            rows = read_beside(run.store, run.need("select"), source, part, table["id"], ["text_class", "edits"]).to_pylist()
            for text, row in zip(table["text"].to_pylist(), rows, strict=True):
                yield Edited(source, row["text_class"], text, [Edit(**edit) for edit in row["edits"]])


def row_checks(checks: Checks, folder: Path) -> None:
    """Each row of what goes wrong has tests of its kind, and they pass."""
    for row, (passed, cases) in run_rows(folder).items():
        checks.check(row, f"{passed} of {cases}", "all its tests, at least one", 0 < passed == cases)


def run_checks(checks: Checks, run: Run) -> None:
    """No edit in code, no line removed in code or mathematics, although every source's lines are counted."""
    changed, lines, classes = 0, Counter[str](), Counter[str]()
    for one in edited_documents(run):
        classes[one.text_class] += 1
        removals = sum(edit.replacement == "" for edit in one.edits)
        lines[one.text_class] += removals
        if one.text_class == "code":
            changed += apply_edits(one.text, one.edits) != one.text
    checks.check("documents of code that an edit changes", f"{changed:,} of {classes['code']:,}", "none", changed == 0)
    for text_class in ("code", "math"):
        checks.check(
            f"lines removed in {text_class}", f"{lines[text_class]:,} in {classes[text_class]:,} documents", "none", not lines[text_class]
        )
    checks.note("lines removed elsewhere", " ".join(f"{name} {lines[name]:,}" for name in ("web", "general", "multilingual")))


def planted_checks(checks: Checks, run: Run, seed: int) -> None:
    """Addresses and what only looks like one, put between the lines of the corpus's own texts: each found to the byte, or left."""
    rng, kinds = random.Random(seed), (ADDRESSES, LOOKALIKES)
    found, asked = {find: [0, 0] for find in (pii_spans, naive_spans)}, [0, 0]
    for one in islice(edited_documents(run), PLANTED):
        lines = one.text[:PLANTED_CHARACTERS].split("\n")
        kind = rng.randrange(2)
        line, address = rng.choice(kinds[kind])
        before = "".join(f"{other}\n" for other in lines[: rng.randrange(len(lines)) + 1])
        text, start = f"{before}{line}\n{one.text[len(before) : PLANTED_CHARACTERS]}", len(before.encode())
        at = start + len(line[: line.index(address)].encode())
        asked[kind] += 1
        for find, right in found.items():
            spans = {(span.start, span.end) for span in find(text) if span.end > start and span.start < start + len(line.encode())}
            right[kind] += spans == ({(at, at + len(address.encode()))} if kind == 0 else set())
    ours, naive = found[pii_spans], found[naive_spans]
    checks.check(
        "planted addresses found to the byte", f"{ours[0]} of {asked[0]}", f"at least {MIN_RECALL}", ours[0] >= MIN_RECALL * asked[0]
    )
    least = MIN_PRECISION * asked[1]
    checks.check("planted lookalikes left alone", f"{ours[1]} of {asked[1]}", f"at least {MIN_PRECISION}", ours[1] >= least)
    checks.sabotage("lookalikes and a pattern alone", naive[1] < least, f"it leaves {naive[1]} of {asked[1]}")


def address_checks(checks: Checks, here: Place, corpus: Path) -> None:
    """With addresses on in code, what a run replaces there; beside the labels, where the corpus is the one that they speak of."""

    def everywhere(raw: dict[str, Any]) -> None:
        raw["select"]["pii"] = {"text_classes": ALL_CLASSES}
        raw["name"] = "text-addresses-everywhere"

    there = here.with_recipe(everywhere, "everywhere.yaml")
    there.run("--to", "select")
    found, replaced = dict[str, list[Pii]](), 0
    for one in edited_documents(there.state()):
        spans = [Pii(edit.start, edit.end, "") for edit in one.edits if edit.replacement]
        found[_digest(one.text)] = spans
        replaced += len(spans) if one.text_class == "code" else 0
    checks.note("addresses replaced in code, where they are asked for", f"{replaced:,}")
    if corpus.resolve() != (SHARED / "corpus").resolve():
        return
    labels = [label for label in read_labels() if label["file"].startswith("code/")]
    absent = list[str]()

    def in_the_run(text: str) -> list[Pii]:
        """What the run replaced in a text, at its places in the raw text: ingest keeps no white space at the ends of lines."""
        stored, raw = normal_text(text).encode(), text.encode()
        if (digest := _digest(stored.decode())) not in found:
            absent.append(digest)
        places = list[Pii]()
        for span in found.get(digest, []):
            address, at = stored[span.start : span.end], -1
            for _ in range(stored[: span.start].count(address) + 1):
                at = raw.index(address, at + 1)
            places.append(Pii(at, at + len(address), ""))
        return places

    figures = measure_addresses(corpus, in_the_run, labels)
    checks.check("labelled texts of code that the run has", f"{len({x['row'] for x in labels}) - len(absent)}", "all", not absent)
    _labelled(checks, "in code, as the run replaced them", figures, MIN_PRECISION_OF_FEW)
    _labelled(checks, "in all texts", measure_addresses(corpus), MIN_PRECISION)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _labelled(checks: Checks, where: str, figures: dict[str, float], least: float) -> None:
    for kind, name in (("email", "e-mail"), ("ip", "IP")):
        places, addresses = int(figures[f"{kind}_places"]), int(figures[f"{kind}_addresses"])
        precision, recall = figures[f"{kind}_precision"], figures[f"{kind}_recall"]
        figure = f"{precision:.4f}, {recall:.4f}"
        asked = f"at least {least} and {MIN_RECALL}, of {addresses} in {places} places"
        checks.check(
            f"{name} addresses {where}: precision, recall",
            figure,
            asked,
            not addresses or (precision >= least and recall >= MIN_RECALL),
        )


def body_checks(checks: Checks, seed: int) -> None:
    """Generated bodies become the right text or a counted reason."""
    wrong = wrong_ones(run_cases(generate(seed, BODIES)))
    checks.check("generated bodies that become the right text or reason", f"{BODIES - len(wrong):,} of {BODIES:,}", "all", not wrong)
    for line in wrong[:SHOWN]:
        checks.note(line[:200], "")


def main() -> None:
    """Run the checks."""
    assert __doc__
    given = arguments(__doc__, ("corpus", "seed"))
    corpus = given.corpus or SHARED / "corpus"
    checks = Checks("text", __doc__)
    with work_folder("text") as folder:
        row_checks(checks, folder)
        body_checks(checks, given.seed)
        raw = recipe_of(corpus, "text", given.seed)
        for source in raw["sources"]:
            source["line_dedup"] = True
        (folder / "text.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        here = place(folder / "place", folder / "text.yaml", raw_root=link_corpus(corpus, folder / "raw"))
        here.run("--to", "select", echo=True)
        run_checks(checks, here.state())
        planted_checks(checks, here.state(), given.seed)
        address_checks(checks, here, corpus)
    checks.finish()


if __name__ == "__main__":
    main()
