"""One copy's diffuse intensity on a lattice by every method, and what an `Engine` takes."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tests.lattice_oracles import (
    complex_form_factors,
    extent_to,
    joint_of_altlocs,
    mean_phases,
    nodes_within,
    pair_intensity,
    whole_covariance,
)
from tests.oracles import form_factors
from tests.strategies import CRYSTALS, random_covariance, random_structure, random_u

from offbragg.errors import InputError
from offbragg.scattering import diffuse_on_lattice
from offbragg.scattering.displacements import Displacements, LowRank
from offbragg.scattering.engine import METHODS, Engine
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.on_lattice import (
    factor_of,
    sampled_on_lattice,
    uncorrelated_on_lattice,
)
from offbragg.scattering.pairs import PairBlock, Pairs
from offbragg.scattering.scatterers import Scatterers

MARGIN = 10.0  # times rtol, of the mean: see the tests of each method
ROUNDING = 1e-9  # of the mean
# Of 300 values a z of 4.5 comes once in 500 runs, and draws are seeded. The errors of nodes are
# correlated, those of motions of low rank strongly: their rms is that of a few numbers.
LARGEST_Z, RMS_Z = 4.5, 1.6
N = 8
CELL = CRYSTALS["monoclinic"][0]
# Two residues with altlocs, the second missing in a fifth of the copies.
STRUCTURE = replace(
    random_structure(np.random.default_rng(4), N, CELL),
    occupancies=np.array([0.6, 0.4, 1.0, 0.7, 0.5, 0.3, 1.0, 1.0]),
)
ATOMS = STRUCTURE.positions, STRUCTURE.elements, STRUCTURE.occupancies
LATTICE = HalfLattice(CELL, (2, 1, 1), extent_to(CELL, 3.0, (2, 1, 1)), 2 * np.pi / 3.0)
ALTERNATIVES = np.array([0, 0, -1, -1, 1, 1, -1, -1]), np.array([0, 1, 0, 0, 0, 1, 0, 0])
ISOTROPIC = ("isotropic", "scalar factor", "own isotropic")
EXACT = ("direct", "gemm", "splat", "pair-nufft", "auto")


def moves(kind):
    rng = np.random.default_rng(7)
    own = rng.uniform(0.05, 0.3, N)[:, None, None] * np.eye(3)
    return {
        "isotropic": Displacements(random_covariance(rng, N, 0.2, anisotropic=False)),
        "anisotropic": Displacements(random_covariance(rng, N, 0.2)),
        "scalar factor": Displacements(LowRank(0.3 * rng.normal(size=(N, 2))), own),
        "tensor factor": Displacements(LowRank(0.3 * rng.normal(size=(N, 3, 2)))),
        "own": Displacements(independent=random_u(rng, N)),
        "own isotropic": Displacements(independent=own),
        "both": Displacements(random_covariance(rng, N, 0.1, rank=4), random_u(rng, N, 0.1)),
    }[kind]


class Nobody(Pairs):
    """No pair of anybody."""

    is_isotropic = True

    def blocks(self):
        empty = np.empty(0, dtype=np.int64)
        yield PairBlock(empty, empty, empty, np.empty((0, 3)), np.empty(0))


ACROSS = Displacements(independent=0.1 * np.eye(3) * np.ones((N, 1, 1)), pairs=Nobody())


def expected(displacements, wavelength=None, voxel=None, exclusive=False):
    """The whole map by double sums: nodes and values, even part + i × odd part."""
    q, index = nodes_within(LATTICE)
    v = whole_covariance(displacements, N)
    phases = joint = None
    if voxel is not None:
        separations = STRUCTURE.positions[:, None] - STRUCTURE.positions
        phases = mean_phases(separations, CELL, voxel)
    if exclusive:
        joint = joint_of_altlocs(STRUCTURE.occupancies, *ALTERNATIVES)
    rest = v, STRUCTURE.occupancies, joint, phases
    if wavelength is None:
        f = form_factors(STRUCTURE.elements, q)
        values = pair_intensity(q, STRUCTURE.positions, f, *rest)
    else:
        f = complex_form_factors(STRUCTURE.elements, q, wavelength)
        plus, minus = (pair_intensity(x, STRUCTURE.positions, f, *rest) for x in (q, -q))
        values = 0.5 * (plus + minus) + 0.5j * (plus - minus)
    if voxel is None:
        values[~q.any(axis=1)] = 0.0
    return index, values


def error_of(found, index, values):
    outside = np.ones(found.size, dtype=bool)
    outside[index] = False
    assert found.shape == LATTICE.shape
    assert not found.ravel()[outside].any()
    return np.max(np.abs(found.ravel()[index] - values)) / np.mean(values.real)


# --- 1 reference numbers -------------------------------------------------


def test_one_atom_by_hand():
    # f_C² (1 − e^{−q²U}), U = 0.2 Å², at h = 2 of the monoclinic cell: |a*| = 1/(12 sin 112°).
    q = 2 * np.pi / (12.0 * np.sin(np.radians(112.0)))
    f = form_factors(["C"], np.array([[q, 0, 0]]))[0, 0]
    for method in EXACT:
        found = diffuse_on_lattice(
            LATTICE, np.zeros((1, 3)), ["C"], np.ones(1), Displacements(np.array([[0.2]])),
            Engine(method, rtol=1e-6),
        )  # fmt: skip
        m_x, m_y, _ = LATTICE.extent
        assert found[m_x + 2, m_y, 0] == pytest.approx(f**2 * -np.expm1(-(q**2) * 0.2), rel=1e-5)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic", "scalar factor", "both", "own"])
@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("wavelength", [None, 1.9])
def test_every_exact_method_is_the_double_sum(kind, method, wavelength):
    if method in ("gemm", "pair-nufft") and kind not in ISOTROPIC:
        pytest.skip("refused: tested below")
    if method == "pair-nufft" and wavelength is not None:
        pytest.skip("refused: tested below")
    engine = Engine(method, wavelength=wavelength)
    found = diffuse_on_lattice(LATTICE, *ATOMS, moves(kind), engine)
    assert np.iscomplexobj(found) == (wavelength is not None)
    assert found.real.min() >= 0.0
    assert error_of(found, *expected(moves(kind), wavelength)) < MARGIN * engine.rtol


@pytest.mark.parametrize("kind", ["isotropic", "own isotropic", "both", "own"])
@pytest.mark.parametrize("method", ["splat", "pair-nufft", "auto"])
@pytest.mark.parametrize("voxel", [None, np.diag([0.5, 1.0, 1.0])])
def test_exclusive_altlocs_are_the_double_sum(kind, method, voxel):
    if method == "pair-nufft" and kind not in ISOTROPIC:
        pytest.skip("refused: tested below")
    lattice = replace(LATTICE, voxel=voxel)
    found = diffuse_on_lattice(lattice, *ATOMS, moves(kind), Engine(method), ALTERNATIVES)
    wanted = expected(moves(kind), None, voxel, exclusive=True)
    assert error_of(found, *wanted) < MARGIN * 1e-4


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic", "tensor factor", "both", "own"])
@pytest.mark.parametrize("wavelength", [None, 1.9])
def test_one_phonon_is_the_first_order_sum(kind, wavelength):
    displacements = moves(kind)
    found = diffuse_on_lattice(
        LATTICE, *ATOMS, displacements, Engine("one-phonon", wavelength=wavelength)
    )
    v = whole_covariance(displacements, N)
    u = v[np.arange(N), np.arange(N)]

    def first_order(q):
        f = form_factors(STRUCTURE.elements, q)
        if wavelength is not None:
            f = complex_form_factors(STRUCTURE.elements, q, wavelength)
        a = f * STRUCTURE.occupancies * np.exp(1j * q @ STRUCTURE.positions.T)
        a = a * np.exp(-0.5 * np.einsum("qx,nxy,qy->qn", q, u, q))
        forms = np.einsum("qx,ijxy,qy->qij", q, v, q, optimize=True)
        return np.einsum("qi,qij,qj->q", a.conj(), forms, a, optimize=True).real

    q, index = nodes_within(LATTICE)
    plus, minus = first_order(q), first_order(-q)
    wanted = 0.5 * (plus + minus)
    if wavelength is not None:
        wanted = wanted + 0.5j * (plus - minus)
    assert error_of(found, index, wanted) < MARGIN * 1e-4


@pytest.mark.parametrize("kind", ["isotropic", "tensor factor", "both", "own"])
def test_samples_scatter_around_the_exact_map(kind):
    displacements = moves(kind)
    engine = Engine("sampled", n_samples=150, seed=3)
    scatterers = Scatterers(*ATOMS)
    found, error = sampled_on_lattice(LATTICE, scatterers, displacements, engine)
    index, values = expected(displacements)
    some = (values > 0) & (np.arange(len(values)) % 3 == 0)
    z = ((found.ravel()[index] - values) / error.ravel()[index])[some]
    assert np.abs(z).max() < LARGEST_Z
    assert 1 / RMS_Z < np.sqrt(np.mean(z**2)) < RMS_Z
    same = diffuse_on_lattice(LATTICE, *ATOMS, displacements, engine)
    assert_array_equal(same, found)


@pytest.mark.parametrize("isotropic", [True, False])
def test_a_factor_of_a_covariance_gives_it_back(isotropic):
    v = random_covariance(np.random.default_rng(0), N, 0.2, rank=5, anisotropic=not isotropic)
    factor = factor_of(v)
    assert factor.factor.shape[-1] == 5
    assert_allclose(factor.dense(), v, atol=1e-12)


def test_independent_atoms_in_closed_form():
    u = random_u(np.random.default_rng(2), N)
    q, index = nodes_within(LATTICE)
    forms = np.einsum("qx,nxy,qy->qn", q, u, q)
    f = form_factors(STRUCTURE.elements, q, STRUCTURE.occupancies)
    wanted = np.sum(f**2 * -np.expm1(-forms), axis=1)
    for found in (
        uncorrelated_on_lattice(LATTICE, *ATOMS[1:], u),
        diffuse_on_lattice(LATTICE, *ATOMS, Displacements(independent=u), Engine("splat")),
    ):
        assert error_of(found, index, wanted) < MARGIN * 1e-4


def test_hydrogens_scatter_as_hydrogens():
    elements = np.array(["C", "H", "H", "N", "H", "D", "O", "S"])
    v = moves("isotropic")
    q, index = nodes_within(LATTICE)
    as_light = np.where(elements == "D", "H", elements)
    f = form_factors(as_light, q)
    wanted = pair_intensity(
        q, STRUCTURE.positions, f, whole_covariance(v, N), STRUCTURE.occupancies
    )
    found = diffuse_on_lattice(LATTICE, ATOMS[0], elements, ATOMS[2], v)
    assert error_of(found, index, np.where(q.any(axis=1), wanted, 0.0)) < MARGIN * 1e-4
    without = pair_intensity(
        q, STRUCTURE.positions, np.where(as_light == "H", 0.0, f), whole_covariance(v, N),
        STRUCTURE.occupancies,
    )  # fmt: skip
    assert np.abs(wanted - without).max() > 0.05 * wanted.mean()


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("method", [m for m in METHODS if m != "sampled"])
def test_nothing_moves_and_nobody_is_there(method):
    still = Displacements(np.zeros((N, N)))
    assert not diffuse_on_lattice(LATTICE, *ATOMS, still, Engine(method)).any()
    nobody = np.empty((0, 3)), np.empty(0, dtype=str), np.empty(0)
    empty = Displacements(np.empty((0, 0)))
    assert not diffuse_on_lattice(LATTICE, *nobody, empty, Engine(method)).any()


@pytest.mark.parametrize("method", EXACT)
def test_atoms_of_no_occupancy_scatter_nothing(method):
    gone = diffuse_on_lattice(LATTICE, *ATOMS[:2], np.zeros(N), moves("isotropic"), Engine(method))
    assert_array_equal(gone, np.zeros(LATTICE.shape))


def test_altlocs_that_stand_still_scatter_by_their_occupation():
    # Two sites of one carbon, half each: ⟨|F|²⟩ − |⟨F⟩|² = f² (1 − ¼ |1 + e^{iq·r}|²).
    r = np.array([1.5, 0.0, 0.0])
    found = diffuse_on_lattice(
        LATTICE, np.stack([0 * r, r]), ["C", "C"], np.array([0.5, 0.5]),
        Displacements(np.zeros((2, 2))), Engine("splat", rtol=1e-6),
        (np.array([0, 0]), np.array([0, 1])),
    )  # fmt: skip
    q, index = nodes_within(LATTICE)
    f = form_factors(["C"], q)[:, 0]
    wanted = f**2 * (1 - 0.25 * np.abs(1 + np.exp(1j * q @ r)) ** 2)
    assert error_of(found, index, wanted) < MARGIN * 1e-6


def test_a_small_motion_is_first_order():
    small = Displacements(1e-4 * moves("anisotropic").correlated)
    exact = diffuse_on_lattice(LATTICE, *ATOMS, small, Engine("direct"))
    first = diffuse_on_lattice(LATTICE, *ATOMS, small, Engine("one-phonon", rtol=1e-6))
    assert_allclose(first, exact, rtol=0, atol=1e-3 * exact.mean())


def test_far_from_an_edge_the_wavelength_changes_little_and_none_nothing():
    v = moves("anisotropic")
    none = diffuse_on_lattice(LATTICE, *ATOMS, v, Engine("splat"))
    short = diffuse_on_lattice(LATTICE, *ATOMS, v, Engine("splat", wavelength=0.2))
    assert not np.iscomplexobj(none)
    assert np.abs(short.real - none).max() < 0.01 * none.max()


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("method", ["direct", "gemm", "splat", "pair-nufft"])
def test_memory_changes_nothing(method):
    plenty, little = (
        diffuse_on_lattice(
            LATTICE, *ATOMS, moves("isotropic"), Engine(method, max_memory=memory, rtol=1e-6)
        )
        for memory in (2e9, 3e4)
    )
    # "gemm" cuts its shells by memory, and interpolates within each.
    same = MARGIN * 1e-6 if method == "gemm" else ROUNDING
    assert_allclose(little, plenty, rtol=0, atol=same * plenty.mean())


def test_draws_follow_the_seed():
    scatterers = Scatterers(*ATOMS)
    maps = [
        sampled_on_lattice(
            LATTICE, scatterers, moves("isotropic"), Engine("sampled", n_samples=2, seed=seed)
        )[0]
        for seed in (0, 0, 1)
    ]
    assert_array_equal(maps[0], maps[1])
    assert np.abs(maps[0] - maps[2]).max() > 0


def test_lists_of_elements_are_taken():
    lists = diffuse_on_lattice(LATTICE, ATOMS[0], ATOMS[1].tolist(), ATOMS[2], moves("isotropic"))
    assert_array_equal(lists, diffuse_on_lattice(LATTICE, *ATOMS, moves("isotropic")))


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "fast"}, "method must be one of auto splat pair-nufft gemm .* got 'fast'"),
        ({"rtol": 0.0}, "rtol must be between 0 and 1, got 0.0"),
        ({"rtol": 1.0}, "rtol must be between 0 and 1, got 1.0"),
        ({"rtol": np.nan}, "rtol must be between 0 and 1, got nan"),
        ({"max_memory": 0}, "max_memory must be a positive number of bytes, got 0"),
        ({"max_memory": np.nan}, "max_memory must be a positive number of bytes, got nan"),
        ({"wavelength": 0.0}, "wavelength must be a positive number of Å, got 0.0"),
        ({"wavelength": np.inf}, "wavelength must be a positive number of Å, got inf"),
        ({"altlocs": "apart"}, "altlocs must be one of together exclusive, got 'apart'"),
        ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(InputError, match=message):
        Engine(**options)


@pytest.mark.parametrize("method", ["direct", "gemm", "sampled"])
def test_methods_without_pairs_say_what_they_cannot_do(method):
    engine = Engine(method)
    averaged = replace(LATTICE, voxel=np.eye(3))
    with pytest.raises(InputError, match=f"method '{method}' cannot do means over voxels"):
        diffuse_on_lattice(averaged, *ATOMS, moves("isotropic"), engine)
    with pytest.raises(InputError, match=f"method '{method}' cannot do exclusive altlocs"):
        diffuse_on_lattice(LATTICE, *ATOMS, moves("isotropic"), engine, ALTERNATIVES)
    with pytest.raises(InputError, match=f"method '{method}' cannot do motions that reach across"):
        diffuse_on_lattice(LATTICE, *ATOMS, ACROSS, engine)


@pytest.mark.parametrize(
    ("kind", "engine", "alternatives", "message"),
    [
        ("anisotropic", Engine("pair-nufft"), None, "'pair-nufft' needs isotropic displacements"),
        ("own", Engine("pair-nufft"), None, "'pair-nufft' needs isotropic displacements"),
        ("anisotropic", Engine("gemm"), None, "'gemm' needs an isotropic covariance"),
        ("isotropic", Engine("pair-nufft", wavelength=1.0), None, "has no anomalous scattering"),
        ("isotropic", Engine("sampled", wavelength=1.0), None, "has no anomalous scattering"),
        ("isotropic", Engine("one-phonon"), ALTERNATIVES, "altlocs together"),
    ],
)
def test_what_a_method_cannot_do_is_refused(kind, engine, alternatives, message):
    with pytest.raises(InputError, match=message):
        diffuse_on_lattice(LATTICE, *ATOMS, moves(kind), engine, alternatives)


def test_one_phonon_across_copies_is_refused():
    with pytest.raises(InputError, match="'one-phonon' needs a covariance within one unit"):
        diffuse_on_lattice(LATTICE, *ATOMS, ACROSS, Engine("one-phonon"))


def test_displacements_of_other_atoms_are_refused():
    with pytest.raises(InputError, match=r"must be \(7, 7\) or \(7, 7, 3, 3\), got \(8, 8\)"):
        diffuse_on_lattice(LATTICE, *(x[:7] for x in ATOMS), moves("isotropic"))


def test_an_unknown_element_is_named():
    with pytest.raises(InputError, match="element 'Qq' has no form factor"):
        diffuse_on_lattice(LATTICE, ATOMS[0], ["Qq"] * N, ATOMS[2], moves("isotropic"))
