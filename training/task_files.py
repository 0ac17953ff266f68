"""lm-evaluation-harness task files, looked at before anything runs: what the harness would end in a traceback over, by task and row.

Task files are YAML; `{folder}` in one stands for the folder that it lies in. Rows are looked at where a task reads JSON that came with it
and asks for fields or templates; what Python functions make of rows is not known before the harness runs them.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from posixpath import dirname, join, normpath
from typing import Any

import jinja2
import jinja2.meta
import yaml
from jinja2.sandbox import SandboxedEnvironment

from storage.errors import ConfigError
from storage.placed_yaml import PlacedLoader

FOLDER = "{folder}"
UNKNOWN = object()  # what only the harness can tell
GZIP = b"\x1f\x8b"
MAX_LOOP_STEPS = 10_000  # of all `range`s of a template for one row: nested ones would run for hours
_INDEX = re.compile(r"[0-9]{1,9}")


class _Loader(PlacedLoader):
    """Takes the harness's tags (`!function`) for what it cannot know."""


_Loader.add_multi_constructor("!", lambda *_: UNKNOWN)


class RowError(ValueError):
    """A row that the harness cannot ask; the message says what of it."""


class _Null:
    """A field that is null, in a template: to test for it is right, to write it out would ask for "None"."""

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Null)

    def __hash__(self) -> int:
        return hash(None)

    def __repr__(self) -> str:  # in a list: whoever reads the list sees it there
        return "None"

    def __str__(self) -> str:
        raise RowError("a value that it writes out is null")


NULL = _Null()


def _written_out(value: Any) -> Any:
    return str(NULL) if value is None else value


_templates = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_written_out)
_templates.tests["none"] = lambda value: value is None or value is NULL


def check_task_files(read: Callable[[str], bytes], paths: Sequence[str], names: Sequence[str], max_tokens: int) -> None:
    """Raises ConfigError, naming task and row, when a task in `names` is not defined by these files or cannot be asked.

    `read(path)` gives a file's bytes; an answer of more than `max_tokens` words has more tokens than the model takes.
    """
    tasks, others = dict[str, tuple[str, dict[str, Any]]](), set[str]()
    for path in paths:
        if path.endswith(".yaml"):
            content = _included(read, path, paths)
            name = content.get("task")
            others |= {str(content[key]) for key in ("group", "tag") if isinstance(content.get(key), str)}
            if isinstance(name, str):
                if name in tasks and name in names:
                    raise ConfigError(f"task {name} is defined twice: in {tasks[name][0]} and in {path}")
                tasks[name] = (path, content)
    for name in names:
        if name in tasks:
            _check_task(read, name, *tasks[name], paths, max_tokens)
        elif name not in others:
            raise ConfigError(f"no task {name}; the files define {', '.join(sorted([*tasks, *others])) or 'none'}")


def _included(read: Callable[[str], bytes], path: str, paths: Sequence[str], depth: int = 8) -> dict[str, Any]:
    """A task file's content on top of that of the file it includes."""
    try:
        content = yaml.load(read(path), _Loader)
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f": line {mark.line + 1}{f': {problem}' if problem else ''}" if mark else ""
        raise ConfigError(f"{path}: not a YAML file{where}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected the fields of a task")
    base = normpath(join(dirname(path), content["include"])) if isinstance(content.get("include"), str) else ""
    return {**_included(read, base, paths, depth - 1), **content} if base in paths and depth else content


def _check_task(read: Callable[[str], bytes], name: str, path: str, task: Mapping[str, Any], paths: Sequence[str], max_tokens: int) -> None:
    if task.get("dataset_path") != "json":
        return
    for file in _data_files(task):
        if not file.startswith(f"{FOLDER}/"):
            continue  # elsewhere on the machine that evaluates
        data_path = normpath(join(dirname(path), file.removeprefix(f"{FOLDER}/")))
        if data_path not in paths:
            raise ConfigError(f"task {name}: its data file {data_path} is not among the files that came with it")
        n_rows = 0
        for number, row in enumerate(_rows(read(data_path), name, data_path), start=1):
            n_rows = number
            try:
                check_row(task, row, max_tokens)
            except (RowError, RecursionError) as error:
                why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
                raise ConfigError(f"task {name}, row {number} of {data_path}: {why}") from error
        if not n_rows:
            raise ConfigError(f"task {name}: {data_path} has no rows")


def _data_files(task: Mapping[str, Any]) -> list[str]:
    """The files of the split that is asked."""
    arguments = task.get("dataset_kwargs")
    files = arguments.get("data_files") if isinstance(arguments, dict) and "field" not in arguments else None
    if isinstance(files, dict):
        split = task.get("test_split") or task.get("validation_split")
        files = files.get(split) if isinstance(split, str) else None
    return [file for file in ([files] if isinstance(files, str) else files if isinstance(files, list) else []) if isinstance(file, str)]


def _rows(data: bytes, name: str, path: str) -> Iterator[dict[str, Any]]:
    """The rows of JSON Lines, or of one JSON list. Raises ConfigError."""
    try:
        data = gzip.decompress(data) if data.startswith(GZIP) else data
    except (EOFError, OSError, zlib.error) as error:
        raise ConfigError(f"task {name}: {path} is gzip that is cut off or damaged: {error}") from error
    is_list = data.lstrip()[:1] == b"["
    found = _parsed(data, f"task {name}: {path}") if is_list else filter(bytes.strip, data.split(b"\n"))
    for number, row in enumerate(found, start=1):
        value = row if is_list else _parsed(row, f"task {name}, row {number} of {path}")
        if not isinstance(value, dict):
            raise ConfigError(f"task {name}, row {number} of {path}: a {type(value).__name__}, expected fields and values")
        yield value


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{where}: no JSON: {error}") from error


def check_row(task: Mapping[str, Any], row: Mapping[str, Any], max_tokens: int) -> None:
    """Raises RowError when the row gives the task no question, no answers, or a right answer that is none of them."""
    kind = task.get("output_type", "generate_until")
    asked_choices = task.get("doc_to_choice")
    text = value_of(task.get("doc_to_text", ""), row, is_chosen=asked_choices is not None)
    target = value_of(task.get("doc_to_target", ""), row, is_chosen=asked_choices is not None)
    choices = list(asked_choices.values()) if isinstance(asked_choices, dict) else value_of(asked_choices, row, is_chosen=True)
    if kind == "multiple_choice":
        if isinstance(text, int) or UNKNOWN in (text, target):  # contexts are what is chosen between, or a function knows
            return
        check_choices(choices, target, len_in_words, max_tokens)
    elif kind == "loglikelihood" and target is not UNKNOWN:
        check_answer("the target", target, len_in_words, max_tokens)


def len_in_words(text: str) -> int:
    """A lower bound of a text's tokens, before there is a tokenizer: none goes on over white space."""
    return len(text.split())


def value_of(asked: Any, row: Mapping[str, Any], *, is_chosen: bool) -> Any:
    """What a task's `doc_to_…` gives for a row, as the harness does it: a field, or a template of fields. Raises RowError.

    `is_chosen`: the task has choices, so that digits are a choice's number.
    """
    if not isinstance(asked, str) or not asked:
        return asked
    if asked in row or asked.isidentifier():
        if row.get(asked) is None:
            raise RowError(f"no field {asked!r}" if asked not in row else f"{asked!r} is null")
        return row[asked]
    made = _filled_in(asked, row)
    if made is UNKNOWN:
        return UNKNOWN
    if made.isdigit() and is_chosen:
        try:
            return ast.literal_eval(made)
        except SyntaxError as error:  # 007, ², and more digits than Python reads
            raise RowError(f"{asked!r} gives {made!r:.80}, which is read as a number and is none") from error
    if made[:1] == "[" and made[-1:] == "]":
        try:
            return ast.literal_eval(made)
        except (SyntaxError, ValueError):
            return made
        except (MemoryError, RecursionError) as error:  # the first: Python's parser, of what is nested
            raise RowError(f"{asked!r} gives a list that is nested too deeply") from error
    return made


def _filled_in(template: str, row: Mapping[str, Any]) -> Any:
    """The text that a template gives for a row, or UNKNOWN. Raises RowError when a field is missing, or null is written out."""
    fields = {key: NULL if value is None else value for key, value in row.items()}
    try:
        return _templates.from_string(template).render({"range": _bounded_range(), **fields})
    except jinja2.UndefinedError as error:
        raise RowError(f"{template!r}: {error.message}") from error
    except RowError as error:
        nulls = sorted(name for name in jinja2.meta.find_undeclared_variables(_templates.parse(template)) if fields.get(name) is NULL)
        raise RowError(f"{template!r}: {', '.join(map(repr, nulls))} is null" if nulls else f"{template!r}: {error}") from error
    except Exception:  # filters of the harness's own, and whatever a template may do
        return UNKNOWN


def _bounded_range() -> Callable[..., range]:
    """A `range` that ends in OverflowError once all that it was asked for together has more than MAX_LOOP_STEPS numbers."""
    left = MAX_LOOP_STEPS

    def bounded(*bounds: int) -> range:
        nonlocal left
        left -= len(range(*bounds)) + 1  # an empty one takes time, too
        if left < 0:
            raise OverflowError(f"more than {MAX_LOOP_STEPS:,} steps of `range`")
        return range(*bounds)

    return bounded


def check_choices(choices: Any, gold: Any, count_tokens: Callable[[str], int], max_tokens: int) -> None:
    """Raises RowError when `choices` are not texts, or `gold` (number, text, or several numbers) is none of them."""
    if choices is UNKNOWN:
        return
    if not isinstance(choices, list | tuple) or not choices:
        raise RowError(f"its choices are {choices!r:.80}, expected a list of texts")
    for number, choice in enumerate(choices):
        check_answer(f"choice {number}", choice, count_tokens, max_tokens)
    for one in gold if isinstance(gold, list) and gold else [gold]:
        if isinstance(one, str) and one in choices:
            continue
        number = int(one) if isinstance(one, str) and _INDEX.fullmatch(one) else one
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(choices):
            raise RowError(f"gold {one!r:.80} is none of its {len(choices)} choices (0 to {len(choices) - 1})")


def check_answer(what: str, answer: Any, count_tokens: Callable[[str], int], max_tokens: int) -> None:
    """Raises RowError when an answer is no text, empty, or longer than the model takes."""
    if not isinstance(answer, str):
        raise RowError(f"{what} is {answer!r:.80}, expected text")
    if not answer.strip():
        raise RowError(f"{what} is empty")
    if (n_tokens := count_tokens(answer)) > max_tokens:
        raise RowError(f"{what} has {n_tokens:,} tokens or more, the model takes {max_tokens:,}")
