"""Lattice vibrations: a harmonic crystal of rigid molecules, or of atoms, tied by springs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import ComplexArray, FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import ENGINE, DisorderModel, Parameter
from offbragg.disorder.contacts import SpringClasses
from offbragg.disorder.lattice_dynamics import CrystalNetwork, build_network
from offbragg.disorder.lattice_one_phonon import one_phonon_on_lattice
from offbragg.disorder.lattice_pairs import CrystalPairs, Images
from offbragg.disorder.network import KINDS, named_changes
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice

LEVELS = ("rigid", "atomic")
SCALES = ("overall", "absolute")
#: Cutoffs [Å] where none is given, by level.
DEFAULT_CUTOFFS = {"rigid": 6.0, "atomic": 7.0}


@dataclass(frozen=True, eq=False)
class LatticeVibrations(DisorderModel):
    r"""Thermal vibrations of a harmonic crystal with Born–von Kármán boundaries.

    .. math:: V_{i0,jL} = \frac{s}{N_k} \sum_{\mathbf k} [D^{-1}(\mathbf k)]_{ij}
              e^{-i \mathbf k \cdot \mathbf L}, \qquad
              I = \sum_{ijL} a_i^* a_j e^{i \mathbf q \cdot \mathbf L}
              \left[e^{\mathbf q^T V_{i0,jL} \mathbf q} - 1\right]

    The k grid is that of a period of ``n_cells``; at k = 0 the motion of the whole crystal (the
    acoustic modes) is left out. Nothing is weighted by mass. The unit is the whole cell,
    ``structure.to_p1()``: each copy of the asymmetric unit is a molecule.

    Attributes
    ----------
    n_cells : tuple of 3 int
        Cells of the period along a, b, c, the k grid: longer waves are left out.
    level : {"rigid", "atomic"}
        "rigid": each copy translates and librates about its centroid, six coordinates; springs
        tie atoms of different copies. "atomic": every atom moves, all contacts are springs. Where
        an atom has altlocs, springs go to the one of highest occupancy; "atomic": they move alike.
    kind : {"anm", "gnm"}
        "anm": springs along the contact. "gnm": isotropic springs.
    cutoff : float or None
        Longest springs [Å]. None: the last of ``distance_edges``; without these 6 ("rigid") or
        7 ("atomic").
    distance_edges : array_like, shape (n_classes,), or None
        Upper ends [Å] of classes of distance, increasing, the last the cutoff. None: one class.
    spring_constants : array_like, shape (n_classes,)
        Of each class [k_B T Å⁻²]; where V is scaled only their ratios count.
    internal_spring_constants : array_like, shape (n_classes,), or None
        "atomic": of the springs within a copy; None: as between copies.
    power : float
        A spring of length r has its class's constant times (r / 1 Å)^−power.
    scale : {"overall", "absolute"}
        "overall": one factor s, from ``Σ tr V_ii = Σ tr U_i`` of the structure. "absolute": s = 1.
    order : {"exact", 1}
        1: one phonon, ``I = s Σ_ij a_i* a_j qᵀ[D⁻¹(k = q)]_ij q``, with D⁻¹ at the map's own k and
        a_i damped by V_ii; at Bragg positions without the acoustic modes. Low against the exact
        form where q²V is not small.
    reach : float or None
        "exact": pairs further apart [Å] are taken as uncorrelated, which costs the sharpest part
        of the halos. None: all pairs of the period; the map's sampling must then divide
        ``n_cells``.

    Raises
    ------
    InputError
        If a field is none of the above; and where V is made, if the network is in pieces, more
        waves than the acoustic ones at k = 0 cost no energy, or two atoms with a spring coincide.

    Notes
    -----
    D(k) has (6 n_copies)² or (3 n_atoms)² elements and is inverted for half of the k grid. All of
    V_{i0,jL} for ``displacements`` takes 8 bytes × N_k × (n coordinates)²; its pairs are made as
    they are asked for. "exact" takes N_k n_atoms² Gaussians, or as many as ``reach`` leaves;
    one-phonon, "rigid": four transforms a copy, "atomic": 9 n_atoms² multiplications a voxel.

    References
    ----------
    .. [1] Born & Huang, Dynamical Theory of Crystal Lattices (1954), chapter V.
    .. [2] Meisburger, Case & Ando, Nat. Commun. 11, 1271 (2020): rigid molecules.

    Examples
    --------
    >>> LatticeVibrations((4, 4, 4)).coherent_unit
    <bound method LatticeVibrations.coherent_unit of LatticeVibrations(n_cells=(4, 4, 4), ...)>
    """

    n_cells: tuple[int, int, int]
    level: str = "rigid"
    kind: str = "anm"
    cutoff: float | None = None
    distance_edges: ArrayLike | None = None
    spring_constants: ArrayLike = 1.0
    internal_spring_constants: ArrayLike | None = None
    power: float = 0.0
    scale: str = "overall"
    order: str | int = "exact"
    reach: float | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        for name, known in (("level", LEVELS), ("kind", KINDS), ("scale", SCALES)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} must be one of {' '.join(known)}, got {getattr(self, name)!r}"
                )
        cells = np.asarray(self.n_cells)
        if cells.shape != (3,) or np.any(cells < 1) or np.any(cells != np.rint(cells)):
            raise InputError(f"n_cells must be three whole numbers >= 1, got {self.n_cells!r}")
        set_field(self, "n_cells", tuple(int(n) for n in cells))
        if self.order not in ("exact", 1) or isinstance(self.order, bool):
            raise InputError(f"order must be 'exact' or 1, got {self.order!r}")
        if self.reach is not None and not (np.isfinite(self.reach) and self.reach > 0):
            raise InputError(f"reach must be a positive number of Å, got {self.reach}")
        check = self.classes.check_constants
        set_field(self, "spring_constants", check("spring_constants", self.spring_constants))
        if self.internal_spring_constants is not None:
            name = "internal_spring_constants"
            if self.level == "rigid":
                raise InputError(f"{name} needs level='atomic': a rigid copy has no springs within")
            set_field(self, name, check(name, self.internal_spring_constants))

    @property
    def classes(self) -> SpringClasses:
        """Classes of distance of the springs; the last edge is the cutoff in use."""
        return SpringClasses.checked(
            self.cutoff, self.distance_edges, self.power, DEFAULT_CUTOFFS[self.level]
        )

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """The spring constants between copies, and within copies where these are their own."""
        constant = Parameter("kT/Å²", 1e-6, 1e6, np.shape(self.spring_constants))
        names = ["spring_constants"]
        if self.internal_spring_constants is not None:
            names.append("internal_spring_constants")
        return dict.fromkeys(names, constant)

    @property
    def is_truncated(self) -> bool:
        """Whether the intensity is the one-phonon approximation."""
        return self.order != "exact"

    @property
    def has_closed_form(self) -> bool:
        """True: motions reach across cells, no matrix over one unit's atoms holds them."""
        return True

    def coherent_unit(self, structure: AtomicStructure) -> AtomicStructure:
        """Return all atoms of the cell, copy after copy."""
        return structure.to_p1()

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return V_ii [Å²], and the pairs of the cell's atoms with those of all cells in reach.

        Parameters
        ----------
        structure : AtomicStructure
            All atoms of the cell, as `coherent_unit` gives them.
        """
        network = self._network(structure)
        images = Images(network, self.reach)
        covariances = network.covariances(images.vectors)
        covariances *= self._factor(network, covariances[0])
        return _displacements(network, images, covariances)

    def covariance_between(
        self, structure: AtomicStructure, lattice_vector: tuple[int, int, int]
    ) -> FloatArray:
        """Return ``V_{i0,jL} = ⟨δ_{i0} δ_{jL}ᵀ⟩`` [Å²] of atoms in cells 0 and L.

        Parameters
        ----------
        structure : AtomicStructure
            All atoms of the cell, as `coherent_unit` gives them.
        lattice_vector : 3 int
            L in cells; counts modulo ``n_cells``.

        Returns
        -------
        ndarray, shape (n_atoms, n_atoms, 3, 3)
        """
        network = self._network(structure)
        vectors = np.array([(0, 0, 0), lattice_vector], dtype=np.int64)
        covariances = network.covariances(vectors)
        every = np.arange(structure.n_atoms)
        v = network.at_atoms(covariances[1], every, every)
        return self._factor(network, covariances[0]) * v

    def dof_covariances(self, structure: AtomicStructure) -> FloatArray:
        """Return the covariances of the sites' coordinates, over the period.

        Parameters
        ----------
        structure : AtomicStructure
            All atoms of the cell, as `coherent_unit` gives them.

        Returns
        -------
        ndarray, shape (N_1, N_2, N_3, n_sites, n_sites, d, d)
            ``⟨x_{A0} x_{BL}ᵀ⟩`` at [L]. "rigid": copies, x = (t, λ) about the centroid, d = 6
            [Å², Å·rad, rad²]. "atomic": atoms (altlocs one), d = 3 [Å²].
        """
        network = self._network(structure)
        covariances = network.covariances(Images(network).vectors)
        covariances *= self._factor(network, covariances[0])
        n, d = network.bonds.n_sites, network.arms.shape[2]
        by_site = covariances.reshape(*self.n_cells, n, d, n, d)
        return np.ascontiguousarray(by_site.swapaxes(4, 5))

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return dV for a change of spring constants: ``independent`` and ``pairs``, in order."""
        shapes = {name: p.shape for name, p in self.refinable.items()}
        change = np.concatenate(list(named_changes(shapes, direction).values()))
        network = self._network(structure)
        images = Images(network, self.reach)
        moved = network.covariances(images.vectors, change)
        covariances = network.covariances(images.vectors)
        factor = self._factor(network, covariances[0])
        if self.scale == "overall":
            moved -= covariances * (_trace(network, moved[0]) / _trace(network, covariances[0]))
        return _displacements(network, images, factor * moved)

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return dO/d(spring constants) from dO/dV, the adjoint of `tangent`.

        Parameters
        ----------
        structure : AtomicStructure
        gradient : Displacements
            ``independent`` by V_ii, ``pairs`` by the covariance of each pair that
            `displacements` lists, in its order; either may be None.
        """
        network = self._network(structure)
        images = Images(network, self.reach)
        covariances = network.covariances(images.vectors)
        by_c = np.zeros_like(covariances)
        if gradient.pairs is not None:
            by_c += CrystalPairs(images, covariances).pull(gradient.pairs)
        if gradient.independent is not None:
            by_c[0] += network.from_own(gradient.independent)
        factor = self._factor(network, covariances[0])
        by_c *= factor
        if self.scale == "overall":
            # s falls as the trace of V_ii rises.
            every = np.broadcast_to(np.eye(3), (structure.n_atoms, 3, 3))
            work = float(np.sum(by_c * covariances)) / _trace(network, covariances[0])
            by_c[0] -= work * network.from_own(every)
        by_constants = network.pull(images.vectors, by_c)
        sizes = np.cumsum([np.prod(p.shape, dtype=int) for p in self.refinable.values()])
        parts = np.split(by_constants, sizes[:-1])
        return dict(zip(self.refinable, parts, strict=True))

    def diffuse_on_lattice(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        adps: str = "model",
        engine: Engine = ENGINE,
    ) -> FloatArray | ComplexArray:
        """Diffuse intensity [e²] of the cell: all pairs of the period, or one phonon.

        Raises
        ------
        InputError
            If the map's sampling does not divide ``n_cells`` and there is no ``reach``; or one
            phonon is wanted with the file's ADPs, means over voxels, a wavelength or exclusive
            altlocs.
        """
        if self.order == "exact":
            if self.reach is None and np.any(np.array(self.n_cells) % np.array(lattice.sampling)):
                raise InputError(
                    f"n_cells must be multiples of the map's sampling {tuple(lattice.sampling)}, "
                    f"got {self.n_cells}; or give a reach"
                )
            return super().diffuse_on_lattice(lattice, structure, adps, engine)
        for name, is_wrong in (
            ("adps='file'", adps != "model"),
            ("means over voxels", lattice.voxel is not None),
            ("a wavelength", engine.wavelength is not None),
            ("exclusive altlocs", engine.altlocs != "together"),
        ):
            if is_wrong:
                raise InputError(f"{name} needs order='exact', got order=1")
        network = self._network(structure)
        within = network.covariances(np.zeros((1, 3), dtype=np.int64))[0]
        factor = self._factor(network, within)
        u_aniso = factor * network.own(within)
        return factor * one_phonon_on_lattice(lattice, network, u_aniso, engine)

    def _network(self, unit: AtomicStructure) -> CrystalNetwork:
        if unit.space_group != "P 1":
            raise InputError(
                f"lattice vibrations are of all atoms of the cell, in P 1: give "
                f"coherent_unit(structure), got space group {unit.space_group}"
            )
        internal = self.internal_spring_constants
        constants = (
            np.asarray(self.spring_constants),
            None if internal is None else np.asarray(internal),
        )
        return build_network(
            unit,
            self.classes,
            constants,
            self.n_cells,
            rigid=self.level == "rigid",
            axial=self.kind == "anm",
        )

    def _factor(self, network: CrystalNetwork, within: FloatArray) -> float:
        """Return s, by which covariances for springs in kT are to be multiplied."""
        if self.scale == "absolute":
            return 1.0
        wanted = float(np.sum(np.trace(network.unit.u_aniso, axis1=1, axis2=2)))
        return max(wanted, 0.0) / _trace(network, within)


def _trace(network: CrystalNetwork, within: FloatArray) -> float:
    """Σ tr V_ii of all atoms."""
    return float(np.einsum("ixx->", network.own(within)))


def _displacements(
    network: CrystalNetwork, images: Images, covariances: FloatArray
) -> Displacements:
    return Displacements(
        independent=network.own(covariances[0]), pairs=CrystalPairs(images, covariances)
    )
