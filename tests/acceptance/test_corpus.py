"""The figures of the corpus acceptance, each by the function that it calls, on a corpus of the same layout with other files, made here."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import measure_domains, measure_extraction, measure_filters, measure_language, measure_minhash
from benchmarks.shared_corpus import TEXTS, check_layout, kept_out
from flows.recipe.recipe import Recipe
from pipeline.dedup.minhash import MinHashConfig
from pipeline.ingest.config import LanguageConfig
from storage.errors import ConfigError
from tests.acceptance.corpus import RECIPE, edge_case
from tests.acceptance.corpus_fitting import fit
from tests.flows.small_corpus import FRENCH, GERMAN, code, page, proof, prose, record
from tests.pipeline.dedup_inputs import shingles

N_PAGES, N_TEXTS = 16, 24


def pack(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a packed JSON-lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def foreign(rng: random.Random) -> str:
    """German or French lines."""
    return "\n".join(rng.sample(rng.choice([GERMAN, FRENCH]), 6))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus folder: pages of prose and of proofs, two files of each domain but code, languages, near duplicates."""
    folder, rng = tmp_path_factory.mktemp("corpus"), random.Random(3)
    texts = [prose(rng, 4) if n % 2 else proof(rng, n).split("\n") for n in range(N_PAGES)]
    names = [f"<urn:uuid:00000000-0000-4000-8000-{n:012d}>" for n in range(N_PAGES)]
    archive = [record(n, f"https://a.example/{n}", "2024-01-01T00:00:00Z", page(f"Page {n}", text)) for n, text in enumerate(texts)]
    (folder / "web-crawl").mkdir()
    (folder / "web-crawl" / "part-a.warc.gz").write_bytes(b"".join(archive[:5]))
    (folder / "web-crawl" / "part-b.warc.gz").write_bytes(b"".join(archive[5:]))
    labels = [{"record_id": name, "source": "site", "domain": "general" if n % 2 else "math"} for n, name in enumerate(names)]
    pack(folder / "web-crawl" / "labels.jsonl.gz", labels)
    truth = [{"record_id": name, "kind": "full_text", "main_content": "\n".join(text)} for name, text in zip(names, texts, strict=True)]
    pack(folder / "web-crawl" / "extraction_gt.jsonl.gz", truth)
    makers: dict[str, Callable[[int], str]] = {
        "general": lambda n: "\n\n".join(prose(rng, 4)),
        "math": lambda n: proof(rng, n),
        "code": lambda n: code(rng, n),
        "multilingual": lambda n: foreign(rng),
    }
    for domain, make in makers.items():
        for name in ("First", "second.v2") if domain != "code" else ("only",):
            rows = ({"id": f"{name}{n}/x", "url": None, "text": make(n), "domain": domain, "lang": "xx"} for n in range(N_TEXTS))
            pack(folder / domain / f"{name}.jsonl.gz", rows)
    lines = [("de", text) for text in GERMAN] + [("fr", text) for text in FRENCH]
    pack(folder / "langid" / "two.jsonl.gz", ({"lang": lang, "text": text, "unit": "sentences"} for lang, text in lines))
    near_duplicates(folder, rng)
    return folder


def near_duplicates(folder: Path, rng: random.Random) -> None:
    """Texts that differ in ever more words, and their exact Jaccard of word 5-grams."""
    base = [f"w{rng.getrandbits(40)}" for _ in range(400)]
    texts = [" ".join(f"{n}-{i}" if i < changes else word for i, word in enumerate(base)) for n, changes in enumerate((0, 1, 3, 150, 399))]
    sets = [shingles(text, 5) for text in texts]
    pack(folder / "dedup" / "docs.jsonl.gz", ({"id": str(n), "text": text} for n, text in enumerate(texts)))
    pairs = [(a, b, len(sets[a] & sets[b]) / len(sets[a] | sets[b])) for a, b in combinations(range(len(texts)), 2)]
    pack(folder / "dedup" / "pairs.jsonl.gz", ({"a": str(a), "b": str(b), "jaccard_w5": value} for a, b, value in pairs))


def test_extraction_finds_every_page_and_its_text(corpus: Path) -> None:
    """All ground truth is found, in whichever file; the text of the pages is most of what is extracted."""
    pages = list(measure_extraction.pages(corpus))
    assert len(pages) == N_PAGES
    (score,) = measure_extraction.measure(pages, "resiliparse")
    assert score.word_f1 is not None
    assert 0.8 < score.word_f1 <= 1


def test_near_duplicates_are_read_and_found(corpus: Path) -> None:
    """Recall and precision of pairs far from the threshold are 1."""
    total = measure_minhash.measure(*measure_minhash.load(corpus), MinHashConfig())[-1]
    assert (total["true_pairs"], total["recall_verified"], total["precision_verified"]) == (3, 1.0, 1.0)


def test_language_accuracy_falls_to_chance_with_wrong_labels(corpus: Path) -> None:
    """Right labels give nearly all, exchanged ones nearly none."""
    rows = measure_language.rows_of(corpus)
    wrong = [{**row, "lang": "fr" if row["lang"] == "de" else "de"} for row in rows]
    identify = measure_language.identifiers(LanguageConfig())["caravan"]
    right, none = (measure_language.measure(labelled, identify, {"de", "fr"})[0].accuracy for labelled in (rows, wrong))
    assert right > 0.8
    assert none < 0.2


def test_domain_accuracy_on_whole_files_and_pages_kept_out(corpus: Path) -> None:
    """What is judged is never trained on, code of one file is split by package, and wrong labels show."""
    training, judged = measure_domains.file_texts(corpus)
    sources = {(domain, source) for domain, source, _ in training} & {(domain, source) for domain, source, _ in judged}
    assert sources <= {("code", "only")}
    assert not {text for _, _, text in training} & {text for domain, _, text in judged if domain != "multilingual"}
    pages = measure_domains.web_texts(corpus)
    assert len(pages) == N_PAGES
    found = measure_domains.measure(training, judged + pages)
    for kept in (measure_domains.FILES, measure_domains.PAGES):
        figure = measure_domains.accuracy(found, kept)
        assert figure.documents > 0
        assert figure.mean_accuracy > 0.6
    turned = {"general": "math", "math": "code", "code": "multilingual", "multilingual": "general"}
    wrong = measure_domains.measure([(turned[domain], source, text) for domain, source, text in training], judged)
    assert measure_domains.accuracy(wrong, measure_domains.FILES).mean_accuracy < 0.4


def test_the_mean_over_domains_does_not_reward_the_commonest() -> None:
    """A classifier that always says one domain has chance, however many documents are of it."""
    found = {("a", "general"): Counter(general=90), ("b", "math"): Counter(general=10)}
    figure = measure_domains.accuracy(found, measure_domains.FILES)
    assert (figure.accuracy, figure.mean_accuracy) == (0.9, 0.5)


def test_filters_agree_with_datatroves(corpus: Path) -> None:
    """A row for each filter, of the texts that were asked for."""
    rows = list(measure_filters.figures(corpus, "general", limit=10))
    assert [row["filter"] for row in rows[:-1]] == list(measure_filters.CASES)
    assert {row["documents"] for row in rows[:-1]} == {10}
    assert min(row["agree_percent"] for row in rows[:-1]) >= 90


def test_the_recipe_is_fitted_to_other_files(corpus: Path) -> None:
    """Each file is a source, whole ones are kept out, and what is not there is not asked for; its own corpus changes nothing."""
    raw = yaml.safe_load(RECIPE.read_text())
    assert len(fit(raw, corpus)) == 3
    recipe = Recipe.model_validate(raw)
    paths = {path for source in recipe.sources for path in source.patterns}
    texts = {f"{folder}/{path.name}" for folder in TEXTS for path in (corpus / folder).iterdir()}
    assert paths == {"web-crawl/*.warc.gz", *texts}
    assert set(recipe.domains.validation_sources.values()) == {"general", "math", "multilingual"}
    assert [path.name for path in kept_out(corpus, "code")] == []
    assert fit(raw, corpus) == []


def test_a_corpus_without_a_folder_is_refused_by_name(corpus: Path, tmp_path: Path) -> None:
    """Before any work."""
    check_layout(corpus)
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    shutil.rmtree(copy / "langid")
    with pytest.raises(ConfigError, match=r"no file langid/\*\.jsonl\.gz"):
        check_layout(copy)


def test_every_record_of_a_damaged_archive_is_accounted_for(corpus: Path, tmp_path: Path) -> None:
    """What is cut off is quarantined, the records before it are documents, and the counts close."""
    data = (corpus / "web-crawl" / "part-a.warc.gz").read_bytes()
    (tmp_path / "cut.warc.gz").write_bytes(data[:-40])
    counts = edge_case(tmp_path, "cut.warc.gz", tmp_path / "store")
    assert (counts["records"], counts["documents"], counts["quarantined"]) == (5, 4, 1)
