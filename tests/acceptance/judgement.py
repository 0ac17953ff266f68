"""Extraction, language, domain, quality: judged as well as by the best tools, on what trained nothing.

CORPUS= names a folder with any of `extraction/*.jsonl.gz` (html or html_b64, main_content), `langid/*.jsonl.gz` (text, lang),
`domain/*.jsonl.gz` (text, domain), `quality/*.jsonl.gz` (text, label 0 or 1) and `scripts/*.jsonl.gz` (text, lang, kind: native, mojibake,
navigation); without it ../shared/corpus: of its labelled pages those of registered domains that trained nothing, of its texts the sources
kept out. The classifiers of domain and of quality train on ../shared/corpus. SEED= draws the generated pages and the bootstrap.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import measure_domains, measure_language, measure_quality, measure_scripts
from benchmarks.measure_extraction import JUDGED_FOLD, LABELLED, Page, fold_of, pages, rows_of_child, word_f1
from benchmarks.page_parts import Kept
from benchmarks.shared_corpus import EXTRACTION, LANGUAGES
from flows.recipe.loading import load_recipe
from pipeline.ingest.config import LanguageConfig
from pipeline.ingest.extract import text_of
from pipeline.ingest.html import html_to_text, normal_text
from pipeline.ingest.main_text.extract import main_text
from pipeline.ingest.records import Bad, Record
from tests.acceptance.common import SHARED, Checks, arguments
from tests.acceptance.generated_pages import generated_pages

ASKED_F1, ASKED_SPEED, ASKED_ITEMS, ASKED_FORMULAS, ASKED_ROWS = 0.885, 5.0, 0.98, 0.95, 0.95
GENERATED, MAX_GENERATED_S = 2000, 1.0
DEEP, MAX_DEEP_S = 40_000, 0.5
FORMULA_PAGE = """<main><article><h1>Energy</h1><p>{prose}</p><p>The formula {0} is followed by a second, {1}, and by a third, {2}.</p>
<p>{prose}</p></article></main>"""
PROSE = "Energy is neither made nor lost, and whoever weighs it before and after will find the same amount on both sides of the scale. " * 3
FORMULAS = (
    '<math alttext="{0}"><mi>a</mi></math>',
    '<math><semantics><mi>a</mi><annotation encoding="application/x-tex">{0}</annotation></semantics></math>',
    '<script type="math/tex">{0}</script>',
    '<img class="mwe-math-fallback-image-inline" alt="{0}" src="a.svg">',
    '<span class="mwe-math-element"><span style="display: none"><math alttext="{0}"><mi>a</mi></math></span>'
    '<img class="mwe-math-fallback-image-inline" alt="{0}" src="a.svg"></span>',
    '<span class="katex"><span class="katex-mathml"><math><semantics><mi>a</mi><annotation encoding="application/x-tex">{0}</annotation>'
    '</semantics></math></span><span class="katex-html" aria-hidden="true">a</span></span>',
)
TEX = ("E=mc^{2}", "\\frac{1}{2}mv^2", "\\int_0^1 x\\,dx", "a_{ij}", "\\sqrt{x+1}", "\\sum_{k} k")
ASKED_TEXTS_PER_S, ASKED_DOMAINS, ASKED_LEAVING = 5000, 0.965, 20
ASKED_LANGUAGES = {"sentences": 0.985}  # by unit; of others what lid.176 reaches
ASKED_NATIVE, ASKED_DROPPED = 0.95, 0.6
ASKED_AUC, ASKED_PRECISION, ASKED_RECALL = 0.84, 0.72, 0.60
DOMAINS_LABELLED = "domain/*.jsonl.gz"
PEER = "lid176"


def extraction_checks(checks: Checks, corpus: Path, seed: int) -> None:
    """Word F1, parts and speed on labelled pages; formulas in each form; generated pages."""
    print("  extraction: the pages' words against those of the main text, three extractors in one run", flush=True)
    by_kind: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows_of_child(["--corpus", str(corpus), "--judged"]):
        by_kind.setdefault(row["kind"], {})[row["extractor"]] = row
    for kind, found in sorted(by_kind.items()):
        _kind_checks(checks, kind, found)
    labelled = [page for page in pages(corpus, judged=True) if page.main_text]
    _part_checks(checks, labelled)
    inverted = sum(word_f1(normal_text("\n".join(main_text(page.html).dropped)), page.main_text or "") for page in labelled) / len(labelled)
    checks.sabotage("what is left out in place of what is kept", inverted < ASKED_F1, f"word F1 {inverted:.3f}")
    _formula_checks(checks)
    _generated_checks(checks, seed)


def _kind_checks(checks: Checks, kind: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    ours, theirs = found["blocks"], found["trafilatura"]
    if ours.get("word_f1") is None:
        return
    name = f"trafilatura {version('trafilatura')}"
    beside = f"{name} {theirs['word_f1']:.3f}, resiliparse {found['resiliparse']['word_f1']:.3f}, {ours['pages']} pages"
    if " " in kind:
        checks.note(f"word F1, {kind.partition(' ')[2]}", f"{ours['word_f1']:.3f} ({beside})")
        return
    checks.check(f"word F1, {kind}", f"{ours['word_f1']:.3f}", f"{ASKED_F1} and more ({beside})", ours["word_f1"] >= ASKED_F1)
    ratio = ours["documents_per_s"] / theirs["documents_per_s"]
    checks.check(
        f"speed, {kind}", f"{ratio:.1f}x", f"{ASKED_SPEED:.0f}x {name}'s ({ours['documents_per_s']} pages/s)", ratio >= ASKED_SPEED
    )


def _part_checks(checks: Checks, labelled: list[Page]) -> None:
    kept = Kept.none()
    for page in labelled:
        kept.add(page.html, page.main_text, normal_text(main_text(page.html).text))
    for name, share, asked in (
        ("list items of the main text that are there", kept.items, ASKED_ITEMS),
        ("of them on lines of their own", kept.item_lines, ASKED_ITEMS),
        ("preformatted blocks that are there, exact to the byte", kept.preformatted, 1.0),
        ("rows of tables with their cells apart", kept.rows, ASKED_ROWS),
    ):
        figure = f"{share.found:,} of {share.parts:,}"
        checks.check(name, f"{figure}, {share.value:.1%}", f"at least {asked:.0%}", share.value >= asked)


def _formula_checks(checks: Checks) -> None:
    once = parts = 0
    for form in FORMULAS:
        for start in range(0, len(TEX), 3):
            wanted = TEX[start : start + 3]
            text = main_text(FORMULA_PAGE.format(*(form.format(tex) for tex in wanted), prose=PROSE)).text
            once, parts = once + sum(text.count(tex) == 1 for tex in wanted), parts + 3
    checks.check("formulas as their TeX, once", f"{once} of {parts}", f"at least {ASKED_FORMULAS:.0%}", once >= ASKED_FORMULAS * parts)


def _generated_checks(checks: Checks, seed: int) -> None:
    slowest, failed = 0.0, 0
    for number, payload in enumerate(generated_pages(seed, GENERATED)):
        record = Record(offset=0, row=number, key=str(number), payload=payload, is_html=True)
        started = time.process_time()
        found = text_of(record, "blocks", [])
        slowest, failed = max(slowest, time.process_time() - started), failed + isinstance(found, Bad)
    checks.check("generated pages that the extractor cannot take", f"{failed} of {GENERATED:,}", "none", failed == 0)
    checks.check("the slowest of them", f"{slowest:.2f} s", f"at most {MAX_GENERATED_S} s", slowest <= MAX_GENERATED_S)
    started = time.process_time()
    html_to_text("<div>" * DEEP + "deep", "blocks")
    seconds = time.process_time() - started
    checks.check(f"{DEEP:,} nested <div>", f"{seconds:.2f} s", f"under {MAX_DEEP_S} s", seconds < MAX_DEEP_S)


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
        asked = max(found[PEER][unit].accuracy_covered, ASKED_LANGUAGES.get(unit, 0.0))
        checks.check(
            f"language, {unit}", f"{ours.accuracy_covered:.4f}", f"at least {asked:.4f} ({others})", ours.accuracy_covered >= asked
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


def quality_checks(checks: Checks, corpus: Path, seed: int) -> None:
    """AUC of the quality score beside what costs nothing, and what the default web thresholds drop, by the classifier of corpus.yaml."""
    is_given = any(corpus.glob(measure_quality.QUALITY))
    print("  quality: labelled texts, each judged by models that did not see its registered domain", flush=True)
    config, thresholds = measure_quality.recipe()
    found = list(measure_quality.crawl_pages(SHARED / "corpus", judged=not is_given))
    fitted = measure_quality.classifier(measure_quality.examples(SHARED / "corpus", found, config), config)
    judged = measure_quality.labelled_texts(corpus) if is_given else measure_quality.judged_texts(found)
    table, is_good = measure_quality.signals(fitted, judged, config), [one.is_good for one in judged]
    ranks = measure_quality.ranking(table, is_good, seed)
    asked = f"at least {ASKED_AUC} (stop words {ranks.stop_words_auc}, words {ranks.word_count_auc}; {ranks.good} good of {ranks.texts})"
    checks.check("quality, AUC of the score", f"{ranks.auc:.4f}", asked, ranks.auc >= ASKED_AUC)
    difference, low, high = ranks.above_stop_words
    interval = f"{difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
    checks.check("its difference from stop words, paired bootstrap", interval, "all of it above 0", low > 0)
    dropped = measure_quality.dropping(table, is_good, thresholds)
    if not is_given:
        unseen = [place for place, one in enumerate(judged) if fold_of(one.domain) == JUDGED_FOLD]
        some = measure_quality.dropping(table.take(unseen), [is_good[place] for place in unseen], thresholds)
        figure = f"{some.precision:.3f} and {some.recall:.3f}"
        checks.note(
            "the two below on domains that taught the extractor nothing either", f"{figure} ({some.dropped} of {len(unseen)} dropped)"
        )
    checks.check(
        "bad ones of what the web thresholds drop",
        f"{dropped.precision:.3f}",
        f"at least {ASKED_PRECISION} ({dropped.dropped} dropped)",
        dropped.precision >= ASKED_PRECISION,
    )
    checks.check("of the bad those that they drop", f"{dropped.recall:.3f}", f"at least {ASKED_RECALL}", dropped.recall >= ASKED_RECALL)
    random.Random(seed).shuffle(is_good)
    wrong = measure_quality.ranking(table, is_good, seed)
    caught = wrong.auc < ASKED_AUC and wrong.above_stop_words[1] <= 0
    checks.sabotage("labels of other texts", caught, f"AUC {wrong.auc:.3f}, {wrong.above_stop_words[0]:+.3f} from stop words")


def script_checks(checks: Checks, corpus: Path) -> None:
    """By the thresholds of recipes/corpus.yaml: native text kept in each language, mojibake and navigation dropped."""
    print("  scripts without spaces: by the thresholds of recipes/corpus.yaml, beside those of the class without languages", flush=True)
    thresholds, texts = load_recipe("corpus").select.thresholds, measure_scripts.texts_of(corpus)
    for share in measure_scripts.measure(texts, measure_scripts.judge_of(thresholds)):
        is_native, name = share.kind == measure_scripts.NATIVE, f"{share.kind}, {share.language}"
        kept, beside = share.kept if is_native else 1 - share.kept, share.baseline if is_native else 1 - share.baseline
        asked = ASKED_NATIVE if is_native else ASKED_DROPPED
        figure = f"{kept:.1%} {'kept' if is_native else 'dropped'}"
        baseline = f"by the class {beside:.1%}; {share.texts:,} texts"
        if is_native == (share.language == "all"):
            checks.note(name, f"{figure} ({baseline})")
        else:
            checks.check(name, figure, f"at least {asked:.0%} ({baseline})", kept >= asked)
    wrong = measure_scripts.measure(texts, measure_scripts.judge_of(measure_scripts.in_words(thresholds)))
    native = [share for share in wrong if share.kind == measure_scripts.NATIVE]
    kept = min((share.kept for share in native), default=1.0)
    checks.sabotage("thresholds in words", kept < ASKED_NATIVE, f"{kept:.1%} kept in one language")


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
    if any(corpus.glob(measure_quality.QUALITY)) or given.corpus is None:
        quality_checks(checks, corpus, given.seed)
    if any(corpus.glob(measure_scripts.LABELLED)) or given.corpus is None:
        script_checks(checks, corpus)
    checks.finish()


if __name__ == "__main__":
    main()
