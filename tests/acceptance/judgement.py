"""Extraction, language and domain as well as the best tools measured: figures beside their baselines, on what trained nothing.

CORPUS= names a folder with any of `extraction/*.jsonl.gz` (html or html_b64, main_content), `langid/*.jsonl.gz` (text, lang) and
`domain/*.jsonl.gz` (text, domain); without it ../shared/corpus: of its labelled pages those of registered domains that trained nothing, of
its texts the sources kept out. The domain classifier trains on ../shared/corpus. SEED= draws the generated pages.
"""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks import measure_domains, measure_language
from benchmarks.measure_extraction import LABELLED
from benchmarks.shared_corpus import EXTRACTION, LANGUAGES
from pipeline.ingest.config import LanguageConfig
from tests.acceptance.common import SHARED, Checks, arguments
from tests.acceptance.judgement_extraction import extraction_checks

ASKED_TEXTS_PER_S, ASKED_DOMAINS, ASKED_LEAVING = 5000, 0.965, 20
DOMAINS_LABELLED = "domain/*.jsonl.gz"
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


def domain_checks(checks: Checks, corpus: Path, seed: int) -> None:
    """Accuracy by the whole rule, and how many English pages leave the web class, beside fastText on words alone."""
    print("  domain: by classifier, thresholds and language, of sources that trained nothing", flush=True)
    training, kept = measure_domains.file_texts(SHARED / "corpus")
    judged = measure_domains.judged_pieces(kept)
    if any(corpus.glob(DOMAINS_LABELLED)):
        judged, training = measure_domains.labelled_texts(corpus), training + kept
    ours, theirs = measure_domains.by_the_rule(*measure_domains.classifier(training)), measure_domains.by_words_alone(training)
    found = measure_domains.accuracy(measure_domains.chosen(ours, judged), measure_domains.FILES)
    baseline = measure_domains.accuracy(measure_domains.chosen(theirs, judged), measure_domains.FILES)
    for domain, value in found.by_domain.items():
        checks.note(f"domain accuracy, {domain}", f"{value:.3f} (fastText on words {baseline.by_domain[domain]:.3f})")
    asked = f"at least {ASKED_DOMAINS} (fastText on words {baseline.accuracy:.3f}; {found.documents:,} texts)"
    checks.check("domain accuracy by the whole rule", f"{found.accuracy:.4f}", asked, found.accuracy >= ASKED_DOMAINS)
    pages = measure_domains.english_pages(SHARED / "corpus")[: measure_domains.ENGLISH_PAGES]
    left, left_by_words = (sum(choice != "general" for choice in choose([page.text for page in pages])) for choose in (ours, theirs))
    asked = f"at most {ASKED_LEAVING} (fastText on words {left_by_words})"
    checks.check("English pages that leave the web class", f"{left} of {len(pages)}", asked, left <= ASKED_LEAVING)
    domains = [domain for domain, _, _ in training]
    random.Random(seed).shuffle(domains)
    taught = [(domain, source, text) for domain, (_, source, text) in zip(domains, training, strict=True)]
    wrong = measure_domains.accuracy(measure_domains.measure(taught, judged), measure_domains.FILES).accuracy
    checks.sabotage("a classifier taught by shuffled labels", wrong < ASKED_DOMAINS, f"accuracy {wrong:.3f}")


def main() -> None:
    """Run the checks that the corpus has labels for."""
    given = arguments(__doc__ or "", ("corpus", "seed"))
    corpus = given.corpus or SHARED / "corpus"
    checks = Checks("judgement", __doc__ or "")
    if any(corpus.glob(LABELLED)) or any(corpus.glob(EXTRACTION)):
        extraction_checks(checks, corpus, given.seed)
    if any(corpus.glob(LANGUAGES)):
        language_checks(checks, corpus)
    if any(corpus.glob(DOMAINS_LABELLED)) or given.corpus is None:
        domain_checks(checks, corpus, given.seed)
    checks.finish()


if __name__ == "__main__":
    main()
