"""flows/recipe/execution.py: one file serves many places; folders are where a person means them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.recipe.execution import load_execution
from flows.recipe.reading import PACKAGE
from storage.errors import ConfigError


def test_the_environment_moves_store_and_raw_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One file, many places."""
    monkeypatch.setenv("CARAVAN_STORE", "s3://bucket/prefix")
    monkeypatch.setenv("CARAVAN_RAW_ROOT", str(tmp_path))
    execution = load_execution("local")
    assert (execution.store, execution.raw_root) == ("s3://bucket/prefix", str(tmp_path))


def test_folders_of_an_execution_file_are_below_the_current_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wherever the file lies, and wherever the store is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARAVAN_STORE", "elsewhere/store")
    monkeypatch.delenv("CARAVAN_RAW_ROOT", raising=False)
    execution = load_execution("local")
    found = (execution.store, execution.raw_root, execution.work_dir)
    assert found == tuple(str(tmp_path / folder) for folder in ("elsewhere/store", "examples/corpus", ".caravan/work"))


def test_credentials_in_a_store_uri_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have their own place."""
    monkeypatch.setenv("CARAVAN_STORE", "s3://key:secret@host/bucket")
    with pytest.raises(ConfigError, match=r"store: .*holds no credentials"):
        load_execution("local")


FOLDERS = ("store", "raw_root", "work_dir")


def with_fields(folder: Path, **fields: str) -> str:
    """A copy of `local.yaml` with these fields."""
    raw = yaml.safe_load((PACKAGE / "execution" / "local.yaml").read_text())
    file = folder / "here.yaml"
    file.write_text(yaml.safe_dump({**raw, **fields}))
    return str(file)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("CARAVAN_STORE", "CARAVAN_RAW_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(("written", "folder"), [("~", ""), ("~/text", "text"), ("~/a/../b~", "a/../b~"), ("file://~/text", "text")])
def test_a_tilde_is_home(home: Path, tmp_path: Path, written: str, folder: str) -> None:
    """In each folder of the file; a tilde elsewhere is a tilde."""
    for field in FOLDERS if "://" not in written else FOLDERS[:2]:
        execution = load_execution(with_fields(tmp_path, **{field: written}))
        assert getattr(execution, field) == str(home / folder)
    assert load_execution(with_fields(tmp_path, raw_root=str(tmp_path / "~"))).raw_root == str(tmp_path / "~")


def test_a_tilde_in_a_variable_is_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export CARAVAN_RAW_ROOT="~/text"` comes through as it is."""
    monkeypatch.setenv("CARAVAN_RAW_ROOT", "~/text")
    assert load_execution("local").raw_root == str(home / "text")


def test_the_file_itself_may_be_at_home(home: Path) -> None:
    """`--execution=~/here.yaml` is not expanded by every shell."""
    home.mkdir()
    with_fields(home, store="~/store")
    assert load_execution("~/here.yaml").store == str(home / "store")


@pytest.mark.parametrize("field", FOLDERS)
def test_the_home_of_nobody_is_refused(home: Path, tmp_path: Path, field: str) -> None:
    """In a line that names the field."""
    with pytest.raises(ConfigError, match=rf"{field}: '~no-such-user/x': .*home"):
        load_execution(with_fields(tmp_path, **{field: "~no-such-user/x"}))


@pytest.mark.parametrize("field", FOLDERS)
@pytest.mark.parametrize("written", ["", " ", "file:/tmp/x", "file:x", "FILE:/x", "gs:/bucket/x"])
def test_what_names_no_folder_is_refused(home: Path, tmp_path: Path, written: str, field: str) -> None:
    """In one line; it was the current folder, or one in it with that name."""
    with pytest.raises(ConfigError, match=rf"\n *{field}: '{written}': names no folder.*$"):
        load_execution(with_fields(tmp_path, **{field: written}))


@pytest.mark.parametrize("field", ["store", "raw_root"])
@pytest.mark.parametrize("uri", ["file://host/x", "file://", "file://./x", "file://localhost/x"])
def test_the_folder_of_another_machine_is_refused(home: Path, tmp_path: Path, uri: str, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"{field}: '{uri}': names no folder"):
        load_execution(with_fields(tmp_path, **{field: uri}))


@pytest.mark.parametrize(("written", "folder"), [(".", ""), ("a:b", "a:b"), ("./file:/x", "file:/x"), ("x/y:/z", "x/y:/z")])
def test_a_folder_may_have_a_colon_in_its_name(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for field in FOLDERS:
        assert getattr(load_execution(with_fields(tmp_path, **{field: written})), field) == str(tmp_path / folder)


@pytest.mark.parametrize("uri", ["s3://b?c/x", "s3://bü/x", "s3://b c/x", "s3://bu#cket"])
def test_a_bucket_that_no_request_can_name_is_refused(home: Path, tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match=r"store: .*is no bucket's name") as caught:
        load_execution(with_fields(tmp_path, store=uri))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("field", ["store", "raw_root"])
@pytest.mark.parametrize("uri", ["s3:///x", "s3://", "s3:/bucket/x", "s3:bucket", "s3:////x", "S3:///x"])
def test_a_store_in_s3_that_names_no_bucket_is_refused(home: Path, tmp_path: Path, uri: str, field: str) -> None:
    """In one line that says what to write."""
    with pytest.raises(ConfigError, match=rf"{field}: '{uri}': names no bucket; a store in S3 is s3://bucket/prefix"):
        load_execution(with_fields(tmp_path, **{field: uri}))
