"""Which names can be hosts of the public internet: their last label is in the public suffix list (publicsuffix.org).

The list is the snapshot that tldextract brings, read without a network. Reserved names (`local`, `test`, `example`, `invalid`, RFC 6761
and 2606) are not in it, and neither are the endings of most files.
"""

from __future__ import annotations

from functools import cache

from tldextract import TLDExtract


@cache
def top_level_domains() -> frozenset[str]:
    """Last labels of the public suffix list in lower case: those outside ASCII as they are written and as `xn--…`."""
    suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None).tlds
    last = {suffix.rsplit(".", 1)[-1].lower() for suffix in suffixes} - {"", "*"}
    return frozenset(last | {f"xn--{label.encode('punycode').decode()}" for label in last if not label.isascii()})
