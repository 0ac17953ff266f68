"""What a YAML file holds, and where YAML read something else than what is written there.

YAML 1.1 reads an unquoted `no` as false, `020` as 16, `1:30` as 90, `1.10` as 1.1, `2024-01-01` as a date and `~` as nothing. Whether
that is what was meant, only the field can tell (`reading.py`). Two deviations: a key is a name, as it is written (`no: general`);
and `1e-3` is a number, as everywhere else, where YAML 1.1 wants `1.0e-3`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from storage.errors import ConfigError
from storage.placed_yaml import PlacedLoader

MAX_FILE_BYTES = 1 << 20
MAX_VALUES = 100_000  # with every alias written out: twelve lines of YAML can stand for 9^12 values

MAX_NUMBER_CHARS = 400  # Python writes no number of more than 4,300 digits, so a message could not show it

Location = tuple[int | str, ...]
Kind = Literal["word", "octal", "base 60", "number", "date", "null", "leading zero", "0o"]

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_OCTAL = re.compile(r"[-+]?0o[0-7]+")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Written:
    """An unquoted scalar as it stands in the file, and as what YAML reads it."""

    text: str
    kind: Kind
    value: Any

    @property
    def note(self) -> str:
        """What YAML makes of it, and what to write instead."""
        quoted = f'"{self.text}" in quotes'
        number = self.text.replace("_", "")
        match self.kind:
            case "word":
                return f"unquoted, YAML reads it as {str(self.value).lower()}; the word is {quoted}"
            case "octal":
                meant = " or ".join(dict.fromkeys((str(self.value), str(int(number)))))
                return f"with a leading zero YAML reads it as octal, {self.value}: write {meant}, or {quoted} for the text"
            case "leading zero":
                return f"a leading zero means octal in YAML, and this is none: write {int(number)}"
            case "0o":
                return f"YAML reads it as text: write {int(number, 8)}"
            case "base 60":
                return f"YAML reads it in base 60, as {self.value}: write {self.value}, or {quoted} for the text"
            case "number":
                return f"unquoted, YAML reads it as the number {self.value}; the text is {quoted}"
            case "date":
                return f"unquoted, YAML reads it as a date; the text is {quoted}"
            case "null":
                return f"unquoted, YAML reads it as no value; the text is {quoted}"


class _Loader(PlacedLoader):
    """Refuses a key given twice, takes keys as they are written, and `1e-3` as a number."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    loader.flatten_mapping(node)
    found: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key that is no name", key_node.start_mark)
        key = key_node.value
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))


def read(path: Path) -> tuple[Any, dict[Location, Written]]:
    """What a YAML file holds, and where it reads otherwise than it is written. Raises ConfigError, naming line and column if known."""
    try:
        if (size_bytes := path.stat().st_size) > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: {size_bytes:,} bytes; a recipe or an execution file has at most {MAX_FILE_BYTES:,}")
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None, {}
        if (n_values := _count(node, {})) > MAX_VALUES:
            raise ConfigError(f"{path}: {n_values:,} values, with every alias written out; at most {MAX_VALUES:,} are read")
        value = loader.construct_document(node)
        return value, dict(_written(node, value, ()))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark  # its text, which may hold anything, is not repeated
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: not a YAML file: {where}{error.problem or error.context}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, aliases written out; `known` by id, so that it takes no longer than the file is long."""
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def _written(node: yaml.Node, value: Any, location: Location) -> Iterator[tuple[Location, Written]]:
    """Every unquoted scalar below a node whose value is not its text, or is a number that YAML takes for text."""
    if isinstance(node, yaml.MappingNode) and isinstance(value, dict):
        for key_node, value_node in node.value:
            yield from _written(value_node, value[key_node.value], (*location, key_node.value))
    elif isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        for number, item in enumerate(node.value):
            yield from _written(item, value[number], (*location, number))
    elif isinstance(node, yaml.ScalarNode) and node.style is None and (kind := _kind(node.value, node.tag.removeprefix(_TAG))):
        if len(node.value) > MAX_NUMBER_CHARS:
            raise yaml.constructor.ConstructorError(None, None, f"a number of {len(node.value):,} characters", node.start_mark)
        yield location, Written(node.value, kind, value)


def _kind(text: str, tag: str) -> Kind | None:
    match tag:
        case "bool":
            return "word"
        case "null":
            return "null" if text else None
        case "timestamp":
            return "date"
        case "int" | "float" if ":" in text:
            return "base 60"
        case "int" if _LEADING_ZERO.fullmatch(text):
            return "octal"
        case "int" | "float":
            return "number"
        case "str" if _LEADING_ZERO.fullmatch(text):
            return "leading zero"
        case "str" if _OCTAL.fullmatch(text):
            return "0o"
    return None
