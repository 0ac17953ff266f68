"""What a recipe names beside its sources: dirty-word lists and evaluation tasks, read from raw_root with their digests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.quality.config import Config, EvalTasks, RawFiles, resolve_files
from pipeline.quality.dirty_words import count_matches, list_for, read_lists, word_list
from pipeline.quality.eval_overlap import task_tables
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


def test_lists_go_by_the_language_of_their_names(tmp_path: Path) -> None:
    """Variants of a language join; a damaged file is the recipe's fault."""
    raw = raw_with(tmp_path, {"l/en.txt": b"zut\n\n", "l/fr.txt": b"flute\n", "l/fr-CA.txt": b"crotte\n"})
    lists = read_lists(raw, resolved(raw, Config(dirty_words=(RawFiles(path="l/*.txt"),))).dirty_words)
    assert {language: found.words for language, found in lists.items()} == {"en": {"zut"}, "fr": {"flute", "crotte"}}
    raw = raw_with(tmp_path, {"l/en.txt": b"\xff"})
    with pytest.raises(ConfigError, match=r"l/en.txt is not UTF-8"):
        read_lists(raw, resolved(raw, Config(dirty_words=(RawFiles(path="l/*.txt"),))).dirty_words)


def test_a_list_serves_the_languages_that_it_covers(tmp_path: Path) -> None:
    """Lists of `no` and `zh` are of `nb` and `zh-Hant`; a narrower list comes first; what is no code names itself."""
    raw = raw_with(tmp_path, {f"l/{name}.txt": name.encode() for name in ("no", "nn", "zh", "xx")})
    lists = read_lists(raw, resolved(raw, Config(dirty_words=(RawFiles(path="l/*.txt"),))).dirty_words)
    found = {tag: list_for(lists, tag) for tag in ("nb", "nn", "zh-Hant", "xx", "en")}
    assert found == {"nb": lists["no"], "nn": lists["nn"], "zh-Hant": lists["zh"], "xx": lists["xx"], "en": None}


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
        task_tables(raw, config.eval_tasks)
