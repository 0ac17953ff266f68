"""The layers of `pipeline.ingest.main_text.network` over the blocks of one page."""

import numpy as np
from numpy.typing import NDArray

def fill_inputs(
    sizes: tuple[int, int, int, int, int, int],
    limit: int,
    blocks: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]],
    elements: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    vectors: tuple[NDArray[np.int32], NDArray[np.int16]],
    inputs: NDArray[np.int16],
    /,
) -> None:
    """Fill `inputs` (blocks x (numbers + 7 width)). `sizes`: blocks, numbers of a block, elements, names, tags, width of a vector.

    `blocks`: numbers (numbers x blocks), elements around each (blocks x 6: its own, the parent, …), the name of its inline elements, the
    sum of the vectors of its words (blocks x width). `elements`: the parent of each (before it; negative for none), its name, its tag.
    `vectors`: of names (names x width), of tags (tags x width).

    An element's own vector is that of its name and that of its tag, added; its chain is the sum of its own and all its ancestors'. An input
    is the numbers; the own vectors of the first four elements; within `limit` to either side, the chain of the first; within half of it,
    the vector of the inline name; within `limit`, that of the words. Raises ValueError when an array has another size or an index is
    outside."""

def score_blocks(
    sizes: tuple[int, int, int, int],
    page: tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]],
    network: tuple[
        NDArray[np.int16],
        NDArray[np.int32],
        NDArray[np.int16],
        NDArray[np.int32],
        NDArray[np.int16],
        NDArray[np.int32],
        NDArray[np.int16],
        NDArray[np.int32],
    ],
    scores: NDArray[np.int64],
    /,
) -> None:
    """Fill `scores` (blocks). `sizes`: blocks, inputs of a block, width of the hidden values, layers.

    `page`: inputs (blocks x inputs), words of each block in the page's mean (1 or more), the ranges of its three regions (blocks x 3 x 2,
    half-open). `network`, weights (outputs x inputs) and bias each: first (width x inputs), page (width x 2 width), layers
    (layers x width x 7 width: the block, the one before, the one after, three regions, the page), last (1 x width). No sum of products of
    a layer may leave 32 bits. Raises ValueError when an array has another size, or a range is empty or outside the page."""
