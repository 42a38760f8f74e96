"""Compiled loops of `offbragg.reduction.hot_pixels`. Scope: arrays in, arrays changed in place."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def add_to_block(photons, block, broken):
    """Add an image to a block's sums; NaN breaks the block of that pixel.

    All (n_pixels,): photons float32; block float32 and broken bool, changed in place.
    """
    for pixel in range(photons.shape[0]):
        count = photons[pixel]
        if count == count:
            block[pixel] += count
        else:
            broken[pixel] = True


@njit(cache=True, nogil=True)
def close_block(block, broken, total, lowest, n_blocks):
    """Take a whole block into total, lowest and number of blocks (n_pixels,); begin the next."""
    for pixel in range(block.shape[0]):
        if not broken[pixel]:
            value = block[pixel]
            total[pixel] += value
            if n_blocks[pixel] == 0 or value < lowest[pixel]:
                lowest[pixel] = value
            n_blocks[pixel] += 1
        block[pixel] = 0.0
        broken[pixel] = False


@njit(cache=True, nogil=True)
def compare_with_neighbours(mean, lowest, judged, settings, high, spread, low):
    """Find, for pixels that stand out, what their surroundings have.

    Parameters: mean and lowest (slow, fast) float32, of the block sums of each pixel; judged
    (slow, fast) bool; settings: ratio, reach, smallest number of neighbours. Changed in place:
    high, spread and low (slow, fast) float32: at pixels whose lowest block is more than ``ratio``
    times the mean of three quarters of their neighbours, the upper quartile of the neighbours'
    means and of their mean less lowest; at pixels whose mean is less than a ``ratio``-th of the
    lowest block of three quarters of them, the lower quartile of those. NaN elsewhere.
    """
    ratio, reach, fewest = settings
    n_slow, n_fast = mean.shape
    side = 2 * reach + 1
    means = np.empty(side * side, dtype=np.float32)
    lowests = np.empty(side * side, dtype=np.float32)
    for row in range(n_slow):
        for column in range(n_fast):
            high[row, column] = np.nan
            spread[row, column] = np.nan
            low[row, column] = np.nan
            if not judged[row, column]:
                continue
            own_lowest, own_mean = lowest[row, column], mean[row, column]
            n, n_over, n_under = 0, 0, 0
            for y in range(max(0, row - reach), min(n_slow, row + reach + 1)):
                for x in range(max(0, column - reach), min(n_fast, column + reach + 1)):
                    if not judged[y, x] or (y == row and x == column):
                        continue
                    other = mean[y, x]
                    means[n] = other
                    lowests[n] = lowest[y, x]
                    n += 1
                    if own_lowest > ratio * other:
                        n_over += 1
                    if ratio * own_mean < lowest[y, x]:
                        n_under += 1
            if n < fewest:
                continue
            rank = n // 4
            if n_over >= n - rank and own_lowest > 0.0:
                high[row, column] = np.sort(means[:n])[n - 1 - rank]
                spread[row, column] = np.sort(means[:n] - lowests[:n])[n - 1 - rank]
            elif n_under >= n - rank:
                low[row, column] = np.sort(lowests[:n])[rank]
