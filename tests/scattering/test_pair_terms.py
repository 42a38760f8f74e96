"""The Gaussians of a diffuse intensity, block by block: their plain sum against double sums."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.lattice_oracles import (
    complex_form_factors,
    joint_of_altlocs,
    mean_phases,
    pair_intensity,
    whole_covariance,
)
from tests.oracles import form_factors
from tests.strategies import CRYSTALS, random_covariance, random_structure, random_u

from offbragg.errors import InputError
from offbragg.scattering import _kernels, pair_terms
from offbragg.scattering.displacements import Displacements, LowRank
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pair_terms import Kind, PairSum, PairTerms, voxel_weights
from offbragg.scattering.pairs import PairBlock, Pairs
from offbragg.scattering.scatterers import Scatterers

ROUNDING = 1e-11  # of (Σf)²: sums of n² terms in another order
CLOSED_FORM = 1e-7  # of the largest eigenvalue: the arc cosine near degenerate ones
CELL = CRYSTALS["triclinic"][0]
LATTICE = HalfLattice(CELL, (2, 1, 3), (6, 5, 9), 3.0)
# Edges of a voxel turned by an operation of hexagonal axes: oblique in hkl.
VOXEL = np.array([[0.5, -0.5, 0.0], [0.0, 1.0, 0.0], [0.1, 0.0, 1 / 3]])
WAVELENGTH = 1.7
N = 9
STRUCTURE = random_structure(np.random.default_rng(5), N, CELL)
# Two residues with altlocs, one that may be missing; three atoms in no group.
GROUPS = np.array([0, 0, 0, -1, 1, 1, -1, 1, -1])
ALTERNATIVES = np.array([0, 0, 1, 0, 0, 1, 0, 1, 0])
OCCUPANCIES = np.array([0.6, 0.6, 0.4, 1.0, 0.5, 0.3, 0.7, 0.3, 1.0])


def moves(kind, rng):
    """Displacements of N atoms."""
    correlated = {
        "isotropic": random_covariance(rng, N, 0.2, anisotropic=False),
        "anisotropic": random_covariance(rng, N, 0.2),
        "scalar factor": LowRank(0.3 * rng.normal(size=(N, 2))),
        "tensor factor": LowRank(0.3 * rng.normal(size=(N, 3, 2))),
        "independent": None,
    }[kind]
    return Displacements(correlated, random_u(rng, N, 0.1))


def pair_sum_of(kind, *, seed=0, exclusive=False, wavelength=None, **options):
    lattice = replace(LATTICE, voxel=options.pop("voxel", None))
    groups = (GROUPS, ALTERNATIVES) if exclusive else (None, None)
    scatterers = Scatterers(
        STRUCTURE.positions, STRUCTURE.elements, OCCUPANCIES, wavelength, *groups
    )
    return PairSum(lattice, scatterers, moves(kind, np.random.default_rng(seed)), **options)


def some_q(n=7, seed=3):
    return np.random.default_rng(seed).normal(scale=1.5, size=(n, 3))


def factors_at(pair_sum, q):
    """f (n_q, n_atoms) without occupancies."""
    s = pair_sum.scatterers
    if s.wavelength is None:
        return form_factors(s.elements, q)
    return complex_form_factors(s.elements, q, s.wavelength)


def evaluate(pair_sum, q, classes=None):
    """The sum of the terms themselves: Σ w Re(f_a f_b* e^{iq·r}) exp(−½ qᵀC q)."""
    s = pair_sum.scatterers
    f = factors_at(pair_sum, q)
    of = {name: f[:, list(s.elements).index(name)] for name in s.names}
    products = [of[s.names[a]] * of[s.names[b]].conj() for a, b in s.pair_classes]
    classes = range(len(products)) if classes is None else classes
    total = sum(products[c].real * pair_sum.constants()[c] for c in classes)
    for terms in pair_sum.terms(classes):
        c = np.zeros((len(terms.least), 3, 3))
        for entry, (x, y) in enumerate(zip(*np.triu_indices(3), strict=True)):
            c[:, x, y] = c[:, y, x] = terms.covariances[:, entry]
        gaussians = np.exp(-0.5 * np.einsum("qx,nxy,qy->qn", q, c, q))
        waves = np.exp(1j * q @ terms.separations.T)
        total = (
            total + (products[terms.pair_class][:, None] * waves * gaussians).real @ terms.weights
        )
    if pair_sum.subtracts_bragg:
        waves = np.exp(1j * q @ s.positions.T)
        waves *= np.exp(-0.5 * np.einsum("qx,nxy,qy->qn", q, pair_sum.u_aniso, q))
        total = total - np.abs((f * waves) @ s.occupancies) ** 2
    return total


def expected(pair_sum, q):
    s, lattice = pair_sum.scatterers, pair_sum.lattice
    phases = None
    if lattice.voxel is not None:
        separations = s.positions[:, None] - s.positions[None]
        phases = mean_phases(separations, lattice.cell, lattice.voxel)
    joint = None
    if s.groups is not None:
        joint = joint_of_altlocs(s.occupancies, s.groups, s.alternatives)
    v = whole_covariance(pair_sum.displacements, len(s))
    return pair_intensity(q, s.positions, factors_at(pair_sum, q), v, s.occupancies, joint, phases)


def scale_of(pair_sum):
    return np.sum(np.abs(factors_at(pair_sum, np.zeros((1, 3))))) ** 2


class Listed(Pairs):
    """The pairs of a covariance within one unit, both orders, in blocks of a few."""

    def __init__(self, positions, v, turns=None, operation=0, at_once=7):
        self.positions, self.v, self.at_once, self.operation = positions, v, at_once, operation
        self._turns = np.eye(3)[None] if turns is None else turns

    @property
    def is_isotropic(self):
        return self.v.ndim == 2

    @property
    def turns(self):
        return self._turns

    def blocks(self):
        i, j = np.nonzero(~np.eye(len(self.v), dtype=bool))
        for start in range(0, len(i), self.at_once):
            a, b = i[start : start + self.at_once], j[start : start + self.at_once]
            yield PairBlock(
                a, b, np.full(len(a), self.operation), self.positions[a] - self.positions[b],
                self.v[a, b],
            )  # fmt: skip


# --- 1 reference numbers -------------------------------------------------


def test_weights_of_atoms_with_themselves_by_hand():
    together = pair_sum_of("isotropic")
    exclusive = pair_sum_of("isotropic", exclusive=True)
    s = together.scatterers
    carbon = s.pair_classes.index((s.names.index("C"), s.names.index("C")))
    # C: atoms 0, 4, 8; of them 0 and 4 in groups, ⟨n²⟩ = ⟨n⟩.
    assert together.constants()[carbon] == pytest.approx(0.6**2 + 0.5**2 + 1)
    assert exclusive.constants()[carbon] == pytest.approx(0.6 + 0.5 + 1)
    mixed = [n for n, (a, b) in enumerate(s.pair_classes) if a != b]
    assert not together.constants()[mixed].any()


def test_two_atoms_by_hand():
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    s = Scatterers(positions, np.array(["N", "C"]), np.array([1.0, 0.5]))
    v = np.array([[0.2, 0.05], [0.05, 0.4]])
    (terms,) = (t for t in PairSum(LATTICE, s, Displacements(v)).terms(range(3)) if len(t.least))
    assert terms.kind is Kind.RELATIVE
    # Class (C, N): carbon, atom 1, comes first.
    assert (terms.first[0], terms.second[0]) == (1, 0)
    assert_allclose(terms.separations, [[1.0, 2.0, 3.0]])
    assert_allclose(terms.covariances, [[0.5, 0, 0, 0.5, 0, 0.5]])
    assert_allclose([terms.least[0], terms.weights[0]], [0.5, 1.0])


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["isotropic", "anisotropic", "scalar factor", "tensor factor", "independent"]
)
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("voxel", [None, VOXEL])
@pytest.mark.parametrize("wavelength", [None, WAVELENGTH])
def test_the_terms_sum_to_the_intensity(kind, exclusive, voxel, wavelength):
    q = some_q()
    for by_pairs in (False, True):
        found = pair_sum_of(
            kind, exclusive=exclusive, voxel=voxel, wavelength=wavelength, by_pairs=by_pairs
        )
        assert_allclose(evaluate(found, q), expected(found, q), rtol=0,
                        atol=ROUNDING * scale_of(found))  # fmt: skip


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("wavelength", [None, WAVELENGTH])
@pytest.mark.parametrize("voxel", [None, VOXEL])
def test_listed_pairs_of_one_unit_are_its_covariance(kind, wavelength, voxel):
    within = pair_sum_of(kind, voxel=voxel, wavelength=wavelength)
    v = within.displacements.correlated
    listed = Displacements(
        independent=within.displacements.u_aniso(N), pairs=Listed(STRUCTURE.positions, v)
    )
    across = replace(within, displacements=listed)
    q = some_q()
    assert not across.subtracts_bragg
    # A unit's rows alone: real part, which is what a half lattice and its copies keep.
    assert_allclose(evaluate(across, q), expected(within, q), rtol=0,
                    atol=ROUNDING * scale_of(within))  # fmt: skip


def test_the_motion_of_a_partner_turns_with_its_copy():
    # Partners in copies turned by a third about [111]: x → y → z → x.
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    u = random_u(np.random.default_rng(2), N, 0.1)
    v = 0.02 * random_covariance(np.random.default_rng(4), N, 1.0)
    pairs = Listed(STRUCTURE.positions, v, np.stack([np.eye(3), turn]), operation=1)
    across = PairSum(LATTICE, pair_sum_of("isotropic").scatterers,
                     Displacements(independent=u, pairs=pairs))  # fmt: skip
    for terms in across.terms(range(10)):
        if terms.kind is Kind.SELF:
            continue
        i, j = terms.first, terms.second
        c = u[i] + turn @ u[j] @ turn.T
        if terms.kind is Kind.RELATIVE:
            c = c - v[i, j] - v[i, j].transpose(0, 2, 1)
        assert_allclose(terms.covariances, c[:, *np.triu_indices(3)], atol=ROUNDING)
        assert_allclose(terms.least, np.linalg.eigvalsh(c)[:, 0], atol=CLOSED_FORM)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(seed=st.integers(0, 9999), rank=st.integers(1, 3), scale=st.sampled_from([1e-6, 1.0, 50.0]))
def test_least_eigenvalues_are_those_of_lapack(seed, rank, scale):
    factor = np.random.default_rng(seed).normal(size=(20, 3, rank)) * np.sqrt(scale)
    matrices = factor @ factor.transpose(0, 2, 1)
    matrices[::5] = scale * np.eye(3)
    found = _kernels.least_eigenvalues(np.ascontiguousarray(matrices[:, *np.triu_indices(3)]))
    values = np.linalg.eigvalsh(matrices)
    assert np.max(np.abs(found - values[:, 0]) / values[:, 2]) < CLOSED_FORM


def test_weights_over_voxels_are_means_of_phases():
    lattice = replace(LATTICE, voxel=VOXEL)
    p = STRUCTURE.positions
    separations = p[:, None] - p[None]
    found = voxel_weights(lattice, separations.reshape(-1, 3)).reshape(N, N)
    assert_allclose(found, mean_phases(separations, CELL, VOXEL), atol=ROUNDING)


# --- 3 exact limits ------------------------------------------------------


def test_full_occupancies_leave_nothing_to_exclude():
    # One alternative of occupancy 1: always there.
    s = Scatterers(STRUCTURE.positions, STRUCTURE.elements, np.ones(N), None,
                   np.zeros(N, dtype=np.int64), np.zeros(N, dtype=np.int64))  # fmt: skip
    found = PairSum(LATTICE, s, moves("anisotropic", np.random.default_rng(0)))
    joint = [t for t in found.terms(range(10)) if t.kind is Kind.JOINT]
    assert joint
    assert all(not t.weights.any() for t in joint)


def test_atoms_in_no_group_are_as_together():
    plain = pair_sum_of("isotropic")
    s = replace(plain.scatterers, groups=np.full(N, -1), alternatives=np.zeros(N, dtype=np.int64))
    none = replace(plain, scatterers=s)
    q = some_q()
    assert_array_equal(evaluate(none, q), evaluate(plain, q))


def test_the_uncorrelated_part_is_taken_off_as_f_squared_only_where_that_is_the_same():
    assert pair_sum_of("isotropic").subtracts_bragg
    assert not pair_sum_of("isotropic", by_pairs=True).subtracts_bragg
    assert not pair_sum_of("isotropic", voxel=VOXEL).subtracts_bragg
    assert not pair_sum_of("independent").subtracts_bragg


def test_one_atom_has_no_pairs():
    s = Scatterers(np.zeros((1, 3)), np.array(["C"]), np.ones(1))
    alone = PairSum(LATTICE, s, Displacements(np.array([[0.2]])), by_pairs=True)
    kinds = [t.kind for t in alone.terms([0]) if len(t.least)]
    assert kinds == [Kind.SELF]


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 3, 10, 25])
@pytest.mark.parametrize("kind", ["isotropic", "tensor factor"])
def test_every_pair_comes_once_however_blocks_are_cut(monkeypatch, at_once, kind):
    monkeypatch.setattr(pair_terms, "PAIRS_AT_ONCE", at_once)
    found = pair_sum_of(kind, exclusive=True, by_pairs=True)
    classes = range(len(found.scatterers.pair_classes))
    for wanted in (Kind.RELATIVE, Kind.APART):
        listed = [
            tuple(sorted(pair))
            for t in found.terms(classes)
            if t.kind is wanted
            for pair in zip(t.first.tolist(), t.second.tolist(), strict=True)
        ]
        assert sorted(listed) == [(i, j) for i in range(N) for j in range(i + 1, N)]
    q = some_q()
    assert_allclose(evaluate(found, q), expected(found, q), rtol=0,
                    atol=ROUNDING * scale_of(found))  # fmt: skip


@pytest.mark.parametrize("at_once", [2, 5])
def test_listed_pairs_come_once_however_blocks_are_cut(monkeypatch, at_once):
    monkeypatch.setattr(pair_terms, "PAIRS_AT_ONCE", at_once)
    within = pair_sum_of("anisotropic")
    v = within.displacements.correlated
    listed = Displacements(
        independent=within.displacements.u_aniso(N), pairs=Listed(STRUCTURE.positions, v)
    )
    q = some_q()
    assert_allclose(evaluate(replace(within, displacements=listed), q), expected(within, q),
                    rtol=0, atol=ROUNDING * scale_of(within))  # fmt: skip


def test_classes_share_the_pairs_out():
    found = pair_sum_of("anisotropic", exclusive=True, by_pairs=True)
    q = some_q()
    by_class = sum(evaluate(found, q, [c]) for c in range(len(found.scatterers.pair_classes)))
    assert_allclose(by_class, evaluate(found, q), atol=ROUNDING * scale_of(found), rtol=0)


def test_terms_come_the_same_each_time():
    found = pair_sum_of("tensor factor", exclusive=True, voxel=VOXEL)
    once, twice = (list(found.terms(range(10))) for _ in range(2))
    for one, two in zip(once, twice, strict=True):
        assert one.kind is two.kind
        assert_array_equal(one.covariances, two.covariances)
        assert_array_equal(one.weights, two.weights)


def test_without_what_is_apart_only_correlated_pairs_are_left():
    found = pair_sum_of("anisotropic", exclusive=True, voxel=VOXEL)
    kinds = {t.kind for t in found.terms(range(10), apart=False)}
    assert kinds == {Kind.RELATIVE, Kind.JOINT}
    assert {t.kind for t in found.terms(range(10))} == set(Kind)


def test_some_of_the_terms_keep_their_numbers():
    terms = next(iter(pair_sum_of("isotropic").terms([0])))
    some = terms.take(np.array([1]))
    assert isinstance(some, PairTerms)
    assert (some.first[0], some.weights[0]) == (terms.first[1], terms.weights[1])


# --- 5 errors ------------------------------------------------------------


def test_exclusive_altlocs_across_copies_are_refused():
    v = random_covariance(np.random.default_rng(0), N, 0.1, anisotropic=False)
    found = replace(
        pair_sum_of("independent", exclusive=True),
        displacements=Displacements(
            independent=random_u(np.random.default_rng(1), N), pairs=Listed(STRUCTURE.positions, v)
        ),
    )
    with pytest.raises(InputError, match="exclusive altlocs need a covariance within one unit"):
        list(found.terms(range(10)))
