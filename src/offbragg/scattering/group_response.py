r"""How diffuse intensities answer to smooth changes of the covariance of groups of atoms.

Groups (residues, say) r with amplitudes ``F_r(q) = Σ_{i∈r} f_i exp(iq·r_i − ½ qᵀV_ii q)`` and
covariances V_rs of their displacements scatter

.. math:: I = \sum_{rs} F_r^* F_s \left[e^{q^T V_{rs} q} - 1\right] + \ldots

up to what atoms do within groups. For a change in a basis of fields,
``dV_rs = w_rs Σ_{αβ} B_rα C_{αβ} B_sβ``, with every atom of a group moving alike,

.. math:: \frac{\partial I}{\partial C_{\alpha a, \beta b}} = q_a q_b \sum_{rs} B_{r\alpha}
          \left[w_{rs} X_{rs} - \delta_{rs} w_{rr} Y_r\right] B_{s\beta},

with ``X_rs = Re(F_r* F_s) exp(qᵀV_rs q)`` and ``Y_r = Re Σ_s F_r* F_s (exp(qᵀV_rs q) − 1)``. It is
exact where each group is one atom.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.scattering import _response_kernels


def group_response(
    q: ArrayLike,
    amplitudes: ArrayLike,
    covariance: ArrayLike,
    fields: ArrayLike,
    window: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """Derivatives of diffuse intensities by the covariance of groups, in a basis of fields.

    Parameters
    ----------
    q : array, shape (n_q, n_copies, 3)
        Scattering vectors [Å⁻¹], 2π included; of all copies whose intensities add up.
    amplitudes : array, shape (n_q, n_copies, n_groups), complex
        F_r, damped [electrons].
    covariance : array, shape (n_groups, n_groups, 3, 3)
        V_rs [Å²].
    fields : array, shape (n_groups, n_fields)
        B, without unit.
    window : array, shape (n_groups, n_groups), optional
        w, symmetric; 1 where not given.

    Returns
    -------
    ndarray, shape (n_q, n_numbers), float32
        By the upper triangle of C, (3 n_fields, 3 n_fields) with index 3α + a, row by row, each
        off-diagonal number in both its places [e² / Å²].

    Raises
    ------
    InputError
        If a shape does not match.

    Notes
    -----
    Time is O(n_q n_copies n_groups² n_fields), in single precision: about 1e-6 of the largest
    term. ``reference.group_response`` is the plain sum.

    Examples
    --------
    One atom that moves along x: I = f² (1 − exp(−q²u)), dI/du = f² q² exp(−q²u).

    >>> covariance = np.zeros((1, 1, 3, 3))
    >>> covariance[0, 0, 0, 0] = 0.1
    >>> damped = 6.0 * np.exp(-0.5 * 4.0 * 0.1)
    >>> found = group_response([[[2.0, 0, 0]]], [[[damped]]], covariance, [[1.0]])
    >>> round(float(found[0, 0]), 3), round(float(36 * 4 * np.exp(-0.4)), 3)
    (96.526, 96.526)
    """
    q = np.ascontiguousarray(q, dtype=np.float32)
    amplitudes = np.asarray(amplitudes)
    fields = np.ascontiguousarray(fields, dtype=np.float32)
    covariance = np.asarray(covariance, dtype=np.float64)
    n_groups, n_fields = fields.shape
    weights = np.ones((n_groups, n_groups)) if window is None else np.asarray(window)
    for name, array, shape in (
        ("q", q, (*amplitudes.shape[:2], 3)),
        ("amplitudes", amplitudes, (*amplitudes.shape[:2], n_groups)),
        ("covariance", covariance, (n_groups, n_groups, 3, 3)),
        ("window", weights, (n_groups, n_groups)),
    ):
        if array.shape != shape:
            raise InputError(f"{name} must be {shape}, got {array.shape}")
    n_numbers = 3 * n_fields * (3 * n_fields + 1) // 2
    out = np.empty((len(q), n_numbers), dtype=np.float32)
    _response_kernels.group_response(
        q,
        np.ascontiguousarray(amplitudes.real, dtype=np.float32),
        np.ascontiguousarray(amplitudes.imag, dtype=np.float32),
        _packed(covariance),
        fields,
        np.ascontiguousarray(weights, dtype=np.float32),
        out,
    )
    return out


def _packed(covariance: FloatArray) -> NDArray[np.float32]:
    """Symmetric parts as (6, n, n): xx yy zz, and twice xy xz yz."""
    both = covariance + covariance.transpose(0, 1, 3, 2)
    rows, columns = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    factors = np.array([0.5, 0.5, 0.5, 1.0, 1.0, 1.0])
    parts = both[:, :, rows, columns].transpose(2, 0, 1)
    return np.ascontiguousarray(parts * factors[:, None, None], dtype=np.float32)
