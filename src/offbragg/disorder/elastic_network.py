"""Elastic networks of one copy or one cell: Gaussian (GNM) and anisotropic (ANM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.adp_scaling import SCALES, AdpScaling
from offbragg.disorder.base import DisorderModel, Parameter
from offbragg.disorder.bodies import lever_arms
from offbragg.disorder.contacts import SpringClasses, find_contacts
from offbragg.disorder.network import (
    KINDS,
    NO_STIFFNESS,
    Bonds,
    NullModesError,
    check_directions,
    inverse_root,
    make_bonds,
    named_changes,
    raise_if_in_pieces,
)
from offbragg.disorder.nodes import NODES, nodes_of
from offbragg.errors import InputError
from offbragg.scattering.displacements import (
    Displacements,
    LowRank,
    PairCovariance,
    as_blocks,
    as_scalars,
)

COHERENCES = ("asu", "cell")
#: Cutoffs [Å] where none is given, by kind and nodes.
DEFAULT_CUTOFFS = {
    ("gnm", "calpha"): 7.3,
    ("anm", "calpha"): 15.0,
    ("gnm", "all"): 5.0,
    ("anm", "all"): 7.0,
}
# Fewer modes than this share of all coordinates are found one by one, from the sparse matrix.
SPARSE_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class ElasticNetwork(DisorderModel):
    r"""Nodes tied by springs to their neighbours, in equilibrium: ``V = s H⁺``.

    .. math:: \text{GNM: } \Gamma_{ij} = -k_{ij},\; \Gamma_{ii} = \sum_j k_{ij},\;
              V_{ij} = s\,[\Gamma^+]_{ij} 1 \qquad
              \text{ANM: } H_{ij} = -k_{ij} \hat{\mathbf r}_{ij} \hat{\mathbf r}_{ij}^T,\;
              H_{ii} = -\sum_{j \ne i} H_{ij}

    Nothing is weighted by mass. Motions of the whole without energy (1 of the GNM, 6 of the ANM)
    are left out. The altlocs of an atom are one node, where the one of highest occupancy is, and
    move alike.

    Attributes
    ----------
    kind : {"gnm", "anm"}
        "gnm": isotropic springs, an isotropic V. "anm": springs along the contact.
    cutoff : float or None
        Longest springs [Å]. None: the last of ``distance_edges``; without these 7.3 (GNM, Cα),
        15 (ANM, Cα), 5 (GNM, all atoms) or 7 (ANM, all atoms).
    nodes : {"all", "calpha"}
        "all": every atom. "calpha": the Cα atoms; the atoms of a residue are displaced as its
        Cα is, any other atom (water, ligand) as the nearest Cα.
    distance_edges : array_like, shape (n_classes,), or None
        Upper ends [Å] of classes of distance, increasing, the last the cutoff. None: one class.
    spring_constants : array_like, shape (n_classes,)
        Of each class [k_B T Å⁻²]; where V is scaled only their ratios count.
    power : float
        A spring of length r has its class's constant times (r / 1 Å)^−power; 2 is the
        parameter-free ANM, commonly with a cutoff that takes all pairs in.
    scale : {"overall", "per-atom", "absolute"}
        "overall": one factor s, from ``Σ tr V_ii = Σ tr U_i`` of the structure. "per-atom":
        ``V_ij → c_i V_ij c_j`` with ``tr V_ii = tr U_i`` for every atom. "absolute": s = 1.
    n_modes : int or None
        Softest modes taken, ``V = s Σ_m e_m e_mᵀ / λ_m``. What it leaves out are the stiff modes:
        V is too small by ``Σ_{m > n_modes} e_m e_mᵀ / λ_m``, mostly next to the diagonal; with
        ``scale="overall"`` the rest is scaled up for it. None: all.
    coherence : {"asu", "cell"}
        Which atoms are one network: one copy, or all copies in one cell as placed by
        `AtomicStructure.to_p1` (actual distances, none across the cell's borders: for these see
        `LatticeVibrations`).

    Raises
    ------
    InputError
        If a field is none of the above; and where V is made, if the network is in pieces or has
        more motions without energy, two nodes of an ANM coincide, or there is no Cα.

    Notes
    -----
    Time O(n_nodes³) (0.5 s at 1500 coordinates, 20 s at 6000, on two cores), memory a few matrices
    of all coordinates; with few ``n_modes`` about linear in the nodes. A common factor on all
    spring constants changes nothing where V is scaled. Derivatives with ``n_modes`` take a full
    diagonalisation, and need a gap between the modes taken and left out.

    References
    ----------
    .. [1] Bahar, Atilgan & Erman, Fold. Des. 2, 173 (1997): GNM.
    .. [2] Atilgan et al., Biophys. J. 80, 505 (2001): ANM.
    .. [3] Yang, Song & Jernigan, Proc. Natl Acad. Sci. USA 106, 12347 (2009): power 2.

    Examples
    --------
    >>> ElasticNetwork(kind="gnm", nodes="calpha").classes.cutoff
    7.3
    """

    kind: str = "anm"
    cutoff: float | None = None
    nodes: str = "all"
    distance_edges: ArrayLike | None = None
    spring_constants: ArrayLike = 1.0
    power: float = 0.0
    scale: str = "overall"
    n_modes: int | None = None
    coherence: str = "asu"

    def __post_init__(self) -> None:
        for name, known in (
            ("kind", KINDS),
            ("nodes", NODES),
            ("scale", SCALES),
            ("coherence", COHERENCES),
        ):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} must be one of {' '.join(known)}, got {getattr(self, name)!r}"
                )
        if self.n_modes is not None and not (
            isinstance(self.n_modes, int | np.integer) and self.n_modes >= 1
        ):
            raise InputError(f"n_modes must be a whole number >= 1, got {self.n_modes!r}")
        constants = self.classes.check_constants("spring_constants", self.spring_constants)
        object.__setattr__(self, "spring_constants", constants)

    @property
    def classes(self) -> SpringClasses:
        """Classes of distance of the springs; the last edge is the cutoff in use."""
        default = DEFAULT_CUTOFFS[self.kind, self.nodes]
        return SpringClasses.checked(self.cutoff, self.distance_edges, self.power, default)

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """The spring constants, one a class of distance."""
        shape = np.shape(self.spring_constants)
        return {"spring_constants": Parameter("kT/Å²", 1e-6, 1e6, shape)}

    def coherent_unit(self, structure: AtomicStructure) -> AtomicStructure:
        """Return one copy, or all copies of the cell."""
        return structure.to_p1() if self.coherence == "cell" else structure

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the covariance [Å²] of the network's thermal motion, scaled.

        As its factor where that is much smaller than the matrix: few modes, or few nodes.
        """
        network = _Network(self, structure)
        factors = network.scaling().factors
        shape = (len(factors),) + (1,) * (network.root.ndim - 1)
        root = network.root[network.node_of_atom] * factors.reshape(shape)
        if 3 * root.shape[-1] <= root.size // root.shape[-1]:
            return Displacements(LowRank(root))
        return Displacements(LowRank(root).dense())

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return dV for a change of spring constants, ``dW = −W dH W``, with that of the scale."""
        constants = np.asarray(self.spring_constants)
        change = named_changes({"spring_constants": constants.shape}, direction)
        network = _Network(self, structure)
        d_stiffness = network.bonds.stiffness(change["spring_constants"]).toarray()
        d_nodes = network.blocks(network.differentiate(d_stiffness))
        d_atoms = d_nodes[np.ix_(network.node_of_atom, network.node_of_atom)]
        return Displacements(network.scaling().tangent(d_atoms))

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return dO/d(spring constants) from dO/dV, the adjoint of `tangent`."""
        n_constants = len(np.asarray(self.spring_constants))
        if gradient.correlated is None:
            return {"spring_constants": np.zeros(n_constants)}
        network = _Network(self, structure)
        by_v = gradient.correlated
        by_v = by_v.dense() if isinstance(by_v, PairCovariance) else by_v
        by_v = as_scalars(by_v) if self.kind == "gnm" else as_blocks(by_v)
        by_nodes = _folded(network.scaling().pullback(by_v), network.node_of_atom)
        matrix = network.matrix(by_nodes)
        by_stiffness = network.differentiate((matrix + matrix.T) / 2)
        return {"spring_constants": network.bonds.pull(by_stiffness[None], n_constants)}


class _Network:
    """The network of one structure: nodes, springs, and the modes of their stiffness.

    W, the unscaled covariance of the nodes, is ``root rootᵀ`` with root (n_nodes, k), or
    (n_nodes, 3, k).
    """

    def __init__(self, model: ElasticNetwork, structure: AtomicStructure) -> None:
        self.model, self.structure = model, structure
        self.node_of_atom, self.atom_of_node = nodes_of(structure, model.nodes)
        n = len(self.atom_of_node)
        if n < 2:
            raise InputError(f"an elastic network needs at least 2 nodes, got {n}")
        positions = structure.positions[self.atom_of_node]
        contacts = find_contacts(positions, model.classes.cutoff)
        if model.kind == "anm" or model.power != 0:
            check_directions(contacts, structure, self.atom_of_node)
        self.width = 3 if model.kind == "anm" else 1
        unit = np.broadcast_to(np.eye(self.width), (n, self.width, self.width))
        self.bonds: Bonds = make_bonds(
            contacts, model.classes, np.arange(n), unit, n, axial=model.kind == "anm"
        )
        raise_if_in_pieces(self.bonds, structure, self.atom_of_node)
        self.free = _rigid_motions(positions) if model.kind == "anm" else np.full((n, 1), n**-0.5)

    @cached_property
    def root(self) -> FloatArray:
        """Factor of W, by all or by the softest modes."""
        model = self.model
        stiffness = self.bonds.stiffness(np.asarray(model.spring_constants))
        if model.n_modes is None:
            try:
                root = inverse_root(stiffness.toarray(), self.free)
            except NullModesError:
                values, vectors = np.linalg.eigh(stiffness.toarray())
                raise self._floppy(values, vectors) from None
        else:
            values, vectors = self._softest(stiffness, model.n_modes)
            root = vectors / np.sqrt(values)
        n = self.bonds.n_sites
        return root.reshape(n, -1) if self.width == 1 else root.reshape(n, 3, -1)

    def _softest(self, matrix: Any, n_modes: int) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues and vectors of the softest modes that cost energy."""
        size, n_free = self.bonds.n_coordinates, self.free.shape[1]
        if n_modes > size - n_free:
            raise InputError(f"n_modes must be at most {size - n_free}, got {n_modes}")
        count = n_modes + n_free
        if count < SPARSE_SHARE * size:
            # Beside zero, so that the factorised matrix is not singular.
            shift = -1e-6 * float(matrix.trace()) / size
            start = np.cos(np.arange(size, dtype=np.float64))
            values, vectors = scipy.sparse.linalg.eigsh(
                matrix.tocsc(), k=count, sigma=shift, which="LM", v0=start
            )
            order = np.argsort(values)
            values, vectors = values[order], vectors[:, order]
        else:
            values, vectors = scipy.linalg.eigh(matrix.toarray(), subset_by_index=(0, count - 1))
        if values[n_free] < NO_STIFFNESS * float(matrix.trace()) / size:
            raise self._floppy(values, vectors)
        return values[n_free:], vectors[:, n_free:]

    def _floppy(self, values: FloatArray, vectors: FloatArray) -> InputError:
        """What to say of a network with further motions without energy: the atom that has most."""
        level = float(self.bonds.stiffness(np.asarray(self.model.spring_constants)).trace())
        none = values < NO_STIFFNESS * level / self.bonds.n_coordinates
        motions = vectors[:, none]
        motions = motions - self.free @ (self.free.T @ motions)
        amplitudes = np.sum(motions.reshape(self.bonds.n_sites, -1) ** 2, axis=1)
        worst = int(np.argmax(amplitudes))
        n_springs = int(np.sum(self.bonds.first == worst) + np.sum(self.bonds.second == worst))
        return InputError(
            f"the network is under-constrained: {int(none.sum())} motions cost no energy, expected "
            f"{self.free.shape[1]}; atom {self.structure.label(self.atom_of_node[worst])} has "
            f"too few springs ({n_springs}); raise the cutoff or leave it out"
        )

    def differentiate(self, x: FloatArray) -> FloatArray:
        """Derivative of W along a symmetric change x of the stiffness; its own adjoint."""
        size = self.bonds.n_coordinates
        if self.model.n_modes is None:
            root = self.root.reshape(size, -1)
            w = root @ root.T
            return -w @ x @ w
        stiffness = self.bonds.stiffness(np.asarray(self.model.spring_constants)).toarray()
        values, vectors = np.linalg.eigh(stiffness)
        kept = np.arange(size) - self.free.shape[1]
        kept = (kept >= 0) & (kept < self.model.n_modes)
        # Divided differences of f(λ) = 1/λ for modes taken, 0 for modes left out. Springs hold no
        # free motion, so what stands for these does not matter.
        inverse = np.where(kept, 1.0 / np.where(kept, values, 1.0), 0.0)
        gaps = values[:, None] - values
        between = kept[:, None] != kept
        slopes = -np.outer(inverse, inverse)
        slopes[between] = ((inverse[:, None] - inverse) / np.where(between, gaps, 1.0))[between]
        change: FloatArray = vectors @ (slopes * (vectors.T @ x @ vectors)) @ vectors.T
        return change

    def scaling(self) -> AdpScaling:
        """Factors that bring W to the size of the structure's ADPs."""
        own = LowRank(self.root).diagonal()[self.node_of_atom]
        own = 3 * own if self.width == 1 else np.trace(own, axis1=1, axis2=2)
        wanted = np.trace(self.structure.u_aniso, axis1=1, axis2=2)
        covariance = LowRank(self.root[self.node_of_atom])
        return AdpScaling(self.model.scale, wanted, own, covariance)

    def blocks(self, matrix: FloatArray) -> FloatArray:
        """A matrix of all coordinates as (n, n), or (n, n, 3, 3)."""
        n = self.bonds.n_sites
        if self.width == 1:
            return matrix
        return np.ascontiguousarray(matrix.reshape(n, 3, n, 3).transpose(0, 2, 1, 3))

    def matrix(self, blocks: FloatArray) -> FloatArray:
        """The opposite of `blocks`."""
        if self.width == 1:
            return blocks
        return blocks.transpose(0, 2, 1, 3).reshape(3 * len(blocks), -1)


def _folded(gradient: FloatArray, node_of_atom: IntArray) -> FloatArray:
    """Sum a gradient over atoms to one over nodes."""
    n = int(node_of_atom.max()) + 1
    if n == len(node_of_atom):
        # Nodes are numbered in the order of their first atoms.
        return gradient
    rows = np.zeros((n, *gradient.shape[1:]))
    np.add.at(rows, node_of_atom, gradient)
    both = np.zeros((n, n, *gradient.shape[2:]))
    np.add.at(both.swapaxes(0, 1), node_of_atom, rows.swapaxes(0, 1))
    return both


def _rigid_motions(positions: FloatArray) -> FloatArray:
    """Orthonormal translations and rotations (3 n, 6), 5 where all points are in line."""
    arms = lever_arms(positions - positions.mean(axis=0)).reshape(-1, 6)
    left, values, _ = np.linalg.svd(arms / np.linalg.norm(arms, axis=0).clip(1e-12), False)
    basis: FloatArray = left[:, values > 1e-6 * values[0]]
    return basis
