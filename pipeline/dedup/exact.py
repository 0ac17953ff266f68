"""Exact duplicates: the same text, byte for byte. The split follows from it.

What is hashed is the text as ingest stored it, in UTF-8, nothing folded. Texts that differ only in case, white space or punctuation
have equal sets of shingles, so MinHash finds them (near duplicates of Jaccard 1); an exact group may therefore share one row of any
signal (RULE 14).
"""

from __future__ import annotations

import hashlib

from pipeline.documents import keyed_fraction


def text_key(text: str) -> bytes:
    """16-byte hash (BLAKE2b) of the text's UTF-8 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def split_hash(key: bytes, split_key: str) -> float:
    """Where the keyed hash of a text key puts it, in [0, 1): held out below the fraction that is held out. RULE 13.

    It depends on the text alone, so all copies of a text are on one side, and nothing that is added moves any.
    """
    return keyed_fraction(split_key, key)
