"""The layers of `pipeline.ingest.main_text.network` over the blocks of one page."""

import numpy as np
from numpy.typing import NDArray

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
