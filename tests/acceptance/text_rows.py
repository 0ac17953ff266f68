"""What goes wrong with text in practice, a row each, and the tests that hold its kind."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from tests.acceptance.common import PROJECT

PII = "tests/pipeline/test_quality_pii.py"
CHARSETS = "tests/pipeline/test_ingest_text.py"
STREAM = "tests/pipeline/test_ingest_stream.py"
WARC = "tests/pipeline/test_ingest_warc.py"
FIELDS = "tests/pipeline/test_ingest_fields.py"
INGEST = "tests/pipeline/test_ingest_documents.py"
URL = "tests/pipeline/test_dedup_url.py"
LINES = "tests/pipeline/test_dedup_lines.py"
DEDUP = "tests/pipeline/test_dedup_stage.py"
SELECT = "tests/pipeline/test_selection.py"
NEAR = "tests/pipeline/test_select_near.py"
COVERAGE = "tests/pipeline/test_coverage.py"
OVERLAP = "tests/pipeline/test_quality_eval_overlap.py"
ENDS = "tests/pipeline/test_document_ends.py"
TOKENIZER = "tests/pipeline/test_tokenizer_training.py"
TASK_FILES = "tests/training/test_task_files.py"
STORE = "tests/storage/test_store.py"
EXECUTION = "tests/flows/recipe/test_execution.py"

# What is looked at: the tests, by file and name (all cases of a test count).
ROWS: dict[str, tuple[str, ...]] = {
    "what only looks like an e-mail address, in code": (f"{PII}::test_what_only_looks_like_an_address_is_left",),
    "versions, OIDs and sections; IP addresses": (f"{PII}::test_addresses_are_found_whole", f"{PII}::test_kinds"),
    "an address in any surroundings": (f"{PII}::test_an_address_is_found_in_any_surroundings",),
    "lines of code and proofs": (
        f"{LINES}::test_lines_of_fewer_than_three_words_never_count",
        f"{SELECT}::test_lines_go_by_text_class_and_the_funnel_shows_them",
    ),
    "compressed bodies, declared or not, in layers": (f"{WARC}::test_content_codings_are_undone", f"{WARC}::test_what_a_record_is"),
    "zstd with skippable frames and dictionaries": (
        f"{STREAM}::test_skippable_frames_are_passed_over_wherever_they_are",
        f"{STREAM}::test_a_dictionary_at_the_head_serves_every_frame",
    ),
    "a bad byte in UTF-8": (f"{CHARSETS}::test_a_bad_byte_in_utf8_costs_itself_alone",),
    "valid UTF-8 under another label": (f"{CHARSETS}::test_valid_utf8_is_utf8_whatever_is_declared",),
    "header and page name two charsets": (f"{CHARSETS}::test_the_bytes_decide_between_header_and_page",),
    "odd content types; payloads of another type": (f"{WARC}::test_what_a_record_is",),
    "truncated pages, opt-outs from AI": (f"{INGEST}::test_truncated_and_noai_pages_are_counted_kept_or_skipped",),
    "dates that are less than a second": (f"{CHARSETS}::test_dates",),
    "URLs of one page and of two": (f"{URL}::test_these_are_one_page", f"{URL}::test_these_are_other_pages"),
    "windows that slide over a text": (f"{NEAR}::test_sixty_sliding_windows_leave_one_for_each_that_is_unlike_those_that_stay",),
    "a twin added to a held-out document": (f"{DEDUP}::test_what_is_added_moves_no_document_to_the_other_side",),
    "held-out text that training has": (f"{COVERAGE}::test_every_number_is_that_of_a_plain_loop_over_words",),
    "overlap with an evaluation item by chance": (
        f"{OVERLAP}::test_an_unrelated_sentence_with_thirteen_characters_of_a_task_covers_nothing",
        f"{OVERLAP}::test_rows_of_one_number_and_counting_never_count",
    ),
    "a tokenizer whose BOS is its EOS": ("tests/training/test_loss.py::test_the_end_of_a_document_is_a_target_where_bos_is_eos",),
    "text that spells BOS or EOS": (f"{ENDS}::test_no_text_is_encoded_to_an_end",),
    "a tokenizer that encodes at random": (f"{ENDS}::test_a_tokenizer_that_encodes_at_random_is_refused",),
    "a compressed tokenizer file": (f"{TOKENIZER}::test_a_wrong_given_file_is_refused",),
    "two task files of one name": (f"{TASK_FILES}::test_tasks_of_two_folders_have_each_their_own_rows",),
    "task rows that cannot be asked": (f"{TASK_FILES}::test_a_row_that_cannot_be_asked_is_named",),
    "a store whose prefix looks like a pattern": (f"{STORE}::test_a_prefix_is_exact_whatever_characters_it_has",),
    "a proxy in the environment": ("tests/storage/test_proxies.py::test_loopback_goes_without_and_other_hosts_as_before",),
    "a terminal that shows ASCII alone": ("tests/flows/running/test_plain_output.py::test_what_an_encoding_lacks_is_plain",),
    "keys and endpoints that no request can be made with": (
        f"{STORE}::test_a_variable_that_no_request_can_be_made_with_is_named",
        f"{EXECUTION}::test_a_store_in_s3_that_names_no_bucket_is_refused",
        f"{EXECUTION}::test_a_tilde_is_home",
    ),
    "YAML's no, and its octal": ("tests/flows/recipe/test_yaml_text.py::test_what_yaml_reads_otherwise_is_told_as_it_is_written",),
    "a text that is null": (f"{FIELDS}::test_a_text_that_is_null_is_told_from_one_that_is_not_there",),
    "a stage that goes on from a checkpoint": (
        "tests/flows/running/test_terminal.py::test_training_that_goes_on_is_shown_from_its_checkpoint",
    ),
}


def run_rows(folder: Path, rows: Sequence[str] = tuple(ROWS)) -> dict[str, tuple[int, int]]:
    """(cases that passed, cases) of each row, from one run of pytest; a test that is not there has no case."""
    report = folder / "rows.xml"
    tests = sorted({test for row in rows for test in ROWS[row]})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
    passed, cases = dict.fromkeys(tests, 0), dict.fromkeys(tests, 0)
    found = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else ()
    for case in found:
        name = case.attrib["name"].partition("[")[0]
        test = f"{case.attrib['classname'].replace('.', '/')}.py::{name}"
        if test in cases:
            cases[test] += 1
            passed[test] += case.find("failure") is None and case.find("error") is None and case.find("skipped") is None
    return {
        row: (sum(passed[test] for test in ROWS[row]), sum(cases[test] for test in ROWS[row]))
        if all(cases[t] for t in ROWS[row])
        else (0, 0)
        for row in rows
    }
