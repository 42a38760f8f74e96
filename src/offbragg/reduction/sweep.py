r"""The geometry of a rotation experiment: beam, panels, goniometer, scan and crystal.

Lengths in the laboratory are mm, reciprocal vectors Å⁻¹ *without* 2π, angles radians. A
reciprocal-lattice point hkl lies, when the crystal has turned by φ, at

.. math:: \mathbf r = S\, R(\mathbf e, \varphi)\, F\, A\, \mathbf h

with A the columns a*, b*, c*, F and S the fixed and the setting rotation of the goniometer and
\mathbf e its axis, all at the datum. A pixel at position p (from the crystal) records
\mathbf s_1 - \mathbf s_0, where s₁ = p/\|p\|/λ and s₀ is the beam's direction over λ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.reduction.geometry import Beam, CrystalModel, Goniometer, Scan, rotation_matrix
from offbragg.reduction.panel import Panel


@dataclass(frozen=True, eq=False)
class Experiment:
    """One sweep of one crystal: everything but the pixels.

    Attributes
    ----------
    beam : Beam
    detector : tuple of Panel
    goniometer : Goniometer
    scan : Scan
    crystal : CrystalModel
    template : str
        Path of the images: with ``#`` for the digits of the image number, or one file.
    identifier : str
        The file's name for this experiment, may be empty.
    file_indices : tuple of int, or None
        For files that hold several images: which of them, from 0, image by image. None: an image
        number less one.
    image_files : tuple of str
        One path an image, for images without a common template; `template` is the first of them.
    source : str
        File that this was read from; named in messages.
    """

    beam: Beam
    detector: tuple[Panel, ...]
    goniometer: Goniometer
    scan: Scan
    crystal: CrystalModel
    template: str = ""
    identifier: str = ""
    file_indices: tuple[int, ...] | None = None
    image_files: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detector", tuple(self.detector))
        if not self.detector:
            raise InputError("detector must have at least one panel, got none")
        for name, points in (
            ("scan points of the crystal", self.crystal.scan_points),
            ("scan points of the goniometer", self.goniometer.setting_points),
            ("scan points of the beam", self.beam.s0_points),
        ):
            if points is not None and len(points) != self.n_images + 1:
                raise InputError(
                    f"{name} must be one more than the {self.n_images} images, got {len(points)}"
                )
        if self.image_files and len(self.image_files) != self.n_images:
            raise InputError(
                f"image_files must be one an image, {self.n_images}, got {len(self.image_files)}"
            )
        if self.file_indices is not None and len(self.file_indices) != self.n_images:
            raise InputError(
                f"file_indices must be one an image, {self.n_images}, got {len(self.file_indices)}"
            )

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.scan.n_images

    @property
    def image_numbers(self) -> IntArray:
        """Numbers (n_images,) of the images, as in the names of their files."""
        return np.arange(self.scan.image_range[0], self.scan.image_range[1] + 1, dtype=np.int64)

    def angles(self, *, stills: bool = False) -> FloatArray:
        """Angles (n_images, 2) [radians] at which each image begins and ends.

        With ``stills`` both are the middle: the crystal did not turn during the exposure.
        """
        start, width = self.scan.oscillation_start, self.scan.oscillation_width
        if stills:
            return np.stack([start + 0.5 * width] * 2, axis=1)
        return np.stack([start, start + width], axis=1)

    def with_images(self, images: str | Path) -> Experiment:
        """Return the same experiment with its images elsewhere.

        Parameters
        ----------
        images : str or Path
            A template, a file, or a folder that holds files of the same names.
        """
        moved = Path(images).expanduser().resolve()
        if not moved.is_dir():
            return replace(self, template=str(moved), image_files=())
        names = tuple(str(moved / Path(name).name) for name in self.image_files)
        return replace(self, template=str(moved / Path(self.template).name), image_files=names)

    def lattice_matrix(self, image_index: int, fraction: float = 0.5) -> FloatArray:
        """S R F A (3, 3) [Å⁻¹]: hkl to reciprocal vectors in the laboratory, without 2π.

        Parameters
        ----------
        image_index : int
            Image, from 0.
        fraction : float
            Where in its rotation: 0 beginning, ½ middle, 1 end. What varies along the scan is
            interpolated linearly between the image's boundaries.
        """
        scan, goniometer = self.scan, self.goniometer
        if not 0 <= image_index < self.n_images:
            raise InputError(f"image_index must be 0 to {self.n_images - 1}, got {image_index}")
        angle = scan.oscillation_start[image_index] + fraction * scan.oscillation_width[image_index]
        a_matrix = _between(self.crystal.scan_points, self.crystal.a_matrix, image_index, fraction)
        setting = _between(
            goniometer.setting_points, goniometer.setting_rotation, image_index, fraction
        )
        turn = rotation_matrix(goniometer.rotation_axis, float(angle))
        return setting @ turn @ goniometer.fixed_rotation @ a_matrix

    def hkl_matrix(self, image_index: int, fraction: float = 0.5) -> FloatArray:
        """Matrix M (3, 3) [Å] with hkl = M (s₁ − s₀); the arguments are `lattice_matrix`'s."""
        inverse = np.linalg.inv(self.lattice_matrix(image_index, fraction))
        return np.asarray(inverse, dtype=np.float64)

    def hkl_transform(
        self, image_index: int, fraction: float = 0.5
    ) -> tuple[FloatArray, FloatArray]:
        """Matrix (3, 3) and vector (3,) with hkl = matrix · p/|p| − vector.

        The same as `hkl_matrix`, with the beam of that moment taken in, should it move.
        """
        matrix = self.hkl_matrix(image_index, fraction)
        s0 = _between(self.beam.s0_points, self.beam.s0, image_index, fraction)
        return matrix * np.linalg.norm(s0), matrix @ s0

    def hkl_of(self, positions: ArrayLike, image_index: int, fraction: float = 0.5) -> FloatArray:
        """Miller indices (..., 3), fractional, recorded at positions (..., 3) [mm] on an image."""
        matrix, vector = self.hkl_transform(image_index, fraction)
        p = np.asarray(positions, dtype=np.float64)
        unit: FloatArray = p / np.linalg.norm(p, axis=-1, keepdims=True)
        return unit @ matrix.T - vector


def _between(
    points: FloatArray | None, constant: FloatArray, image_index: int, fraction: float
) -> FloatArray:
    """Value within an image of something given at the images' boundaries, or else constant."""
    if points is None:
        return constant
    value: FloatArray = (1 - fraction) * points[image_index] + fraction * points[image_index + 1]
    return value
