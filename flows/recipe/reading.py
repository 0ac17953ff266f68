"""YAML files into strict models, with errors that name the field, its value and what is allowed."""

from __future__ import annotations

import re
import reprlib
import types
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from storage.errors import ConfigError
from storage.strict import choices

M = TypeVar("M", bound=BaseModel)

PACKAGE = Path(__file__).resolve().parents[1]
MAX_VALUE_CHARS = 80
MAX_FILE_BYTES = 1 << 20
MAX_VALUES = 100_000  # with every alias written out: twelve lines of YAML can stand for 9^12 values

# What a message must not repeat: the value of such a field, and what stands before the host in a URI.
_SECRET = re.compile(r"secret|passw|access_?key|session_?token|api_?key", re.IGNORECASE)
_USER_IN_URI = re.compile(r"://\S*@")

_repr = reprlib.Repr()  # bounded, whatever aliases a value is made of
_repr.maxlevel, _repr.maxlist, _repr.maxtuple, _repr.maxdict = 3, 12, 12, 12
_repr.maxstring = _repr.maxother = _repr.maxlong = 2 * MAX_VALUE_CHARS


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """SafeLoader that refuses a key given twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    loader.flatten_mapping(node)
    found: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key that is no name", key_node.start_mark)
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def find_file(name: str, folder: str) -> Path:
    """The file of that path, or the one of that name shipped in `flows/<folder>/`. Raises ConfigError, naming those that there are."""
    path = Path(name)
    shipped = {file.stem: file for file in sorted((PACKAGE / folder).glob("*.yaml"))}
    if path.is_file():
        return path
    if name in shipped:
        return shipped[name]
    raise ConfigError(f"{name}: no such file, and no name in flows/{folder}{choices(name, shipped)}")


def load(path: Path, model: type[M], overrides: Mapping[str, Any] | None = None) -> M:
    """The model in a YAML file; `overrides` replace top-level fields. Raises ConfigError with a line for each wrong field."""
    raw = _read(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected fields, found {_shown(raw)}")
    return parse({**raw, **(overrides or {})}, model, str(path))


def _read(path: Path) -> Any:
    """What a YAML file holds. Raises ConfigError, naming line and column where that is known."""
    try:
        if (size_bytes := path.stat().st_size) > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: {size_bytes:,} bytes; a recipe or an execution file has at most {MAX_FILE_BYTES:,}")
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is not None and (n_values := _count(node, {})) > MAX_VALUES:
            raise ConfigError(f"{path}: {n_values:,} values, with every alias written out; at most {MAX_VALUES:,} are read")
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark  # its text, which may hold anything, is not repeated
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: not a YAML file: {where}{error.problem or error.context}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8; a date or a number that is none
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, aliases written out; `known` by id, so that it takes no longer than the file is long."""
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def parse(raw: Any, model: type[M], where: str) -> M:
    """`raw` as `model`; `where` begins the message. Raises ConfigError with a line for each wrong field."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = list(dict.fromkeys(_line(dict(item), model) for item in error.errors(include_url=False)))
        raise ConfigError(
            "\n".join([f"{where}: {len(lines)} wrong field{'s' if len(lines) > 1 else ''}", *(f"  {line}" for line in lines)])
        ) from None


def _line(error: dict[str, Any], model: type[BaseModel]) -> str:
    location, kind = error["loc"], error["type"]
    path = dotted(location) or "(top)"
    if kind == "extra_forbidden":
        known = _field_names(model, location[:-1])
        return f"{path}: unknown field (value {_shown(error['input'], path)}){choices(str(location[-1]), known, 'allowed')}"
    if kind == "missing":
        return f"{path}: missing{_described(model, location)}"
    message = error["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(error["input"], Mapping):  # about several fields, which it names itself
        return f"{path}: {message}" if location else message
    return f"{path}: {_shown(error['input'], path)}: {message}{_described(model, location)}"


def dotted(location: tuple[int | str, ...]) -> str:
    """A pydantic location as people write it: `sources[0].format`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _shown(value: Any, path: str = "") -> str:
    """A value for a message, cut short; no secret: messages go to logs."""
    text = _USER_IN_URI.sub("://(hidden)@", _repr.repr(value))
    if _SECRET.search(f"{path} {text}"):
        return "(hidden)"
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


def _models_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """The models that may stand at a location below `model` (several for a union)."""
    annotations: list[Any] = [model]
    for part in location:
        annotations = [inner for annotation in annotations for inner in _inside(annotation, part)]
    return [found for annotation in annotations for found in _unwrapped(annotation) if _is_model(found)]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _unwrapped(annotation: Any) -> list[Any]:
    """The members of unions and Annotated."""
    if get_origin(annotation) is Annotated:
        return _unwrapped(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return [found for member in get_args(annotation) for found in _unwrapped(member)]
    return [annotation]


def _inside(annotation: Any, part: int | str) -> list[Any]:
    inner: list[Any] = []
    for member in _unwrapped(annotation):
        if _is_model(member):
            field = member.model_fields.get(part)
            # pydantic puts a union member's name into the location: such a part stays where it is.
            inner.append(member if field is None and part == member.__name__ else field.annotation if field else None)
        elif get_origin(member) in (tuple, list):
            inner.append(get_args(member)[0])
        elif get_origin(member) in (dict, Mapping):
            inner.append(get_args(member)[1])
    return [found for found in inner if found is not None]


def _field_names(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    return sorted({name for found in _models_at(model, location) for name in found.model_fields})


def _described(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    if not location:
        return ""
    for found in _models_at(model, location[:-1]):
        field = found.model_fields.get(str(location[-1]))
        if field is not None and field.description:
            return f" ({location[-1]}: {field.description})"
    return ""
