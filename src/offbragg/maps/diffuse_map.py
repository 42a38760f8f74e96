"""`DiffuseMap`: intensities on a grid of reciprocal space, measured or computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offbragg.crystal.cell import Cell
from offbragg.crystal.friedel import has_inversion
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import as_space_group, point_rotations
from offbragg.errors import InputError

if TYPE_CHECKING:
    import xarray

_VOXEL_ARRAYS = ("intensity", "sigma", "count", "half_1", "half_2")


@dataclass(frozen=True, eq=False)
class DiffuseMap:
    """A map of reciprocal space.

    Attributes
    ----------
    grid : HklGrid
    intensity : ndarray, shape ``grid.shape``, float32 or float64
        e² per unit cell where computed, arbitrary scale where measured. NaN: not measured, or
        beyond ``grid.d_min``.
    space_group : str
        Hermann–Mauguin symbol.
    sigma : ndarray or None
        Standard errors of the intensities. None where a map has none (computed maps).
    count : ndarray of int or None
        Pixels averaged in each voxel.
    half_1, half_2 : ndarray or None
        Maps from two random halves of the images.
    laue_group : str or None
        The group that the map was merged by, whose equivalents are copies of each other; None
        where it is not merged. A Laue symbol ("4/m") where Friedel mates are averaged; a space
        group without inversion ("P 4"), whose rotations are meant, where they are apart.
    statistics : mapping
        Tables by name; each a mapping of column names to lists or numbers.
    provenance : tuple of mapping
        One entry a step: program, version, command, options, corrections, inputs, time.

    Raises
    ------
    InputError
        If an array has not the shape of the grid.
    """

    grid: HklGrid
    intensity: NDArray[np.floating]
    space_group: str = "P 1"
    sigma: NDArray[np.floating] | None = None
    count: NDArray[np.integer] | None = None
    half_1: NDArray[np.floating] | None = None
    half_2: NDArray[np.floating] | None = None
    laue_group: str | None = None
    statistics: Mapping[str, Any] = field(default_factory=dict)
    provenance: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in _VOXEL_ARRAYS:
            values = getattr(self, name)
            if values is not None and np.shape(values) != self.grid.shape:
                raise InputError(
                    f"{name} must have the grid's shape {self.grid.shape}, got {np.shape(values)}"
                )
        symbol = as_space_group(self.space_group, self.grid.cell).xhm()
        object.__setattr__(self, "space_group", symbol)

    @property
    def cell(self) -> Cell:
        """The grid's unit cell."""
        return self.grid.cell

    @property
    def friedel(self) -> str | None:
        """``"merged"`` or ``"apart"``: what a merged map's Friedel mates are; None: not merged."""
        if self.laue_group is None:
            return None
        return "merged" if has_inversion(point_rotations(self.laue_group)) else "apart"

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which voxels have a value, shape ``grid.shape``."""
        measured: NDArray[np.bool_] = np.isfinite(self.intensity)
        return measured

    def to_xarray(self) -> xarray.Dataset:
        """Give the arrays as an `xarray.Dataset` of dimensions h, k, l [reciprocal-lattice units].

        Variables: ``intensity`` and those of ``sigma count half_1 half_2`` that there are, not
        copied. Attributes: ``cell space_group sampling provenance``, perhaps ``laue_group d_min``.

        Raises
        ------
        InputError
            If xarray is not installed.
        """
        from offbragg.maps.labelled_arrays import to_dataset

        return to_dataset(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: a table, and three sections of the anisotropic part."""
        from offbragg.maps.notebook import map_html

        return map_html(self)
