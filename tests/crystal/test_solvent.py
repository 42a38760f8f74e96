"""Flat bulk solvent: masks by distances, transforms by sums, fits of what is known, errors."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import cell_vectors, q_of
from tests.strategies import ALL_GROUPS, CRYSTALS, random_structure

from offbragg import AtomicStructure
from offbragg.crystal.solvent import mask_structure_factors, solvent_mask, solvent_structure_factors
from offbragg.crystal.solvent_fit import _overall_terms, fit_scale_and_solvent
from offbragg.errors import InputError

RTOL_ROUNDING = 1e-12
MASK_ERROR = 5e-4  # share of points: those on a sphere to rounding (gemmi: float32); 0 seen
FIT_ERROR = 1e-8  # of made data without noise: where the least squares stop; 1e-15 seen
TRICLINIC = CRYSTALS["triclinic"][0]


def atoms(positions, cell, space_group="P 1", elements=None, occupancies=None):
    n = len(positions)
    return AtomicStructure(
        cell=cell,
        space_group=space_group,
        positions=np.asarray(positions, dtype=float),
        elements=np.array(elements or ["C"] * n),
        occupancies=np.ones(n) if occupancies is None else np.array(occupancies),
        u_aniso=np.tile(0.2 * np.eye(3), (n, 1, 1)),
        residue_names=np.full(n, "UNL"),
    )


def mask_by_distances(structure, shape, probe=1.0, shrink=1.1):
    """Points further than radius + probe from all images; grown by the points within shrink."""
    vectors = cell_vectors(structure.cell)
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    axes = [np.arange(n) / n for n in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    outside = np.ones(len(points), dtype=bool)
    fractional = np.linalg.solve(vectors.T, structure.positions.T).T
    for operation in gemmi.SpaceGroup(structure.space_group).operations():
        for atom, element in zip(fractional, structure.elements, strict=True):
            image = np.array(operation.apply_to_xyz(list(atom))) % 1
            apart = (points[:, None] - image - shifts) @ vectors
            nearest = np.sqrt((apart**2).sum(axis=-1).min(axis=1))
            outside &= nearest > gemmi.Element(str(element)).vdw_r + probe
    solvent = outside.copy()
    for place in points[outside]:
        apart = points - place
        apart -= np.rint(apart)  # the nearest image, as the cell is far larger than `shrink`
        solvent |= ((apart @ vectors) ** 2).sum(axis=1) <= shrink**2
    return solvent.reshape(shape)


def transform_by_sum(mask, cell, hkl):
    """(V/N) Σ m(x) exp(+2πi h·x), point by point."""
    axes = [np.arange(n) / n for n in mask.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    volume = abs(np.linalg.det(cell_vectors(cell)))
    return np.exp(2j * np.pi * np.asarray(hkl) @ points.T) @ mask.ravel() * volume / mask.size


def reflections(rng, n=400, largest=9):
    hkl = rng.integers(-largest, largest + 1, (n, 3))
    return hkl[np.any(hkl != 0, axis=1)]


# --- 1 reference numbers -------------------------------------------------


def test_a_slab_by_hand():
    # Half of the cell: F(000) = V/2; F(1) of four points in eight is their geometric sum.
    half = np.repeat([1.0, 0.0], 4)[:, None, None]
    found = mask_structure_factors(half, (10, 10, 10, 90, 90, 90), [[0, 0, 0], [1, 0, 0]])
    turn = np.exp(2j * np.pi / 8)
    assert_allclose(found, [500.0, 125 * (1 + turn + turn**2 + turn**3)], rtol=RTOL_ROUNDING)


def test_one_atom_is_a_ball():
    # Carbon, 1.7 + 1.0 Å, less 1.1 Å of shrinkage: a ball of 1.6 Å radius is left.
    structure = atoms([[5.0, 6.0, 7.0]], (20, 20, 20, 90, 90, 90))
    mask = solvent_mask(structure, 0.1, "van der waals")
    radius = gemmi.Element("C").vdw_r + 1.0 - 1.1
    assert_allclose((1 - mask).sum() * 8000 / mask.size, 4 / 3 * np.pi * radius**3, rtol=0.03)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("system", ["triclinic", "monoclinic", "tetragonal", "hexagonal"])
def test_the_mask_is_what_distances_say(system):
    cell, groups = CRYSTALS[system]
    structure = random_structure(np.random.default_rng(3), 5, cell, groups[0], spread=2.0)
    found = solvent_mask(structure, 0.9, "van der waals")
    expected = mask_by_distances(structure, found.shape)
    assert 0.05 < expected.mean() < 0.97
    assert np.mean(found != expected) < MASK_ERROR


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999), crystal=st.sampled_from(ALL_GROUPS))
def test_the_transform_is_the_sum(seed, crystal):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(7, 12, 3))
    mask = rng.uniform(0, 1, shape)
    hkl = rng.integers(-3, 4, (30, 3))
    found = mask_structure_factors(mask, crystal[0], hkl)
    expected = transform_by_sum(mask, crystal[0], hkl)
    assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * abs(expected).max())


def test_structure_factors_are_those_of_gemmi():
    cell, groups = CRYSTALS["orthorhombic"]
    structure = random_structure(np.random.default_rng(8), 6, cell, groups[0])
    hkl = reflections(np.random.default_rng(1), 60, 4)
    found = solvent_structure_factors(structure, hkl, 0.35, 46.0, spacing=0.5)
    grid = gemmi.FloatGrid(solvent_mask(structure, 0.5).astype(np.float32))
    grid.set_unit_cell(gemmi.UnitCell(*cell))
    grid.spacegroup = gemmi.SpaceGroup("P 1")
    transformed = gemmi.transform_map_to_f_phi(grid)
    stol2 = (q_of(hkl, cell) ** 2).sum(axis=1) / (16 * np.pi**2)
    masked = np.array([transformed.get_value(*h.tolist()) for h in hkl])
    expected = 0.35 * np.exp(-46.0 * stol2) * masked
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


# --- 3 exact limits ------------------------------------------------------


def test_forward_scattering_counts_the_electrons_of_the_solvent():
    structure = random_structure(np.random.default_rng(2), 5, TRICLINIC, spread=1.5)
    mask = solvent_mask(structure)
    found = solvent_structure_factors(structure, [[0, 0, 0]], 0.4, 30.0, spacing=0.5)
    volume = abs(np.linalg.det(cell_vectors(TRICLINIC)))
    assert_allclose(found, [0.4 * mask.mean() * volume], rtol=1e-10)
    assert_array_equal(np.unique(mask), [0.0, 1.0])


def test_no_solvent_and_no_atoms():
    structure = random_structure(np.random.default_rng(2), 3, TRICLINIC)
    hkl = reflections(np.random.default_rng(1), 20, 5)
    assert_array_equal(solvent_structure_factors(structure, hkl, k_sol=0.0), 0.0)
    assert solvent_structure_factors(structure, np.empty((0, 3))).shape == (0,)
    empty = solvent_mask(atoms(np.empty((0, 3)), TRICLINIC))
    assert_array_equal(empty, 1.0)
    assert_allclose(mask_structure_factors(empty, TRICLINIC, hkl), 0.0, atol=1e-9)


def test_waters_are_atoms_hydrogens_and_empty_sites_are_not():
    cell = (15, 15, 15, 90, 90, 90)
    places = [[5.0, 5, 5], [10.0, 10, 10]]
    one = solvent_mask(atoms(places[:1], cell))
    assert solvent_mask(atoms(places, cell, elements=["C", "O"])).sum() < one.sum()
    assert_array_equal(solvent_mask(atoms(places, cell, elements=["C", "H"])), one)
    assert_array_equal(solvent_mask(atoms(places, cell, occupancies=[1.0, 0.0])), one)
    half = solvent_mask(atoms(places, cell, occupancies=[0.2, 0.2]))
    assert_array_equal(half, solvent_mask(atoms(places, cell)))


@pytest.mark.parametrize(("cell", "space_group"), ALL_GROUPS)
def test_a_known_solvent_is_found_again(cell, space_group):
    rng = np.random.default_rng(5)
    hkl = reflections(rng)
    q = q_of(hkl, cell)
    stol2 = (q**2).sum(axis=1) / (16 * np.pi**2)
    protein = rng.normal(size=len(hkl)) + 1j * rng.normal(size=len(hkl))
    mask = 9 * np.exp(-20 * stol2) * (rng.normal(size=len(hkl)) + 1j * rng.normal(size=len(hkl)))
    # Any tensor, averaged over the operations as gemmi turns reciprocal vectors: h' = h R.
    any_u = rng.normal(size=(3, 3))
    exponents = []
    for operation in gemmi.SpaceGroup(space_group).operations():
        turned = q_of([operation.apply_to_hkl(h.tolist()) for h in hkl], cell)
        exponents.append(np.einsum("qx,xy,qy->q", turned, 0.02 * any_u @ any_u.T, turned))
    damping = np.exp(-0.5 * np.mean(exponents, axis=0))
    f_true = damping * (protein + 0.41 * np.exp(-33.0 * stol2) * mask)
    fit = fit_scale_and_solvent(
        3.7 * abs(f_true), hkl, cell, protein, mask, space_group=space_group
    )
    found = [fit.scale / 3.7, fit.k_sol / 0.41, fit.b_sol / 33.0]
    assert_allclose(found, 1.0, rtol=FIT_ERROR)
    assert fit.r_factor < FIT_ERROR
    assert_allclose(fit.f_calc, 3.7 * f_true, atol=FIT_ERROR * abs(f_true).max())
    again = np.exp(-0.5 * np.einsum("qx,xy,qy->q", q, fit.u_aniso, q))
    assert_allclose(again, damping, rtol=FIT_ERROR)


def test_a_scale_alone_is_the_least_squares_one():
    rng = np.random.default_rng(6)
    hkl = reflections(rng, 50)
    protein = rng.normal(size=len(hkl)) + 1j * rng.normal(size=len(hkl))
    observed = 2 * abs(protein) + rng.uniform(0, 0.2, len(hkl))
    fit = fit_scale_and_solvent(observed, hkl, TRICLINIC, protein, anisotropic=False)
    scale = (observed * abs(protein)).sum() / (abs(protein) ** 2).sum()
    assert_allclose(fit.scale, scale, rtol=1e-12)
    assert (fit.k_sol, fit.b_sol) == (0.0, 0.0)
    assert_array_equal(fit.u_aniso, 0.0)
    r = abs(observed - scale * abs(protein)).sum() / observed.sum()
    assert_allclose(fit.r_factor, r, rtol=1e-12)


@pytest.mark.parametrize(
    ("system", "n"),
    [("triclinic", 6), ("monoclinic", 4), ("orthorhombic", 3), ("tetragonal", 2),
     ("trigonal", 2), ("rhombohedral", 2), ("hexagonal", 2), ("cubic", 1)],
)  # fmt: skip
def test_the_overall_tensor_has_the_symmetry_of_the_crystal(system, n):
    for group in CRYSTALS[system][1]:
        assert len(_overall_terms(group, CRYSTALS[system][0])) == n


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize(("cell", "space_group"), ALL_GROUPS)
def test_structure_factors_have_the_symmetry_of_the_space_group(cell, space_group):
    # F(h R) e^{2πi h·t} = F(h), and F(−h) is its conjugate.
    structure = random_structure(np.random.default_rng(4), 4, cell, space_group, spread=1.5)
    hkl = reflections(np.random.default_rng(1), 25, 4)
    f = solvent_structure_factors(structure, hkl, 0.35, 10.0)
    mates = solvent_structure_factors(structure, -hkl, 0.35, 10.0)
    assert_allclose(mates, f.conj(), atol=1e-12 * abs(f).max())
    for operation in gemmi.SpaceGroup(space_group).operations():
        turned = np.array([operation.apply_to_hkl(h.tolist()) for h in hkl])
        phase = np.exp(2j * np.pi * hkl @ np.array(operation.tran) / operation.DEN)
        there = solvent_structure_factors(structure, turned, 0.35, 10.0)
        assert_allclose(phase * there, f, atol=1e-9 * abs(f).max())


def test_the_order_of_reflections_and_a_scale_of_data_change_nothing():
    rng = np.random.default_rng(7)
    hkl = reflections(rng, 200)
    values = rng.normal(size=(4, len(hkl)))
    protein, mask = values[0] + 1j * values[1], 5 * (values[2] + 1j * values[3])
    observed = abs(protein + 0.3 * mask) * rng.uniform(0.9, 1.1, len(hkl))
    one = fit_scale_and_solvent(observed, hkl, TRICLINIC, protein, mask)
    order = rng.permutation(len(hkl))
    other = fit_scale_and_solvent(
        100 * observed[order], hkl[order], TRICLINIC, protein[order], mask[order]
    )
    assert_allclose(other.scale, 100 * one.scale, rtol=1e-4)
    assert_allclose(other.k_sol, one.k_sol, rtol=1e-4)
    assert_allclose(other.r_factor, one.r_factor, rtol=1e-5)


def test_inputs_are_not_changed():
    structure = random_structure(np.random.default_rng(2), 3, TRICLINIC)
    before = structure.positions.copy()
    hkl = reflections(np.random.default_rng(1), 20, 5)
    f_mask = mask_structure_factors(solvent_mask(structure), TRICLINIC, hkl)
    kept = hkl.copy(), f_mask.copy()
    fit_scale_and_solvent(abs(f_mask), hkl, TRICLINIC, f_mask + 1.0, f_mask)
    assert_array_equal(structure.positions, before)
    assert_array_equal(hkl, kept[0])
    assert_array_equal(f_mask, kept[1])


# --- 5 errors ------------------------------------------------------------


def test_a_wrong_mask_argument_is_named():
    structure = atoms([[5.0, 5, 5]], (10, 10, 10, 90, 90, 90))
    with pytest.raises(InputError, match="radii must be one of cctbx, refmac, van der waals, got"):
        solvent_mask(structure, radii="vdw")
    with pytest.raises(InputError, match=r"spacing must be > 0 Å, got 0\.0"):
        solvent_mask(structure, 0.0)
    with pytest.raises(InputError, match="no unit cell"):
        solvent_mask(atoms([[5.0, 5, 5]], None))
    with pytest.raises(InputError, match="k_sol and b_sol must be >= 0, got -1"):
        solvent_structure_factors(structure, [[1, 0, 0]], k_sol=-1.0)
    with pytest.raises(InputError, match=r"hkl must be whole numbers, got \[0\.5, 0\.0, 0\.0\]"):
        solvent_structure_factors(structure, [[1, 0, 0], [0.5, 0, 0]])
    with pytest.raises(InputError, match=r"hkl must be \(n, 3\), got \(3,\)"):
        solvent_structure_factors(structure, [1, 0, 0])
    with pytest.raises(InputError, match=r"below half the mask's points \(20, 20, 20\), got up to"):
        solvent_structure_factors(structure, [[10, 0, 0]], spacing=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f_obs": np.ones(3)}, r"f_obs must be \(2,\) as hkl is, got \(3,\)"),
        ({"f_protein": np.ones(3)}, r"f_protein must be \(2,\)"),
        ({"f_mask": np.ones(3)}, r"f_mask must be \(2,\)"),
        ({"f_obs": np.array([1.0, np.nan])}, "f_obs must be finite"),
        ({"f_obs": np.array([1.0, -1.0])}, "f_obs must be amplitudes >= 0 and not all 0"),
        ({"f_obs": np.zeros(2)}, "f_obs must be amplitudes >= 0 and not all 0"),
        ({"space_group": "P 99"}, "space group must be"),
    ],
)
def test_a_wrong_fit_argument_is_named(arguments, message):
    good = {
        "f_obs": np.ones(2),
        "hkl": [[1, 0, 0], [0, 1, 0]],
        "cell": TRICLINIC,
        "f_protein": np.ones(2),
    }
    with pytest.raises(InputError, match=message):
        fit_scale_and_solvent(**{**good, **arguments})
