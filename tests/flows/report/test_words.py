"""flows/report/words.py: scores are the numbers of the file, counts are said in words."""

from __future__ import annotations

from flows.report.words import classifier_warning, counts_text, coverage_table, scores_table
from storage.artifact import Manifest
from tests.flows.rendering import rendered


def test_counts_are_said_in_words() -> None:
    counts = {"documents": 1234, "documents_with_url": 0, "size_bytes": 5, "reason:near": 3, "near_candidates": 2}
    said = counts_text(Manifest("dedup", "", "", {}, (), counts))
    assert said == "1,234 documents, 0 documents compared by URL, 5 bytes, 2 near candidates"


def test_the_table_of_coverage_tells_what_select_dropped_before_as_covered() -> None:
    """Two things are called covered: what `select` drops for its URL or twin, and what `coverage` finds by n-grams."""
    cells = {cell: {"documents": n, "size_bytes": 10 * n, "words": n} for n, cell in enumerate(("in", "covered", "over_cap", "left"), 4)}
    rows = rendered(coverage_table({"domains": {"code": {**cells, "left_words_in_50_grams": 0}}}))
    assert rows[1] == "code 4 5 6 7 70 0.00%"
    said = "not among these: held-out documents whose URL or near twin is to train on, which select dropped (covered in the funnel)"
    assert " ".join(rows[2:]) == said


def test_scores_show_every_domain_beside_the_unigram_model_and_every_metric_of_a_task() -> None:
    scores = {
        "bits_per_byte": {"code": 2.5, "all": 3.25},
        "unigram_bits_per_byte": {"code": 3.5, "all": 4.0},
        "tasks": {"caravan_cloze": {"acc": 0.125, "acc_stderr": 0.05, "n": 40.0}},
    }
    rows = rendered(scores_table(scores))
    assert "bits per byte held-out code 2.500 3.500 0.714" in rows
    assert "bits per byte held-out all 3.250 4.000 0.812" in rows
    assert "acc caravan_cloze, 40 items 0.125" in rows
    assert "acc_stderr caravan_cloze, 40 items 0.050" in rows


def test_a_classifier_that_counting_matches_is_warned_of_with_both_figures() -> None:
    validation = {"auc": 0.7, "stop_word_ratio_auc": 0.8, "word_count_auc": 0.5, "no_better_than": ["stop_word_ratio"]}
    said = classifier_warning(validation)
    assert "AUC 0.700, stop word ratio 0.800;" in said
    assert classifier_warning({**validation, "no_better_than": []}) == ""
    assert classifier_warning({"auc": None}) == ""
    pages = {"auc": 0.8, "word_count_auc": 0.85, "no_better_than": ["word_count"]}
    said = classifier_warning({"auc": None, "no_better_than": [], "contrast": pages})
    assert "the pages that taught by contrast no better than counting does: AUC 0.800, word count 0.850;" in said
