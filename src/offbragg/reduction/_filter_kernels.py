"""Compiled loops of `offbragg.reduction.image_filter`. Scope: arrays in, arrays changed in place.

An image is (slow, fast) float32, NaN = excluded. ``limits`` is what `poisson_limits` makes: z, the
number of steps for each unit of √λ, and a table of what a limit exceeds λ + z√λ by.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

MODE, MEDIAN, MEAN = 0, 1, 2
_ROUNDS = 6  # of clipping; the limit stands still after two or three


@njit(cache=True, nogil=True)
def gather(image, row, column, reach, values):
    """Copy what the window around a pixel holds to the front of ``values``; give how many."""
    n_slow, n_fast = image.shape
    n = 0
    for y in range(max(0, row - reach), min(n_slow, row + reach + 1)):
        for x in range(max(0, column - reach), min(n_fast, column + reach + 1)):
            value = image[y, x]
            if value == value:
                values[n] = value
                n += 1
    return n


@njit(cache=True, nogil=True)
def select(values, n, rank):
    """Give the value of a rank, from 0, among the first n; those before it come to the front."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]


@njit(cache=True, nogil=True)
def limit_of(level, limits):
    """Give the count that Poisson numbers of a mean do not reach but by the chance of the table."""
    z, steps, table = limits
    root = math.sqrt(max(level, 0.0))
    place = min(root * steps, table.shape[0] - 1.000001)
    i = int(place)
    part = place - i
    return level + z * root + (1.0 - part) * table[i] + part * table[i + 1]


@njit(cache=True, nogil=True)
def clipped_mean(values, n, limits):
    """Give the mean of Poisson numbers among the first n values, and their spread.

    Starts from the largest mean that the median allows; what the clipping takes from the mean is
    given back: λ = x̄ P(≤ t)/P(≤ t − 1), t the highest whole count that is kept.
    """
    median = float(select(values, n, n // 2))
    spread = median - float(select(values, n // 2 + 1, int(0.16 * n)))  # peaks are above
    level = max(median, 0.0) + math.log(2.0)
    last = -1.0
    for _ in range(_ROUNDS):
        limit = max(limit_of(level, limits), level + limits[0] * spread)
        if limit == last:
            break
        last = limit
        total, kept = 0.0, 0
        for i in range(n):
            if values[i] < limit:
                total += values[i]
                kept += 1
        mean = total / kept
        level = mean
        if mean > 0.0:
            top = math.ceil(limit) - 1.0
            for _ in range(3):
                lost = math.exp(top * math.log(level) - level - math.lgamma(top + 1.0))
                level = mean / (1.0 - min(lost, 0.5))
    return level, spread


@njit(cache=True, nogil=True)
def most_common(values, n, origin, width, counts):
    """Give the middle of the most common bin of a width, from an origin; the mean of several.

    ``counts`` are zeros, and are so again afterwards. Values beyond its bins, which begin at the
    lowest value, are peaks, and not counted.
    """
    lowest = values[0]
    for i in range(1, n):
        lowest = min(lowest, values[i])
    first = math.floor((lowest - origin) / width)
    most, top = 0, 0
    for i in range(n):
        bin_number = math.floor((values[i] - origin) / width) - first
        if bin_number < counts.shape[0]:
            k = int(bin_number)
            counts[k] += 1
            most = max(most, counts[k])
            top = max(top, k)
    total, ties = 0.0, 0
    for k in range(top + 1):
        if counts[k] == most:
            total += k
            ties += 1
        counts[k] = 0
    return origin + (first + total / ties + 0.5) * width


@njit(cache=True, nogil=True)
def grouped_median(values, n):
    """Give the median of the first n, within ±½ of it as if counts were spread evenly."""
    median = select(values, n, n // 2)
    below, at = 0, 0
    for i in range(n):
        if values[i] < median - 0.5:
            below += 1
        elif values[i] < median + 0.5:
            at += 1
    return median - 0.5 + (0.5 * n - below) / at


@njit(cache=True, nogil=True)
def window_levels(image, step, settings, limits, level, spread):
    """Estimate the level around every ``step``-th pixel, and its spread.

    Parameters: settings of kind (MODE, MEDIAN, MEAN), reach of the window, fewest pixels, width of
    the bins of a mode (0: the standard deviation by the median) and the lowest median for it;
    level and spread (n_rows, n_columns) float32, of pixels 0, step, 2 step …, changed in place:
    NaN where there are too few; spread by MEAN only.
    """
    kind, reach, fewest, bin_width, lowest, offset = settings
    side = 2 * reach + 1
    values = np.empty(side * side, dtype=np.float32)
    counts = np.zeros(4 * side * side, dtype=np.int64)
    n_rows, n_columns = level.shape
    for i in range(n_rows):
        for j in range(n_columns):
            level[i, j] = np.nan
            spread[i, j] = np.nan
            n = gather(image, i * step, j * step, reach, values)
            if n < fewest:
                continue
            if kind == MEAN:
                level[i, j], spread[i, j] = clipped_mean(values, n, limits)
            elif kind == MEDIAN:
                level[i, j] = grouped_median(values, n)
            else:
                median = float(select(values, n, n // 2))
                if median < lowest:
                    continue
                if bin_width > 0.0:
                    level[i, j] = most_common(values, n, 0.0, bin_width, counts)
                    continue
                # Of about σ, an odd number of photons, the median in the middle of a bin.
                width = 2.0 * np.round(0.5 * math.sqrt(max(median, 0.0)) - 0.5) + 1.0
                origin = median - 0.5 * width
                level[i, j] = most_common(values, n, origin, width, counts) + offset


@njit(cache=True, nogil=True)
def mark_peaks(image, step, settings, limits, level, spread, peaks):
    """Mark pixels above what the levels around them allow.

    Parameters: image; step, level and spread, see `window_levels`; settings of the smallest ratio
    to the level and the margin; peaks (slow, fast) bool, all false, changed in place.
    """
    ratio, margin = settings
    n_slow, n_fast = image.shape
    n_rows, n_columns = level.shape
    for row in range(n_slow):
        i = min(row // step, n_rows - 1)
        i1 = min(i + 1, n_rows - 1)
        v = row / step - i
        for column in range(n_fast):
            value = image[row, column]
            if not value > 0.0:
                continue
            j = min(column // step, n_columns - 1)
            j1 = min(j + 1, n_columns - 1)
            u = column / step - j
            total, width, weight = 0.0, 0.0, 0.0
            for a, b, w in (
                (i, j, (1 - v) * (1 - u)), (i, j1, (1 - v) * u),
                (i1, j, v * (1 - u)), (i1, j1, v * u),
            ):  # fmt: skip
                if level[a, b] == level[a, b]:
                    total += w * level[a, b]
                    width += w * spread[a, b]
                    weight += w
            if not weight > 1e-6:
                continue
            own = total / weight
            limit = max(limit_of(own, limits), own + limits[0] * width / weight, ratio * own)
            if value < limit:
                continue
            for y in range(max(0, row - margin), min(n_slow, row + margin + 1)):
                for x in range(max(0, column - margin), min(n_fast, column + margin + 1)):
                    peaks[y, x] = True


@njit(cache=True, nogil=True)
def ring_levels(values, ends, limits, level, spread):
    """Take the clipped mean of each run ``ends[r]`` to ``ends[r + 1]`` of values (n,) float32.

    level and spread (n_rings,) are changed in place where there are values; these are reordered.
    """
    for ring in range(ends.shape[0] - 1):
        n = ends[ring + 1] - ends[ring]
        if n > 0:
            part = values[ends[ring] : ends[ring + 1]]
            level[ring], spread[ring] = clipped_mean(part, n, limits)
