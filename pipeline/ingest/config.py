"""Configuration of what is read: sources and the language model, and the listing of raw files that the snapshot makes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from pipeline.language_tags import LanguageTag
from storage.errors import ConfigError
from storage.strict import Strict

Format = Literal["warc", "arc", "jsonl", "parquet", "files"]
Extractor = Literal["blocks", "resiliparse", "trafilatura"]
KeepOrSkip = Literal["keep", "skip"]
Identifier = Literal["eldc_lid176", "heliport"]
Domain = Literal["general", "math", "code", "multilingual"]

WEB_FORMATS = ("warc", "arc")
FIELD_FORMATS = ("jsonl", "parquet")
WILDCARDS = "*?["
ELDC_VERSION = "0.4.0"
HELIPORT_VERSION = "1.0.1"
LID_176_FTZ_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"

LOOK_AGAIN = "the next `caravan run` looks at the raw files anew"  # what to do about a raw file that changed under our hands


class RawFile(NamedTuple):
    """A raw file as the snapshot saw it: `path` relative to raw_root, `size_bytes`, `sha256` (hex)."""

    path: str
    size_bytes: int
    sha256: str


class LanguageConfig(Strict):
    """Language identification: by which models, each named by what fixes its weights. All enter the fingerprint, whichever is used."""

    identifier: Identifier = Field(
        "eldc_lid176", description="eldc_lid176 weighs two models together; heliport (GPL-3) has to be installed by its user"
    )
    model_sha256: str = Field(
        LID_176_FTZ_SHA256, pattern=r"^[0-9a-f]{64}$", description="sha256 (hex) of lid.176.ftz, which `make setup` provides"
    )
    eldc_version: str = Field(ELDC_VERSION, description="version of eldc, which holds its model")
    heliport_version: str = Field(HELIPORT_VERSION, description="version of heliport, which holds its model")
    max_chars: int = Field(
        1000, ge=50, le=100_000, description="characters at the start of a text that are looked at; more is slower, not better"
    )


def check_identifier(config: LanguageConfig) -> None:
    """Raises ConfigError when a package that the identifier reads is not installed in the version that the configuration names."""
    package = "heliport" if config.identifier == "heliport" else "eldc"
    asked = config.heliport_version if package == "heliport" else config.eldc_version
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        installed = None
    if installed != asked:
        found = "is not installed" if installed is None else f"is installed in version {installed}"
        extra = " (GPL-3, so not part of Caravan)" if package == "heliport" else ""
        install = f'pip install "{package}=={asked}"'
        raise ConfigError(f"language: the identifier {config.identifier} asks for {package} {asked}{extra}, which {found}: {install}")


class SourceConfig(Strict):
    """A source of raw data: where its files are, how their records become documents, and what is known about them."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="part of every document's id: renaming a source renames its documents"
    )
    format: Format = Field(description="what the raw files are; compression (gzip, zstd) is seen from their first bytes")
    path: str | tuple[str, ...] = Field(description="pattern or patterns of its files (`*`, `**`, `?`, `[…]`), relative to raw_root")
    extractor: Extractor = Field(
        "blocks",
        description="HTML to text: blocks, our own, is learned; it keeps lists, code and formulas. resiliparse and trafilatura go by rules",
    )
    dropped_fraction: float = Field(
        0.05,
        ge=0,
        le=1,
        description="HTML: share of pages, by keyed hash, whose left-out blocks are kept too (extractor: blocks)",
    )
    text_field: str = Field("text", min_length=1, description="jsonl, parquet: the field that holds the text")
    id_field: str | None = Field(
        None, description="jsonl, parquet: the field that names a record for ever; without it, the hash of the record does"
    )
    url_field: str | None = Field(None, description="jsonl, parquet: the field that holds the URL")
    date_field: str | None = Field(None, description="jsonl, parquet: the field that holds the date (ISO 8601, or seconds since 1970)")
    encoding: str | None = Field(None, description="files: their charset; without it, it is detected")
    domain: Domain | None = Field(None, description="the domain of all its documents; without it, the classifier decides")
    language: LanguageTag | None = Field(None, description="BCP 47 tag of all its documents; without it, the models decide")
    license: str | None = Field(None, description="licence of all its documents, as an SPDX expression where there is one")
    url_dedup: bool | None = Field(None, description="drop all but one document of a URL; by default on for warc and arc, off otherwise")
    line_dedup: bool | None = Field(None, description="drop lines that occur too often; by default on for warc and arc, off otherwise")
    truncated: KeepOrSkip = Field(
        "skip", description="warc, arc: pages that break off, which would teach to stop in mid-sentence; either way they are counted"
    )
    noai: KeepOrSkip = Field(
        "keep", description="HTML: pages whose robots meta tag or X-Robots-Tag says noai or noimageai; either way they are counted"
    )
    max_record_bytes: int = Field(16 << 20, ge=1024, le=1 << 30, description="a larger record is quarantined as too_large, unread")
    max_bad_fraction: float = Field(0.05, ge=0, le=1, description="quarantined records / all records above which the run stops")

    @field_validator("path")
    @classmethod
    def _inside_raw_root(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        patterns = (value,) if isinstance(value, str) else value
        if not patterns:
            raise ValueError("names no file")
        for pattern in patterns:
            parts = pattern.split("/")
            if (
                not pattern
                or pattern.startswith("/")
                or "\\" in pattern
                or "://" in pattern
                or any(part in ("", ".", "..") for part in parts)
            ):
                raise ValueError(
                    f"{pattern!r} must be relative to raw_root and stay in it: no leading /, no scheme, no empty part, no . or .."
                )
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                "".encode(value)
            except LookupError as error:
                raise ValueError(f"{value!r} is no charset that Python knows") from error
        return value

    @model_validator(mode="after")
    def _fields_fit_the_format(self) -> SourceConfig:
        # Values are compared, not "was it given": a resolved recipe gives every field, and has to load again.
        given = {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
        if self.format not in FIELD_FORMATS and (wrong := sorted(given & {"text_field", "id_field", "url_field", "date_field"})):
            raise ValueError(f"{wrong[0]} is for jsonl and parquet; source {self.name} is {self.format}")
        if self.format != "files" and "encoding" in given:
            raise ValueError(f"encoding is for files; source {self.name} is {self.format}")
        if self.format in FIELD_FORMATS and (wrong := sorted(given & {"extractor", "dropped_fraction", "noai"})):
            raise ValueError(f"{wrong[0]} is for HTML in warc, arc and files; source {self.name} is {self.format}")
        if self.format not in WEB_FORMATS and "truncated" in given:
            raise ValueError(f"truncated is for warc and arc; source {self.name} is {self.format}")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of its files."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def dedups_urls(self) -> bool:
        """Whether URL deduplication runs on it."""
        return self.format in WEB_FORMATS if self.url_dedup is None else self.url_dedup

    @property
    def dedups_lines(self) -> bool:
        """Whether line deduplication runs on it."""
        return self.format in WEB_FORMATS if self.line_dedup is None else self.line_dedup

    @property
    def keeps_dropped(self) -> bool:
        """Whether what extraction leaves out of its pages is kept too, for some of them."""
        return self.format not in FIELD_FORMATS and self.extractor == "blocks" and self.dropped_fraction > 0

    @property
    def is_web(self) -> bool:
        """Whether its documents are web pages (RULE 17: text class `web`)."""
        return self.format in WEB_FORMATS

    @property
    def root(self) -> str:
        """The folder under which the path of a file names it: the folders that all patterns begin with, before any wildcard; "" =
        raw_root."""
        return common_root(self.patterns)


def common_root(patterns: Sequence[str]) -> str:
    """The longest folder that all `patterns` begin with and that holds no wildcard."""
    folders = [_literal_folder(pattern) for pattern in patterns]
    shared: list[str] = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def _literal_folder(pattern: str) -> list[str]:
    folder: list[str] = []
    for part in pattern.split("/")[:-1]:
        if any(wildcard in part for wildcard in WILDCARDS):
            break
        folder.append(part)
    return folder


Partitions = Annotated[int, Field(ge=1, le=65_536, description="partitions of each source's documents, a power of two")]


def check_partitions(partitions: int) -> int:
    """`partitions` if it is a power of two from 1 to 65,536. Raises ValueError."""
    if not 1 <= partitions <= 65_536 or partitions & (partitions - 1):
        raise ValueError(f"{partitions} is not a power of two from 1 to 65,536")
    return partitions
