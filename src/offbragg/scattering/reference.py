"""The textbook sums, slow and plain: what the fast methods are checked against.

Imported by tests, benchmarks and docs only.
"""

from __future__ import annotations

import numpy as np

from offbragg.conventions import ComplexArray, FloatArray


def structure_factors(
    q: FloatArray, positions: FloatArray, form_factors: FloatArray, u_aniso: FloatArray
) -> ComplexArray:
    """F(q) = Σ_i f_i exp(i q·r_i − ½ qᵀU_i q), one q at a time.

    q (n_q, 3) [Å⁻¹], positions (n, 3) [Å], form_factors (n_q, n) [electrons],
    u_aniso (n, 3, 3) [Å²] → (n_q,) [electrons].
    """
    total = np.zeros(len(q), dtype=np.complex128)
    for iq, vector in enumerate(q):
        damping = np.exp(-0.5 * np.einsum("x,ixy,y->i", vector, u_aniso, vector))
        total[iq] = np.sum(form_factors[iq] * damping * np.exp(1j * positions @ vector))
    return total


def diffuse_intensity(
    q: FloatArray, positions: FloatArray, form_factors: FloatArray, covariance: FloatArray
) -> FloatArray:
    """I(q) = Σ_ij a_i* a_j [exp(qᵀV_ij q) − 1] with a_i = f_i exp(i q·r_i − ½ qᵀV_ii q).

    covariance (n, n, 3, 3) [Å²]; the others as above → (n_q,) [e²].
    """
    n = len(positions)
    intensity = np.zeros(len(q))
    for iq, vector in enumerate(q):
        x = np.einsum("x,ijxy,y->ij", vector, covariance, vector)
        amplitude = form_factors[iq] * np.exp(1j * positions @ vector - 0.5 * np.diag(x))
        terms = np.conj(amplitude)[:, None] * amplitude[None, :] * np.expm1(x)
        intensity[iq] = np.sum(terms).real
    return intensity if n else np.zeros(len(q))


def group_response(
    q: FloatArray,
    amplitudes: ComplexArray,
    covariance: FloatArray,
    fields: FloatArray,
    window: FloatArray,
) -> FloatArray:
    """∂I/∂C of ``dV_rs = w_rs Σ B_rα C_αβ B_sβ`` for groups that move as one atom does.

    q (n_q, n_copies, 3) [Å⁻¹], amplitudes (n_q, n_copies, n_groups), covariance
    (n_groups, n_groups, 3, 3) [Å²], fields (n_groups, m), window (n_groups, n_groups)
    → (n_q, 3m, 3m), by every element as if it were free.
    """
    n_fields = fields.shape[1]
    total = np.zeros((len(q), n_fields, 3, n_fields, 3))
    for iq, vectors in enumerate(q):
        for vector, f in zip(vectors, amplitudes[iq], strict=True):
            x = np.einsum("x,rsxy,y->rs", vector, covariance, vector)
            overlap = np.real(np.conj(f)[:, None] * f)
            inner = window * overlap * np.exp(x)
            inner -= np.diag(np.diag(window) * np.sum(overlap * np.expm1(x), axis=1))
            form = fields.T @ inner @ fields
            total[iq] += np.einsum("jk,a,b->jakb", form, vector, vector)
    return total.reshape(len(q), 3 * n_fields, 3 * n_fields)


def splat(
    grid_shape: tuple[int, int, int],
    centres: FloatArray,
    covariances: FloatArray,
    weights: FloatArray,
    n_images: int = 2,
) -> FloatArray:
    """Sum Gaussians and their periodic images on a grid, untruncated, in grid steps.

    centres (n, 3), covariances (n, 3, 3), weights (n,).
    """
    axes = [np.arange(n) for n in grid_shape]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(float)
    total = np.zeros(grid_shape)
    shifts = range(-n_images, n_images + 1)
    for centre, covariance, weight in zip(centres, covariances, weights, strict=True):
        inverse = np.linalg.inv(covariance)
        peak = weight / np.sqrt((2 * np.pi) ** 3 * np.linalg.det(covariance))
        for shift in np.stack(np.meshgrid(shifts, shifts, shifts), axis=-1).reshape(-1, 3):
            d = nodes - centre - shift * np.array(grid_shape)
            total += peak * np.exp(-0.5 * np.einsum("...x,xy,...y->...", d, inverse, d))
    return total
