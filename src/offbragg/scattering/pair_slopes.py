"""Derivatives by every second moment, gathered from those by the Gaussians of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.pair_terms import Kind, PairTerms
from offbragg.scattering.pairs import Pairs, PairValues, values_of


@dataclass(frozen=True, eq=False)
class PairSlopes:
    """Derivatives by every second moment, added up over Gaussians.

    u (n, 3, 3); v (n, n) or (n, n, 3, 3), or None; listed (n_pairs,) or (n_pairs, 3, 3), or None:
    by the covariances of ``pairs``.
    """

    u: FloatArray
    v: FloatArray | None
    listed: FloatArray | None
    pairs: Pairs | None

    @classmethod
    def of(cls, moves: Displacements, n_atoms: int) -> PairSlopes:
        """Nothing yet, in the form of some displacements."""
        return cls(
            np.zeros((n_atoms, 3, 3)),
            None if moves.correlated is None else np.zeros(moves.correlated.shape),
            None if moves.pairs is None else np.zeros_like(values_of(moves.pairs)),
            moves.pairs,
        )

    def add(self, terms: PairTerms, slopes: FloatArray) -> None:
        """Add what derivatives (n, 3, 3) by the Gaussians' covariances say."""
        if terms.kind is Kind.SELF:
            slopes = slopes * 2.0
        else:
            np.add.at(self.u, terms.second, terms.own_of_partner(slopes))
        np.add.at(self.u, terms.first, slopes)
        if terms.kind not in (Kind.RELATIVE, Kind.JOINT):
            return
        if self.listed is not None:
            self.listed[terms.listed] -= _in_form_of(self.listed, 2.0 * slopes)
        if self.v is not None:
            values = _in_form_of(self.v, slopes)
            self.v[terms.first, terms.second] -= values
            self.v[terms.second, terms.first] -= values

    def displacements(self) -> Displacements:
        """All of them; V_ii is part of ``correlated`` as well."""
        if self.pairs is not None and self.listed is not None:
            return Displacements(None, self.u, PairValues(self.pairs, self.listed))
        if self.v is not None:
            every = np.arange(len(self.u))
            self.v[every, every] += _in_form_of(self.v, self.u)
        return Displacements(self.v, self.u)


def _in_form_of(form: FloatArray, slopes: FloatArray) -> FloatArray:
    """Derivatives (n, 3, 3) by tensors, or their traces, by scalars, where those are wanted."""
    if form.shape[-2:] == (3, 3) and form.ndim in (3, 4):
        return slopes
    traces: FloatArray = np.trace(slopes, axis1=1, axis2=2)
    return traces
