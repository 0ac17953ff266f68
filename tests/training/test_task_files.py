"""Task files of a user: each task its own rows, and an error that names task and row before anything runs."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from tests.training.artifacts import checkpoint_artifact, tokenizer_artifact
from training import export
from training.config import ExportConfig, ModelConfig
from training.evaluate import Config, task_scores
from training.task_files import check_task_files

MODEL = ModelConfig(n_layers=1, dim=32, ffn_dim=64, n_heads=2, n_kv_heads=1, vocab_size=304)
MAX_TOKENS = 24
CHOICE = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{{folder}}/data.jsonl"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: gold
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
GOOD: dict[str, Any] = {"question": "Which?", "choices": ["one", "two"], "gold": 1}


def jsonl(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def check(files: dict[str, bytes], *names: str) -> None:
    check_task_files(files.__getitem__, sorted(files), names or ("t",), MAX_TOKENS)


BAD_ROWS = {
    "choice 1 is empty": {**GOOD, "choices": ["one", ""]},
    "choice 0 is empty": {**GOOD, "choices": [" \n", "two"]},
    "choice 1 is None, expected text": {**GOOD, "choices": ["one", None]},
    "choice 1 is 2, expected text": {**GOOD, "choices": ["one", 2]},
    "its choices are [], expected a list": {**GOOD, "choices": []},
    "its choices are 'one two', expected a list": {**GOOD, "choices": "one two"},
    "gold 2 is none of its 2 choices (0 to 1)": {**GOOD, "gold": 2},
    "gold -1 is none of its 2 choices": {**GOOD, "gold": -1},
    "gold 1.0 is none of its 2 choices": {**GOOD, "gold": 1.0},
    "gold True is none of its 2 choices": {**GOOD, "gold": True},
    "gold 'three' is none of its 2 choices": {**GOOD, "gold": "three"},
    "'gold' is null": {**GOOD, "gold": None},
    "no field 'question'": {"choices": ["one", "two"], "gold": 0},
    "no field 'choices'": {"question": "Which?", "gold": 0},
    "no field 'gold'": {"question": "Which?", "choices": ["one", "two"]},
    "gold '²' is none of its 2 choices": {**GOOD, "gold": "²"},
    "gold '٣' is none of its 2 choices": {**GOOD, "gold": "٣"},
    "gold '9999999": {**GOOD, "gold": "9" * 5000},
    "choice 1 has 25 tokens or more, the model takes 24": {**GOOD, "choices": ["one", "w " * 25]},
}


@pytest.mark.parametrize("problem", BAD_ROWS)
def test_a_row_that_cannot_be_asked_is_named(problem: str) -> None:
    """With its task, its number and its file; the rows before it are good."""
    files = {"a/t.yaml": CHOICE.format(name="t").encode(), "a/data.jsonl": jsonl(GOOD, GOOD, BAD_ROWS[problem], GOOD)}
    with pytest.raises(ConfigError) as caught:
        check(files)
    assert str(caught.value).startswith(f"task t, row 3 of a/data.jsonl: {problem}")


@pytest.mark.parametrize(
    "row",
    [GOOD, {**GOOD, "gold": "two"}, {**GOOD, "gold": "0"}, {**GOOD, "gold": [0, 1]}, {**GOOD, "more": None}, {**GOOD, "question": ""}],
)
def test_neighbours_of_bad_rows_are_taken(row: dict[str, Any]) -> None:
    check({"t.yaml": CHOICE.format(name="t").encode(), "data.jsonl": jsonl(row)})


def test_templates_are_filled_in_as_the_harness_does() -> None:
    task = CHOICE.format(name="t").replace("question\n", '"{{ q }}?"\n').replace("doc_to_choice: choices", 'doc_to_choice: "{{[a, b]}}"')
    files = {"t.yaml": task.encode(), "data.jsonl": jsonl({"q": "Which", "a": "x", "b": "y", "gold": 1})}
    check(files)
    for row, problem in (
        ({"q": "Which", "a": "x", "b": "", "gold": 1}, "choice 1 is empty"),
        ({"a": "x", "b": "y", "gold": 1}, "'q' is undefined"),
        ({"q": "Which", "a": "x", "gold": 1}, "its choices are .*Undefined"),
    ):
        with pytest.raises(ConfigError, match=f"row 1 of data.jsonl: .*{problem}"):
            check({**files, "data.jsonl": jsonl(row)})


def test_a_likelihood_task_needs_a_target() -> None:
    task = CHOICE.format(name="t").replace("multiple_choice", "loglikelihood").replace("doc_to_choice: choices\n", "")
    check({"t.yaml": task.encode(), "data.jsonl": jsonl({"question": "a", "gold": " b"})})
    with pytest.raises(ConfigError, match=r"row 1 of data\.jsonl: the target is empty"):
        check({"t.yaml": task.encode(), "data.jsonl": jsonl({"question": "a", "gold": ""})})


def test_what_only_python_knows_is_left_to_the_harness() -> None:
    task = CHOICE.format(name="t").replace("choices\n", "!function utils.choices\n").replace("gold\n", "!function utils.gold\n")
    check({"t.yaml": task.encode(), "data.jsonl": jsonl({"question": "a"}), "utils.py": b""})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data.jsonl": b""}, "task t: data.jsonl has no rows"),
        ({"data.jsonl": b"\n\n"}, "task t: data.jsonl has no rows"),
        ({"data.jsonl": b"[]"}, "task t: data.jsonl has no rows"),
        ({"data.jsonl": jsonl(GOOD) + b"{"}, "task t, row 2 of data.jsonl: no JSON"),
        ({"data.jsonl": b'"x"\n'}, "task t, row 1 of data.jsonl: a str, expected fields"),
        ({"other.jsonl": b""}, "task t: its data file data.jsonl is not among the files"),
        ({"data.jsonl": jsonl(GOOD), "b/t.yaml": CHOICE.format(name="t").encode()}, "task t is defined twice"),
        ({"data.jsonl": jsonl(GOOD), "t.yaml": b"task: [\n"}, "t.yaml: not a YAML file: line 2"),
        ({"data.jsonl": jsonl(GOOD) + b'{"a":' * 100_000}, "task t, row 2 of data.jsonl: nested too deeply"),
        ({"data.jsonl": b"[" * 100_000}, "task t: data.jsonl: nested too deeply"),
        ({"data.jsonl": b"[{]"}, "task t: data.jsonl: no JSON"),
        ({"data.jsonl": b'{"a": ' + b"9" * 5000 + b"}"}, "task t, row 1 of data.jsonl: no JSON"),
        ({"data.jsonl": jsonl(GOOD), "t.yaml": b"task: t\na: 2024-99-99\n"}, "t.yaml: not a YAML file: line 2: not a timestamp"),
        ({"data.jsonl": jsonl(GOOD), "t.yaml": b"a: 1" + b":59" * 2000 + b".5"}, "t.yaml: not a YAML file: line 1: not a float"),
        ({"data.jsonl": jsonl(GOOD), "t.yaml": b"a: [!!bool x]\n"}, "t.yaml: not a YAML file: line 1: not a bool"),
        ({"data.jsonl": jsonl(GOOD), "t.yaml": b"[" * 5000}, "t.yaml: nested too deeply"),
        ({"data.jsonl": jsonl(GOOD), "t.yaml": b"- a\n"}, "t.yaml: expected the fields of a task"),
        ({"data.jsonl": jsonl(GOOD), "t.yaml": b"task: u\n"}, "no task t; the files define u"),
    ],
)
def test_files_that_make_no_task_are_named(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        check({"t.yaml": CHOICE.format(name="t").encode(), **files})


@pytest.mark.parametrize("seed", range(4))
def test_gzip_that_is_cut_or_damaged_anywhere_is_named(seed: int) -> None:
    """By file, wherever it is cut; one with a bad byte gives the same rows or is named."""
    chance = random.Random(seed)
    whole = gzip.compress(jsonl(*[{**GOOD, "question": f"{chance.random()}?"} for _ in range(50)]))
    task = CHOICE.format(name="t").encode()
    for end in (2, 5, 9, 10, len(whole) - 9, len(whole) - 8, len(whole) - 1, *(chance.randrange(2, len(whole)) for _ in range(40))):
        with pytest.raises(ConfigError, match=r"^task t: data\.jsonl is gzip that is cut off or damaged: "):
            check({"t.yaml": task, "data.jsonl": whole[:end]})
    for at in (2, 3, 12, len(whole) // 2, len(whole) - 6, len(whole) - 2):
        damaged = bytearray(whole)
        damaged[at] ^= 0x5A
        with pytest.raises(ConfigError, match=r"^task t: data\.jsonl is gzip that is cut off or damaged: "):
            check({"t.yaml": task, "data.jsonl": bytes(damaged)})


def task_with(**fields: str) -> bytes:
    """The task with other `doc_to_…`, given without that."""
    content = yaml.safe_load(CHOICE.format(name="t"))
    text: str = yaml.safe_dump({**content, **{f"doc_to_{name}": value for name, value in fields.items()}})
    return text.encode()


NULL_ROW: dict[str, Any] = {**GOOD, "hint": None, "parts": {"a": None}}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"text": "{{hint}}"}, "'{{hint}}': 'hint' is null"),
        ({"text": "hint"}, "'hint' is null"),
        ({"text": "Q: {{ question }} {{ hint }}"}, "'Q: {{ question }} {{ hint }}': 'hint' is null"),
        ({"text": "{{ 'H: ' ~ hint }}"}, "\"{{ 'H: ' ~ hint }}\": 'hint' is null"),
        ({"text": "{{ hint | upper }}"}, "'{{ hint | upper }}': 'hint' is null"),
        ({"text": "{{ hint | default('none') }}"}, "\"{{ hint | default('none') }}\": 'hint' is null"),
        ({"text": "{{ parts.a }}"}, "'{{ parts.a }}': a value that it writes out is null"),
        ({"target": "{{ hint }}"}, "'{{ hint }}': 'hint' is null"),
        ({"choice": "{{ [question, hint] }}"}, "choice 1 is None, expected text"),
        ({"choice": "{{ hint }}"}, "'{{ hint }}': 'hint' is null"),
    ],
)
def test_null_is_not_asked_as_a_word(fields: dict[str, str], problem: str) -> None:
    """Neither as a field nor in a template, where it would be written as `None`."""
    with pytest.raises(ConfigError) as caught:
        check({"t.yaml": task_with(**fields), "data.jsonl": jsonl(NULL_ROW)})
    assert str(caught.value) == f"task t, row 1 of data.jsonl: {problem}"


@pytest.mark.parametrize(
    "text",
    [
        "{{question}}{% if hint %} {{hint}}{% endif %}",
        "{{ hint or question }}",
        "{{ hint | default('none', true) }}",
        "{{ 'yes' if hint is none else 'no' }}{% if hint is not none %}{{ hint }}{% endif %}{% if hint != None %}{{ hint }}{% endif %}",
    ],
)
def test_a_template_may_test_for_null(text: str) -> None:
    check({"t.yaml": task_with(text=text), "data.jsonl": jsonl(NULL_ROW)})


@pytest.mark.parametrize("gold", ["²", "007", "9" * 5000])
def test_what_a_template_gives_for_a_number_is_one(gold: str) -> None:
    """The harness reads digits as Python does, where a task has choices; else they are text."""
    with pytest.raises(ConfigError, match=r"row 1 of data\.jsonl: '\{\{gold\}\}' gives .* is read as a number and is none"):
        check({"t.yaml": task_with(target="{{gold}}"), "data.jsonl": jsonl({**GOOD, "gold": gold})})
    content = {**yaml.safe_load(task_with(target="{{gold}}")), "output_type": "loglikelihood"}
    del content["doc_to_choice"]
    check({"t.yaml": yaml.safe_dump(content).encode(), "data.jsonl": jsonl({**GOOD, "gold": gold})})


def test_choices_of_the_task_and_fields_of_several_words_are_taken() -> None:
    """As the harness takes them: the values of a dictionary in the task file, and a column whatever its name."""
    content = {**yaml.safe_load(task_with(target="right answer")), "doc_to_choice": {"a": "one", "b": "two"}}
    check({"t.yaml": yaml.safe_dump(content).encode(), "data.jsonl": jsonl({"question": "Which?", "right answer": 1})})
    with pytest.raises(ConfigError, match="gold 2 is none of its 2 choices"):
        check({"t.yaml": yaml.safe_dump(content).encode(), "data.jsonl": jsonl({"question": "Which?", "right answer": 2})})


def test_loops_of_a_template_are_bounded() -> None:
    """One that would take hours is left to the harness; one of a usual size is looked at."""
    loop = "{{% for a in range({0}) %}}{{% for b in range({0}) %}}{{% for c in range({0}) %}}{{% endfor %}}{{% endfor %}}{{% endfor %}}"
    check({"t.yaml": task_with(text=loop.format(99_999)), "data.jsonl": jsonl(GOOD)})
    with pytest.raises(ConfigError, match="'hint' is null"):
        check({"t.yaml": task_with(text=loop.format(4) + "{{hint}}"), "data.jsonl": jsonl(NULL_ROW)})


def test_lists_compressed_rows_and_included_files_are_read() -> None:
    """As the harness reads them."""
    base = CHOICE.format(name="base").encode()
    for data in (json.dumps([GOOD, GOOD]).encode(), gzip.compress(jsonl(GOOD, GOOD))):
        check({"base.yaml": base, "t.yaml": b"include: base.yaml\ntask: t\n", "data.jsonl": data})
    with pytest.raises(ConfigError, match="task t, row 2"):
        check({"base.yaml": base, "t.yaml": b"include: base.yaml\ntask: t\n", "data.jsonl": gzip.compress(jsonl(GOOD, {}))})


# --- with the harness ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Manifest]]:
    """A small export, and a task artifact without tasks."""
    folder = tmp_path_factory.mktemp("place")
    store = Store(str(folder / "store"))
    tokenizer, _ = tokenizer_artifact(store)
    checkpoint, _ = checkpoint_artifact(store, MODEL, folder / "scratch")
    inputs = {"checkpoint": checkpoint, "tokenizer": tokenizer}
    exported = export.run(store=store, config=ExportConfig(model=MODEL, max_seq_len=MAX_TOKENS), inputs=inputs)
    payload = {"name": "b" * 32}
    attempt, entries = Attempt(store, "build_tasks", fingerprint_of(payload)), list[FileEntry]()
    with attempt.create("note.txt", entries) as file:
        file.write(b"none")
    return store, {"export": exported, "tasks": attempt.publish(payload, entries, counts={}, info={})}


def score(place: tuple[Store, dict[str, Manifest]], raw: Store, *names: str, **changed: str) -> dict[str, dict[str, float]]:
    sha256 = {file.path: hashlib.sha256(raw.read(file.path)).hexdigest() for file in raw.glob("tasks/[ab]/*")} | changed
    local = {"path": "tasks/[ab]/*", "names": names, "sha256": sha256}
    return task_scores(place[0], Config.model_validate({"model": MODEL, "seq_len": 8, "local_tasks": [local]}), place[1], raw)


@pytest.mark.filterwarnings("ignore")
def test_tasks_of_two_folders_have_each_their_own_rows(
    place: tuple[Store, dict[str, Manifest]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though their files have the same names. A file that is no longer the one that was asked for is an error."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    raw = Store(str(tmp_path / "raw"))
    for name, n_rows in (("a", 3), ("b", 5)):
        raw.write(f"tasks/{name}/task.yaml", CHOICE.format(name=f"t_{name}").encode())
        raw.write(f"tasks/{name}/data.jsonl", jsonl(*[{**GOOD, "question": f"{name} {n}?"} for n in range(n_rows)]))
    scores = score(place, raw, "t_a", "t_b")
    assert {name: metrics["n"] for name, metrics in scores.items()} == {"t_a": 3.0, "t_b": 5.0}
    with pytest.raises(IntegrityError, match=r"tasks/b/data\.jsonl"):
        score(place, raw, "t_a", "t_b", **{"tasks/b/data.jsonl": "0" * 64})
    for name in ("a", "b"):
        raw.write(f"tasks/{name}/data.jsonl", jsonl(GOOD, {**GOOD, "choices": ["x", "tokenizationally " * 3]}))
    with pytest.raises(ConfigError, match=r"^evaluate: task t_a, row 2: choice 1 has \d+ tokens or more, the model takes 24$"):
        score(place, raw, "t_a", "t_b")
