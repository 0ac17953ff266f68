"""Coverage of evaluation items: what an item is, which n-grams count, and the coverage itself against a reference in plain Python."""

# ruff: noqa: RUF001 - items in several scripts
from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.quality.config import Config, EvalTasks
from pipeline.quality.eval_items import task_items
from pipeline.quality.eval_overlap import (
    TaskIndex,
    file_tables,
    in_order,
    is_continuous,
    ngrams_of,
    overlaps,
    task_index,
    task_tables,
    totals_of,
)
from pipeline.words import CONTINUOUS, normalized_words
from storage.errors import ConfigError
from tests.pipeline.test_quality_files import raw_with, resolved

WORDS = "river stone cloud lamp table winter garden bridge candle mirror ladder forest pepper saddle copper marble"
ZEROS = ", ".join("0" * 30)


def prose(seed: int, n_words: int) -> str:
    """Words in an order that no other seed has."""
    chosen = random.Random(seed)
    return " ".join(f"{chosen.choice(WORDS.split())}{chosen.randrange(100)}" for _ in range(n_words))


def characters(seed: int, count: int, start: int = 0x4E00) -> str:
    """Characters of a script without spaces, Chinese unless told."""
    return "".join(chr(start + random.Random(seed * 1000 + i).randrange(40)) for i in range(count))


def index_of(items: Sequence[str]) -> TaskIndex:
    """The index of one task."""
    table, ngrams = file_tables("t", items)
    return task_index(table, in_order(ngrams))


def coverage(items: Sequence[str], *texts: str) -> list[dict[int, float]]:
    """By text, the coverage of each item of one task."""
    rows = overlaps(texts, index_of(items))
    return [{row["item"]: round(row["coverage"], 6) for row in found} for found in rows]


def reference(items: Sequence[str], text: str) -> dict[int, float]:
    """RULE 33 word for word, in plain Python."""

    def grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    def is_counting(gram: Sequence[str]) -> bool:
        numbers = [int(word) for word in gram if re.fullmatch("0|[1-9][0-9]*", word)]
        return len(numbers) == len(gram) and {b - a for a, b in pairwise(numbers)} in ({1}, {-1})

    found = {}
    words = [normalized_words(item) for item in items]
    for i, item in enumerate(words):
        alone = 2 * sum(re.fullmatch(f"[{CONTINUOUS}]", word) is not None for word in item) > len(item)
        short, long = (16, 26) if alone else (8, 13)
        n = long if len(item) >= 2 * long else short
        of_text, covered = set(grams(normalized_words(text), n)), set[int]()
        for position, gram in enumerate(grams(item, n)):
            rare = sum(gram in grams(other, n) for other in words) <= 3
            if gram in of_text and rare and len(set(gram)) >= 4 and not (is_counting(gram)):
                covered.update(range(position, position + n))
        if covered:
            found[i] = round(len(covered) / len(item), 6)
    return found


PIECES = st.sampled_from(
    [
        *(prose(n, length) for n, length in enumerate((5, 9, 14, 30))),
        *(characters(n, length) for n, length in enumerate((7, 17, 30, 60))),
        characters(5, 20, 0x0E01),
        characters(6, 30, 0x3042),
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
        "9 8 7 6 5 4 3 2 1 0",
        ZEROS,
        "a b " * 9,
        "for i in range(len(x)): y[i] += x[i] * (a + b)",
        "| a | 1 |\n| b | 2 |\n",
        "Question: which of the following statements is not true?",
        "12个苹果",
        "x",
        "",
    ]
)
TEXTS = st.lists(PIECES, max_size=5).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.lists(TEXTS, max_size=4))
def test_coverage_is_that_of_the_rule(items: list[str], texts: list[str]) -> None:
    """Whatever scripts, repeats and lengths; and a text's coverage does not depend on the texts beside it."""
    assert coverage(items, *texts) == [reference(items, text) for text in texts]


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_reach_is_the_coverage_by_the_item_itself(items: list[str]) -> None:
    """The most that any document can cover; without an n-gram that counts an item is unreachable."""
    found = [coverage(items, item)[0].get(i, 0.0) for i, item in enumerate(items)]
    totals = totals_of(*file_tables("t", items))
    assert totals["items"] == len(items)
    assert totals["unreachable"] == found.count(0.0)
    assert sum(totals["reach"].values()) == len(items)
    assert sum(int(percent) * count for percent, count in totals["reach"].items()) == sum(int(100 * value + 1e-4) for value in found)


def test_case_and_punctuation_do_not_matter_and_half_of_an_item_is_half() -> None:
    """A document that holds the item, as title or as list, holds all of it; the first half of its words is half of it."""
    item = prose(1, 40)
    half = " ".join(item.split()[:20])
    rows = coverage([item], f"Before. {item.title().replace(' ', ', ')}! After", f"{prose(2, 50)} {half} {prose(3, 50)}", prose(4, 900))
    assert rows == [{0: 1.0}, {0: 0.5}, {}]


@pytest.mark.parametrize(
    ("item", "shared", "expected"),
    [
        (prose(1, 25), 7, None),
        (prose(1, 25), 8, 8 / 25),
        (prose(1, 26), 12, None),
        (prose(1, 26), 13, 13 / 26),
        (characters(1, 51), 15, None),
        (characters(1, 51), 16, 16 / 51),
        (characters(1, 52), 25, None),
        (characters(1, 52), 26, 26 / 52),
        (characters(1, 52, 0x0E01), 25, None),  # Thai
        (characters(1, 52, 0x3042), 26, 26 / 52),  # kana
    ],
)
def test_the_length_of_an_ngram_follows_the_item(item: str, shared: int, expected: float | None) -> None:
    """Words, or characters in scripts without spaces; shorter n-grams for short items."""
    words = normalized_words(item)
    part = ("" if is_continuous(item) else " ").join(words[3 : 3 + shared])
    assert coverage([item], part)[0].get(0) == (None if expected is None else round(expected, 6))


def test_scripts_are_decided_by_the_most_words_of_an_item() -> None:
    """Latin digits in a Chinese question leave it Chinese; a Chinese name in English leaves it English."""
    assert is_continuous("小明有12个苹果，给了小红3个，还剩几个？")
    assert not is_continuous("Who wrote the novel 红楼梦 in the Qing dynasty?")
    assert not is_continuous("한국어는 띄어쓰기를 한다")
    assert not is_continuous("")


def test_an_unrelated_sentence_with_thirteen_characters_of_a_task_covers_nothing() -> None:
    """Thirteen characters are a name and a verb."""
    item = characters(1, 60)
    assert coverage([item], characters(9, 40) + item[20:33] + characters(10, 40)) == [{}]


def test_rows_of_one_number_and_counting_never_count() -> None:
    """They stand in a list of some task and in every calendar; with four words of the task among them an n-gram is the task's."""
    counting = " ".join(map(str, range(1, 15)))
    items = [f"Sort [{ZEROS}]", f"Sort [{counting}]", "2020 to 2001: " + " ".join(str(year) for year in range(2020, 2000, -1))]
    calendar, years = " ".join(map(str, range(1, 32))), " ".join(map(str, range(2030, 1990, -1)))
    assert coverage(items, ZEROS, calendar, years, "sort " + calendar) == [{}, {}, {}, {1: round(8 / 15, 6)}]


def test_what_more_than_three_items_say_never_counts() -> None:
    """Instructions of a task; in three items they count. Items of any length count: a short one has the n-grams of long ones, too."""
    instruction = prose(0, 20)
    three = [f"{instruction} {prose(i, 20)}" for i in range(1, 4)]
    assert coverage(three, instruction) == [dict.fromkeys(range(3), 0.5)]
    assert coverage([*three, f"{instruction} {prose(4, 3)}"], instruction) == [{}]
    assert totals_of(*file_tables("t", [instruction] * 4))["unreachable"] == 4


def test_items_are_counted_within_their_task(tmp_path: Path) -> None:
    """The same task in five files stays covered in each of them."""
    item = json.dumps({"q": prose(1, 30)}).encode()
    raw = raw_with(tmp_path, {f"tasks/{n}.jsonl": item for n in range(5)})
    items, ngrams, totals = task_tables(raw, resolved(raw, Config(eval_tasks=(EvalTasks(path="tasks/*"),))).eval_tasks)
    assert overlaps([prose(1, 30)], task_index(items, ngrams)) == [
        [{"task": f"tasks/{n}.jsonl", "item": 0, "coverage": 1.0} for n in range(5)]
    ]
    assert totals == {f"tasks/{n}.jsonl": {"items": 1, "unreachable": 0, "reach": {"100": 1}} for n in range(5)}


def test_a_file_named_twice_is_a_config_error(tmp_path: Path) -> None:
    """Its items would count twice."""
    raw = raw_with(tmp_path, {"tasks/a.jsonl": b'{"q": "x"}'})
    with pytest.raises(ConfigError, match=r"eval_tasks\[1\].path: tasks/a.jsonl is a file of eval_tasks\[0\], too"):
        resolved(raw, Config(eval_tasks=(EvalTasks(path="tasks/*"), EvalTasks(path="tasks/a.jsonl", fields=("q",)))))


def test_no_tasks_no_items_and_no_text(tmp_path: Path) -> None:
    """Nothing is covered by nothing."""
    raw = raw_with(tmp_path, {"t.jsonl": b"\n"})
    items, ngrams, totals = task_tables(raw, resolved(raw, Config(eval_tasks=(EvalTasks(path="t.jsonl"),))).eval_tasks)
    assert totals == {"t.jsonl": {"items": 0, "unreachable": 0, "reach": {}}}
    assert overlaps(["", prose(1, 30)], task_index(items, ngrams)) == [[], []]
    assert overlaps([], index_of([prose(1, 30)])) == []
    assert len(ngrams_of(["twelve words"])[0]) == 0


def test_an_item_is_a_record_with_its_fields_joined() -> None:
    """Every string in order, or the named fields in theirs; a document may go from question to answer."""
    record = {"context": "one two three", "answer": ["four", {"more": "five six"}], "gold": 1, "note": "seven"}
    lines = (json.dumps(record) + "\n\n" + json.dumps({**record, "answer": "x\u2028y"}, ensure_ascii=False) + "\n").encode()
    assert task_items("t.jsonl", lines, None, "here") == ["one two three four five six seven", "one two three x\u2028y seven"]
    assert task_items("t.jsonl.gz", lines, ("answer", "context"), "here")[0] == "four five six one two three"
    assert task_items("t.json", json.dumps([record, "eight", ["nine"]]).encode(), None, "here")[1:] == ["eight", "nine"]
    assert task_items("t.json", json.dumps([record, "eight"]).encode(), ("note",), "here") == ["seven", ""]
    assert task_items("t.json", json.dumps(record).encode(), None, "here") == ["one two three four five six seven"]
    assert task_items("t.json", b"[]", None, "here") == []


def test_labels_of_records_are_no_part_of_an_item() -> None:
    """Ids, licences, languages and splits, by what they look like or by how many records have them; fields that are named are all read."""
    rows = [{"id": f"arc/{n}", "query": f"why {prose(n, 9)}", "by": "MIT License", "lang": "et", "say": prose(0, 8)} for n in range(4)]
    data = "\n".join(map(json.dumps, rows)).encode()
    assert task_items("t.jsonl", data, None, "here") == [f"{row['query']} {row['say']}" for row in rows]
    assert task_items("t.jsonl", data, ("id", "lang"), "here") == [f"{row['id']} et" for row in rows]
    three = "\n".join(map(json.dumps, rows[:3])).encode()
    assert task_items("t.jsonl", three, None, "here") == [f"{row['query']} MIT License et {row['say']}" for row in rows[:3]]
    assert task_items("t.json", json.dumps([{"q": "有12个苹果"}]).encode(), None, "here") == ["有12个苹果"]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("one\ntwo\n\nthree\n \r\n\nfour\n", ["one\ntwo", "three", "four\n"]),
        ("q1\tA\r\nq2\tB\n", ["q1\tA\r", "q2\tB"]),
        ("\n\n only \n\n", [" only "]),
        ("", []),
    ],
)
def test_items_of_plain_text_are_paragraphs_or_lines(text: str, items: list[str]) -> None:
    """Paragraphs where blank lines divide it, else lines."""
    assert task_items("t.txt", text.encode(), None, "here") == items


def test_packed_files_are_unpacked(tmp_path: Path) -> None:
    """The name of the task is the file's path below raw_root."""
    raw = raw_with(tmp_path, {"a/t.jsonl.gz": gzip.compress(json.dumps({"q": prose(1, 30)}).encode())})
    items, _, _ = task_tables(raw, resolved(raw, Config(eval_tasks=(EvalTasks(path="a/*"),))).eval_tasks)
    assert items.to_pylist() == [{"task": "a/t.jsonl.gz", "item": 0, "n_words": 30, "ngram_words": 13}]


def squad(paragraphs: int, words: int) -> dict[str, Any]:
    """An article of paragraphs with questions, as SQuAD nests them."""
    passage = " ".join(f"w{n}" for n in range(words))
    answers = [{"text": "an answer", "answer_start": 3}]
    inside = [{"context": f"{passage} {n}", "qas": [{"question": f"what is it {n}", "answers": answers}]} for n in range(paragraphs)]
    return {"title": "a title", "paragraphs": inside}


@pytest.mark.parametrize(
    ("whole", "count", "first"),
    [
        ({"name": "x", "examples": [{"input": "one two", "target": "three"}, {"input": "four", "target": "five"}]}, 2, "one two three"),
        ({"version": "1.1", "data": [squad(6, 100), squad(7, 100)]}, 13, "w0 w1"),
        ([{"question": "q", "choices": [{"text": "a"}, {"text": "b"}]}], 1, "q a b"),
        ({"question": "q", "a": [{"text": "x"}], "b": [{"text": "y"}]}, 1, "q x y"),
    ],
)
def test_items_of_json_are_records_wherever_they_are_nested(whole: Any, count: int, first: str) -> None:
    """A file as one item would be covered by no document; a record with a list of choices is one item."""
    items = task_items("t.json", json.dumps(whole).encode(), None, "here")
    assert len(items) == count
    assert items[0].startswith(first)


def test_json_lines_under_another_name_and_json_without_end() -> None:
    """Many publish JSON lines as `.json`; what Python cannot read is the user's to mend."""
    assert len(task_items("t.json", b'{"q": "one two"}\n{"q": "three four"}\n', None, "here")) == 2
    with pytest.raises(ConfigError, match=r"here: t.json cannot be read"):
        task_items("t.json", b"[" * 100_000, None, "here")
