"""Reads JSON Lines: one object a line, plain, gzip or zstd. Blank lines are no records.

Quarantined: invalid_utf8, invalid_json, not_an_object, missing_text, bad_text (not a string), bad_id (neither a string nor an integer),
too_large (a line above the bound, which is never held), damaged and truncated (compression). Offsets count decompressed bytes. Behind
damage in a gzip file of several members it goes on at the next member, whose first line may be the rest of another and then is
quarantined in its turn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from pipeline.ingest.records import Bad, BadRecord, Event, Record
from pipeline.ingest.stream import Damaged, Stream

UTF8_BOM = b"\xef\xbb\xbf"


def read_jsonl(
    stream: Stream, max_record_bytes: int, *, text_field: str, id_field: str | None, url_field: str | None, date_field: str | None
) -> Iterator[Event]:
    """Every line of a JSONL file as an event, in order; damage is an event too and never an exception. Fields may be dotted paths."""
    row = 0
    while True:
        try:
            for position, line in stream.lines(max_record_bytes):
                if line is None:
                    yield Bad("too_large", position, f"more than {max_record_bytes} bytes")
                elif line and not line.isspace():
                    yield _event(line.removeprefix(UTF8_BOM), position, row, text_field, id_field, url_field, date_field)
                else:
                    continue
                row += 1
            return
        except Damaged as error:
            yield Bad(error.reason, error.offset, error.detail)
            row += 1
            if not stream.next_member(error.offset, bool):
                return


def _event(
    line: bytes, position: int, row: int, text_field: str, id_field: str | None, url_field: str | None, date_field: str | None
) -> Event:
    try:
        fields = _parse(line)
        text = text_of(fields, text_field)
        key = record_key(fields, id_field) or hashlib.sha256(line).digest()
    except BadRecord as error:
        return Bad(error.reason, position, error.detail)
    url = field_of(fields, url_field)
    return Record(key, position, row, text, url=url if isinstance(url, str) else None, date=field_of(fields, date_field))


def _parse(line: bytes) -> dict[str, Any]:
    """The object on a line. Raises BadRecord."""
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise BadRecord("invalid_utf8", f"byte {error.start} of the line: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise BadRecord("invalid_json", str(error)) from error
    if not isinstance(value, dict):
        raise BadRecord("not_an_object", f"the line is {type_name(value)}")
    return value


def field_of(fields: dict[str, Any], name: str | None, absent: object = None) -> Any:
    """The value of field `name`, or of the path that its dots make through nested objects; `absent` when there is none."""
    if name is None:
        return absent
    if name in fields:
        return fields[name]
    value: Any = fields
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return absent
        value = value[part]
    return value


def text_of(fields: dict[str, Any], text_field: str) -> str:
    """The text of a record. Raises BadRecord: missing_text, bad_text."""
    text = field_of(fields, text_field, absent := object())
    if text is absent:
        raise BadRecord("missing_text", f"{null} is null" if (null := _null_above(fields, text_field)) else f"no field {text_field!r}")
    if text is None:
        raise BadRecord("missing_text", f"{text_field} is null")
    if not isinstance(text, str):
        raise BadRecord("bad_text", f"{text_field!r} is {type_name(text)}")
    return text


def _null_above(fields: dict[str, Any], name: str) -> str | None:
    """The beginning of a dotted path whose value is null, or None."""
    parts = name.split(".")
    paths = (".".join(parts[:n]) for n in range(1, len(parts)))
    return next((path for path in paths if field_of(fields, path, "") is None), None)


def type_name(value: object) -> str:
    """What a value is, in the words of JSON; other types by Python's name."""
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value)) or f"of type {type(value).__name__}"


def record_key(fields: dict[str, Any], id_field: str | None) -> str | None:
    """The key that the id field gives, or None where a record has no such field. Raises BadRecord: bad_id."""
    value = field_of(fields, id_field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRecord("bad_id", f"{id_field!r} is {type_name(value)}")
    return str(value).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
