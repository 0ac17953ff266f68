"""Which pairs of a bucket are compared.

A bucket holds the documents that agree on one band. Up to `full_bucket` + 1 of them, every pair is compared: no near duplicate is lost.
In a larger bucket that would grow with the square, so there, with the documents in the order of their ids:

1. each of the first `full_bucket` documents (the hubs) is compared with all others: n * full_bucket pairs. In a bucket of true copies
   this connects all of them, as each copy is similar to a hub;
2. documents that also agree on the next band (bands in a circle) form a smaller bucket of their own, to which 1 applies with hubs of
   its own. Documents that are closer to each other than to the hubs agree on more bands, and meet there;
3. the same pair usually meets in other bands, whose buckets are other sets with other hubs.

So near duplicates that agree on a band are lost only when all their common buckets are larger than `full_bucket` + 1, neither is a hub
there, and no chain of verified pairs connects them. The rule looks at ids and keys alone: neither the order of documents nor the cut of
the input bears on it. `near_buckets_too_large` in the manifest counts such buckets.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.dedup.shuffle import Records, sort_records, starts_of

# key of a band, key of the next band, document, whether its text is held out
BAND = np.dtype([("key", "<u8"), ("next", "<u8"), ("hi", "<u8"), ("lo", "<u8"), ("held_out", "u1")])


def bucket_pairs(bands: Records, full_bucket: int) -> tuple[Records, Records, int]:
    """The pairs to compare among `bands` (dtype BAND), as two equally long arrays of rows of `bands`, the smaller id first.

    A pair that meets in several buckets comes out several times. Third: how many buckets were too large for all their pairs.
    """
    ordered = sort_records(bands, "key", "hi", "lo")
    firsts, seconds, too_large = _pairs(ordered, starts_of(ordered, "key"), full_bucket)
    if too_large:
        large = _in_groups_over(starts_of(ordered, "key"), full_bucket + 1)
        inner = sort_records(ordered[large], "key", "next", "hi", "lo")
        more_firsts, more_seconds, _ = _pairs(inner, starts_of(inner, "key", "next"), full_bucket)
        firsts, seconds = np.concatenate((firsts, more_firsts)), np.concatenate((seconds, more_seconds))
    return firsts, seconds, too_large


def _sizes(starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.diff(np.append(np.flatnonzero(starts), len(starts)))


def _in_groups_over(starts: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    sizes = _sizes(starts)
    return np.repeat(sizes > size, sizes)


def _pairs(ordered: Records, starts: npt.NDArray[np.bool_], full_bucket: int) -> tuple[Records, Records, int]:
    """Each document of a group with the first `full_bucket` before it, for all groups at once."""
    sizes = _sizes(starts)
    rank = np.arange(len(ordered)) - np.repeat(np.flatnonzero(starts), sizes)
    partners = np.minimum(rank, full_bucket)
    second = np.repeat(np.arange(len(ordered)), partners)
    hub = np.arange(len(second)) - np.repeat(np.cumsum(partners) - partners, partners)
    first = second - np.repeat(rank, partners) + hub
    return ordered[first], ordered[second], int((sizes > full_bucket + 1).sum())
