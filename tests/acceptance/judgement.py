"""Extraction and language as well as the best tools measured: each figure beside its baseline, on what trained nothing.

CORPUS= names a folder with any of `extraction/*.jsonl.gz` (html or html_b64, main_content) and `langid/*.jsonl.gz` (text, lang); without
it ../shared/corpus: of its labelled pages those of registered domains that trained nothing. SEED= draws the generated pages.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import measure_language
from benchmarks.measure_extraction import LABELLED
from benchmarks.shared_corpus import EXTRACTION, LANGUAGES
from pipeline.ingest.config import LanguageConfig
from tests.acceptance.common import SHARED, Checks, arguments
from tests.acceptance.judgement_extraction import extraction_checks

ASKED_TEXTS_PER_S = 5000
PEER = "lid176"


def language_checks(checks: Checks, corpus: Path) -> None:
    """Accuracy by unit, on the languages that all identifiers know, beside each model alone."""
    print("  language: accuracy on the languages that every identifier knows, by unit", flush=True)
    labelled, config = measure_language.rows_of(corpus), LanguageConfig()
    covered = measure_language.covered_languages(config)
    found = {
        name: {row.unit: row for row in measure_language.measure(labelled, identify, covered)}
        for name, identify in measure_language.identifiers(config).items()
    }
    for unit, ours in found["caravan"].items():
        others = ", ".join(f"{name} {rows[unit].accuracy_covered:.4f}" for name, rows in found.items() if name != "caravan")
        asked = found[PEER][unit].accuracy_covered
        checks.check(
            f"language, {unit}", f"{ours.accuracy_covered:.4f}", f"that of {PEER} and more ({others})", ours.accuracy_covered >= asked
        )
    speed = found["caravan"]["all"].texts_per_s
    checks.check("texts identified a second and core", f"{speed:,.0f}", f"at least {ASKED_TEXTS_PER_S:,}", speed >= ASKED_TEXTS_PER_S)
    shifted = [{**row, "lang": labelled[n - len(labelled) // 2]["lang"]} for n, row in enumerate(labelled)]
    wrong = {row.unit: row for row in measure_language.measure(shifted, measure_language.identifiers(config)["caravan"], covered)}["all"]
    checks.sabotage(
        "labels of other rows", wrong.accuracy_covered < found[PEER]["all"].accuracy_covered, f"accuracy {wrong.accuracy_covered}"
    )


def main() -> None:
    """Run the checks that the corpus has labels for."""
    given = arguments(__doc__ or "", ("corpus", "seed"))
    corpus = given.corpus or SHARED / "corpus"
    checks = Checks("judgement", __doc__ or "")
    if any(corpus.glob(LABELLED)) or any(corpus.glob(EXTRACTION)):
        extraction_checks(checks, corpus, given.seed)
    if any(corpus.glob(LANGUAGES)):
        language_checks(checks, corpus)
    checks.finish()


if __name__ == "__main__":
    main()
