r"""Background: what images without the crystal count, subtracted from those with it.

With b̄ the mean photons of a pixel over n background images, an image of t times their exposure and
f times their flux has :math:`B = t f \bar b` of its photons from elsewhere, so that

.. math:: I = (c - B)\,\kappa, \qquad \mathrm{var}\,I = (c + t^2 f^2\,\bar b / n)\,\kappa^2

On its own time scale and before the corrections of the crystal's scattering: air in front of the
crystal is not where the crystal is. Where the background changes with the rotation (a loop, a
mount), the mean is over background images of nearby angles. A model of the mean, of smaller
variance than b̄/n, can take its place (`radial_background`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.images import open_sweeps
from offbragg.reduction.panel_arrays import Pixels
from offbragg.reduction.pixel_table import Float32Array

Panels = tuple[Float32Array, ...]
# Means of so many angles are held at once: images come in order.
_MOST_HELD = 4


@dataclass(eq=False)
class Background:
    """The mean background of a detector, by rotation angle where that is asked for.

    Attributes
    ----------
    experiments : tuple of Experiment
        Sweeps without the crystal.
    to_photons : callable
        Gives the photons of an image as read, NaN where a pixel is not to be used.
    angle_width : float or None
        Width of the ranges of angle that are averaged [degrees]; None: all images.
    model : callable, optional
        Takes the mean photons and the number of images, and gives what to subtract instead and its
        variance.
    """

    experiments: tuple[Experiment, ...]
    to_photons: Callable[[Sequence[Pixels]], Panels]
    angle_width: float | None = None
    model: Callable[[Panels, int], tuple[Panels, Panels]] | None = None
    _held: dict[int, tuple[Panels, Panels]] = field(default_factory=dict, repr=False)
    _lock: AbstractContextManager[bool] = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        if not self.experiments:
            raise InputError("background: expected at least one sweep, got none")
        if self.angle_width is not None and not self.angle_width > 0:
            raise InputError(f"background: angle_width must be > 0 degrees, got {self.angle_width}")

    def exposure_ratio(self, experiments: Sequence[Experiment]) -> float:
        """Mean exposure of the data in units of the background's; 1 where either is unknown."""
        data, own = mean_exposure(experiments), mean_exposure(self.experiments)
        return 1.0 if data is None or own is None else data / own

    def of(self, angle: float, times: float) -> tuple[Panels, Panels]:
        """Photons that an image has from elsewhere, and the variance that subtracting them adds.

        Parameters
        ----------
        angle : float
            Of the image [degrees].
        times : float
            Its exposure and flux, in those of a background image.

        Returns
        -------
        photons, excess : tuple of ndarray, shape (slow, fast), float32
            One a panel. The excess is what the variance of the difference exceeds the difference
            by: ``B + t²f² b̄/n``, or with the model's variance instead of ``b̄/n``.
        """
        mean, variance = self._mean(angle)
        t = np.float32(times)
        pairs = zip(mean, variance, strict=True)
        return tuple(t * b for b in mean), tuple(t * b + t * t * v for b, v in pairs)

    def subtract(
        self, photons: Panels, more: Panels | None, angle: float, times: float
    ) -> tuple[Panels, Panels]:
        """Subtract it from an image whose variances exceed its photons by ``more``; see `of`.

        Returns
        -------
        photons, excess : tuple of ndarray, shape (slow, fast), float32
            One a panel.
        """
        elsewhere, excess = self.of(angle, times)
        if more is not None:
            excess = tuple(x + y for x, y in zip(excess, more, strict=True))
        return tuple(c - b for c, b in zip(photons, elsewhere, strict=True)), excess

    def _mean(self, angle: float) -> tuple[Panels, Panels]:
        """Mean photons of the images that belong to an angle, and their variances."""
        members = self._members(angle)
        key = members[0][0] * 1_000_000 + members[0][1]
        with self._lock:
            if key not in self._held:
                while len(self._held) >= _MOST_HELD:
                    self._held.pop(next(iter(self._held)))
                mean, n = self._averaged(members), len(members)
                variance = tuple(b / np.float32(n) for b in mean)
                self._held[key] = self.model(mean, n) if self.model else (mean, variance)
            return self._held[key]

    def _members(self, angle: float) -> list[tuple[int, int]]:
        """Images (experiment, image) of the range that an angle is in; the nearest if none is."""
        every = [
            (e, i, float(np.degrees(middle)))
            for e, experiment in enumerate(self.experiments)
            for i, middle in enumerate(experiment.angles().mean(axis=1))
        ]
        if self.angle_width is None:
            return [(e, i) for e, i, _ in every]
        start = np.floor(angle / self.angle_width) * self.angle_width
        inside = [(e, i) for e, i, a in every if start <= a < start + self.angle_width]
        if inside:
            return inside
        nearest = min(every, key=lambda x: abs(x[2] - angle))
        return [nearest[:2]]

    def _averaged(self, members: Sequence[tuple[int, int]]) -> Panels:
        """Mean over images; a pixel that is not to be used on one of them is not on any."""
        sums: list[FloatArray] = []
        with open_sweeps(self.experiments, (e for e, _ in members)) as read:
            for e, i in members:
                photons = self.to_photons(read(e, i))
                if not sums:
                    sums = [np.zeros(x.shape) for x in photons]
                for total, x in zip(sums, photons, strict=True):
                    total += x
        return tuple((total / len(members)).astype(np.float32) for total in sums)


def mean_exposure(experiments: Sequence[Experiment]) -> float | None:
    """Mean exposure time of all images [s]; None where an experiment does not say."""
    times = [experiment.scan.exposure_times for experiment in experiments]
    known = [x for x in times if x is not None and np.all(x > 0)]
    if len(known) < len(times):
        return None
    return float(np.mean(np.concatenate(known)))


def check_background(experiments: Sequence[Experiment], background: Sequence[Experiment]) -> None:
    """Check that background images are of the same panels.

    Raises
    ------
    InputError
        If not.
    """
    shapes = [panel.shape for panel in experiments[0].detector]
    for number, other in enumerate(background):
        found = [panel.shape for panel in other.detector]
        if found != shapes:
            raise InputError(
                f"background {number}: panels must be as the data's, {shapes}, got {found}"
            )
