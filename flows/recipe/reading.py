"""YAML files into strict models, with errors that name the field, its value and what is allowed."""

from __future__ import annotations

import re
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from flows.recipe.yaml_text import Location, Written, read
from storage.errors import ConfigError
from storage.strict import choices

M = TypeVar("M", bound=BaseModel)

PACKAGE = Path(__file__).resolve().parents[1]
MAX_VALUE_CHARS = 80
HIDDEN = "(hidden)"

# What a message must not repeat: the value of such a field, and what stands before the host in a URI.
_SECRET = re.compile(r"secret|passw|access_?key|session_?token|api_?key", re.IGNORECASE)
_USER_IN_URI = re.compile(r"://\S*@")

_repr = reprlib.Repr()  # bounded, whatever aliases a value is made of
_repr.maxlevel, _repr.maxlist, _repr.maxtuple, _repr.maxdict = 3, 12, 12, 12
_repr.maxstring = _repr.maxother = _repr.maxlong = 2 * MAX_VALUE_CHARS


def find_file(name: str, folder: str) -> Path:
    """The file of that path, or the one of that name shipped in `flows/<folder>/`. Raises ConfigError, naming those that there are."""
    path = at_home(name)
    shipped = {file.stem: file for file in sorted((PACKAGE / folder).glob("*.yaml"))}
    if path.is_file():
        return path
    if name in shipped:
        return shipped[name]
    raise ConfigError(f"{name}: no such file, and no name in flows/{folder}{choices(name, shipped)}")


def at_home(name: str) -> Path:
    """A path of this machine, `~` being home. Raises ConfigError for the home of a user that there is not."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: {error}") from error


def load(path: Path, model: type[M], overrides: Mapping[str, Any] | None = None) -> M:
    """The model in a YAML file; `overrides` replace top-level fields. Raises ConfigError with a line for each wrong field."""
    raw, written = read(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected fields, found {_shown(raw)}")
    overrides = overrides or {}
    return parse({**raw, **overrides}, model, str(path), {place: text for place, text in written.items() if place[0] not in overrides})


def parse(raw: Any, model: type[M], where: str, written: Mapping[Location, Written] | None = None) -> M:
    """`raw` as `model`; `where` begins the message. Raises ConfigError with a line for each wrong field.

    `written`: where the file says something else than `raw` holds, which is told, and refused where it is not what the field takes.
    """
    written = written or {}
    wrong = {place: text for place, text in written.items() if _is_misread(text, _types_at(model, place))}
    lines = []
    try:
        found = model.model_validate(raw)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        for item in errors:
            if not _only_lacks_wrong_items(item["loc"], item["type"], [other["loc"] for other in errors]):
                place = next((item["loc"][:n] for n in range(len(item["loc"]), 0, -1) if item["loc"][:n] in written), ())
                wrong.pop(place, None)
                lines.append(_line(dict(item), model, written.get(place)))
    lines += [_told(dotted(place), text, "", _described(model, place)) for place, text in wrong.items()]
    if lines:
        raise refusal(where, list(dict.fromkeys(lines)))
    return found


def refusal(where: str, lines: Sequence[str]) -> ConfigError:
    """The error of `lines`, one for each thing that is wrong."""
    return ConfigError("\n".join([f"{where}: {len(lines)} wrong field{'s' if len(lines) > 1 else ''}", *(f"  {line}" for line in lines)]))


def _is_misread(text: Written, types_there: Sequence[Any]) -> bool:
    """Whether YAML reads a scalar otherwise than the field means it, though its value may pass: `yes` would be the number 1."""
    match text.kind:
        case "octal" | "base 60":
            return True
        case "leading zero":
            return any(kind in types_there for kind in (int, float)) and str not in types_there
        case "word":
            return bool(types_there) and not any(kind in types_there for kind in (bool, Any))
    return False


def _only_lacks_wrong_items(location: Location, kind: str, others: Sequence[Location]) -> bool:
    """Whether an error says only that a list is too short without its items that are wrong."""
    return kind == "too_short" and any(other != location and other[: len(location)] == location for other in others)


def _line(error: dict[str, Any], model: type[BaseModel], written: Written | None) -> str:
    location, kind = error["loc"], error["type"]
    if location[-1:] == ("[key]",):  # what is wrong is a name, which the place ends with
        return f"{dotted(location[:-1])}: {error['msg'].removeprefix('Value error, ')}"
    path = dotted(location) or "(top)"
    if kind == "extra_forbidden":
        known = _field_names(model, location[:-1])
        return f"{path}: unknown field (value {_shown(error['input'], path)}){choices(str(location[-1]), known, 'allowed')}"
    if kind == "missing":
        return f"{path}: missing{_described(model, location)}"
    message = error["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(error["input"], Mapping):  # about several fields, which it names itself
        return f"{path}: {message}" if location else message
    if written is not None and (written.kind != "number" or str in _types_at(model, location)):
        return _told(path, written, f"{message}; ", _described(model, location))
    return f"{path}: {_shown(error['input'], path)}: {message}{_described(model, location)}"


def _told(path: str, written: Written, message: str, described: str) -> str:
    text = _safe(written.text, path)
    note = "YAML reads it otherwise than it is written: put it in quotes" if text == HIDDEN else written.note
    return f"{path}: {text}: {message}{note}{described}"


def dotted(location: Location) -> str:
    """A pydantic location as people write it: `sources[0].format`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _shown(value: Any, path: str = "") -> str:
    """A value for a message."""
    return _safe(_repr.repr(value), path)


def _safe(text: str, path: str) -> str:
    """Text for a message, cut short; no secret: messages go to logs."""
    text = _USER_IN_URI.sub("://(hidden)@", text)
    if _SECRET.search(f"{path} {text}"):
        return HIDDEN
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


def _models_at(model: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """The models that may stand at a location below `model` (several for a union)."""
    return [found for found in _types_at(model, location) if _is_model(found)]


def _types_at(model: type[BaseModel], location: Location) -> list[Any]:
    """What may stand at a location below `model`, members of unions one by one; nothing for a field that there is not."""
    annotations: list[Any] = [model]
    for part in location:
        annotations = [inner for annotation in annotations for inner in _inside(annotation, part)]
    return [found for annotation in annotations for found in _unwrapped(annotation)]


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


def _field_names(model: type[BaseModel], location: Location) -> list[str]:
    return sorted({name for found in _models_at(model, location) for name in found.model_fields})


def _described(model: type[BaseModel], location: Location) -> str:
    if not location:
        return ""
    for found in _models_at(model, location[:-1]):
        field = found.model_fields.get(str(location[-1]))
        if field is not None and field.description:
            return f" ({location[-1]}: {field.description})"
    return ""
