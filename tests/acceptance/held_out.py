"""What training covers is not evaluated, added sources move nothing, near duplicates go for one that stays.

Recomputed from the texts by code of its own (own_words.py). CORPUS= names a folder with any of `code/*.jsonl.gz` (text), `crawl/*.warc.gz`,
`documents/*.jsonl.gz` (text, url, date); without it ../shared/corpus. SEED= draws which texts are held out.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.graph.runs import Run
from pipeline.coverage import EVALUATED, verdicts
from pipeline.documents import document_id, parts_of, read_beside, read_documents, survivors
from tests.acceptance.common import SHARED, TEST_RECIPE, Checks, Place, arguments, place, work_folder
from tests.acceptance.own_words import Grams, is_spaced, own_jaccard
from tests.acceptance.raw_sources import link_corpus, recipe_of

FEW_DOCUMENTS = 20  # held out of a domain: of fewer a share says nothing
MAX_WORDS_IN_50_GRAMS = 0.001
MIN_LEFT = 0.7
NGRAM_WORDS, MIN_JACCARD = 5, 0.8  # of near duplicates: the defaults of a recipe
OTHER_CUT = 0.02  # of a Jaccard similarity, where words may be cut otherwise
TRAINING = ("tokenize", "mix", "pretrain", "train_tokenizer", "select", "dedup")
TWINS = 60
WINDOWS, WINDOW_WORDS, STEP_WORDS = 60, 200, 5


@dataclass(frozen=True)
class HeldOut:
    """A kept held-out document: its row of coverage, and its edited text."""

    id: bytes
    source: str
    domain: str
    verdict: str
    text: str


def held_out_documents(run: Run) -> list[HeldOut]:
    """Every kept held-out document of a run."""
    inputs, selection, coverage = _inputs(run), run.need("select"), run.need("coverage")
    found = []
    for part in range(parts_of(next(iter(inputs.values())))):
        rows = verdicts(run.store, coverage, part).to_pylist()
        for row, kept in zip(rows, survivors(run.store, inputs, selection, part, "held_out"), strict=True):
            assert row["id"] == kept.id
            found.append(HeldOut(kept.id, kept.source, row["domain"], row["verdict"], kept.text))
    return found


def _inputs(run: Run) -> dict[str, Any]:
    return {f"documents.{source}": manifest for source, manifest in run.manifests("documents").items()}


def training_texts(run: Run) -> Iterator[str]:
    """The edited text of every selected training document."""
    inputs = _inputs(run)
    for part in range(parts_of(next(iter(inputs.values())))):
        for row in survivors(run.store, inputs, run.need("select"), part, "train"):
            yield row.text


def coverage_checks(checks: Checks, run: Run) -> None:
    """What is left holds next to nothing of training; a training document among it would be seen."""
    every = held_out_documents(run)
    left = [one for one in every if one.verdict == EVALUATED]
    planted = max(training_texts(run), key=len)
    short, long = (Grams([*(one.text for one in left), planted], n) for n in (13, 50))
    for text in training_texts(run):
        short.meet(text)
        long.meet(text)
    *in_13, planted_13 = short.covered()
    *in_50, planted_50 = long.covered()
    words, inside = (sum(row[i] for row in in_50) for i in (0, 1))
    for domain, count in sorted(Counter(one.domain for one in every).items()):
        kept = sum(one.domain == domain for one in left)
        share, name = kept / count, f"held-out documents left, {domain}"
        figure = f"{kept:,} of {count:,}, {100 * share:.1f} %"
        if count < FEW_DOCUMENTS:
            checks.note(f"{name} (too few to judge)", figure)
        else:
            checks.check(name, figure, f"at least {100 * MIN_LEFT:.0f} %", share >= MIN_LEFT)
    checks.check(
        "words left that lie in 50-grams of training",
        f"{inside:,} of {words:,}",
        f"at most {100 * MAX_WORDS_IN_50_GRAMS} %",
        inside <= MAX_WORDS_IN_50_GRAMS * words,
    )
    worst = max((part / total for total, part in in_13 if total), default=0.0)
    checks.check("largest share of a document left in 13-grams", f"{worst:.3f}", "at most 0.5", worst <= 0.5)
    seen = planted_13[1] > 0.5 * planted_13[0] and planted_50[1] > 0
    checks.sabotage("a training document put into the held-out set", seen, f"{planted_13[1]:,} of its {planted_13[0]:,} words are covered")


def near_checks(checks: Checks, run: Run) -> None:
    """Every near duplicate that goes is as like one that stays as was asked."""
    rows, wanted = dict[bytes, dict[str, Any]](), set[bytes]()
    for source, documents in run.manifests("documents").items():
        for part in range(parts_of(documents)):
            ids = read_documents(run.store, documents, part, ["id"])["id"]
            for row in read_beside(run.store, run.need("select"), source, part, ids).to_pylist():
                rows[row["id"]] = {name: row[name] for name in ("keep", "reason", "duplicate_of", "split")}
                if row["reason"] == "near":
                    wanted |= {row["id"], row["duplicate_of"]}
    texts = dict[bytes, str]()
    for documents in run.manifests("documents").values():
        for part in range(parts_of(documents)):
            table = read_documents(run.store, documents, part, ["id", "text"])
            texts.update((i, text) for i, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True) if i in wanted)
    gone = {name: row for name, row in rows.items() if row["reason"] == "near"}
    stays = sum(rows[row["duplicate_of"]]["keep"] and rows[row["duplicate_of"]]["split"] == row["split"] for row in gone.values())
    checks.check("near duplicates that name one which stays", f"{stays:,} of {len(gone):,}", "all, of the same side", stays == len(gone))
    below, least = 0, 1.0
    for name, row in gone.items():
        a, b = texts[name], texts[row["duplicate_of"]]
        like = own_jaccard(a, b, NGRAM_WORDS)
        least = min(least, like)
        below += like < MIN_JACCARD - (0 if is_spaced(a + b) else OTHER_CUT)
    checks.check(f"of them below Jaccard {MIN_JACCARD} with it, recomputed", f"{below:,}; least {least:.3f}", "none", below == 0)
    if not gone:
        checks.note("near duplicates", "none in this corpus")
        return
    other = max(training_texts(run), key=len)
    unlike = sum(own_jaccard(texts[name], other, NGRAM_WORDS) < MIN_JACCARD for name in gone)
    checks.sabotage("each said to go for the longest document", unlike > 0, f"{unlike:,} of {len(gone):,} are unlike it")


def evaluated_ids(run: Run) -> set[bytes]:
    """Ids of the documents that are evaluated."""
    return {one.id for one in held_out_documents(run) if one.verdict == EVALUATED}


def sides(run: Run) -> dict[bytes, tuple[str, bool]]:
    """Side of every document, and whether it is kept."""
    found = dict[bytes, tuple[str, bool]]()
    for source, documents in run.manifests("documents").items():
        for part in range(parts_of(documents)):
            ids = read_documents(run.store, documents, part, ["id"])["id"]
            for row in read_beside(run.store, run.need("select"), source, part, ids, ["split", "keep"]).to_pylist():
                found[row["id"]] = row["split"], row["keep"]
    return found


def write_twins(path: Path, chosen: list[HeldOut], seed: int) -> None:
    """A source of near twins of held-out documents, each with one word changed; every third is a copy with text around it."""
    rng, rows = random.Random(seed), list[str]()
    for n, one in enumerate(chosen):
        words = one.text.split(" ")
        words[rng.randrange(len(words))] += "x"
        text = " ".join(words)
        rows.append(
            json.dumps({"id": f"twin {n}", "text": text if n % 3 else f"Preface.\n\n{text}\n\nEnd of the copy.", "of": one.id.hex()})
        )
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(rows) + "\n")


def added_source_checks(checks: Checks, here: Place, before: Run, raw_root: Path, seed: int) -> None:
    """Near twins of held-out documents are added: no side changes, and what has a twin in training is evaluated no more."""
    was, evaluated = sides(before), evaluated_ids(before)
    long_enough = [one for one in held_out_documents(before) if one.verdict == EVALUATED and len(one.text.split(" ")) > 150]
    chosen = sorted(long_enough, key=lambda one: one.id)[: min(TWINS, len(evaluated) // 2)]
    if not chosen:
        checks.note("twins to add", "none: no evaluated document is long enough")
        return
    write_twins(raw_root / "added" / "twins.jsonl.gz", chosen, seed)

    def add(raw: dict[str, Any]) -> None:
        raw["name"] = "held-out-and-twins"
        source = {"name": "twins", "format": "jsonl", "path": "added/twins.jsonl.gz", "id_field": "id"}
        raw["sources"].append(source | {"domain": next(s["domain"] for s in raw["sources"] if "domain" in s)})

    there = here.with_recipe(add, "with_twins.yaml")
    there.run("--to", "coverage")
    after = there.state()
    now, still = sides(after), evaluated_ids(after)
    moved = sum(now[name][0] != side for name, (side, _) in was.items())
    checks.check("documents that an added source moved to the other side", moved, "none", moved == 0)
    trained = sum(now[name] == ("train", True) for name, (side, _) in was.items() if side == "held_out")
    checks.check("held-out documents that train now", trained, "none", trained == 0)
    trained_on = {one.id for n, one in enumerate(chosen) if now[document_id("twins", f"twin {n}")] == ("train", True)}
    left, figure = len(trained_on & still), f"{len(trained_on & still)} of {len(trained_on)}"
    if trained_on:
        checks.check("evaluated although a near twin of theirs trains", figure, "none", not left)
    else:
        checks.note("evaluated although a near twin of theirs trains", "no twin was selected for training")
    checks.note("evaluated before, and of those now", f"{len(evaluated):,}, {len(evaluated & still):,}")


def threshold_checks(checks: Checks, here: Place, before: Run) -> None:
    """Another coverage threshold makes what is evaluated anew, and nothing that training reads or makes."""

    def stricter(raw: dict[str, Any]) -> None:
        raw["coverage"] = {"max_coverage": 0.2}

    old = {key: pointer.fingerprint for key, pointer in before.artifacts.items()}
    there = here.with_recipe(stricter, "stricter.yaml")
    there.run("--to", "pretrain")
    new = {key: pointer.fingerprint for key, pointer in there.state().artifacts.items()}
    changed = sorted({key.partition("/")[0] for key in new if new[key] != old.get(key)})
    checks.check(
        "made anew by another coverage threshold",
        " ".join(changed),
        f"coverage, and none of {', '.join(TRAINING)}",
        "coverage" in changed and not set(changed) & set(TRAINING),
    )


def window_checks(checks: Checks, folder: Path, text: str) -> None:
    """Sixty windows that slide over one text: a run keeps what the greedy choice over all pairs keeps."""
    needed = STEP_WORDS * WINDOWS + WINDOW_WORDS
    words = [*text.split(), *(f"word{n}" for n in range(needed))][:needed]
    texts = [" ".join(words[k * STEP_WORDS : k * STEP_WORDS + WINDOW_WORDS]) for k in range(WINDOWS)]
    raw_root = folder / "windows"
    raw_root.mkdir(parents=True)
    (raw_root / "windows.jsonl").write_text("".join(json.dumps({"id": str(n), "text": one}) + "\n" for n, one in enumerate(texts)))
    raw = recipe_with_one_source()
    (folder / "windows.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    here = place(folder / "sliding", folder / "windows.yaml", raw_root=raw_root)
    here.run("--to", "select")
    run = here.state()
    documents = run.manifests("documents")["windows"]
    rows = list[tuple[bytes, str, bool]]()
    for part in range(parts_of(documents)):
        table = read_documents(run.store, documents, part, ["id", "text"])
        kept = read_beside(run.store, run.need("select"), "windows", part, table["id"], ["keep"])["keep"].to_pylist()
        rows += zip(table["id"].to_pylist(), table["text"].to_pylist(), kept, strict=True)
    stay = list[str]()
    expected = set[bytes]()
    for name, one, _ in sorted(rows, key=lambda row: (-len(row[1].encode()), row[0])):
        if all(own_jaccard(one, other, NGRAM_WORDS) < MIN_JACCARD for other in stay):
            stay.append(one)
            expected.add(name)
    found = {name for name, _, kept in rows if kept}
    checks.check(
        f"of {WINDOWS} sliding windows those that stay", len(found), f"the {len(expected)} of the greedy choice", found == expected
    )


def recipe_with_one_source() -> dict[str, Any]:
    """The test recipe on `windows.jsonl` alone, with nothing held out to speak of."""
    raw: dict[str, Any] = yaml.safe_load(TEST_RECIPE.read_text())
    source = {"name": "windows", "format": "jsonl", "path": "windows.jsonl", "id_field": "id", "domain": "general", "language": "en"}
    raw |= {"name": "windows", "sources": [source], "quality": {}, "domains": {}, "select": {"thresholds": {}}}
    raw["dedup"] = {"held_out_fraction": 1e-9}
    raw["tokenizer"]["shares"] = raw["pretrain"]["shares"] = {"general": 1.0}
    raw["pretrain"]["schedule"]["phases"] = [{"seq_len": 32, "global_batch_size": 8}]
    del raw["extend_context"], raw["anneal"]
    return raw


def main() -> None:
    assert __doc__
    given = arguments(__doc__, ("corpus", "seed"))
    corpus = given.corpus or SHARED / "corpus"
    checks = Checks("held-out", __doc__)
    with work_folder("held-out") as folder:
        raw_root = link_corpus(corpus, folder / "raw")
        (folder / "held_out.yaml").write_text(yaml.safe_dump(recipe_of(corpus, "held-out", given.seed), sort_keys=False))
        here = place(folder / "place", folder / "held_out.yaml", raw_root=raw_root)
        done = here.run("--to", "pretrain", echo=True)
        run = here.state()
        checks.note("raw files to a trained model", f"{done.wall_s:.0f} s")
        coverage_checks(checks, run)
        near_checks(checks, run)
        text = max(training_texts(run), key=lambda one: len(one.split()))
        window_checks(checks, folder, text)
        threshold_checks(checks, here, run)
        added_source_checks(checks, here, run, raw_root, given.seed)
    checks.finish()


if __name__ == "__main__":
    main()
