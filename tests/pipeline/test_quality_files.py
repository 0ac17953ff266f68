"""What a recipe names beside its sources: dirty-word lists and evaluation tasks, read from raw_root with their digests."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.quality.config import Config, EvalTasks, RawFiles, resolve_files
from pipeline.quality.dirty_words import count_matches, read_lists, word_list
from pipeline.quality.eval_overlap import overlaps, task_ngrams, task_texts
from pipeline.words import normalized_words
from storage.errors import ConfigError, IntegrityError
from storage.store import Store

SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen"


def raw_with(folder: Path, files: dict[str, bytes]) -> Store:
    """A raw_root with these files."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Store(str(folder))


def resolved(raw: Store, config: Config) -> Config:
    """The config with digests, as flows fills them in."""
    return resolve_files(config, lambda glob: [(info.path, hashlib.sha256(raw.read(info.path)).hexdigest()) for info in raw.glob(glob)])


def test_a_glob_that_matches_nothing_is_a_config_error(tmp_path: Path) -> None:
    """Before any work, naming the field and the glob."""
    with pytest.raises(ConfigError, match=r"dirty_words\[0\].path: 'lists/\*.txt' matches no file"):
        resolved(raw_with(tmp_path, {}), Config(dirty_words=(RawFiles(path="lists/*.txt"),)))


def test_files_must_be_looked_up_and_unchanged(tmp_path: Path) -> None:
    """Without digests nothing is read; with other bytes than recorded reading stops."""
    raw = raw_with(tmp_path, {"lists/en.txt": b"zut\n"})
    with pytest.raises(ConfigError, match="resolve_files"):
        read_lists(raw, (RawFiles(path="lists/*.txt"),))
    config = resolved(raw, Config(dirty_words=(RawFiles(path="lists/*.txt"),)))
    raw.write("lists/en.txt", b"flute\n")
    with pytest.raises(IntegrityError, match=r"lists/en\.txt"):
        read_lists(raw, config.dirty_words)


def test_only_line_feeds_end_the_lines_of_a_task_file() -> None:
    """JSON may hold other separators of lines in a string as they are."""
    data = "\n".join(json.dumps({"q": f"a\u2028b\x85{n}"}, ensure_ascii=False) for n in range(2)).encode()
    assert list(task_texts("t.jsonl", data, None, "here")) == ["a\u2028b\x850", "a\u2028b\x851"]


def test_lists_go_by_the_language_of_their_names(tmp_path: Path) -> None:
    """Variants of a language join; a damaged file is the recipe's fault."""
    raw = raw_with(tmp_path, {"l/en.txt": b"zut\n\n", "l/fr.txt": b"flute\n", "l/fr-CA.txt": b"crotte\n"})
    lists = read_lists(raw, resolved(raw, Config(dirty_words=(RawFiles(path="l/*.txt"),))).dirty_words)
    assert {language: found.words for language, found in lists.items()} == {"en": {"zut"}, "fr": {"flute", "crotte"}}
    raw = raw_with(tmp_path, {"l/en.txt": b"\xff"})
    with pytest.raises(ConfigError, match=r"l/en.txt is not UTF-8"):
        read_lists(raw, resolved(raw, Config(dirty_words=(RawFiles(path="l/*.txt"),))).dirty_words)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Zut! zut, ZUT", 3),
        ("zuts azut zut_", 0),
        ("what a big flute.", 1),
        ("big\n flute", 1),
        ("big, small flute", 0),
        ("f*dge and f*dges", 1),
    ],
)
def test_entries_match_between_non_word_characters_whatever_their_case(text: str, count: int) -> None:
    """Words, phrases, and entries with symbols."""
    assert count_matches(text, word_list(["zut", "big flute", "f*dge"], "en")) == count


def test_languages_without_spaces_match_anywhere() -> None:
    """And no list is no match."""
    assert count_matches("とても馬鹿です", word_list(["馬鹿"], "ja")) == 1
    assert count_matches("zut", None) == 0


def test_overlap_begins_at_thirteen_words(tmp_path: Path) -> None:
    """Thirteen words of a task in a row, whatever their case and punctuation, count; twelve do not. A further word is a 13-gram more."""
    raw = raw_with(tmp_path, {"tasks/a.jsonl": json.dumps({"query": SENTENCE + " fourteen", "id": "x"}).encode()})
    tasks = task_ngrams(raw, resolved(raw, Config(eval_tasks=(EvalTasks(path="tasks/*"),))).eval_tasks)
    assert len(tasks) == 2
    texts = [
        f"Before. {SENTENCE.title().replace(' ', ', ')}! After",
        SENTENCE + " fourteen",
        SENTENCE.replace("seven", "7"),
        " ".join(SENTENCE.split()[:12]) + " other words that fill it up to more than thirteen",
        "",
        " ".join(SENTENCE.split()[:12]),
    ]
    assert overlaps(texts, tasks).tolist() == [1, 2, 0, 0, 0, 0]
    assert overlaps(texts, np.empty(0, np.uint64)).tolist() == [0] * 6
    assert len(normalized_words(SENTENCE)) == 13


def test_counting_is_no_overlap(tmp_path: Path) -> None:
    """Thirteen numbers in a row stand in a task's list and in every calendar; as many with a word among them are the task's."""
    rows = [
        "Sort [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]",
        "2020 to 2001: " + " ".join(str(year) for year in range(2020, 2000, -1)),
    ]
    raw = raw_with(tmp_path, {"tasks/a.jsonl": "\n".join(json.dumps({"q": row}) for row in rows).encode()})
    tasks = task_ngrams(raw, resolved(raw, Config(eval_tasks=(EvalTasks(path="tasks/*"),))).eval_tasks)
    calendar = " ".join(str(day) for day in range(1, 32))
    years = " ".join(str(year) for year in range(2030, 1990, -1))
    assert overlaps([calendar, years, "sort " + calendar], tasks).tolist() == [0, 0, 1]


def test_named_fields_are_read_apart_and_joined(tmp_path: Path) -> None:
    """A task's context and answer make one text, which a document may hold as it is."""
    record = {"context": "one two three four five six seven", "answer": ["eight nine ten eleven twelve thirteen"], "license": SENTENCE}
    data = gzip.compress((json.dumps(record) + "\n\n").encode())
    raw = raw_with(tmp_path, {"t.jsonl.gz": data})
    named = resolved(raw, Config(eval_tasks=(EvalTasks(path="t.jsonl.gz", fields=("context", "answer")),)))
    assert overlaps([SENTENCE], task_ngrams(raw, named.eval_tasks)).tolist() == [1]
    every = list(task_texts("t.json", json.dumps([record]).encode(), None, "here"))
    assert every == [record["context"], *record["answer"], SENTENCE]
    assert list(task_texts("t.txt", b"plain", None, "here")) == ["plain"]


@pytest.mark.parametrize(
    ("name", "data", "fields", "message"),
    [
        ("t.jsonl", b"{", None, "t.jsonl cannot be read"),
        ("t.txt", b"\xff", None, "t.txt cannot be read"),
        ("t.jsonl", b'{"a": 1}', ("query",), "no record of t.jsonl has 'query'"),
        ("t.jsonl.gz", b"no gzip", None, "t.jsonl.gz cannot be unpacked"),
        ("t.jsonl.zst", b"no zstd", None, "t.jsonl.zst cannot be unpacked"),
    ],
)
def test_a_task_file_that_cannot_be_read_is_a_config_error(
    tmp_path: Path, name: str, data: bytes, fields: tuple[str, ...] | None, message: str
) -> None:
    """The message names the field of the recipe and the file."""
    raw = raw_with(tmp_path, {name: data})
    config = resolved(raw, Config(eval_tasks=(EvalTasks(path=name, fields=fields),)))
    with pytest.raises(ConfigError, match=rf"quality.eval_tasks\[0\].*{message}"):
        task_ngrams(raw, config.eval_tasks)
