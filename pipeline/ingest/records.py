"""What a reader yields: a record, a record that is no document (skipped, by reason), or a bad one (quarantined, with file, offset and
reason)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

DETAIL_CHARS = 200

_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_NUMBER = re.compile(r"\d{4,}", re.A)
_DIGITS = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?", re.A)
_THIS_OR_LAST_CENTURY = ("19", "20")
_UNITS_PER_SECOND = {9: 1, 10: 1, 12: 10**3, 13: 10**3, 15: 10**6, 16: 10**6, 18: 10**9, 19: 10**9}  # by the digits of dates since 1973
_CLOCK = r"(?:[T\s]\s*(\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(Z|UTC|GMT|[+-]\d\d:?\d\d)?)?"
_SPELLED = re.compile(rf"(\d{{4}})(?:[-/.](\d\d?)(?:[-/.](\d\d?){_CLOCK})?)?", re.I | re.A)
_DAY_OF_YEAR = re.compile(r"(\d{4})-(\d{3})", re.A)
_NAMED = re.compile(
    rf"(?:[a-z]+,\s*)?(?:([a-z]{{3,9}})\.?(?:\s+(\d\d?)(?:st|nd|rd|th)?)?|(\d\d?)(?:st|nd|rd|th|\.)?\s+([a-z]{{3,9}})\.?),?\s+(\d{{4}}),?{_CLOCK}",
    re.I | re.A,
)
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_END_OF_DAY = re.compile(r"(?<=[T\s])24(?=:00(?::00(?:\.0+)?)?(?![\d:.]))", re.I)
_LEAP_SECOND = re.compile(r"(:\d\d:)60(?!\d)")


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

    Takes ISO 8601 in its many spellings (a year, a month or a day alone is its beginning; no zone means UTC; 24:00 is the next day's
    beginning, a leap second the second before it), dates of HTTP and mail, English ones ("January 1, 2024"), datetime and date; and numbers
    and digits alone: dates as in ARC (4, 6, 8, 10, 12 or 14 digits), else seconds, milli-, micro- or nanoseconds since 1970, by how many
    digits they have in our time. Fractions are cut.
    """
    if isinstance(value, str):
        value = text = value.strip()
        if _SECONDS.fullmatch(text) and _is_valid(text):
            return text
    try:
        return _to_datetime(value).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):  # AttributeError: no date at all, as None
        return None


def _is_valid(seconds: str) -> bool:
    try:
        datetime.fromisoformat(seconds)
    except ValueError:
        return False
    return seconds[11:13] != "24"


def _to_datetime(value: Any) -> datetime:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_number(str(int(value))) if value >= 0 else datetime.fromtimestamp(value, UTC)
    moment = _parsed(value) if isinstance(value, str) else datetime.fromisoformat(value.isoformat())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _parsed(text: str) -> datetime:
    """The moment that a text names. Raises ValueError, TypeError, OverflowError."""
    if _NUMBER.fullmatch(text):
        return _of_number(text)
    text, leaps = _LEAP_SECOND.subn(r"\g<1>59", text, count=1)
    if not leaps and _END_OF_DAY.search(text):
        return _parsed(_END_OF_DAY.sub("00", text, count=1)) + timedelta(days=1)
    if found := _SPELLED.fullmatch(text):
        return _at(int(found[1]), int(found[2] or 1), int(found[3] or 1), found[4], found[5])
    if found := _DAY_OF_YEAR.fullmatch(text):
        return _on_day(int(found[1]), int(found[2]))
    if (found := _NAMED.fullmatch(text)) and (month := _month(found[1] or found[4])):
        return _at(int(found[5]), month, int(found[2] or found[3] or 1), found[6], found[7])
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)  # "Fri, 01 Mar 2024 12:00:00 GMT"


def _at(year: int, month: int, day: int, clock: str | None, zone: str | None) -> datetime:
    offset = "+00:00" if (zone or "").upper() in ("Z", "UTC", "GMT") else zone or ""
    return datetime.fromisoformat(f"{year:04d}-{month:02d}-{day:02d}T{clock or '00:00'}{offset}")


def _on_day(year: int, day_of_year: int) -> datetime:
    moment = datetime(year, 1, 1) + timedelta(days=day_of_year - 1)
    if moment.year != year:
        raise ValueError(f"no day {day_of_year} in {year}")
    return moment


def _month(name: str) -> int:
    """The number of a month by its English name or the first three or four letters of it; 0 for no month."""
    name = name.lower()
    return next((n for n, month in enumerate(_MONTHS, 1) if name == month or (len(name) in (3, 4) and month.startswith(name))), 0)


def _of_number(digits: str) -> datetime:
    """The moment of digits alone: a date written without marks, where they are one, else a time since 1970. Raises ValueError."""
    is_date = _DIGITS.fullmatch(digits)
    if is_date and (len(digits) not in (10, 12) or digits.startswith(_THIS_OR_LAST_CENTURY)):
        try:
            year, month, day, hour, minute, second = (
                int(part or least) for part, least in zip(is_date.groups(), (1, 1, 1, 0, 0, 0), strict=True)
            )
            days, hour = (1, 0) if (hour, minute, second) == (24, 0, 0) else (0, hour)
            return datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=UTC) + timedelta(days)
        except ValueError:
            if len(digits) != 10:
                raise
    if len(digits) not in _UNITS_PER_SECOND:
        raise ValueError(f"no date: {digits}")
    return datetime.fromtimestamp(int(digits) // _UNITS_PER_SECOND[len(digits)], UTC)
