"""The stage that decides: domains, thresholds per class, the order of reasons, survivors, components, edits, counters that close."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from pipeline import selection
from pipeline.documents import SELECTION, Edit, apply_edits, survivors
from pipeline.quality.config import Config as QualityConfig
from pipeline.quality.thresholds import Thresholds
from pipeline.select.config import Component, Config, LineRemoval, PiiReplacements, SourceFacts, Survivors, ThresholdsByClass
from pipeline.select.decide import component_of
from pipeline.select.edits import edited_size_bytes, merge_edits, removed_lines
from pipeline.select.funnel import fraction_that_would_do, render_funnel
from pipeline.select.survivors import Member, drop_copies
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError
from storage.store import Store
from storage.tables import read_table
from tests.pipeline.judged_inputs import Doc, rows_by_key, write_inputs

WEB, BOOKS = SourceFacts(is_web=True), SourceFacts(domain="math", is_web=False)
OFF = Thresholds()


def by_class(**changes: Thresholds) -> ThresholdsByClass:
    """Thresholds that are off except as given."""
    return ThresholdsByClass(**{name: changes.get(name, OFF) for name in ThresholdsByClass.model_fields})


def config(**changes: Any) -> Config:
    """A configuration for the sources `web` and `books`."""
    return Config(**{"sources": {"web": WEB, "books": BOOKS}, "thresholds": by_class(), **changes})


def decide(
    tmp_path: Path, docs: Sequence[Doc], wanted: Config | None = None, *, held_out: float = 0.0, partitions: int = 4
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], tuple[Store, dict[str, Manifest], Manifest]]:
    """Rows by key, the funnel, and the artifact. A book is added so that both sources exist."""
    every = [*docs] if any(doc.source == "books" for doc in docs) else [*docs, Doc("book", "a book", source="books")]
    every = every if any(doc.source == "web" for doc in every) else [*every, Doc("page", "a page")]
    store = Store(str(tmp_path / "store"))
    inputs = write_inputs(store, every, partitions, held_out)
    manifest = selection.run(store=store, config=wanted or config(), inputs=inputs)
    funnel = json.loads(read_verified(store, manifest, "funnel.json"))
    return rows_by_key(store, manifest, every), funnel, (store, inputs, manifest)


def reasons(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Reason by key of what is dropped."""
    return {key: row["reason"] for key, row in rows.items() if not row["keep"]}


# --- component -------------------------------------------------------------------------------------------------------------


def test_the_first_component_that_matches_takes_the_document() -> None:
    """Every condition must hold; null scores meet none; else the domain's own component."""
    components = (
        Component(name="math-best", domain="math", min_quality_score=0.8),
        Component(name="math-sure", domain="math", min_domain_probability=0.9, sources=("web",), languages=("en",)),
    )

    def found(source: str, language: str, quality: float | None, probability: float | None, domain: str = "math") -> str:
        return component_of(components, domain, source, language, quality, probability)

    assert found("web", "en", 0.8, 0.95) == "math-best"
    assert found("web", "en", 0.79, 0.9) == "math-sure"
    assert found("books", "en", 0.79, 0.9) == found("web", "de", 0.7, 0.9) == found("web", "en", None, None) == "math"
    assert found("web", "en", 0.9, 0.9, "code") == "code"


def test_component_names_must_differ_from_each_other_and_from_domains() -> None:
    """Else two streams would have one name."""
    with pytest.raises(ValidationError, match="'math' is taken"):
        config(components=(Component(name="math", domain="math"),))
    with pytest.raises(ValidationError, match="'best' is taken"):
        config(components=(Component(name="best", domain="math"), Component(name="best", domain="code")))


# --- survivors ----------------------------------------------------------------------------------------------------------------------------


def member(name: str, **changes: Any) -> Member:
    """A member of cluster 0, alone in its groups unless told."""
    own = name.encode().rjust(16, b"0")
    row: dict[str, Any] = {
        "url_id": None,
        "exact_id": own,
        "near_id": own,
        "split": "train",
        "date": None,
        "text_size_bytes": 1,
        "quality_score": None,
        "priority": 0,
    }
    return Member(cluster_id=b"0" * 16, id=own, **{**row, **changes})


@pytest.mark.parametrize(
    ("policy", "better", "worse"),
    [
        ("newest", {"date": "2024-01-02T00:00:00Z"}, {"date": "2024-01-01T23:59:59Z"}),
        ("newest", {"date": "1999-01-01T00:00:00Z"}, {"date": None}),
        ("longest", {"text_size_bytes": 3}, {"text_size_bytes": 2}),
        ("best_quality", {"quality_score": 0.1}, {"quality_score": None}),
        ("best_quality", {"quality_score": 0.9}, {"quality_score": 0.8}),
        ("preferred_source", {"priority": 2}, {"priority": 1}),
    ],
)
def test_each_policy_keeps_the_better_and_ties_go_to_the_smallest_id(policy: Any, better: dict[str, Any], worse: dict[str, Any]) -> None:
    """Whichever has the smaller id when they differ."""
    group = {"exact_id": b"g" * 16, "near_id": b"g" * 16}
    policies = Survivors(url=policy, exact=policy, near=policy)
    for first, second, lost in ((better, worse, "b"), (worse, better, "a"), (better, better, "b")):
        dropped = drop_copies([member("a", **first, **group), member("b", **second, **group)], policies)
        kept = {"a": "b", "b": "a"}[lost].encode().rjust(16, b"0")
        assert dropped == {lost.encode().rjust(16, b"0"): ("exact", kept, None)}


def test_url_and_exact_follow_each_other_among_those_still_kept() -> None:
    """RULE 18: what lost its URL wins nothing later, and its absence lets another stay."""
    url, exact = b"u" * 16, b"e" * 16
    members = [
        member("a", url_id=url, exact_id=exact, date="2020-01-01T00:00:00Z"),
        member("b", url_id=url, date="2021-01-01T00:00:00Z"),
        member("c", exact_id=exact, date="2019-01-01T00:00:00Z"),
        member("d", exact_id=exact, date="2018-01-01T00:00:00Z"),
    ]
    dropped = drop_copies(members, Survivors(url="newest", exact="newest"))
    assert {name.decode().lstrip("0"): lost.reason for name, lost in dropped.items()} == {"a": "url", "d": "exact"}


def test_held_out_documents_are_decided_among_themselves() -> None:
    """RULE 31: a page of training takes no held-out page of its URL with it, nor the other way round."""
    url = b"u" * 16
    members = [member(name, url_id=url, split=side) for name, side in (("a", "train"), ("b", "held_out"), ("c", "held_out"))]
    assert {name.decode().lstrip("0") for name in drop_copies(members, Survivors())} == {"c"}


MEMBERS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from([None, "u", "v"]), st.sampled_from("ef"), st.integers(0, 3)),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row[0],
)


@given(MEMBERS, st.randoms())
def test_exactly_one_of_every_group_stays_and_order_does_not_matter(rows: list[tuple[Any, ...]], shuffle: Any) -> None:
    """Of each text with documents left after URLs one is kept; what goes names one that stayed of its group."""
    members = [
        member(
            f"{number:02d}",
            url_id=None if url is None else url.encode() * 16,
            exact_id=exact.encode() * 16,
            text_size_bytes=size,
        )
        for number, url, exact, size in rows
    ]
    dropped = drop_copies(members, Survivors())
    shuffle.shuffle(members)
    assert drop_copies(members, Survivors()) == dropped
    kept = [item for item in members if item.id not in dropped]
    assert kept
    assert len({item.exact_id for item in kept}) == len(kept)
    by_id = {item.id: item for item in members}
    for name, lost in dropped.items():
        field = f"{lost.reason}_id"
        assert getattr(by_id[name], field) == getattr(by_id[lost.duplicate_of], field)
        assert lost.reason == "url" or lost.duplicate_of not in dropped
    urls = [item.url_id for item in kept if item.url_id]
    assert len(urls) == len(set(urls))


# --- edits --------------------------------------------------------------------------------------------------------------------------------

SPANS = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(SPANS, max_size=6), st.lists(SPANS.filter(lambda span: span[0] < span[1]), max_size=6))
def test_edits_are_disjoint_ascending_and_cover_what_was_asked(lines: list[tuple[int, int]], addresses: list[tuple[int, int]]) -> None:
    """Every byte of a line goes, no byte of an address stays, no other byte is touched; a removal beats a replacement."""
    edits = merge_edits(lines, [Edit(start, end, "@") for start, end in addresses])
    assert all(first.end <= second.start for first, second in pairwise(edits))
    assert all(edit.start < edit.end for edit in edits)
    removed = {i for start, end in lines for i in range(start, end)}
    asked = removed | {i for start, end in addresses for i in range(start, end)}
    assert {i for edit in edits for i in range(edit.start, edit.end)} == asked
    assert all(not removed & set(range(edit.start, edit.end)) for edit in edits if edit.replacement)
    text = "x" * 60
    assert edited_size_bytes(60, edits) == len(apply_edits(text, edits).encode())


def test_many_addresses_and_lines_take_linear_time() -> None:
    """A list of fifty thousand addresses, every second line of it removed."""
    lines = [(20 * n, 20 * n + 10) for n in range(0, 50_000, 2)]
    edits = merge_edits(lines, [Edit(20 * n, 20 * n + 15, "@") for n in range(50_000)])
    assert len(edits) == 75_000


def test_edits_by_hand() -> None:
    """Touching lines join; an address in a removed line is gone with it; one that sticks out is replaced once."""
    assert merge_edits([(5, 9), (0, 5)], []) == [Edit(0, 9, "")]
    assert merge_edits([(0, 9)], [Edit(2, 4, "@")]) == [Edit(0, 9, "")]
    assert merge_edits([(4, 6)], [Edit(2, 8, "@")]) == [Edit(2, 4, "@"), Edit(4, 6, ""), Edit(6, 8, "")]


# --- the stage ----------------------------------------------------------------------------------------------------------------------------


def test_thresholds_hold_per_text_class_and_null_scores_pass(tmp_path: Path) -> None:
    """A short web page goes, a short text of mathematics stays."""
    strict = Thresholds(min_gopher_word_count=5)
    docs = [
        Doc("short", "two words", domains={"general": 1.0}),
        Doc("sum", "two words here", domains={"math": 1.0}),
        Doc("long", "one two three four five"),
    ]
    rows, funnel, (store, _, manifest) = decide(tmp_path, docs, config(thresholds=by_class(web=strict)))
    assert reasons(rows) == {"short": "gopher_word_count"}
    assert rows["sum"]["text_class"] == rows["sum"]["component"] == "math"
    assert rows["long"]["text_class"] == "web"
    assert funnel["sources"]["web"]["dropped"] == {"gopher_word_count": {"documents": 1, "size_bytes": 9}}
    assert manifest.counts["reason:gopher_word_count"] == 1
    assert all(read_table(store, manifest, name).schema == SELECTION for name in manifest.names() if name.endswith(".parquet"))


def test_the_bytes_are_those_of_this_version(tmp_path: Path) -> None:
    """RULE 12: another digest means other output: bump VERSION, then change the digest here."""
    docs = [
        Doc("a", "Write to ann@example.org.\nHome\n", lines=[(26, 31)], domains={"general": 0.9}, quality_score=0.5),
        Doc("b", "one text", near="n", domains={"code": 0.9}),
        Doc("c", "another text", near="n", domains={"math": 0.9}, source="books"),
    ]
    manifest = decide(tmp_path, docs, config(thresholds=by_class(code=Thresholds(min_gopher_word_count=2))), held_out=0.1)[2][2]
    assert (selection.VERSION, manifest.digest) == (5, "6973484fcf0b30685fd9a3c54b41b815e2410f05419d2def346f0d6c24065b8e")


def test_a_document_dropped_for_quality_is_no_survivor(tmp_path: Path) -> None:
    """RULE 18: the newest page of a URL is bad, so the older one stays; of two near ones the longer; the first reason counts."""
    docs = [
        Doc("new", "bad", url="u", date="2024-01-01T00:00:00Z"),
        Doc("old", "one two three four", url="u", date="2020-01-01T00:00:00Z", near="n"),
        Doc("older", "one two three four five", url="v", date="2019-01-01T00:00:00Z", near="n"),
        Doc("same", "one two three four five", url="w", date="2018-01-01T00:00:00Z", near="n"),
    ]
    rows, funnel, _ = decide(tmp_path, docs, config(thresholds=by_class(web=Thresholds(min_gopher_word_count=3))))
    assert reasons(rows) == {"new": "gopher_word_count", "old": "near", "same": "exact"}
    assert funnel["total"]["kept"]["documents"] == 2


def test_who_goes_names_who_stays(tmp_path: Path) -> None:
    """By URL, by text, and by similarity with its figure; what goes for another reason names nobody."""
    docs = [
        Doc("new", "one two three four", url="u", date="2024-01-01T00:00:00Z"),
        Doc("old", "other words here", url="u", date="2020-01-01T00:00:00Z"),
        Doc("copy", "one two three four", date="2019-01-01T00:00:00Z"),
        Doc("short", "a b c d", near="n", shingles=range(1, 10)),
        Doc("long", "a b c d e", near="n", shingles=range(10)),
        Doc("other", "x y z", near="n", shingles=range(5)),
        Doc("bad", "x"),
    ]
    rows, funnel, _ = decide(tmp_path, docs, config(thresholds=by_class(web=Thresholds(min_gopher_word_count=2))))
    ids = {doc.key: doc.id for doc in docs}
    lost = {key: (row["duplicate_of"], row["similarity"] and round(row["similarity"], 3)) for key, row in rows.items()}
    assert lost["old"] == (ids["new"], None)
    assert lost["copy"] == (ids["new"], None)
    assert lost["short"] == (ids["long"], 0.9)
    assert all(lost[key] == (None, None) for key in ("new", "long", "other", "bad"))
    assert rows["other"]["keep"]
    assert funnel["near"] == {"0.90 to 0.95": 1}


def test_a_held_out_twin_of_training_is_in_neither_set(tmp_path: Path) -> None:
    """RULE 31: it is dropped as `covered`, however its twin fares, and never trains."""
    docs = [Doc(f"d{i}", f"text number {i}", twin="near" if i % 2 else None) for i in range(30)]
    rows, _, _ = decide(tmp_path, docs, held_out=1.0)
    assert reasons(rows) == {f"d{i}": "covered" for i in range(1, 30, 2)}


def test_lines_go_by_text_class_and_the_funnel_shows_them(tmp_path: Path) -> None:
    """RULE 15: never in code and mathematics by default; a recipe may choose; counts are of documents that stay."""
    text = "All rights  reserved\nown words\n"
    docs = [
        *(Doc(f"w{i}", f"{text}{i}", lines=[(0, 21)], domains={"general": 1.0}) for i in range(2)),
        Doc("code", text + "c", lines=[(0, 21)], domains={"code": 1.0}),
        Doc("math", text + "m", lines=[(0, 21)], domains={"math": 1.0}),
        Doc("gone", "All rights reserved", lines=[(0, 19)], domains={"general": 1.0}),
    ]
    rows, funnel, _ = decide(tmp_path / "a", docs)
    assert {key for key, row in rows.items() if row["edits"]} == {"w0", "w1", "gone"}
    assert funnel["lines"] == {"web": {"documents": 2, "sample": {"All rights reserved": 2}}}
    rows, _, _ = decide(tmp_path / "b", docs, config(lines=LineRemoval(text_classes=("code",))))
    assert {key for key, row in rows.items() if row["edits"]} == {"code"}


def test_removed_lines_are_those_that_edits_take_out() -> None:
    """Each once, folded; a replaced address is none."""
    text = "a  b c\n\nkeep\nd é f\na b c\nx@y.z"
    cuts = [(0, 8), (13, 26)]
    assert removed_lines(text, [*(Edit(*cut, "") for cut in cuts), Edit(26, 31, "mail")]) == {"a b c", "d é f"}


def test_survivors_are_found_across_sources_and_partitions(tmp_path: Path) -> None:
    """Forty copies in two sources, eight partitions: the preferred source's smallest id stays."""
    docs = [Doc(f"{source}{i}", "one text", source=source) for source in ("web", "books") for i in range(20)]
    facts = {"web": WEB, "books": BOOKS.model_copy(update={"priority": 1})}
    wanted = config(sources=facts, survivors=Survivors(exact="preferred_source"))
    rows, _, _ = decide(tmp_path, docs, wanted, partitions=8)
    kept = [key for key, row in rows.items() if row["keep"]]
    assert kept == [min((doc for doc in docs if doc.source == "books"), key=lambda doc: doc.id).key]
    assert set(reasons(rows).values()) == {"exact"}


def test_addresses_in_code_stay_unless_asked(tmp_path: Path) -> None:
    """By default every text class but code is edited; a recipe may name code too."""
    text = "# Write to ann@example.org now.\n"
    docs = [Doc("program", text, domains={"code": 0.9}), Doc("page", text + "x", domains={"general": 0.9})]
    for asked, edited in ((PiiReplacements(), ["page"]), (PiiReplacements(text_classes=("code",)), ["program"])):
        rows, _, _ = decide(tmp_path / edited[0], docs, config(pii=asked))
        assert [key for key, row in rows.items() if row["edits"]] == edited


def test_edits_reach_the_text_and_an_emptied_document_is_dropped(tmp_path: Path) -> None:
    """RULE 19: survivors() gives the edited text; what is left blank is dropped as `lines`; addresses stay where their class is off."""
    mail = "Write to ann@example.org now.\n"
    docs = [
        Doc("menu", "Home\n" + mail, lines=[(0, 5)]),
        Doc("only", "Home\n \n", lines=[(0, 5)]),
        Doc("blank", ""),
        Doc("sum", mail + "x", source="books"),
    ]
    wanted = config(pii=PiiReplacements(text_classes=("web",)))
    rows, funnel, (store, inputs, manifest) = decide(tmp_path, docs, wanted)
    assert reasons(rows) == {"only": "lines", "blank": "lines"}
    texts = [found.text for part in range(4) for found in survivors(store, inputs, manifest, part, "train")]
    assert funnel["addresses"] == {"web": {"documents": 1, "replaced": 1}}
    assert sorted(texts) == sorted(["Write to email@example.com now.\n", mail + "x"])
    assert funnel["sources"]["web"]["kept"] == {
        "documents": 1,
        "size_bytes": 35,
        "edited_size_bytes": len("Write to email@example.com now.\n"),
    }


def test_held_out_documents_have_no_component_and_too_few_bytes_name_the_fraction(tmp_path: Path) -> None:
    """RULE 13: the fraction that the error names does."""
    docs = [Doc(f"d{i}", f"text number {i}") for i in range(60)]
    rows, funnel, _ = decide(tmp_path / "a", docs, held_out=0.3)
    held_out = [row for row in rows.values() if row["split"] == "held_out"]
    assert held_out
    assert all(row["component"] is None and row["keep"] for row in held_out)
    assert funnel["domains"]["general"]["held_out"]["documents"] == sum(row["domain"] == "general" for row in held_out)
    wanted = config(min_held_out_size_bytes={"general": 300})
    with pytest.raises(ConfigError, match=r"min_held_out_size_bytes.general: 300 bytes are asked") as error:
        decide(tmp_path / "b", docs, wanted, held_out=0.05)
    fraction = float(str(error.value).split("held_out_fraction = ")[1].split()[0])
    decide(tmp_path / "c", docs, wanted, held_out=fraction)
    with pytest.raises(ConfigError, match="no held_out_fraction would do"):
        decide(tmp_path / "d", docs, config(min_held_out_size_bytes={"code": 1}), held_out=0.5)
    assert fraction_that_would_do({"100": 5, "20": 5}, 6) == 0.1


def test_the_counters_close_and_a_reason_that_drops_most_of_a_source_warns(tmp_path: Path) -> None:
    """in = kept + dropped for documents and bytes; more than half is a warning, half is none; samples name documents of each reason."""
    short = [Doc(f"s{i}", f"short {i}") for i in range(3)]
    docs = [*short, *(Doc(f"l{i}", f"one two three four {i}") for i in range(2))]
    docs += [Doc("a", "two words", source="books"), Doc("b", "one two three four", source="books")]
    strict = Thresholds(min_gopher_word_count=4)
    wanted = config(thresholds=by_class(web=strict, math=strict), samples_per_reason=2)
    _, funnel, (store, _, manifest) = decide(tmp_path, docs, wanted)
    for row in [*funnel["sources"].values(), funnel["total"]]:
        for unit in ("documents", "size_bytes"):
            assert row["in"][unit] == row["kept"][unit] + sum(cell[unit] for cell in row["dropped"].values())
    assert funnel["warnings"] == [{"source": "web", "reason": "gopher_word_count", "dropped": 3, "of": 5}]
    assert manifest.counts["warnings"] == 1
    samples = json.loads(read_verified(store, manifest, "samples.json"))
    assert len(samples["web"]["gopher_word_count"]) == 2
    assert set(samples["web"]["gopher_word_count"]) <= {doc.id.hex() for doc in short}
    assert len(samples["books"]["kept"]) == 1


def test_the_decision_does_not_depend_on_how_documents_are_cut(tmp_path: Path) -> None:
    """One partition or eight: the same rows, the same funnel."""
    docs = [
        Doc(f"d{i}", f"text {i % 9}", url=f"u{i % 5}" if i % 2 else None, near=f"n{i % 4}", date=f"20{10 + i}-01-01T00:00:00Z")
        for i in range(30)
    ]
    one, funnel, _ = decide(tmp_path / "a", docs, partitions=1)
    eight, other, _ = decide(tmp_path / "b", docs, partitions=8)
    assert one == eight
    assert funnel == other


def render(funnel: Mapping[str, Any], tokens_per_byte: float | None) -> str:
    """The printed funnel."""
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in render_funnel(funnel, tokens_per_byte):
        console.print(part)
    console.file.close()
    return console.export_text()


def test_the_printed_mixture_says_where_its_tokens_come_from(tmp_path: Path) -> None:
    """RULE 20: measured tokens per byte, else 0.25, and which; an estimate is in no artifact."""
    _, funnel, (store, _, manifest) = decide(tmp_path, [Doc("a", "x" * 400)])
    assumed, measured = render(funnel, None), render(funnel, 0.5)
    assert "0.250 tokens per byte, assumed: no shards yet" in assumed
    assert "0.500 tokens per byte, measured on the newest shards" in measured
    assert " 100 " in assumed
    assert " 200 " in measured
    assert b"token" not in read_verified(store, manifest, "funnel.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": {"web": WEB}}, r"select.sources: names \['web'\]"),
        ({"thresholds": by_class(web=Thresholds(min_quality_score=0.5))}, "quality_score has no effect while quality.classifier is off"),
        ({"thresholds": by_class(web=Thresholds(min_quality_percentile=5))}, "min_quality_percentile: there is no quality score"),
        ({"thresholds": by_class(math=Thresholds(max_dirty_words=0))}, "thresholds.math: a threshold on dirty_words has no effect"),
        ({"thresholds": by_class(code=Thresholds(datatrove_filters=("x",)))}, "'x' is not among quality.datatrove_filters"),
        ({"components": (Component(name="best", domain="math", min_quality_score=0.5),)}, "'best' needs a quality score"),
        ({"components": (Component(name="best", domain="math", sources=("gone",)),)}, "names the source 'gone'"),
    ],
)
def test_a_decision_that_could_have_no_effect_is_refused(changes: dict[str, Any], message: str) -> None:
    """Before any work, with the field."""
    with pytest.raises(ConfigError, match=message):
        selection.check_config(config(**changes), QualityConfig(), ["books", "web"])
