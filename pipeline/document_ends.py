"""BOS and EOS in a document's text: a tokenizer that never encodes text to them, whatever the text spells.

A tokenizer may find them in text in three ways: as added tokens that are not special, as pieces of its model's own vocabulary (Unigram
ones have `</s>` there; so has a tiktoken file that they were added to), and as what stands for an unknown character. The first two end
by giving both tokens a name that no text has; the third is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

UNWRITTEN = "\uffff\uffff"  # noncharacters, kept out of every interchange of text
# What may be unknown to a vocabulary: the scripts of other continents, symbols, control and private characters, a byte of no character.
UNUSUAL = "The river 42 naïve Ж ع ก 東京 한국 🎉 ∮ ꙮ \x00 \x7f \u2028 \ue000 \U0010fffd \ufffd"


def load_for_documents(text: str, ends: Sequence[str]) -> Tokenizer:
    """The tokenizer of a tokenizer.json for documents: special tokens, and `ends` (BOS and EOS) in any case, are plain text to it."""
    tokenizer = Tokenizer.from_str(text)
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    if any(name not in special or tokenizer.model.token_to_id(name) is not None for name in ends):
        tokenizer = Tokenizer.from_str(_renamed(text, set(ends)))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _renamed(text: str, ends: set[str]) -> str:
    """The tokenizer.json with `ends` under unwritten names, in their places, since ids follow from those."""
    whole: dict[str, Any] = json.loads(text)
    model = whole["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {_name(token, ends): number for token, number in model["vocab"].items()}
    else:  # Unigram: pieces with their scores
        model["vocab"] = [[_name(piece, ends), score] for piece, score in model["vocab"]]
    if "merges" in model:
        pairs = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if not ends & {*pair, "".join(pair)}]
    if model.get("unk_token"):
        model["unk_token"] = _name(model["unk_token"], ends)
    for token in whole.get("added_tokens", ()):
        if token["content"] in ends:
            token.update(content=_name(token["content"], ends), special=True)
    whole["post_processor"] = None  # it names them, and documents are encoded without it
    return json.dumps(whole, ensure_ascii=False)


def _name(token: str, ends: set[str]) -> str:
    return UNWRITTEN + token if token in ends else token


def text_taken_for_an_end(text: str, ends: Sequence[str]) -> str | None:
    """A text that the tokenizer of a tokenizer.json encodes to one of `ends` even so; None where none was found."""
    given, tokenizer = Tokenizer.from_str(text), load_for_documents(text, ends)
    ids = {given.token_to_id(name) for name in ends}
    probes = [f"{before}{name}{after}" for name in ends for before, after in (("", ""), ("a ", " b"), ("a", "b"), ("\n", "\n"))]
    probes += UNUSUAL.split(" ")
    return next((probe for probe in probes if ids & set(tokenizer.encode(probe, add_special_tokens=False).ids)), None)


def randomness_of(text: str) -> str | None:
    """The setting of a tokenizer.json by which it encodes a text in several ways, as `name value`; None where there is none."""
    model: dict[str, Any] = json.loads(text)["model"]
    for name, harmless in (("dropout", (None, 0)), ("nbest_size", (None, 0, 1))):
        if (value := model.get(name)) not in harmless:
            return f"model.{name} {value}"
    return None
