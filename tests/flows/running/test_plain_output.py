"""What an encoding lacks is written in plain marks; nothing that we print ends in an error."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.report.words import MARKS
from flows.running.plain_output import never_fail_on_characters

SHOW = r"""
import sys
from flows.running.plain_output import never_fail_on_characters
never_fail_on_characters()
from rich.table import Table
from flows.running.terminal import console
table = Table("a")
table.add_row("\u2713 caf\u00e9 \u6771 \ud800 \U0001f389")
console.print(table)
console.print("[green]\u2713[/] ingest \u2026 50 \u2192 60")
print("\ud800", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", ["ok ingest ... 50 -> 60", "ok caf\\xe9 \\u6771 \\ud800 \\U0001f389"]),
        ("latin-1", ["ok ingest ... 50 -> 60", "ok caf\xe9 \\u6771 \\ud800 \\U0001f389"]),
        ("utf-8", ["\u2713 ingest \u2026 50 \u2192 60", "\u2713 caf\xe9 \u6771 \\ud800 \U0001f389"]),
    ],
)
def test_what_an_encoding_lacks_is_plain(encoding: str, expected: list[str]) -> None:
    """Marks of ours in ASCII, characters of documents by number, what it has as it is."""
    done = subprocess.run([sys.executable, "-c", SHOW], env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    output = done.stdout.decode(encoding)
    assert [text for text in expected if text not in output] == []


@given(st.text(st.characters(codec=None)), st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8", "shift_jis"]))
def test_every_text_can_be_written(text: str, encoding: str) -> None:
    """In any encoding, surrogates too; what it has stays as it is."""
    never_fail_on_characters()
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="caravan-plain", newline="")
    stream.write(text)
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    written = stream.buffer.getvalue().decode(encoding)
    if text.isascii():
        assert written == text


def test_the_marks_of_stages_have_plain_ones() -> None:
    """Each other than the rest, so that fresh and stale stay apart."""
    never_fail_on_characters()
    plain = [mark.encode("ascii", "caravan-plain") for mark in MARKS.values()]
    assert len(set(plain)) == len(plain)
    assert not any(b"\\u" in mark for mark in plain)


def test_the_command_line_speaks_where_only_ascii_is_shown() -> None:
    """Help has boxes, which have plain ones."""
    command = [sys.executable, "-m", "flows.cli.app", "run", "--help"]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"--dry-run" in done.stdout
    assert b"\\u" not in done.stdout
