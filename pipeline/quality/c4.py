"""C4's rules as signals of the document. Raffel et al., JMLR 21/20-074, section 2.2; line rules as in datatrove 0.10's C4QualityFilter.

Deviation: C4 removes lines from the text; here the text stays as it is and the signals say what would remain. Two readings are measured:
the paper's, which drops lines without terminal punctuation, and `_any_end`, FineWeb's, which does not.
"""

from __future__ import annotations

from datatrove.pipeline.filters.c4_filters import CITATION_REGEX, ELLIPSIS, END_PUNCTUATION, POLICY_SUBSTRINGS

from pipeline.quality.sentences import sentence_count
from pipeline.quality.view import View, ratio

COUNTS = ("c4_lorem_ipsum_lines", "c4_curly_bracket_lines", "c4_curly_bracket_lines_any_end", "c4_sentences", "c4_sentences_any_end")
RATIOS = ("c4_kept_line_ratio", "c4_javascript_line_ratio", "c4_policy_line_ratio")
MIN_WORDS, MAX_WORD_CHARS = 3, 1000


def signals(view: View) -> dict[str, float]:
    """Lines with `lorem ipsum`, `{`, `javascript` or policy phrases, and lines and sentences that the line rules keep."""
    lines = view.text.splitlines()
    lowered = view.text.lower()
    watched = "javascript" in lowered or "lorem ipsum" in lowered or any(phrase in lowered for phrase in POLICY_SUBSTRINGS)
    found = dict.fromkeys((*COUNTS, "kept", "javascript", "policy"), 0)
    for line in lines:
        _count_line(line.strip(), watched, found)
    kept, javascript, policy = found.pop("kept"), found.pop("javascript"), found.pop("policy")
    return found | {
        "c4_kept_line_ratio": ratio(kept, len(lines)),
        "c4_javascript_line_ratio": ratio(javascript, len(lines)),
        "c4_policy_line_ratio": ratio(policy, len(lines)),
    }


def _count_line(line: str, watched: bool, found: dict[str, int]) -> None:
    words = line.split(None, MIN_WORDS)
    if len(line) > MAX_WORD_CHARS and any(len(word) > MAX_WORD_CHARS for word in line.split()):
        return
    if "[" in line:
        line = CITATION_REGEX.sub("", line)
    ends = line.endswith(END_PUNCTUATION) and not line.endswith(ELLIPSIS)
    if len(words) < MIN_WORDS:
        return
    if watched:
        lowered = line.lower()
        found["c4_lorem_ipsum_lines"] += "lorem ipsum" in lowered
        if "javascript" in lowered:
            found["javascript"] += 1
            return
    if "{" in line:
        found["c4_curly_bracket_lines_any_end"] += 1
        found["c4_curly_bracket_lines"] += ends
    if watched and any(phrase in lowered for phrase in POLICY_SUBSTRINGS):
        found["policy"] += 1
        return
    sentences = sentence_count(line)
    found["c4_sentences_any_end"] += sentences
    if ends:
        found["c4_sentences"] += sentences
        found["kept"] += 1
