"""Exact duplicates: the same text, byte for byte.

What is hashed is the text as ingest stored it, in UTF-8, nothing folded. Texts that differ only in case, white space or punctuation
have equal sets of shingles, so MinHash finds them (near duplicates of Jaccard 1); an exact group may therefore share one row of any
signal (RULE 14).
"""

from __future__ import annotations

import hashlib


def text_key(text: str) -> bytes:
    """16-byte hash (BLAKE2b) of the text's UTF-8 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
