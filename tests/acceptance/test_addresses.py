"""The measurement of addresses: figures by hand, a control that does worse, and errors for another corpus."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.quality.pii import Pii
from storage.errors import ConfigError, IntegrityError
from tests.acceptance.addresses import KINDS, measure_addresses, naive_spans, page_text, read_labels

TEXT = "é (bob@example.com) this@wrap.modality version 2.0.3.0, host 84.112.7.9"


def label(kind: str, place: str, address: str | None) -> dict[str, Any]:
    """A label of `TEXT` at the place that begins with `place`, with the address there."""
    at = TEXT.encode().index(place.encode())
    start = None if address is None else TEXT.encode().index(address.encode())
    digest = hashlib.sha256(TEXT.encode()).hexdigest()[:16]
    span = None if start is None else [start, start + len(str(address).encode())]
    return {"file": "code/a.jsonl.gz", "row": "0", "sha256": digest, "kind": kind, "at": at, "span": span}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of one file with one text."""
    (tmp_path / "code").mkdir()
    with gzip.open(tmp_path / "code/a.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": TEXT}) + "\n")
    return tmp_path


LABELS = [
    label("email", "@example", "bob@example.com"),
    label("email", "@wrap", None),
    label("ip", "2.0.3.0", None),
    label("ip", "84.112", "84.112.7.9"),
]


def test_figures_by_hand(corpus: Path) -> None:
    """All right; the pattern takes a bracket with one address, and a member and a version for others; a span too short is false."""
    perfect = measure_addresses(corpus, labels=LABELS)
    assert perfect == {f"{kind}_{name}": value for kind in KINDS for name, value in FIGURES.items()}
    control = measure_addresses(corpus, naive_spans, LABELS)
    assert (control["email_precision"], control["email_recall"], control["ip_precision"], control["ip_recall"]) == (0, 0, 0.5, 1)
    short = measure_addresses(corpus, lambda text: [Pii(LABELS[0]["span"][0] + 1, LABELS[0]["span"][1], "email")], LABELS)
    assert (short["email_precision"], short["email_recall"]) == (0, 0)


FIGURES = {"precision": 1.0, "recall": 1.0, "places": 2, "addresses": 1}


def test_another_corpus_is_refused(corpus: Path) -> None:
    """A file or a row that is absent, and another text, are errors that name it."""
    with pytest.raises(ConfigError, match=r"b\.jsonl\.gz: no such file"):
        measure_addresses(corpus, labels=[LABELS[0] | {"file": "code/b.jsonl.gz"}])
    with pytest.raises(IntegrityError, match=r"the row 7"):
        measure_addresses(corpus, labels=[LABELS[0] | {"row": "7"}])
    with pytest.raises(IntegrityError, match=r"row 0"):
        measure_addresses(corpus, labels=[LABELS[0] | {"sha256": "0" * 16}])


def test_the_labels_are_places_and_no_text() -> None:
    """At least 400 places over all kinds of text, each once; spans hold their place."""
    rows = read_labels()
    assert len(rows) == len({(row["file"], row["row"], row["at"]) for row in rows}) >= 400
    assert {row["file"].split("/")[0] for row in rows} >= {"code", "general", "math", "multilingual", "web-crawl"}
    assert all(row["span"] is None or row["span"][0] <= row["at"] < row["span"][1] for row in rows)
    assert all(set(row) == {"file", "row", "sha256", "kind", "at", "span"} for row in rows)


def test_the_text_of_a_page() -> None:
    """Tags, scripts and comments go, blocks begin lines, entities are characters."""
    assert page_text(b"<p>a<b>b</b></p><script>x@y.com</script><!-- c --><div>d&amp;\xff</div>") == "\nab\n  \nd&\ufffd\n"
