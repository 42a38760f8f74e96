"""Methods for scattered q at the nodes of a lattice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from offbragg.conventions import ComplexArray, FloatArray, IntArray
from offbragg.runtime import iter_chunks
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.scatterers import Scatterers


def evaluate_at_nodes(
    lattice: HalfLattice,
    scatterers: Scatterers,
    intensity: Callable[[FloatArray, FloatArray | ComplexArray], FloatArray],
    nodes_at_once: int,
) -> FloatArray | ComplexArray:
    """Evaluate an intensity at every node within q_max.

    Parameters
    ----------
    lattice : HalfLattice
    scatterers : Scatterers
    intensity : function of q (n_q, 3) and form factors (n_q, n_atoms), occupancies included
    nodes_at_once : int

    Returns
    -------
    ndarray, ``lattice.shape``
        As `offbragg.scattering.gaussian.diffuse_on_lattice` returns it: complex, even and odd
        part, with anomalous scattering.
    """
    is_anomalous = scatterers.wavelength is not None
    out: FloatArray | ComplexArray = (
        np.zeros(lattice.shape, dtype=np.complex128) if is_anomalous else np.zeros(lattice.shape)
    )
    flat = out.reshape(-1)
    for nodes, q in _chunks_of_q(lattice, nodes_at_once):
        table = scatterers.form_factors(np.einsum("qx,qx->q", q, q))
        f = (table[scatterers.index] * scatterers.occupancies[:, None]).T
        if is_anomalous:
            plus, minus = intensity(q, f), intensity(-q, f)
            flat[nodes] = 0.5 * (plus + minus) + 0.5j * (plus - minus)
        else:
            flat[nodes] = intensity(q, np.ascontiguousarray(f.real))
    return out


def _chunks_of_q(lattice: HalfLattice, nodes_at_once: int) -> Iterator[tuple[IntArray, FloatArray]]:
    """Flat indices of nodes within q_max, by rising |q|, and their q."""
    q_squared = lattice.q_squared().reshape(-1)
    inside = np.flatnonzero(q_squared <= lattice.q_max**2 * (1 + 1e-9))
    inside = inside[np.argsort(q_squared[inside], kind="stable")]
    for chunk in iter_chunks(len(inside), nodes_at_once):
        nodes = inside[chunk]
        x, y, z = np.unravel_index(nodes, lattice.shape)
        m = np.stack([x - lattice.extent[0], y - lattice.extent[1], z], axis=1)
        yield nodes, m.astype(np.float64) @ lattice.reciprocal_vectors
