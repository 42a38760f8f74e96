"""Compiled loops of `group_response`: one scattering vector a task, single precision."""

# Numba infers the types of compiled loops.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, parallel=True, nogil=True, fastmath=True)
def group_response(q, re, im, packed, fields, window, out):
    """Fill out (n_q, n_numbers) with derivatives by the upper triangle of C."""
    n_q, n_copies, n_groups = re.shape
    n_fields = fields.shape[1]
    for iq in prange(n_q):
        total = np.zeros((3 * n_fields, 3 * n_fields), dtype=np.float32)
        row = np.empty(n_groups, dtype=np.float32)
        half = np.empty((n_groups, n_fields), dtype=np.float32)
        form = np.empty((n_fields, n_fields), dtype=np.float32)
        loss = np.empty(n_groups, dtype=np.float32)
        for copy in range(n_copies):
            x, y, z = q[iq, copy]
            half[:] = np.float32(0.0)
            loss[:] = np.float32(0.0)
            for r in range(n_groups):
                a, b = re[iq, copy, r], im[iq, copy, r]
                for s in range(r + 1):
                    row[s] = (
                        x * (x * packed[0, r, s] + y * packed[3, r, s] + z * packed[4, r, s])
                        + y * (y * packed[1, r, s] + z * packed[5, r, s])
                        + z * z * packed[2, r, s]
                    )
                for s in range(r + 1):
                    row[s] = np.exp(row[s])
                own = np.float32(0.0)
                for s in range(r):
                    overlap = a * re[iq, copy, s] + b * im[iq, copy, s]
                    change = overlap * row[s] - overlap
                    own += change
                    loss[s] += change
                    row[s] = overlap * row[s] * window[r, s]
                square = a * a + b * b
                loss[r] += own + square * row[r] - square
                row[r] = square * row[r] * window[r, r]
                # X is symmetric: every element below the diagonal goes to two rows of X B.
                for s in range(r):
                    value = row[s]
                    for k in range(n_fields):
                        half[r, k] += value * fields[s, k]
                        half[s, k] += value * fields[r, k]
                for k in range(n_fields):
                    half[r, k] += row[r] * fields[r, k]
            form[:] = np.float32(0.0)
            for r in range(n_groups):
                lost = loss[r] * window[r, r]
                for j in range(n_fields):
                    at_r = fields[r, j]
                    for k in range(j, n_fields):
                        form[j, k] += at_r * (half[r, k] - lost * fields[r, k])
            for j in range(n_fields):
                for k in range(j, n_fields):
                    value = form[j, k]
                    for first in range(3):
                        for second in range(3):
                            total[3 * j + first, 3 * k + second] += (
                                value * q[iq, copy, first] * q[iq, copy, second]
                            )
        number = 0
        for j in range(3 * n_fields):
            out[iq, number] = total[j, j]
            number += 1
            for k in range(j + 1, 3 * n_fields):
                out[iq, number] = np.float32(2.0) * total[j, k]
                number += 1
