"""flows/recipe/yaml_text.py: what YAML reads otherwise than it is written is told, and refused where the field means something else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from flows.recipe.reading import load
from storage.errors import ConfigError
from storage.strict import Strict


class Part(Strict):
    """Every kind of field that a recipe has."""

    text: str = "x"
    maybe: str | None = None
    choice: Literal["off", "other"] = "other"
    flag: bool = True
    n_steps: int = 1
    lr: float = 1.0
    secret_key: str = "x"
    anything: Any = None


class Whole(Strict):
    """Fields in fields, lists and dictionaries."""

    parts: tuple[Part, ...] = ()
    paths: str | tuple[str, ...] = ()
    shares: dict[str, float] = Field(default_factory=dict)


def said(folder: Path, text: str, model: type[Strict] = Part) -> list[str]:
    """The lines about a file; none where it is right."""
    file = folder / "file.yaml"
    file.write_text(text)
    try:
        load(file, model)
    except ConfigError as error:
        return [line.strip() for line in str(error).splitlines()[1:]]
    return []


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("text: no", ("text: no: ", "YAML reads it as false", '"no" in quotes')),
        ("text: On", ("text: On: ", "YAML reads it as true", '"On" in quotes')),
        ("maybe: off", ("maybe: off: ", "YAML reads it as false", '"off" in quotes')),
        ("choice: off", ("choice: off: ", "'off' or 'other'", '"off" in quotes')),
        ("n_steps: yes", ("n_steps: yes: ", "YAML reads it as true")),
        ("lr: true", ("lr: true: ", "YAML reads it as true")),
        ("n_steps: 020", ("n_steps: 020: ", "octal, 16", "write 16 or 20")),
        ("n_steps: -0_17", ("n_steps: -0_17: ", "octal, -15", "write -15 or -17")),
        ("lr: 010", ("lr: 010: ", "octal, 8")),
        ("text: 007", ("text: 007: ", "octal, 7", '"007" in quotes')),
        ("anything: 020", ("anything: 020: ", "octal, 16")),
        ("n_steps: 08", ("n_steps: 08: ", "write 8")),
        ("n_steps: 0o17", ("n_steps: 0o17: ", "write 15")),
        ("n_steps: 1:30", ("n_steps: 1:30: ", "base 60, as 90")),
        ("lr: 1:30.5", ("lr: 1:30.5: ", "base 60, as 90.5")),
        ("text: 12:30", ("text: 12:30: ", '"12:30" in quotes')),
        ("text: 1.10", ("text: 1.10: ", "the number 1.1", '"1.10" in quotes')),
        ("text: 1_000", ("text: 1_000: ", "the number 1000", '"1_000" in quotes')),
        ("text: 1e5", ("text: 1e5: ", "the number 100000.0", '"1e5" in quotes')),
        ("text: 2024-01-01", ("text: 2024-01-01: ", "a date", '"2024-01-01" in quotes')),
        ("n_steps: 2024-01-01", ("n_steps: 2024-01-01: ", "a date")),
        ("text: ~", ("text: ~: ", "no value", '"~" in quotes')),
        ("text: null", ("text: null: ", "no value", '"null" in quotes')),
    ],
)
def test_what_yaml_reads_otherwise_is_told_as_it_is_written(tmp_path: Path, line: str, parts: tuple[str, ...]) -> None:
    """With its path, what YAML made of it, and what to write."""
    (found,) = said(tmp_path, line)
    assert found.startswith(parts[0])
    assert all(part in found for part in parts)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('text: "no"', {"text": "no"}),
        ("text: '020'", {"text": "020"}),
        ("text: 08", {"text": "08"}),
        ("text: 0o17", {"text": "0o17"}),
        ("text: ja", {"text": "ja"}),
        ("flag: no", {"flag": False}),
        ("flag: On", {"flag": True}),
        ("anything: yes", {"anything": True}),
        ("maybe: ~", {"maybe": None}),
        ("n_steps: 0", {"n_steps": 0}),
        ("n_steps: 0x10", {"n_steps": 16}),
        ("n_steps: 1_000", {"n_steps": 1000}),
        ("n_steps: 1e3", {"n_steps": 1000}),
        ("lr: 1e-3", {"lr": 0.001}),
        ("lr: -2.5E4", {"lr": -25000.0}),
        ("lr: 1.0e3", {"lr": 1000.0}),
        ("lr: 0.5", {"lr": 0.5}),
        ("lr: 3", {"lr": 3.0}),
        ("anything: 1e-3", {"anything": 0.001}),
    ],
)
def test_what_means_one_thing_is_taken(tmp_path: Path, line: str, value: dict[str, Any]) -> None:
    """A neighbour of each thing that is refused."""
    file = tmp_path / "file.yaml"
    file.write_text(line)
    assert load(file, Part) == Part(**value)


def test_every_place_is_told_at_once_with_what_else_is_wrong(tmp_path: Path) -> None:
    """In lists, in flow style, under a union, behind an alias, and beside a field that does not exist."""
    text = "parts: [{text: no, n_steps: 020}, {flag: perhaps, txt: no}]\npaths: [a, no]\nshares: {a: &n 010, b: *n, c: yes}\n"
    beginnings = [
        "parts[0].n_steps: 020: ",
        "parts[0].text: no: ",
        "parts[1].flag: 'perhaps': ",
        "parts[1].txt: unknown field (value False); did you mean `text`?",
        "shares.a: 010: ",
        "shares.b: 010: ",
        "shares.c: yes: ",
    ]
    lines = [line for line in said(tmp_path, text, Whole) if not line.startswith("paths")]
    assert all(line.startswith(beginning) for line, beginning in zip(sorted(lines), beginnings, strict=True))
    assert any(line.startswith("paths") for line in said(tmp_path, text, Whole))


def test_a_key_is_the_name_that_is_written(tmp_path: Path) -> None:
    """A source may be called no, 007 or null, and is when a list names it."""
    file = tmp_path / "file.yaml"
    file.write_text("shares: {no: 0.25, 007: 0.25, 1e5: 0.25, null: 0.25}")
    assert set(load(file, Whole).shares) == {"no", "007", "1e5", "null"}
    file.write_text('shares: {no: 0.25, "no": 0.25}')
    with pytest.raises(ConfigError, match="the key 'no' is given twice"):
        load(file, Whole)


def test_no_secret_is_repeated(tmp_path: Path) -> None:
    """Neither as it is written."""
    (line,) = said(tmp_path, "secret_key: 0123")
    assert line.startswith("secret_key: (hidden): ")
    assert "0123" not in line


@pytest.mark.parametrize("start", ["0", "0x", "9", "0o", "1:"])
def test_a_number_without_end_is_refused(tmp_path: Path, start: str) -> None:
    """In one line, whatever notation it is in."""
    file = tmp_path / "file.yaml"
    file.write_text(f"n_steps: {start}{'7' * 9000}")
    with pytest.raises(ConfigError) as caught:
        load(file, Part)
    assert len(str(caught.value)) < len(str(file)) + 200


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("1" + ":59" * 2000 + ".5", "float"),
        ("2024-99-99", "timestamp"),
        ("2024-01-01 30:00:00", "timestamp"),
        ("!!bool perhaps", "bool"),
        ("!!int ''", "int"),
        ("!!float ''", "float"),
        ("!!timestamp today", "timestamp"),
        ("9" * 9000, "int"),
    ],
)
def test_a_value_that_is_none_of_its_kind_is_refused(tmp_path: Path, written: str, kind: str) -> None:
    """In one line that says where, without what is written there."""
    file = tmp_path / "file.yaml"
    file.write_text(f"text: x\nshares: {{a: 1, b: [{written}]}}")
    with pytest.raises(ConfigError) as caught:
        load(file, Whole)
    assert str(caught.value) == f"{file}: not a YAML file: line 2, column 20: not a {kind}, as which YAML reads it; in quotes it is text"


def test_an_override_is_not_what_the_file_says(tmp_path: Path) -> None:
    """What the environment replaces is not looked at in the file."""
    file = tmp_path / "file.yaml"
    file.write_text("n_steps: 020")
    assert load(file, Part, {"n_steps": 3}).n_steps == 3


@given(st.text(alphabet="0123456789_-+.:eEoxnyf ~", max_size=8), st.sampled_from(sorted(Part.model_fields)))
def test_a_scalar_is_refused_or_means_what_is_written(text: str, field: str) -> None:
    """No number is taken that another notation would read differently, and no text but as it is written."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file.yaml"
        file.write_text(f"{field}: {text}")
        try:
            value = getattr(load(file, Part), field)
        except ConfigError:
            return
    written = text.strip()
    if field in ("text", "choice", "secret_key"):
        assert value == written
    elif field in ("n_steps", "lr") and "x" not in written.lower():
        assert float(written.replace("_", "")) == value
