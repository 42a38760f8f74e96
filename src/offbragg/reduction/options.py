"""`MapOptions`: how images become a map; every option of the command is a field of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.errors import InputError
from offbragg.reduction.bragg_mask import RADIUS_UNITS
from offbragg.reduction.corrections import PIXEL_CORRECTIONS
from offbragg.reduction.voxelize import Oversampling

#: Everything that counts are corrected for, in the order in which it is applied.
CORRECTIONS = (*PIXEL_CORRECTIONS, "exposure")


@dataclass(frozen=True)
class MapOptions:
    """How images become a map.

    Attributes
    ----------
    d_min : float
        Resolution limit [Å].
    sampling : tuple of 3 int
        Voxels per reciprocal-lattice unit along h, k, l.
    images : str or None
        Where the images are, if not where the experiments say: template, file or folder.
    stills : bool
        Take each image at its middle angle: the crystal did not turn during the exposure.
    bragg : str
        ``"exclude"`` leaves out pixels near Bragg nodes, ``"keep"`` keeps all.
    bragg_radius : float
        How near, see `bragg_mask`. On stills of staphylococcal nuclease peaks raise the mean of
        pixels by 41 % at 0.1 reciprocal-lattice units from a node, 7 % at 0.2, 4 % at 0.25 and
        2 % at 0.3; beyond, it is the tail of the diffuse halo. 0.25 takes 6.5 % of the pixels.
    bragg_radius_unit : str
        ``"rlu"`` (reciprocal-lattice units) or ``"1/angstrom"``.
    mask : str or None
        File of pixels to exclude.
    overload : float or None
        Values above it are overloads [ADU]; None: the experiment's trusted range says.
    overload_margin : int
        Pixels within this distance of an overload are excluded too.
    corrections : tuple of str
        Among `CORRECTIONS`.
    oversample : tuple of 2 int
        Points along each side of a pixel, and through the rotation of an image, that its count is
        split over; 1, 1 gives the pixel whole to the voxel of its centre.
    scaling : str
        Only ``"none"``.
    n_workers : int or None
        Threads; None: as many as this process may run on. The map does not depend on it.
    seed : int
        Of the random halves, where no generator is given.

    Raises
    ------
    InputError
        If a value is not among those above.
    """

    d_min: float
    sampling: tuple[int, int, int] = (1, 1, 1)
    images: str | None = None
    stills: bool = False
    bragg: str = "exclude"
    bragg_radius: float = 0.25
    bragg_radius_unit: str = "rlu"
    mask: str | None = None
    overload: float | None = None
    overload_margin: int = 2
    corrections: tuple[str, ...] = CORRECTIONS
    oversample: tuple[int, int] = (1, 1)
    scaling: str = "none"
    n_workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("bragg", ("exclude", "keep")),
            ("bragg_radius_unit", RADIUS_UNITS),
            ("scaling", ("none",)),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        unknown = [name for name in self.corrections if name not in CORRECTIONS]
        if unknown:
            expected = ", ".join(CORRECTIONS)
            raise InputError(f"corrections must be among {expected}, got {unknown[0]!r}")
        if not (np.isfinite(self.d_min) and self.d_min > 0):
            raise InputError(f"d_min must be > 0 Å, got {self.d_min}")
        if self.overload is not None and not self.overload > 0:
            raise InputError(f"overload must be > 0, got {self.overload}")
        if self.overload_margin < 0:
            raise InputError(f"overload_margin must be >= 0 pixels, got {self.overload_margin}")
        if len(self.oversample) != 2:
            raise InputError(f"oversample must be two whole numbers, got {self.oversample}")
        Oversampling(*self.oversample)

    @property
    def pixel_corrections(self) -> tuple[str, ...]:
        """Those of the corrections that belong to a pixel, not to an image."""
        return tuple(name for name in self.corrections if name in PIXEL_CORRECTIONS)
