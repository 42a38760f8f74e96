"""A picture of what is masked on a detector, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import BoolArray
from offbragg.errors import InputError
from offbragg.plotting.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LARGEST = 1200  # pixels of the picture along a panel's longer side
_FEW = 2000  # pixels of a reason that are drawn as marks, so that single ones are seen


def draw_mask(
    reasons: Mapping[str, Sequence[BoolArray]],
    image: Sequence[NDArray[np.number]] | None = None,
    title: str = "",
) -> Figure:
    """Draw the excluded pixels of a detector's panels, a colour for each reason.

    Where a pixel has several reasons the last shows. Few pixels, 2000 or less on a panel, are drawn
    as circles, so that single hot pixels can be seen.

    Parameters
    ----------
    reasons : mapping of str to sequence of ndarray, each of shape (slow, fast), bool
        One array a panel, True = excluded; such as `DetectorMask.reasons`.
    image : sequence of ndarray, each of shape (slow, fast), optional
        Drawn in grey underneath.
    title : str

    Returns
    -------
    Figure
        The slow axis goes down, panels are one above the other.

    Raises
    ------
    InputError
        If there is no reason, or shapes differ.

    Examples
    --------
    >>> stop = np.zeros((40, 60), bool)
    >>> stop[15:25, 20:40] = True
    >>> len(draw_mask({"shapes": [stop]}).axes)
    1
    """
    if not reasons:
        raise InputError("reasons must be at least one, got none")
    shapes = [mask.shape for mask in next(iter(reasons.values()))]
    for name, arrays in [*reasons.items(), *([("image", image)] if image is not None else [])]:
        if [array.shape for array in arrays] != shapes:
            raise InputError(f"{name} must have shapes {shapes}, got {[a.shape for a in arrays]}")
    height = 6.0 * sum(shape[0] / shape[1] for shape in shapes)
    figure = new_figure(6.0, max(2.5, height + 0.6))
    axes = figure.subplots(len(shapes), 1, squeeze=False)[:, 0]
    colours = {name: f"C{number % 10}" for number, name in enumerate(reasons)}
    for number, ax in enumerate(axes):
        _draw_background(ax, None if image is None else image[number], shapes[number])
        for name, masks in reasons.items():
            _draw_reason(ax, masks[number], colours[name])
        ax.set_xlim(0, shapes[number][1])
        ax.set_ylim(shapes[number][0], 0)
        ax.set_xticks([])
        ax.set_yticks([])
    from matplotlib.lines import Line2D

    total = sum(int(np.prod(shape)) for shape in shapes)
    handles = []
    for name, masks in reasons.items():
        n = sum(int(np.count_nonzero(mask)) for mask in masks)
        label = f"{name}: {n} pixels ({100 * n / total:.2g} %)"
        handles.append(Line2D([], [], marker="s", linestyle="", color=colours[name], label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize="small")
    axes[0].set_title(title)
    return figure


def _draw_background(ax: Axes, image: NDArray[np.number] | None, shape: tuple[int, ...]) -> None:
    """Draw counts in grey, by their square roots, or nothing but white."""
    extent = (0, shape[1], shape[0], 0)
    if image is None:
        ax.set_aspect("equal")
        return
    step = max(1, max(shape) // _LARGEST)
    values = np.sqrt(np.clip(image[::step, ::step].astype(np.float64), 0, None))
    high = max(1.0, float(np.percentile(values, 99)))
    ax.imshow(values, cmap="gray_r", vmin=0, vmax=high, extent=extent, interpolation="nearest")


def _draw_reason(ax: Axes, mask: BoolArray, colour: str) -> None:
    """Draw excluded pixels: circles where they are few, else areas."""
    n = np.count_nonzero(mask)
    if 0 < n <= _FEW:
        rows, columns = np.nonzero(mask)
        ax.plot(columns + 0.5, rows + 0.5, "o", markersize=4, mfc="none", mec=colour, linestyle="")
    elif n:
        # A cell of the picture is coloured if any of its pixels is excluded.
        step = max(1, max(mask.shape) // _LARGEST)
        padded = np.pad(mask, [(0, -size % step) for size in mask.shape])
        cells = padded.reshape(padded.shape[0] // step, step, -1, step).any(axis=(1, 3))
        from matplotlib.colors import to_rgba

        coloured = np.zeros((*cells.shape, 4))
        coloured[cells] = to_rgba(colour, 0.7)
        extent = (0, padded.shape[1], padded.shape[0], 0)
        ax.imshow(coloured, extent=extent, interpolation="nearest")
