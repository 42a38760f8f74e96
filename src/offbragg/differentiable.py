"""`MapOperator`: a diffuse map as a function of the covariance, with its derivatives.

What fits and other gradient-based work stand on: the map for a covariance V, its change for a
change of V, and the gradient by V of any function of the map, each the other's transpose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from offbragg.conventions import TWO_PI, FloatArray, IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import lattice_matrices, space_group_operations
from offbragg.errors import InputError
from offbragg.scattering import _kernels
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.engine import Engine
from offbragg.scattering.pair_nufft import PairNufft
from offbragg.scattering.pair_splat import PairSplat
from offbragg.scattering.pair_terms import PairSum
from offbragg.scattering.scatterers import Scatterers
from offbragg.simulation import gather, lattice_for, voxel_classes


@dataclass(frozen=True, eq=False)
class MapOperator:
    r"""The diffuse intensity of a structure's copies on a grid, linearised at a covariance.

    .. math:: I(\mathbf h) = \sum_g I_\mathrm{copy}(\mathbf h R_g; V)

    Attributes
    ----------
    unit : AtomicStructure
        The atoms that move together, with cell and space group: what a model's `coherent_unit`
        gives.
    displacements : Displacements
        V within one unit, or of pairs across the crystal.
    grid : HklGrid
        Its hkl count; the unit's cell gives q.
    engine : Engine
        Method "auto", "splat" or "pair-nufft", tolerance, memory.
    voxel_average : bool
        Means over voxels, as `offbragg.simulate` gives them.

    Raises
    ------
    InputError
        If the method has no derivatives.

    Examples
    --------
    >>> import offbragg as ob
    >>> from offbragg.made_crystal import make_peptide
    >>> peptide = make_peptide()
    >>> model = ob.LiquidLike(0.4, 5.0)
    >>> grid = ob.HklGrid.from_resolution(peptide.cell, 3.0)
    >>> operator = MapOperator(peptide, model.displacements(peptide), grid)
    >>> slopes = operator.gradient(np.ones(grid.shape))  # of the sum over the map
    >>> sorted(model.pullback(peptide, slopes))
    ['correlation_length', 'rms_displacement']
    """

    unit: AtomicStructure
    displacements: Displacements
    grid: HklGrid
    engine: Engine = Engine()  # noqa: RUF009 - frozen, and has no state
    voxel_average: bool = False

    def __post_init__(self) -> None:
        if self.engine.method not in ("auto", "splat", "pair-nufft"):
            raise InputError(
                f"method must be one of auto splat pair-nufft, got {self.engine.method!r}"
            )
        if self.engine.wavelength is not None or self.engine.altlocs != "together":
            raise InputError("derivatives by V need no wavelength and altlocs 'together'")

    @cached_property
    def _own_grid(self) -> HklGrid:
        return replace(self.grid, cell=self.unit.require_cell())

    @cached_property
    def _rotations(self) -> IntArray:
        rotations = space_group_operations(self.unit.space_group).rotations
        return lattice_matrices(rotations, self.grid.sampling)

    @cached_property
    def _parts(self) -> list[tuple[PairSplat | PairNufft, IntArray]]:
        """The linearised intensity of one copy for each shape of voxel, and its operations."""
        grid = self._own_grid
        q_max = TWO_PI * float(np.max(grid.inv_d()[self.grid.within()], initial=0.0))
        if q_max == 0.0:
            raise InputError("grid must hold a voxel other than hkl = 0 within d_min")
        lattice = lattice_for(grid, self._rotations, q_max)
        unit = self.unit
        scatterers = Scatterers(unit.positions, unit.elements, unit.occupancies)
        is_nufft = self.engine.method == "pair-nufft" or (
            self.engine.method == "auto" and self.displacements.is_isotropic
        )
        kind = PairNufft if is_nufft else PairSplat
        parts: list[tuple[PairSplat | PairNufft, IntArray]] = []
        for voxel, alike in voxel_classes(
            unit.space_group, grid.sampling, averaged=self.voxel_average
        ):
            pair_sum = PairSum(replace(lattice, voxel=voxel), scatterers, self.displacements)
            parts.append((kind(pair_sum, self.engine), self._rotations[alike]))
        return parts

    def intensity(self) -> FloatArray:
        """Diffuse intensity [e² per cell], ``grid.shape``; NaN beyond ``grid.d_min``."""
        return self._gathered([part.intensity().real for part, _ in self._parts])

    def product(self, direction: Displacements) -> FloatArray:
        """Change of the map for a change dV, ``grid.shape``; NaN beyond ``grid.d_min``."""
        return self._gathered([part.product(direction) for part, _ in self._parts])

    def gradient(self, map_gradient: FloatArray) -> Displacements:
        """Gradient by V of ``Σ map_gradient · intensity``, the transpose of `product`.

        Parameters
        ----------
        map_gradient : ndarray, ``grid.shape``
            dO/dI of each voxel; values beyond ``grid.d_min`` do not count.

        Returns
        -------
        Displacements
            ``correlated`` in the form of V, or ``pairs`` in the order of V's, and ``independent``
            (n, 3, 3): derivatives by every element as if it were free, as
            `DisorderModel.pullback` takes them.
        """
        values = np.where(self.grid.within(), map_gradient, 0.0)
        total: Displacements | None = None
        for part, rotations in self._parts:
            lattice = part.pair_sum.lattice
            inverses = np.rint(np.linalg.inv(rotations)).astype(np.int64)
            nodes = np.empty(lattice.shape)
            _kernels.scatter_orbit(
                values, np.array(lattice.extent), self._own_grid.first_index, inverses, nodes
            )
            nodes[lattice.q_squared() > lattice.q_max**2 * (1 + 1e-9)] = 0.0
            own = part.gradient(nodes)
            total = own if total is None else total + own
        return Displacements() if total is None else total

    def gauss_newton_product(self, weights: FloatArray, direction: Displacements) -> Displacements:
        """``Jᵀ diag(weights) J dV``, J the derivative of the map by V: one product, one gradient.

        Parameters
        ----------
        weights : ndarray, ``grid.shape``
        direction : Displacements
        """
        change = self.product(direction)
        return self.gradient(np.where(np.isfinite(change), weights * change, 0.0))

    def _gathered(self, halves: list[FloatArray]) -> FloatArray:
        total = np.zeros(self.grid.shape)
        for half, (part, rotations) in zip(halves, self._parts, strict=True):
            total += gather(half, part.pair_sum.lattice, self._own_grid, rotations)
        total[~self.grid.within()] = np.nan
        return total
