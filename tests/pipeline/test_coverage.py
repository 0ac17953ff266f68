"""coverage: the share of a held-out document that training has, exactly; the cap; what is left; what is too little."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import coverage
from pipeline.coverage import Config, evaluated, verdicts
from pipeline.documents import Edit, apply_edits, keyed_fraction
from pipeline.words import normalized_words
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from tests.pipeline.small_artifacts import Row, write_inputs


def covered_words(words: Sequence[str], trained: set[tuple[str, ...]], n: int, short: bool) -> list[bool]:
    """Which words lie in an n-gram of `trained`; `short`: a text of fewer words has one gram, all its words."""
    size, inside = min(n, len(words)) if short else n, [False] * len(words)
    for i in range(len(words) - size + 1 if size else 0):
        if tuple(words[i : i + size]) in trained:
            inside[i : i + size] = [True] * size
    return inside


def reference(rows: Sequence[Row], config: Config) -> list[dict[str, Any]]:
    """The table of verdicts, by sets of tuples of words and plain loops."""
    texts = {row.id: apply_edits(row.text, [Edit(*edit) for edit in row.edits]) for row in rows}
    held_out = sorted((row for row in rows if row.keep and row.split == "held_out"), key=lambda row: row.id)
    trained: dict[int, set[tuple[str, ...]]] = {13: set(), 50: set()}
    for row in rows:
        if row.keep and row.split == "train":
            words = normalized_words(texts[row.id])
            for n, grams in trained.items():
                grams.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
            if len(words) < 13:
                trained[13].add(tuple(words))
    within, used, closed = set[bytes](), dict[str, int](), set[str]()
    for row in sorted(held_out, key=lambda row: keyed_fraction(coverage.CAP_KEY, row.id)):
        size = len(texts[row.id].encode())
        if size <= config.max_held_out_bytes and row.domain not in closed:
            used[row.domain] = used.get(row.domain, 0) + size
            if used[row.domain] > config.max_held_out_bytes:
                closed.add(row.domain)
            else:
                within.add(row.id)
    found = []
    for row in held_out:
        words = normalized_words(texts[row.id])
        short, long = covered_words(words, trained[13], 13, True), covered_words(words, trained[50], 50, False)
        runs = [len(list(group)) for value, group in groupby(long) if value]
        share, longest = sum(short) / max(len(words), 1), max(runs, default=0)
        is_covered = share > config.max_coverage or longest > 50
        values: tuple[Any, ...] = (sum(short), sum(long), longest, share) if row.id in within else (None,) * 4
        verdict = "over_cap" if row.id not in within else "covered" if is_covered else "evaluated"
        size = len(texts[row.id].encode())
        found.append(dict(zip(coverage.HELD_OUT.names, (row.id, row.source, row.domain, size, len(words), *values, verdict), strict=True)))
    return found


def measured(store: Store, rows: Sequence[Row], config: Config, partitions: int = 4) -> tuple[Manifest, dict[str, Manifest], list[Any]]:
    """The artifact, its inputs, and its rows over all partitions."""
    inputs = write_inputs(store, rows, partitions)
    manifest = coverage.run(store=store, config=config, inputs=inputs)
    return manifest, inputs, [row for part in range(partitions) for row in verdicts(store, manifest, part).to_pylist()]


@st.composite
def texts(draw: st.DrawFn) -> list[str]:
    """Texts of pieces of one sequence over few words, and of other words, so that runs of every length are shared."""
    words = st.sampled_from(["a", "b", "c"])
    base = draw(st.lists(words, min_size=60, max_size=150))
    made = []
    for _ in range(draw(st.integers(4, 14))):
        pieces: list[str] = []
        for start, length, other in draw(
            st.lists(st.tuples(st.integers(0, 140), st.integers(0, 90), st.lists(words, max_size=14)), max_size=3)
        ):
            pieces += base[start : start + length] + other
        made.append(" ".join(pieces) or "…")
    return made


def as_rows(found: Sequence[str], places: Sequence[int]) -> list[Row]:
    """Texts as documents of two sources and domains, in training, held out, or dropped."""
    rows = []
    for n, (text, place) in enumerate(zip(found, places, strict=False)):
        edits = [(0, 1, "b"), (2, 3, "")] if place % 3 == 0 and len(text) > 4 else []
        rows.append(
            Row(
                f"k{n}",
                text,
                source="web" if n % 2 else "books",
                domain="code" if place & 4 else "general",
                split="held_out" if place & 1 else "train",
                keep=place & 24 != 24,
                edits=edits,
            )
        )
    return rows


@settings(max_examples=25, deadline=None)
@given(
    found=texts(),
    places=st.lists(st.integers(0, 31), min_size=14, max_size=14),
    cap=st.sampled_from([40, 150, 400, 10_000]),
    max_coverage=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_every_number_is_that_of_a_plain_loop_over_words(
    tmp_path_factory: pytest.TempPathFactory, found: list[str], places: list[int], cap: int, max_coverage: float
) -> None:
    """Shares, runs and verdicts, of edited texts, under any cap, and whatever the number of partitions."""
    rows = [*as_rows(found, places), Row("free", "words of its own", source="web", domain="math", split="held_out"), Row("t", "x", "books")]
    config = Config(max_coverage=max_coverage, max_held_out_bytes=cap)
    for partitions in (1, 4):
        assert measured(Store(str(tmp_path_factory.mktemp("store"))), rows, config, partitions)[2] == reference(rows, config)


def unlike(n: int, words: int) -> str:
    """A text whose words no other n has."""
    return " ".join(f"w{n}x{i}" for i in range(words))


RUN = unlike(0, 200).split()
QUOTED = {  # a held-out text, words in 13-grams, words in 50-grams, verdict by the defaults
    "no word": (unlike(1, 100), 0, 0, "evaluated"),
    "twelve words": (f"{unlike(2, 40)} {' '.join(RUN[:12])} {unlike(3, 40)}", 0, 0, "evaluated"),
    "thirteen words": (f"{unlike(4, 40)} {' '.join(RUN[:13])} {unlike(5, 40)}", 13, 0, "evaluated"),
    "other case and punctuation": (f"{unlike(6, 40)} {', '.join(RUN[:13]).upper()}! {unlike(7, 40)}", 13, 0, "evaluated"),
    "fifty words": (f"{unlike(8, 100)} {' '.join(RUN[20:70])} {unlike(9, 40)}", 50, 50, "evaluated"),
    "fifty-one words": (f"{unlike(10, 100)} {' '.join(RUN[20:71])} {unlike(11, 40)}", 51, 51, "covered"),
    "half of it": (f"{' '.join(RUN[:30])} {unlike(12, 30)}", 30, 0, "evaluated"),
    "more than half of it": (f"{' '.join(RUN[:31])} {unlike(13, 30)}", 31, 0, "covered"),
    "half of it, in pieces": (f"{' '.join(RUN[:13])} {unlike(14, 12)} {' '.join(RUN[90:103])}", 26, 0, "covered"),
    "a text of fewer than thirteen words": ("a short text that stands in training", 7, 0, "covered"),
    "such a text inside a longer one of training": (" ".join(RUN[3:9]), 0, 0, "evaluated"),
    "no words at all": ("…", 0, 0, "evaluated"),
}


def quoting() -> list[Row]:
    """One training document, a short one, one that was dropped, and the held-out documents."""
    held_out = [Row(name, text, split="held_out") for name, (text, *_) in QUOTED.items()]
    trained = [Row("run", " ".join(RUN)), Row("short", "A short text that stands in training."), Row("gone", unlike(1, 100), keep=False)]
    return [*trained, *held_out]


def test_the_defaults_say_what_is_covered(tmp_path: Path) -> None:
    found = {row["id"]: row for row in measured(Store(str(tmp_path)), quoting(), Config())[2]}
    for name, (_, short, long, verdict) in QUOTED.items():
        row = found[Row(name, "").id]
        assert (row["words_in_13_grams"], row["words_in_50_grams"], row["verdict"]) == (short, long, verdict), name
        assert row["longest_run_words"] == long, name


def test_only_what_is_evaluated_is_read(tmp_path: Path) -> None:
    """`evaluated` gives the documents of that verdict, in id order, edits applied; verdicts of another selection are refused."""
    store = Store(str(tmp_path / "a"))
    manifest, inputs, rows = measured(store, quoting(), Config())
    read = [row for part in range(4) for row in evaluated(store, inputs, inputs["selection"], manifest, part)]
    wanted = [row["id"] for row in rows if row["verdict"] == "evaluated"]
    assert [row.id for row in read] == wanted == sorted(wanted)
    texts = {row.id: row.text for row in quoting()}
    assert all(row.text == texts[row.id] for row in read)
    for n, change in enumerate((quoting()[:-1], [*quoting(), Row("more", "a text", split="held_out")])):
        other = Store(str(tmp_path / f"b{n}"))
        theirs = measured(other, change, Config())[0]
        shutil.copytree(other.local_path(theirs.root), store.local_path(theirs.root))
        with pytest.raises(IntegrityError, match=r"held_out/part-\d+"):
            [row for part in range(4) for row in evaluated(store, inputs, inputs["selection"], theirs, part)]


def capped(n_train: int, n_held_out: int, other_domain: int = 0) -> list[Row]:
    """Documents of 1,000 bytes."""

    def row(kind: str, n: int, split: str, domain: str) -> Row:
        return Row(f"{kind}{n}", f"{kind} {n} ".ljust(999, "x") + ".", split=split, domain=domain)

    held_out = [row("h", n, "held_out", "general") for n in range(n_held_out)]
    elsewhere = [row("o", n, "held_out", "code") for n in range(other_domain)]
    return [*held_out, *(row("t", n, "train", "general") for n in range(n_train)), *elsewhere]


def test_the_cap_takes_a_sample_that_what_is_added_elsewhere_does_not_move(tmp_path: Path) -> None:
    """At most the cap in each domain, and the same documents whatever is trained on, held out elsewhere, or held out with a later rank."""
    config = Config(max_held_out_bytes=20_500)

    def looked_at(name: str, rows: Sequence[Row]) -> set[bytes]:
        found = measured(Store(str(tmp_path / name)), rows, config)[2]
        return {row["id"] for row in found if row["domain"] == "general" and row["verdict"] != "over_cap"}

    few = looked_at("a", capped(5, 60))
    assert len(few) == 20
    assert looked_at("b", capped(90, 60, 50)) == few
    ranks = {Row(f"h{n}", "").id: keyed_fraction(coverage.CAP_KEY, Row(f"h{n}", "").id) for n in range(120)}
    many = looked_at("c", capped(5, 120))
    assert many == set(sorted(ranks, key=lambda name: ranks[name])[:20])
    assert {ranks[name] for name in few - many} <= {rank for name, rank in ranks.items() if rank > max(ranks[name] for name in many)}


def test_a_document_larger_than_the_cap_does_not_close_its_domain(tmp_path: Path) -> None:
    rows = [*capped(1, 30), *(Row(f"huge{n}", "y" * 30_000, split="held_out") for n in range(4))]
    found = measured(Store(str(tmp_path)), rows, Config(max_held_out_bytes=20_500))[2]
    assert sum(row["verdict"] == "evaluated" for row in found) == 20
    assert {row["verdict"] for row in found if row["size_bytes"] == 30_000} == {"over_cap"}


def test_the_summary_closes(tmp_path: Path) -> None:
    """coverage.json adds up the rows: in = covered + over_cap + left, and its quantiles are those of the rows."""
    store = Store(str(tmp_path))
    rows = [*quoting(), *capped(0, 0, 40)]
    manifest, _, found = measured(store, rows, Config(max_held_out_bytes=20_000))
    domains = json.loads(read_verified(store, manifest, "coverage.json"))["domains"]
    assert set(domains) == {"general", "code"}
    for domain, row in domains.items():
        ours = [one for one in found if one["domain"] == domain]
        for cell, verdict in (("in", None), ("covered", "covered"), ("over_cap", "over_cap"), ("left", "evaluated")):
            some = [one for one in ours if verdict in (None, one["verdict"])]
            assert row[cell] == {
                "documents": len(some),
                "size_bytes": sum(one["size_bytes"] for one in some),
                "words": sum(one["words"] for one in some),
            }
        shares = sorted(one["coverage"] for one in ours if one["verdict"] != "over_cap")
        assert row["coverage"]["mean"] == pytest.approx(sum(shares) / len(shares))
        assert row["coverage"]["quantiles"]["0.5"] == pytest.approx(float(np.median(shares)))
        assert sum(row["coverage"]["documents_by_tenth"]) == len(shares)
        assert row["left_words_in_50_grams"] == sum(one["words_in_50_grams"] for one in ours if one["verdict"] == "evaluated")
    assert manifest.counts["evaluated"] + manifest.counts["covered"] + manifest.counts["over_cap"] == len(found)
    assert domains["general"]["left_words_in_50_grams"] == 50


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        (quoting(), {"min_left_size_bytes": {"general": 10**6}}, r"min_left_size_bytes\.general: 1,000,000 bytes are asked, .* are left.*"),
        (quoting(), {"min_left_size_bytes": {"math": 1}}, r"min_left_size_bytes\.math: 1 bytes are asked, 0 bytes of 0 documents are left"),
        ([Row("a", unlike(1, 20)), Row("b", unlike(1, 20), split="held_out")], {}, r"nothing is left to evaluate on \(general: 0 bytes"),
        ([Row("a", unlike(1, 20))], {}, r"nothing is left to evaluate on \(no document is held out\)"),
    ],
)
def test_too_little_left_is_an_error_that_names_what_would_help(
    tmp_path: Path, rows: Sequence[Row], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        measured(Store(str(tmp_path)), rows, Config(**config))
    assert "held_out_fraction" in str(error.value)
    assert "max_coverage" in str(error.value)


def test_golden_digest(tmp_path: Path) -> None:
    """Bytes may change only with VERSION."""
    manifest = measured(Store(str(tmp_path)), [*quoting(), *capped(3, 0, 30)], Config(max_held_out_bytes=20_500))[0]
    assert (coverage.VERSION, manifest.digest[:16]) == (1, "864a11f5fa20909e")
