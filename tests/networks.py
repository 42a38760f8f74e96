"""Structures for elastic networks: clusters, given places, a helix with its Cα."""

from dataclasses import replace

import numpy as np

from offbragg.crystal.structure import AtomicStructure
from offbragg.scattering.displacements import LowRank
from tests.oracles import blocks
from tests.strategies import CRYSTALS, random_structure

TRICLINIC = CRYSTALS["triclinic"][0]


def cluster(n=12, seed=1, **arguments):
    return random_structure(np.random.default_rng(seed), n, TRICLINIC, **arguments)


def made(positions, **arguments):
    """Carbon atoms at given places, U = 0.1 Å², each named."""
    n = len(positions)
    fields = {
        "cell": TRICLINIC,
        "space_group": "P 1",
        "positions": np.array(positions, dtype=float),
        "elements": np.full(n, "C"),
        "occupancies": np.ones(n),
        "u_aniso": np.tile(0.1 * np.eye(3), (n, 1, 1)),
        "names": np.array([f"C{i}" for i in range(n)]),
        "residue_names": np.full(n, "UNL"),
        "residue_numbers": np.ones(n, dtype=np.int64),
        "chains": np.full(n, "A"),
    }
    return AtomicStructure(**{**fields, **arguments})


def peptide(n_residues=14, seed=3, shift=0.0, chain="A"):
    """N, CA, C, O and a side-chain atom of residues along a helix, with one water."""
    rng = np.random.default_rng(seed)
    positions, names, numbers = [], [], []
    for residue in range(n_residues):
        angle = np.radians(100.0) * residue
        centre = np.array([2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * residue])
        for name in ("N", "CA", "C", "O", "CB"):
            offset = rng.uniform(-1.2, 1.2, 3)
            positions.append(centre if name == "CA" else centre + offset)
            names.append(name)
            numbers.append(residue + 1)
    positions.append([4.0, 1.0, 1.5 * n_residues / 2])
    n = len(positions)
    names, numbers = [*names, "O"], [*numbers, 100]
    elements = np.array([name[0] for name in names])
    is_water = np.array(numbers) == 100
    return made(
        np.array(positions) + shift,
        elements=elements,
        names=np.array(names),
        residue_names=np.where(is_water, "HOH", "ALA"),
        residue_numbers=np.array(numbers),
        chains=np.full(n, chain),
        u_aniso=rng.uniform(0.1, 0.5, n)[:, None, None] * np.eye(3),
    )


def joined(*structures):
    """Structures one after the other, as one."""
    names = (
        "positions", "elements", "occupancies", "u_aniso", "names", "residue_names",
        "residue_numbers", "chains", "altlocs", "copies",
    )  # fmt: skip
    arrays = {name: np.concatenate([getattr(s, name) for s in structures]) for name in names}
    return replace(structures[0], **arrays)


def dense_of(model, structure):
    v = model.displacements(structure).correlated
    return v.dense() if isinstance(v, LowRank) else v


def trace_of(v):
    own = blocks(v)[range(len(v)), range(len(v))]
    return np.trace(own, axis1=1, axis2=2)
