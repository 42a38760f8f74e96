"""Beam, goniometer, scan and crystal: the parts of an experiment, apart from its detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.cell import Cell, as_cell
from offbragg.crystal.symmetry import as_space_group
from offbragg.errors import InputError
from offbragg.reduction._checks import checked_array, set_unit_vectors


@dataclass(frozen=True, eq=False)
class Beam:
    """A monochromatic beam.

    Attributes
    ----------
    wavelength : float
        [Å].
    direction : ndarray, shape (3,)
        Unit vector of travel, from the source to the crystal (made a unit vector here). DIALS
        files store the opposite, from the crystal to the source.
    polarization_normal : ndarray, shape (3,)
        Normal of the plane of polarisation. It is made normal to the beam where it is used.
    polarization_fraction : float
        Fraction polarised in that plane, 0 to 1; ½ is unpolarised.
    s0_points : ndarray, shape (n_images + 1, 3), or None
        s₀ [Å⁻¹] at the boundaries of the images, where the beam moves during a scan.
    """

    wavelength: float
    direction: FloatArray
    polarization_normal: FloatArray
    polarization_fraction: float = 0.999
    s0_points: FloatArray | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.wavelength) and self.wavelength > 0):
            raise InputError(f"wavelength must be > 0 Å, got {self.wavelength}")
        if not 0 <= self.polarization_fraction <= 1:
            raise InputError(
                f"polarization_fraction must be 0 to 1, got {self.polarization_fraction}"
            )
        set_unit_vectors(self, "direction", "polarization_normal")
        if self.s0_points is not None:
            points = checked_array("s0_points", self.s0_points, (None, 3))
            object.__setattr__(self, "s0_points", points)

    @property
    def s0(self) -> FloatArray:
        """Wave vector (3,) of the beam [Å⁻¹], without 2π."""
        return self.direction / self.wavelength


@dataclass(frozen=True, eq=False)
class Goniometer:
    """A rotation axis, with what is fixed between it and the crystal, and below it.

    Attributes
    ----------
    rotation_axis : ndarray, shape (3,)
        Axis of the scan at the datum, made a unit vector here.
    fixed_rotation : ndarray, shape (3, 3)
        F: between the crystal and the axis, applied before the scan's rotation.
    setting_rotation : ndarray, shape (3, 3)
        S: below the axis, applied after it.
    setting_points : ndarray, shape (n_images + 1, 3, 3), or None
        S at the boundaries of the images, where it changes during a scan.
    """

    rotation_axis: FloatArray
    fixed_rotation: FloatArray
    setting_rotation: FloatArray
    setting_points: FloatArray | None = None

    def __post_init__(self) -> None:
        set_unit_vectors(self, "rotation_axis")
        for name in ("fixed_rotation", "setting_rotation"):
            matrix = checked_array(name, getattr(self, name), (3, 3))
            if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-3):
                raise InputError(f"{name} must be a rotation matrix, got {matrix.tolist()}")
            object.__setattr__(self, name, matrix)
        if self.setting_points is not None:
            points = checked_array("setting_points", self.setting_points, (None, 3, 3))
            object.__setattr__(self, "setting_points", points)

    @classmethod
    def from_axes(cls, axes: ArrayLike, angles: ArrayLike, scan_axis: int) -> Goniometer:
        """Build from several axes, listed from the crystal outwards.

        Parameters
        ----------
        axes : array_like, shape (n_axes, 3)
            Axes with all angles at zero.
        angles : array_like, shape (n_axes,)
            Angles at which they stand [radians]; that of the scan axis is not used.
        scan_axis : int
            Which of them turns.

        Examples
        --------
        >>> kappa = Goniometer.from_axes([[1, 0, 0], [0, 0, 1]], [0.0, np.pi / 2], 0)
        >>> kappa.setting_rotation.round(6).tolist()
        [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        """
        all_axes = checked_array("axes", axes, (None, 3))
        all_angles = checked_array("angles", angles, (len(all_axes),))
        if not 0 <= scan_axis < len(all_axes):
            raise InputError(f"scan_axis must be 0 to {len(all_axes) - 1}, got {scan_axis}")
        fixed, setting = np.eye(3), np.eye(3)
        for index, (axis, angle) in enumerate(zip(all_axes, all_angles, strict=True)):
            if index < scan_axis:
                fixed = rotation_matrix(axis, angle) @ fixed
            elif index > scan_axis:
                setting = rotation_matrix(axis, angle) @ setting
        return cls(all_axes[scan_axis], fixed, setting)


@dataclass(frozen=True, eq=False)
class Scan:
    """The images of a sweep.

    Attributes
    ----------
    image_range : tuple of 2 int
        Numbers of the first and the last image.
    oscillation_start : ndarray, shape (n_images,)
        Angle of the scan axis where each image begins [radians].
    oscillation_width : ndarray, shape (n_images,)
        Rotation during each image [radians]; 0 for stills.
    exposure_times : ndarray, shape (n_images,), or None
        [s], where the file has them.
    """

    image_range: tuple[int, int]
    oscillation_start: FloatArray
    oscillation_width: FloatArray
    exposure_times: FloatArray | None = None

    def __post_init__(self) -> None:
        first, last = self.image_range
        if last < first:
            raise InputError(f"image_range must be first <= last, got {self.image_range}")
        object.__setattr__(self, "image_range", (int(first), int(last)))
        for name in ("oscillation_start", "oscillation_width", "exposure_times"):
            if getattr(self, name) is not None:
                values = checked_array(name, getattr(self, name), (self.n_images,))
                object.__setattr__(self, name, values)

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.image_range[1] - self.image_range[0] + 1


@dataclass(frozen=True, eq=False)
class CrystalModel:
    """Orientation, cell and space group of a crystal.

    Attributes
    ----------
    a_matrix : ndarray, shape (3, 3)
        Columns a*, b*, c* at the datum of the goniometer [Å⁻¹], without 2π.
    scan_points : ndarray, shape (n_images + 1, 3, 3), or None
        The same at the boundaries of the images, where it was refined along the scan.
    space_group : str
        Hermann–Mauguin or Hall symbol; kept as Hermann–Mauguin symbol.
    """

    a_matrix: FloatArray
    scan_points: FloatArray | None = None
    space_group: str = "P 1"

    def __post_init__(self) -> None:
        matrix = checked_array("a_matrix", self.a_matrix, (3, 3))
        object.__setattr__(self, "a_matrix", matrix)
        cell = cell_from_matrix(matrix)
        if self.scan_points is not None:
            points = checked_array("scan_points", self.scan_points, (None, 3, 3))
            object.__setattr__(self, "scan_points", points)
        object.__setattr__(self, "space_group", as_space_group(self.space_group, cell).xhm())

    @property
    def cell(self) -> Cell:
        """Unit cell [Å, degrees]."""
        return cell_from_matrix(self.a_matrix)


def rotation_matrix(axis: ArrayLike, angle: float) -> FloatArray:
    """Matrix (3, 3) of a right-handed rotation about ``axis`` by ``angle`` [radians].

    >>> rotation_matrix([0, 0, 2], np.pi / 2).round(6).tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    turn: FloatArray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn


def cell_from_matrix(a_matrix: ArrayLike) -> Cell:
    """Give the unit cell [Å, degrees] whose reciprocal vectors are the columns (3, 3) [Å⁻¹].

    >>> str(cell_from_matrix(np.diag([0.1, 0.05, 0.025])))
    '10.000 20.000 40.000 Å, 90.00 90.00 90.00°'
    """
    columns = checked_array("a_matrix", a_matrix, (3, 3))
    scale = np.prod(np.linalg.norm(columns, axis=0))
    if not abs(np.linalg.det(columns)) > 1e-6 * scale:
        raise InputError(f"a_matrix must span a volume, got {columns.tolist()}")
    edges = np.linalg.inv(columns)
    lengths = np.linalg.norm(edges, axis=1)
    unit = edges / lengths[:, None]
    cosines = [unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]]
    return as_cell([*lengths, *np.degrees(np.arccos(np.clip(cosines, -1, 1)))])
