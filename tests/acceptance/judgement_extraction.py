"""Extraction beside trafilatura and resiliparse on the same labelled pages, and on generated ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure_extraction import Page, pages, rows_of_child, word_f1
from benchmarks.page_parts import Kept
from pipeline.ingest.extract import text_of
from pipeline.ingest.html import html_to_text, normal_text
from pipeline.ingest.main_text.extract import main_text
from pipeline.ingest.records import Bad, Record
from tests.acceptance.common import Checks
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
