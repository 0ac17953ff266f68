"""The sample corpus: its size, its page of sources, its formats, its domains, and the duplicates that its WARC files hold by nature."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from hashlib import sha1
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecordType

from scripts.sample_corpus.formats import Capture, write_arc, write_jsonl, write_parquet, write_warc
from scripts.sample_corpus.packages import PACKAGES
from scripts.sample_corpus.text import html_blocks, pack, paragraphs

CORPUS = Path(__file__).parents[1] / "examples" / "corpus"
LIMIT_BYTES = 8_000_000
ROW = {"id": "1", "url": "https://a.example/", "text": "Straße", "license": "MIT"}


def files() -> list[Path]:
    return sorted(p for p in CORPUS.rglob("*") if p.is_file())


def rows(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        return [dict(row) for row in pq.read_table(path).to_pylist()]
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return [json.loads(line) for line in data.split(b"\n") if line]


def test_the_corpus_is_small_enough() -> None:
    """All its files together have at most 8 MB."""
    assert sum(p.stat().st_size for p in files()) <= LIMIT_BYTES


def test_sources_page_names_every_file() -> None:
    """SOURCES.md has a line for every file, or for the folder of plain files it lies in."""
    page = (CORPUS / "SOURCES.md").read_text()
    names = [p.relative_to(CORPUS).as_posix() for p in files() if p.name != "SOURCES.md"]
    assert [n for n in names if f"`{n}`" not in page and not (n.startswith("code/files/") and "`code/files`" in page)] == []


def test_sources_page_gives_a_licence_to_every_package() -> None:
    """Every pinned package stands in SOURCES.md with its version and licence."""
    page = (CORPUS / "SOURCES.md").read_text()
    assert [p.label for p in PACKAGES if f"| {p.name} | {p.version} |" not in page or not p.licence or p.licence not in page] == []


@pytest.mark.parametrize("pattern", ["**/*.warc.gz", "**/*.arc.gz", "**/*.jsonl.gz", "**/*.jsonl.zst", "**/*.parquet", "code/files/**/*.*"])
def test_every_reader_has_a_file(pattern: str) -> None:
    """Every format that ingest reads is in the corpus."""
    assert any(p.is_file() for p in CORPUS.glob(pattern))


@pytest.mark.parametrize("domain", ["general", "math", "code", "multilingual"])
def test_every_domain_has_two_labelled_sources_and_enough_documents(domain: str) -> None:
    """A domain has at least two sources, 100 documents and 1 MB of text; ids are unique, texts not empty, licences named."""
    sources = sorted(p for p in (CORPUS / domain).iterdir() if p.is_file())
    assert len(sources) >= 2
    texts = 0
    for source in sources:
        found = rows(source)
        assert len({row["id"] for row in found}) == len(found)
        assert all(row["text"].strip() and row["license"] for row in found)
        texts += sum(len(row["text"].encode()) for row in found)
    assert texts >= 1_000_000


def test_the_web_holds_duplicates_by_nature() -> None:
    """In the WARC files some URLs were captured twice with other content, and some bodies stand at two URLs."""
    by_url, by_body = defaultdict(list), defaultdict(set)
    ids: Counter[str] = Counter()
    for path in sorted(CORPUS.glob("web/*.warc.gz")):
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                url, body = record.headers["WARC-Target-URI"], sha1(record.reader.read()).hexdigest()
                by_url[url].append(body)
                by_body[body].add(url)
                ids[record.headers["WARC-Record-ID"]] += 1
    assert len(ids) > 500
    assert max(ids.values()) == 1
    assert sum(len(set(bodies)) > 1 for bodies in by_url.values()) >= 10
    assert sum(len(urls) > 1 for urls in by_body.values()) >= 10


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    """No clock and no random number enters a file."""
    captures = [
        Capture("https://a.example/", "2024-01-01T00:00:00Z", b"<p>a</p>"),
        Capture("https://a.example/b", "2024-01-01T00:00:07Z", b""),
    ]
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        write_warc(folder / "a.warc.gz", captures, "2024-01-01T00:00:00Z")
        write_arc(folder / "a.arc.gz", captures, "2024-01-01T00:00:00Z")
        for name in ("a.jsonl.gz", "a.jsonl.zst"):
            write_jsonl(folder / name, [ROW])
            assert rows(folder / name) == [ROW]
        write_parquet(folder / "a.parquet", [ROW])
        assert rows(folder / "a.parquet") == [ROW]
        written.append([p.read_bytes() for p in sorted(folder.iterdir())])
    assert written[0] == written[1]


def test_html_becomes_blocks_and_blocks_become_documents() -> None:
    """White space is collapsed except in `pre`, scripts are left out, and documents are cut between parts only."""
    assert html_blocks("<h1>A  b</h1><script>x</script><p>c\nd</p><pre>e\n  f</pre>") == ["A b", "c d", "e\n  f"]
    assert paragraphs(["a", "b", "", "c"]) == ["a b", "c"]
    assert pack(["aa", "bb", "c" * 9], 4) == ["aa\n\nbb", "c" * 9]
