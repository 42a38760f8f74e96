r"""Bragg peaks told from the image alone: what stands out from the pixels around it.

For stills, crystals of several lattices and old data, where `bragg_mask` cannot say where peaks
are. In a window around each pixel, of one panel and without the pixels that are excluded, three
levels can be taken:

- **mode**, the most common value, in bins of about one standard deviation (Wall, Clarage & Phillips
  1997, Structure 5, 1599). Of n photons with mean λ the most common number is ⌊λ⌋, so that of few
  it tells nothing: windows with a median below `FEWEST_PHOTONS` have no mode;
- **median**, taken as if counts k were spread evenly over k ± ½, where it is a continuous g(λ) of
  the mean, λ − 1/6 of many photons and −½ + ½ e^λ of few. g is inverted: g⁻¹ of it is the mean;
- **mean** of those below the limit c that a Poisson number of mean λ reaches by chance α,

  .. math:: P(N \ge c\,|\,\lambda) = \alpha,\qquad
            \lambda = \bar x\,\frac{P(N\le t)}{P(N\le t-1)},\quad t = \lceil c\rceil - 1,

  solved for both together, from the median on. The factor gives back what is cut off.

`filter_image` puts one of them in the place of every pixel; `find_peaks` takes the last to *detect*
pixels that are peaks, and leaves the others with the counts that they had.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv, ndtri, pdtr

from offbragg.conventions import BoolArray, FloatArray
from offbragg.errors import InputError
from offbragg.reduction._filter_kernels import MEAN, MEDIAN, MODE, mark_peaks, window_levels
from offbragg.reduction.pixel_table import Float32Array

#: Filters that replace every pixel.
FILTERS = {"mode-filter": MODE, "median-filter": MEDIAN, "mean-filter": MEAN}
#: What the variance of a filtered pixel is in photons, so that the mean over a patch of pixels, as
#: if they were independent, has at least the variance that it has. Seen, of patches of 18 × 18 and
#: 30 × 30 pixels: 2.1 for the mode of 12 photons, 1.3 of 100 or more, 1.1 for the median, 0.7 for
#: the mean; of a single pixel 0.02 (0.035 of 12 photons), 0.007, 0.005.
FILTER_VARIANCE = {"mode-filter": 2.5, "median-filter": 1.25, "mean-filter": 1.0}
#: A mode needs windows with a median of so many photons.
FEWEST_PHOTONS = 10.0
#: A pixel without a peak is taken for one by this chance. It costs the mean of the others p(t), the
#: chance of the highest count that is kept: 0.01 % of 0.2 photons.
CHANCE = 1e-5
#: Peaks are so many times what surrounds them, whatever the counts say: diffuse scattering varies.
RATIO = 1.25
# The part of a window's pixels that must be there.
_FEWEST = 0.25
# What the most common of bins around the median is below the mean of Poisson numbers, in photons.
_MODE_OFFSET = 1 / 6
_STEPS = 20  # of the table of limits, for each unit of √λ
_ROOT_MOST = 40  # √λ beyond which its last value stays


def filter_image(
    photons: Float32Array, kind: str, size: int = 15, *, bin_width: float | None = None
) -> Float32Array:
    r"""Replace every pixel by the mode, median or mean of the window around it.

    Parameters
    ----------
    photons : ndarray, shape (slow, fast), float32
        One panel; NaN = excluded: not counted, and NaN in the result too.
    kind : {"mode-filter", "median-filter", "mean-filter"}
    size : int
        Of the window, odd [pixels].
    bin_width : float, optional
        Of the mode: values are counted in bins [k w, (k + 1) w). About the standard deviation, by
        the median of the window, around which bins then lie, where not given.

    Returns
    -------
    ndarray, shape (slow, fast), float32
        NaN where less than a quarter of the window's pixels are there; of the mode also where
        the median is below 10 photons, if no width of bins is given.

    Raises
    ------
    InputError
        If the kind is another word, or the size is even or below 3.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.2, (60, 60)).astype(np.float32)
    >>> counts[30:33, 30:33] += 50
    >>> filtered = filter_image(counts, "mean-filter")
    >>> bool(np.all(np.abs(filtered - 0.2) < 0.15))
    True
    """
    if kind not in FILTERS:
        raise InputError(f"kind must be one of {', '.join(FILTERS)}, got {kind!r}")
    if bin_width is not None and not bin_width > 0:
        raise InputError(f"bin_width must be > 0 photons, got {bin_width}")
    check_window(size)
    fewest = -np.inf if bin_width is not None else FEWEST_PHOTONS
    level, _ = _levels(photons, FILTERS[kind], size, 1, bin_width or 0.0, fewest)
    if kind == "median-filter":
        medians, corrections = _median_corrections()
        level += np.interp(level, medians, corrections).astype(np.float32)
    level[np.isnan(photons)] = np.nan
    return level


def find_peaks(photons: Float32Array, size: int = 15, margin: int = 1) -> BoolArray:
    """Find the pixels that stand out from those around them, on the high side.

    They are above the local level, the clipped mean of windows, by more than Poisson statistics
    allow with a chance of 10⁻⁵, by more than as many times the spread of the window's lower
    pixels, and by a quarter. Levels are worked out every half window and interpolated.

    Parameters
    ----------
    photons : ndarray, shape (slow, fast), float32
        One panel; NaN = excluded.
    size : int
        Of the window, odd [pixels].
    margin : int
        Pixels within this distance of one found are peaks too.

    Returns
    -------
    ndarray, shape (slow, fast), bool

    Raises
    ------
    InputError
        If the size is even or below 3, or the margin negative.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.2, (60, 60)).astype(np.float32)
    >>> counts[30, 40] = 9
    >>> np.argwhere(find_peaks(counts, margin=0)).tolist()
    [[30, 40]]
    """
    check_window(size, margin)
    step = size // 2
    level, spread = _levels(photons, MEAN, size, step, 0.0, 0.0)
    peaks = np.zeros(photons.shape, dtype=bool)
    mark_peaks(photons, step, (RATIO, margin), poisson_limits(), level, spread, peaks)
    return peaks


def without_peaks(
    panels: Sequence[Float32Array], bragg: str, size: int, margin: int
) -> tuple[tuple[Float32Array, ...], tuple[Float32Array, ...] | None]:
    """Treat the photons of an image as the option ``bragg`` says.

    Parameters
    ----------
    panels : sequence of ndarray, shape (slow, fast), float32
        Before a background is subtracted; NaN = excluded.
    bragg : str
        ``"detect"``, one of `FILTERS`, or another word, by which nothing is done.
    size, margin : int
        See `find_peaks`.

    Returns
    -------
    photons, excess : tuple of ndarray, shape (slow, fast), float32
        One a panel: NaN where there is a peak, or filtered. The excess is what their variances, for
        means over pixels, exceed them by; None if by nothing.

    Raises
    ------
    InputError
        If a mode is to be taken of too few photons.
    """
    if bragg == "detect":
        peaks = [find_peaks(photons, size, margin) for photons in panels]
        pairs = zip(peaks, panels, strict=True)
        return tuple(np.where(peak, np.float32(np.nan), x) for peak, x in pairs), None
    if bragg not in FILTERS:
        return tuple(panels), None
    filtered = tuple(filter_image(photons, bragg, size) for photons in panels)
    if all(np.isnan(x).all() for x in filtered) and not all(np.isnan(x).all() for x in panels):
        raise InputError(
            f"{bragg}: expected windows of {size} pixels with a quarter of them not masked"
            + (f" and a median of {FEWEST_PHOTONS:g} photons" if bragg == "mode-filter" else "")
            + ", got an image with none (bragg 'detect' needs fewer photons)"
        )
    more = np.float32(FILTER_VARIANCE[bragg] - 1)
    return filtered, tuple(more * x for x in filtered) if more > 0 else None


def check_window(filter_size: int, peak_margin: int = 0) -> None:
    """Check that windows have a middle, and that the margin is none or more.

    Raises
    ------
    InputError
        If not.
    """
    if filter_size < 3 or filter_size % 2 != 1:
        raise InputError(f"filter_size must be odd and >= 3 pixels, got {filter_size}")
    if peak_margin < 0:
        raise InputError(f"peak_margin must be >= 0 pixels, got {peak_margin}")


def _levels(
    photons: Float32Array, kind: int, size: int, step: int, bin_width: float, fewest: float
) -> tuple[Float32Array, Float32Array]:
    """Levels and spreads of windows around every ``step``-th pixel, from the first on."""
    shape = tuple((n - 1) // step + 1 for n in photons.shape)
    level, spread = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    n_fewest = int(np.ceil(_FEWEST * size * size))
    settings = (kind, size // 2, n_fewest, float(bin_width), float(fewest), _MODE_OFFSET)
    window_levels(photons, step, settings, poisson_limits(), level, spread)
    return level, spread


@lru_cache(maxsize=1)
def poisson_limits() -> tuple[float, float, FloatArray]:
    """What Poisson numbers of each mean reach with the chance, see `_filter_kernels`."""
    z = float(-ndtri(CHANCE))
    most = _ROOT_MOST**2 + 8 * _ROOT_MOST
    counts = np.concatenate([np.linspace(0.01, 30, 3000), np.linspace(30.1, most, 8000)])
    root = np.arange(_ROOT_MOST * _STEPS + 1) / _STEPS
    limits = np.interp(root**2, gammaincinv(counts, CHANCE), counts)
    return z, float(_STEPS), limits - root**2 - z * root


@lru_cache(maxsize=1)
def _median_corrections() -> tuple[FloatArray, FloatArray]:
    """Medians of Poisson numbers spread over k ± ½, and how much their means are above."""
    mean = np.linspace(0.0, 50.0, 5001)
    counts = np.arange(100.0)
    cumulative = pdtr(counts[:, None], mean)
    median = np.argmax(cumulative >= 0.5, axis=0)
    below = np.where(median > 0, pdtr(median - 1.0, mean), 0.0)
    spread = median - 0.5 + (0.5 - below) / (pdtr(median.astype(np.float64), mean) - below)
    return spread, mean - spread
