"""From intensities to colours: which values the ends of a colour scale stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offbragg.errors import InputError

if TYPE_CHECKING:
    from matplotlib.colors import Normalize

CONTRASTS = ("percentile", "linear", "log")
# Of the reach of a diverging scale in logarithms: what lies closer to zero is linear.
_LINEAR_SHARE = 0.03
# Of the largest value: a logarithmic scale of whole intensities begins no lower.
_LOWEST_SHARE = 1e-6
_SMALLEST = 1e-12


def colour_scale(
    values: NDArray[np.floating],
    contrast: str = "percentile",
    *,
    diverging: bool,
    clip: float = 2.0,
    limits: tuple[float, float] | None = None,
) -> Normalize:
    """Choose the scale of colours for values.

    Parameters
    ----------
    values : ndarray, any shape
        Those that are not finite do not count.
    contrast : {"percentile", "linear", "log"}
        percentile: linear, without the outermost ``clip`` per cent; linear: from the least to the
        largest; log: logarithmic, ends as percentile.
    diverging : bool
        Symmetric about zero, for anisotropic parts.
    clip : float
        Per cent of the values beyond the ends: at both ends half, or of absolute values.
    limits : tuple of 2 float, optional
        The ends themselves.

    Raises
    ------
    InputError
        If the contrast is none of these, the limits do not rise, or clip is not a share.

    Examples
    --------
    >>> scale = colour_scale(np.array([-3.0, 1.0]), "linear", diverging=True)
    >>> scale.vmin, scale.vmax
    (-3.0, 3.0)
    """
    from matplotlib.colors import LogNorm, Normalize, SymLogNorm

    if contrast not in CONTRASTS:
        raise InputError(f"contrast must be one of {' '.join(CONTRASTS)}, got {contrast!r}")
    if not 0 <= clip < 100:
        raise InputError(f"clip must be 0 to 100 %, got {clip}")
    if limits is not None and not (np.all(np.isfinite(limits)) and limits[0] < limits[1]):
        raise InputError(f"limits must be two numbers that rise, got {limits}")
    finite = np.asarray(values[np.isfinite(values)], dtype=np.float64)
    share = 0.0 if contrast == "linear" else clip
    if diverging:
        low, high = limits or _symmetric(finite, share)
        if contrast == "log":
            return SymLogNorm(_LINEAR_SHARE * max(abs(low), abs(high)), vmin=low, vmax=high)
        return Normalize(low, high)
    if contrast == "log":
        positive = finite[finite > 0]
        low, high = limits or _ends(positive, share)
        # What is not above zero gets the colour of the lowest, not that of what is missing.
        low = max(low, _LOWEST_SHARE * high)
        return LogNorm(low, max(high, low * (1 + 1e-6)), clip=True)
    return Normalize(*(limits or _ends(finite, share)))


def _symmetric(finite: NDArray[np.float64], share: float) -> tuple[float, float]:
    reach = float(np.percentile(np.abs(finite), 100 - share)) if len(finite) else 1.0
    reach = max(reach, _SMALLEST)
    return -reach, reach


def _ends(finite: NDArray[np.float64], share: float) -> tuple[float, float]:
    if not len(finite):
        return 0.1, 1.0
    low, high = np.percentile(finite, [share / 2, 100 - share / 2])
    return float(low), max(float(high), float(low) + _SMALLEST)
