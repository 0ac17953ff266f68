"""The whole stage against the slow and obvious computation, and what must hold of its bytes."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup import stage
from pipeline.documents import Edit, apply_edits
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from tests.pipeline.dedup_inputs import Page, brute_force, config, random_pages, read_rows, recut, write_documents


def _store(path: Path) -> Store:
    return Store(str(path))


@given(seed=st.integers(0, 10**6), partitions=st.sampled_from([1, 2, 4]))
@settings(max_examples=8)
def test_clusters_equal_all_pairs_by_brute_force(tmp_path_factory: pytest.TempPathFactory, seed: int, partitions: int) -> None:
    """Exact, URL, near and cluster ids and the split are those of comparing every pair, when buckets are small."""
    store, pages = _store(tmp_path_factory.mktemp("dedup")), random_pages(seed, 24)
    asked = config(minhash={"bands": 6, "rows": 2, "full_bucket": 32})
    made = stage.run(store=store, config=asked, inputs=write_documents(store, pages, partitions))
    assert read_rows(store, made) == brute_force(pages, asked)


def _backwards(function: Callable[[Any], Any], groups: Sequence[Any], /) -> Iterable[Any]:
    """Groups in the opposite order, as workers that race would, and passed on by pickle, as to another process."""
    return list(reversed([pickle.loads(pickle.dumps((function, group)))[0](group) for group in reversed(groups)]))


def test_bytes_do_not_depend_on_the_order_of_input_or_of_work(tmp_path: Path) -> None:
    """Another order of documents and of groups gives the same digest, whatever the full buckets are."""
    pages, asked = random_pages(7, 60), config(minhash={"full_bucket": 2}, lines={"max_occurrences": 1})
    one, two = _store(tmp_path / "one"), _store(tmp_path / "two")
    first = stage.run(store=one, config=asked, inputs=write_documents(one, pages, 4))
    second = stage.run(store=two, config=asked, inputs=write_documents(two, recut(pages, 1), 4), run_groups=_backwards)
    assert first.digest == second.digest


def test_rows_do_not_depend_on_the_number_of_partitions(tmp_path: Path) -> None:
    """1, 2 and 8 partitions give every document the same row, line spans included."""
    pages, asked = _pages_with_lines(), config(lines={"max_occurrences": 2})
    found = []
    for partitions in (1, 2, 8):
        store = _store(tmp_path / str(partitions))
        made = stage.run(store=store, config=asked, inputs=write_documents(store, pages, partitions))
        found.append((read_rows(store, made), read_rows(store, made, "spans/")))
    assert found[0] == found[1] == found[2]


class _Killed(Exception):
    pass


@pytest.mark.parametrize("survive", [0, 7, 19, 30, 40])
def test_a_kill_at_any_group_and_a_second_run_give_the_bytes_of_an_undisturbed_run(tmp_path: Path, survive: int) -> None:
    """What finished before a kill is kept, what did not is done again, and the digest is the same."""
    pages, asked = random_pages(3, 40), config()
    calm, hit = _store(tmp_path / "calm"), _store(tmp_path / "hit")
    expected = stage.run(store=calm, config=asked, inputs=write_documents(calm, pages, 4))
    inputs, done = write_documents(hit, pages, 4), [0]

    def dying(function: Callable[[Any], Any], groups: Sequence[Any], /) -> Iterable[Any]:
        for group in groups:
            if done[0] == survive:
                raise _Killed
            done[0] += 1
            yield function(group)

    with pytest.raises(_Killed):
        stage.run(store=hit, config=asked, inputs=inputs, run_groups=dying)
    assert stage.run(store=hit, config=asked, inputs=inputs).digest == expected.digest


def test_counters_close(tmp_path: Path) -> None:
    """Documents in = clusters + duplicates, each counted as the first kind that it is."""
    text = " ".join(f"word{i}" for i in range(60))
    pages = [
        Page("a", text, "http://example.org/a"),
        Page("b", text),
        Page("c", text + " more"),
        Page("d", "something else entirely", "http://EXAMPLE.org:80/a?utm_source=x#top"),
        Page("e", "a page of its own"),
        Page("f", "a page of its own", source="books"),
    ]
    store = _store(tmp_path)
    counts = stage.run(store=store, config=config(), inputs=write_documents(store, pages, 2)).counts
    kinds = {key: counts[key] for key in ("documents", "clusters", "exact_duplicates", "near_duplicates", "url_duplicates")}
    assert kinds == {"documents": 6, "clusters": 2, "exact_duplicates": 2, "near_duplicates": 1, "url_duplicates": 1}
    assert (counts["near_candidates"], counts["near_verified"]) == (1, 1)


def test_url_groups_only_where_the_source_says_so(tmp_path: Path) -> None:
    """A source without URL deduplication shares a URL and stays apart, with a null url_id."""
    pages = [Page("a", "one text", "http://example.org/", source="books"), Page("b", "two texts", "http://example.org/", source="books")]
    store = _store(tmp_path)
    rows = read_rows(store, stage.run(store=store, config=config(), inputs=write_documents(store, pages, 1)))
    assert all(row["url_id"] is None and row["cluster_id"] == row["id"] for row in rows.values())


def test_the_split_takes_whole_clusters_and_follows_its_key(tmp_path: Path) -> None:
    """All members of a cluster are on one side; about the asked fraction is held out; another key chooses others."""
    pages, store = [page for page in random_pages(11, 300)], _store(tmp_path)
    inputs = write_documents(store, pages, 2)
    rows = read_rows(store, stage.run(store=store, config=config(held_out_fraction=0.3), inputs=inputs))
    sides: dict[bytes, set[str]] = {}
    for row in rows.values():
        sides.setdefault(row["cluster_id"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    held_out = sum(side == {"held_out"} for side in sides.values())
    assert 0.2 < held_out / len(sides) < 0.4
    other = read_rows(store, stage.run(store=store, config=config(held_out_fraction=0.3, split_key="other"), inputs=inputs))
    assert {i for i in rows if rows[i]["split"] == "held_out"} != {i for i in other if other[i]["split"] == "held_out"}


def _pages_with_lines() -> list[Page]:
    """Eight pages under one menu, one of them twice; three with a footer, two of them copies; a German page and a book with the menu."""
    pages = [Page(str(n), f"Home  | About\nPage {n} says {'something ' * n}new.\nÜber uns ©\n") for n in range(8)]
    pages.append(Page("copy", pages[0].text))
    pages += [Page(f"f{n}", f"Own words number {n * 'x'} {n}\n\nFooter of three\n") for n in range(2)] + [
        Page("f0copy", "Own words number  0\n\nFooter of three\n")
    ]
    pages.append(Page("german", "Home | About\nEin Text für sich allein.\n\nFooter of three\n", language="de"))
    pages.append(Page("book", "Home | About\nA book that keeps its lines.\n", source="books"))
    return pages


def test_lines_over_the_threshold_go_everywhere_and_others_stay(tmp_path: Path) -> None:
    """RULE 15: over the threshold in the bucket of one language, a line goes from every member and every language; copies count once, each
    language by itself, and a source without line deduplication keeps its lines."""
    pages, store = _pages_with_lines(), _store(tmp_path)
    made = stage.run(store=store, config=config(lines={"max_occurrences": 2}), inputs=write_documents(store, pages, 4))
    spans = read_rows(store, made, "spans/")
    left = {page.key: apply_edits(page.text, [Edit(s["start"], s["end"], "") for s in spans[page.id]["lines"]]) for page in pages}
    for n in range(8):
        assert left[str(n)] == f"Page {n} says {'something ' * n}new.\n"
    assert left["copy"] == left["0"]
    assert left["german"] == "Ein Text für sich allein.\n\nFooter of three\n"
    for key in ("f0", "f1", "f0copy", "book"):  # the footer is in four documents, but in two clusters of one language
        assert left[key] == next(page.text for page in pages if page.key == key)


@pytest.mark.parametrize("occurrences", [6, 7])
def test_a_line_in_exactly_the_threshold_stays_and_one_more_goes(tmp_path: Path, occurrences: int) -> None:
    """Llama 3's "more than 6 times": 6 clusters keep the line, 7 lose it."""
    words = ["apple", "bridge", "castle", "dragon", "engine", "forest", "garden"]
    pages, store = [Page(word, f"Menu\n{word} {word}s") for word in words[:occurrences]], _store(tmp_path)
    made = stage.run(store=store, config=config(), inputs=write_documents(store, pages, 2))
    assert made.counts["frequent_lines"] == (1 if occurrences == 7 else 0)


def test_buckets_are_counted_apart(tmp_path: Path) -> None:
    """Lines that no single bucket holds more often than the threshold stay, however often they occur in all."""
    pages, store = [Page(str(n), f"Menu\nunique{n}") for n in range(40)], _store(tmp_path)
    inputs = write_documents(store, pages, 2)
    one = stage.run(store=store, config=config(lines={"max_occurrences": 30}), inputs=inputs)
    many = stage.run(store=store, config=config(lines={"max_occurrences": 30, "bucket_documents": 10}), inputs=inputs)
    assert (one.counts["frequent_lines"], many.counts["frequent_lines"]) == (1, 0)


def test_intermediate_files_are_verified_and_gone_when_the_manifest_stands(tmp_path: Path) -> None:
    """A flipped byte between two steps stops the run and names the file; a finished artifact holds its own files only."""
    pages, store = random_pages(5, 20), _store(tmp_path)
    inputs = write_documents(store, pages, 2)

    def flipping(function: Callable[[Any], Any], groups: Sequence[Any], /) -> Iterable[Any]:
        results = [function(group) for group in groups]
        for result in results:
            for entry in result.files:
                if entry.name.endswith("exact_edges-00000"):
                    path = store.local_path(f"{result.root}/{entry.path}")
                    data = bytearray(path.read_bytes())
                    data[0] ^= 1
                    path.write_bytes(data)
        return results

    with pytest.raises(IntegrityError, match=r"exact_edges-00000.*expected sha256"):
        stage.run(store=store, config=config(), inputs=inputs, run_groups=flipping)
    made = stage.run(store=store, config=config(held_out_fraction=0.1), inputs=inputs)
    files = {info.path for info in store.list_files(made.root) if "/groups/" not in info.path}
    assert files == {f"{made.root}/{entry.path}" for entry in made.files} | {f"{made.root}/manifest.json"}


def test_flags_must_name_the_sources(tmp_path: Path) -> None:
    """A flag for an unknown source, or none for a known one, is refused with both lists."""
    store = _store(tmp_path)
    inputs = write_documents(store, [], 1)
    with pytest.raises(ConfigError, match=r"dedup.line_dedup: names \['web'\], but the sources are \['books', 'web'\]"):
        stage.run(store=store, config=config(line_dedup={"web": True}), inputs=inputs)


def test_sources_must_have_one_number_of_partitions(tmp_path: Path) -> None:
    """Tables of several sources lie beside each other, partition by partition."""
    store = _store(tmp_path)
    inputs = {**write_documents(store, [], 2), "documents.books": write_documents(store, [], 1)["documents.books"]}
    with pytest.raises(ConfigError, match="one number of partitions"):
        stage.run(store=store, config=config(), inputs=inputs)


def test_rows_are_these_until_the_version_changes(tmp_path: Path) -> None:
    """RULE 12: the rows of a fixed corpus. Another value here needs another VERSION of the stage."""
    store, pages = _store(tmp_path), [*random_pages(1, 80), *_pages_with_lines()]
    made = stage.run(store=store, config=config(lines={"max_occurrences": 2}), inputs=write_documents(store, pages, 2))
    rows = [read_rows(store, made, folder) for folder in ("", "spans/")]
    text = json.dumps([[table[i] for i in sorted(table)] for table in rows], default=bytes.hex, sort_keys=True)
    assert (stage.VERSION, hashlib.sha256(text.encode()).hexdigest()[:16]) == (3, "ebe11abb20e26531")


def test_no_documents_at_all(tmp_path: Path) -> None:
    """Empty sources give empty tables."""
    store = _store(tmp_path)
    made = stage.run(store=store, config=config(), inputs=write_documents(store, [], 2))
    assert read_rows(store, made) == {}
    assert made.names("spans/") == [f"spans/{source}/part-0000{n}.parquet" for source in ("books", "web") for n in (0, 1)]
