"""Output on a terminal or into a file that cannot show every character: plain marks in their place, never an error."""

# ruff: noqa: RUF001 - the marks that have plain ones
from __future__ import annotations

import codecs
import io
import sys

# What we print ourselves, in plain marks; another character is shown by its number, as Python writes it.
PLAIN = {
    "✓": "ok",
    "·": "-",
    "○": "o",
    "…": "...",
    "→": "->",
    "×": "x",
    "–": "-",
    "—": "-",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "•": "*",
}
PLAIN |= dict.fromkeys("━─╸╺┄", "-") | dict.fromkeys("│┃", "|") | dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+")
LOGS_IN_UTF8 = {"PYTHONIOENCODING": "utf-8:backslashreplace"}  # for children, whose output goes to files


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    marks = (PLAIN.get(character) or _number(character) for character in error.object[error.start : error.end])
    return "".join(marks), error.end


def _number(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def never_fail_on_characters() -> None:
    """Let standard output and error write plain marks for what their encoding lacks (PYTHONIOENCODING=ascii, a Latin-1 terminal)."""
    codecs.register_error("caravan-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="caravan-plain")
