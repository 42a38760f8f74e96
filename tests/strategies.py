"""Cells, structures and covariances to test with: hypothesis strategies and seeded builders.

Crystallographic coverage is meant: every crystal system, oblique and rhombohedral cells, groups
with screws, centring and axes that mix; covariances of any rank, isotropic and anisotropic.
"""

import numpy as np
from hypothesis import strategies as st

from offbragg import AtomicStructure
from offbragg.crystal.cell import Cell

# One cell and a few space groups of each crystal system [Å, degrees].
CRYSTALS = {
    "triclinic": (Cell(11.0, 13.0, 17.0, 82.0, 95.0, 104.0), ("P 1", "P -1")),
    "monoclinic": (Cell(12.0, 9.0, 15.0, 90.0, 112.0, 90.0), ("P 1 21 1", "C 1 2 1")),
    "orthorhombic": (Cell(9.0, 12.0, 16.0, 90.0, 90.0, 90.0), ("P 21 21 21", "I 2 2 2")),
    "tetragonal": (Cell(12.0, 12.0, 17.0, 90.0, 90.0, 90.0), ("P 41", "P 43 21 2")),
    "trigonal": (Cell(13.0, 13.0, 16.0, 90.0, 90.0, 120.0), ("P 31", "P 32 2 1")),
    "rhombohedral": (Cell(13.0, 13.0, 13.0, 75.0, 75.0, 75.0), ("R 3:R",)),
    "hexagonal": (Cell(13.0, 13.0, 16.0, 90.0, 90.0, 120.0), ("P 61", "R 3:H")),
    "cubic": (Cell(14.0, 14.0, 14.0, 90.0, 90.0, 90.0), ("P 2 3", "I 21 3")),
}
ALL_GROUPS = [
    (cell, group) for cell, groups in CRYSTALS.values() for group in groups if group != "P -1"
]
ELEMENTS = np.array(["C", "N", "O", "S"])


def cells(shortest=6.0, longest=40.0):
    """Cells of every crystal system; angles 65° to 115°, rhombohedral ones 50° to 110°."""
    edge = st.floats(shortest, longest)
    oblique = st.floats(65.0, 115.0)
    right = st.just(90.0)
    rhombohedral = st.tuples(edge, st.floats(50.0, 110.0)).map(
        lambda x: Cell(x[0], x[0], x[0], x[1], x[1], x[1])
    )
    return st.one_of(
        st.builds(Cell, edge, edge, edge, oblique, oblique, oblique),
        st.builds(Cell, edge, edge, edge, right, oblique, right),
        st.builds(Cell, edge, edge, edge, right, right, right),
        st.tuples(edge, edge).map(lambda x: Cell(x[0], x[0], x[1], 90.0, 90.0, 90.0)),
        st.tuples(edge, edge).map(lambda x: Cell(x[0], x[0], x[1], 90.0, 90.0, 120.0)),
        rhombohedral,
        edge.map(lambda a: Cell(a, a, a, 90.0, 90.0, 90.0)),
    )


def miller_indices(largest=12):
    """Integer hkl."""
    return st.tuples(*[st.integers(-largest, largest)] * 3)


def vectors(largest=20.0):
    """Cartesian vectors, finite and not denormal."""
    return st.tuples(*[st.floats(-largest, largest)] * 3).map(np.array)


def covariances(n_atoms, largest_u=1.0):
    """PSD covariances (n, n) or (n, n, 3, 3) [Å²] of any rank, from rigid to uncorrelated."""
    return st.builds(
        lambda seed, rank, u, anisotropic: random_covariance(
            np.random.default_rng(seed), n_atoms, u, rank, anisotropic=anisotropic
        ),
        st.integers(0, 2**20),
        st.integers(1, 3 * n_atoms),
        st.floats(1e-3, largest_u),
        st.booleans(),
    )


def structures(n_atoms=5):
    """Structures of a few atoms in every crystal system, seeded."""
    return st.builds(
        lambda seed, crystal: random_structure(
            np.random.default_rng(seed), n_atoms, crystal[0], crystal[1]
        ),
        st.integers(0, 2**20),
        st.sampled_from(ALL_GROUPS),
    )


def random_covariance(rng, n_atoms, u=0.2, rank=None, *, anisotropic=True):
    """A PSD covariance (n, n, 3, 3), or (n, n), whose mean diagonal element is u [Å²]."""
    size = 3 * n_atoms if anisotropic else n_atoms
    factor = rng.normal(size=(size, rank or size))
    matrix = factor @ factor.T
    matrix *= u * size / np.trace(matrix)
    if not anisotropic:
        return matrix
    return np.ascontiguousarray(matrix.reshape(n_atoms, 3, n_atoms, 3).transpose(0, 2, 1, 3))


def random_u(rng, n_atoms, u=0.2):
    """Positive definite U (n, 3, 3) of mean diagonal element u [Å²]."""
    factor = rng.normal(size=(n_atoms, 3, 3)) + np.eye(3)
    matrices = factor @ factor.transpose(0, 2, 1)
    return matrices * (3 * u / np.trace(matrices, axis1=1, axis2=2))[:, None, None]


def random_structure(rng, n_atoms, cell, space_group="P 1", u=0.2, spread=3.5):
    """Atoms in a blob off the centre of a cell, no two nearer than 1 Å; some half occupied."""
    positions = np.empty((0, 3))
    while len(positions) < n_atoms:
        trial = rng.normal(scale=spread, size=3)
        if len(positions) == 0 or np.linalg.norm(positions - trial, axis=1).min() > 1.0:
            positions = np.vstack([positions, trial])
    offset = Cell(*cell).orth_matrix @ np.array([0.31, 0.17, 0.23])
    return AtomicStructure(
        cell=cell,
        space_group=space_group,
        positions=positions + offset,
        elements=ELEMENTS[np.arange(n_atoms) % len(ELEMENTS)],
        occupancies=np.where(np.arange(n_atoms) % 5 == 4, 0.5, 1.0),
        u_aniso=random_u(rng, n_atoms, u),
        names=np.array([f"{e}{i}" for i, e in enumerate(ELEMENTS[np.arange(n_atoms) % 4])]),
        residue_names=np.full(n_atoms, "UNL"),
        residue_numbers=np.ones(n_atoms, dtype=np.int64),
        chains=np.full(n_atoms, "A"),
    )
