"""What a reader yields: a record, a record that is no document (skipped, by reason), or a bad one (quarantined, with file, offset and
reason)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

DETAIL_CHARS = 200

_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_FOURTEEN_DIGITS = re.compile(r"\d{14}")
_SECONDS_SINCE_1970 = re.compile(r"\d{10}")
_DIGITS = re.compile(r"(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d))?")
_SPELLED = re.compile(
    r"(\d{4})(?:[-/.](\d\d?)(?:[-/.](\d\d?)(?:[T\s]\s*(\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(Z|UTC|GMT|[+-]\d\d:?\d\d)?)?)?)?", re.I
)


@dataclass(frozen=True, slots=True)
class Record:
    """A record that can become a document.

    `key` names it within its source (RULE 1). `offset` is where it lies (bytes; Parquet: row), `row` its number in the file, from 0.
    `text` is its text, or None: then `payload` holds bytes, of HTML when `is_html`, in the charset that a header `declared` (None:
    detect it). `date` is what the record says; it is normalised later. `truncated`: the payload breaks off; `noai`: the response's headers
    ask not to be used for AI.
    """

    key: str | bytes
    offset: int
    row: int
    text: str | None = None
    payload: bytes = b""
    is_html: bool = False
    declared: str | None = None
    url: str | None = None
    date: Any = None
    truncated: bool = False
    noai: bool = False


class Skip(NamedTuple):
    """A record that is none of ours, counted by `reason`."""

    reason: str


class Bad(NamedTuple):
    """A damaged record or stretch of a file: quarantined. `offset` None = the whole file; `records` = how many are lost, as far as is
    known."""

    reason: str
    offset: int | None
    detail: str = ""
    key: str | bytes | None = None
    records: int = 1


Event = Record | Skip | Bad


class BadRecord(Exception):
    """A record that its reader cannot read; the reader turns it into `Bad` and goes on behind it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail[:DETAIL_CHARS]


def iso_utc(value: Any) -> str | None:
    """A date as ISO 8601 in UTC to the second ("2024-03-01T12:00:00Z"), or None for what is no date.

    Takes ISO 8601 in its many spellings (a year, a month or a day alone is its beginning; no zone means UTC), dates of HTTP and mail,
    digits alone as in ARC (14, or fewer), seconds since 1970, datetime and date. Fractions are cut.
    """
    if isinstance(value, str):
        value = value.strip()
        if _SECONDS.fullmatch(value):
            return _checked(value)
        if _FOURTEEN_DIGITS.fullmatch(value):
            return _checked(f"{value[:4]}-{value[4:6]}-{value[6:8]}T{value[8:10]}:{value[10:12]}:{value[12:]}Z")
    try:
        return _to_datetime(value).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):  # AttributeError: no date at all, as None
        return None


def _checked(text: str) -> str | None:
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return None
    return text


def _to_datetime(value: Any) -> datetime:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    moment = _parsed(value) if isinstance(value, str) else datetime.fromisoformat(value.isoformat())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _parsed(text: str) -> datetime:
    """The moment that a text names. Raises ValueError, TypeError, OverflowError."""
    if _SECONDS_SINCE_1970.fullmatch(text):
        return datetime.fromtimestamp(int(text), UTC)
    if found := _DIGITS.fullmatch(text):
        year, month, day, hour, minute = (int(part or least) for part, least in zip(found.groups(), (1, 1, 1, 0, 0), strict=True))
        return datetime(year, month, day, hour, minute)
    if found := _SPELLED.fullmatch(text):
        zone = "+00:00" if (found[5] or "").upper() in ("Z", "UTC", "GMT") else found[5] or ""
        return datetime.fromisoformat(f"{found[1]}-{int(found[2] or 1):02d}-{int(found[3] or 1):02d}T{found[4] or '00:00'}{zone}")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)  # "Fri, 01 Mar 2024 12:00:00 GMT"
