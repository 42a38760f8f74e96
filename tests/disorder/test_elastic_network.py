"""ElasticNetwork: textbook matrices, null modes, scales, Cα nodes, modes, derivatives.

The oracle is a Kirchhoff matrix or Hessian made by plain loops over pairs, and its pseudo-inverse.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import blocks, copies, diffuse_of_cell, flat, form_factors
from tests.strategies import CRYSTALS, random_structure

from offbragg import HklGrid, simulate
from offbragg.crystal.cell import Cell
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.contacts import find_contacts
from offbragg.disorder.elastic_network import ElasticNetwork
from offbragg.disorder.network import NullModesError, inverse_root
from offbragg.disorder.nodes import altloc_sites, nodes_of
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank

RTOL_ROUNDING = 1e-9  # two ways to invert matrices of condition 1e3 to 1e5; 1e-12 seen
RTOL_MODES = 1e-6  # shift-inverted Lanczos iterations to 1e-12, of nearly equal modes
RTOL_DIFFERENCE = 1e-6  # central differences of step 1e-5: 1e-9 of higher order and rounding
RTOL_ADJOINT = 1e-12  # the same sum in another order
MAP_ERROR = 1e-3  # of the mean, the project's own figure

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
        "residue_numbers", "chains", "altlocs",
    )  # fmt: skip
    arrays = {name: np.concatenate([getattr(s, name) for s in structures]) for name in names}
    return replace(structures[0], **arrays)


def spring(distance, edges, constants, power):
    for edge, constant in zip(edges, constants, strict=True):
        if distance <= edge:
            return constant * distance**-power
    return 0.0


def kirchhoff(positions, edges, constants, power=0.0):
    n = len(positions)
    matrix = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                k = spring(np.linalg.norm(positions[i] - positions[j]), edges, constants, power)
                matrix[i, j] -= k
                matrix[i, i] += k
    return matrix


def hessian(positions, edges, constants, power=0.0):
    n = len(positions)
    matrix = np.zeros((n, 3, n, 3))
    for i in range(n):
        for j in range(n):
            if i != j:
                r = positions[i] - positions[j]
                distance = np.sqrt(r @ r)
                part = spring(distance, edges, constants, power) * np.outer(r, r) / distance**2
                matrix[i, :, j, :] -= part
                matrix[i, :, i, :] += part
    return matrix.reshape(3 * n, 3 * n)


def inverse_of(matrix, n_null):
    """Pseudo-inverse by eigenvectors, exactly n_null of them left out."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors[:, n_null:] / values[n_null:]) @ vectors[:, n_null:].T


def expected_of(structure, kind, edges, constants, power=0.0):
    if kind == "gnm":
        return inverse_of(kirchhoff(structure.positions, edges, constants, power), 1)
    n = structure.n_atoms
    v = inverse_of(hessian(structure.positions, edges, constants, power), 6)
    return v.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)


def dense_of(model, structure):
    v = model.displacements(structure).correlated
    return v.dense() if isinstance(v, LowRank) else v


def trace_of(v):
    own = blocks(v)[range(len(v)), range(len(v))]
    return np.trace(own, axis1=1, axis2=2)


# --- 1 reference numbers -------------------------------------------------


def test_three_atoms_in_line_by_hand():
    # Γ = [[1, -1, 0], [-1, 2, -1], [0, -1, 1]], eigenvalues 0, 1, 3:
    # Γ⁺ = ½(1, 0, -1)(…)ᵀ + ⅓·⅙(1, -2, 1)(…)ᵀ.
    structure = made([[0, 0, 0], [3.8, 0, 0], [7.6, 0, 0]])
    model = ElasticNetwork("gnm", cutoff=4.0, scale="absolute")
    expected = np.array([[5, -1, -4], [-1, 2, -1], [-4, -1, 5]]) / 9
    assert_allclose(dense_of(model, structure), expected, atol=1e-14)
    doubled = replace(model, spring_constants=[2.0])
    assert_allclose(dense_of(doubled, structure), expected / 2, atol=1e-14)


def test_two_atoms_vibrate_along_their_bond():
    # Relative coordinate: ⟨(δ_1 − δ_2)²⟩ = 1/k along r̂, half an atom's each: V_ii = r̂ r̂ᵀ/4k.
    structure = made([[0, 0, 0], [1.2, 0, 1.6]])
    v = dense_of(ElasticNetwork("anm", cutoff=3.0, scale="absolute"), structure)
    along = np.array([0.6, 0.0, 0.8])
    for i, j, sign in ((0, 0, 1), (1, 1, 1), (0, 1, -1)):
        assert_allclose(v[i, j], sign * np.outer(along, along) / 4, atol=1e-14)


def test_classes_of_distance_and_power_by_hand():
    # Two bonds in a row, of 2 and 3 Å: x₂ − x₁ and x₃ − x₂ have 1/k_12 and 1/k_23.
    structure = made([[0, 0, 0], [2, 0, 0], [5, 0, 0]])
    model = ElasticNetwork(
        "gnm", distance_edges=[2.0, 4.0], spring_constants=[8.0, 18.0], power=2, scale="absolute"
    )
    v = dense_of(model, structure)
    for i, j, k in ((0, 1, 8.0 / 4), (1, 2, 18.0 / 9)):
        assert_allclose(v[i, i] + v[j, j] - 2 * v[i, j], 1 / k, rtol=1e-12)
    assert model.classes.cutoff == 4.0


@pytest.mark.parametrize(
    ("kind", "nodes", "cutoff"),
    [("gnm", "calpha", 7.3), ("anm", "calpha", 15.0), ("gnm", "all", 5.0), ("anm", "all", 7.0)],
)
def test_cutoffs_where_none_is_given(kind, nodes, cutoff):
    assert ElasticNetwork(kind, nodes=nodes).classes.cutoff == cutoff
    assert ElasticNetwork(kind, 6.5, nodes=nodes).classes.cutoff == 6.5


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    seed=st.integers(0, 999),
    n=st.integers(5, 12),
    kind=st.sampled_from(["gnm", "anm"]),
    power=st.sampled_from([0.0, 2.0]),
)
def test_covariance_matches_the_textbook_matrices(seed, n, kind, power):
    structure = cluster(n, seed)
    edges, constants = [4.0, 7.0, 100.0], [3.0, 0.7, 0.2]
    model = ElasticNetwork(
        kind, distance_edges=edges, spring_constants=constants, power=power, scale="absolute"
    )
    expected = expected_of(structure, kind, edges, constants, power)
    found = dense_of(model, structure)
    assert found.shape == expected.shape
    assert_allclose(found, expected, rtol=0, atol=RTOL_ROUNDING * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["gnm", "anm"])
def test_contacts_end_at_the_cutoff(kind):
    structure = cluster(16, 5, spread=2.5)
    expected = expected_of(structure, kind, [6.5], [1.0])
    found = dense_of(ElasticNetwork(kind, 6.5, scale="absolute"), structure)
    assert_allclose(found, expected, rtol=0, atol=RTOL_ROUNDING * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["gnm", "anm"])
def test_calpha_nodes_carry_their_residues(kind):
    structure = peptide()
    calphas = np.flatnonzero(structure.names == "CA")
    distances = np.linalg.norm(structure.positions[-1] - structure.positions[calphas], axis=1)
    node_of = np.append(structure.residue_numbers[:-1] - 1, np.argmin(distances))
    small = structure.take(calphas)
    expected = expected_of(small, kind, [9.0], [1.0])[np.ix_(node_of, node_of)]
    displacements = ElasticNetwork(kind, 9.0, "calpha", scale="absolute").displacements(structure)
    assert isinstance(displacements.correlated, LowRank)
    found = displacements.correlated.dense()
    assert_allclose(found, expected, rtol=0, atol=RTOL_ROUNDING * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["gnm", "anm"])
@pytest.mark.parametrize("n_modes", [3, 20])
def test_the_softest_modes_by_either_solver(kind, n_modes):
    # 42 nodes: 3 modes come from the sparse solver; 20 of 42 coordinates from the dense one.
    structure = cluster(42, 6, spread=4.0)
    matrix = (kirchhoff if kind == "gnm" else hessian)(structure.positions, [12.0], [1.0])
    n_null = 1 if kind == "gnm" else 6
    values, vectors = np.linalg.eigh(matrix)
    kept = slice(n_null, n_null + n_modes)
    expected = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    model = ElasticNetwork(kind, 12.0, scale="absolute", n_modes=n_modes)
    v = dense_of(model, structure)
    found = v if kind == "gnm" else flat(v)
    assert_allclose(found, expected, rtol=0, atol=RTOL_MODES * np.abs(expected).max())


def test_equipartition():
    # Each bond's energy ½ k ⟨e²⟩, summed over bonds, is ½ kT a mode: 3n − 6 of them.
    structure = cluster(10, 7)
    v = dense_of(ElasticNetwork("anm", 12.0, scale="absolute"), structure)
    total = 0.0
    for i in range(10):
        for j in range(i):
            r = structure.positions[i] - structure.positions[j]
            if np.linalg.norm(r) <= 12.0:
                relative = v[i, i] + v[j, j] - v[i, j] - v[j, i]
                total += r @ relative @ r / (r @ r)
    assert_allclose(total, 3 * 10 - 6, rtol=RTOL_ROUNDING)


def test_the_whole_cell_is_one_network_of_copies_as_placed():
    cell, groups = CRYSTALS["monoclinic"]
    structure = random_structure(np.random.default_rng(8), 6, cell, groups[0])
    model = ElasticNetwork("anm", 40.0, scale="absolute", coherence="cell")
    unit = model.coherent_unit(structure)
    # Copies by gemmi, each centroid shifted into the cell.
    basis = np.array(unit.cell.orth_matrix)
    placed = []
    for positions, _ in copies(structure.positions, np.zeros((6, 6)), cell, groups[0]):
        centre = np.linalg.solve(basis, positions.mean(axis=0))
        placed.append(positions - basis @ np.floor(centre))
    whole = made(np.concatenate(placed))
    expected = expected_of(whole, "anm", [40.0], [1.0])
    assert_allclose(
        dense_of(model, unit), expected, rtol=0, atol=RTOL_ROUNDING * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    "model",
    [
        ElasticNetwork("gnm", 50.0),
        ElasticNetwork("anm", 50.0),
        ElasticNetwork("anm", 50.0, n_modes=4),
        ElasticNetwork("anm", 50.0, coherence="cell"),
    ],
    ids=["gnm", "anm", "modes", "cell"],
)
def test_the_map_matches_direct_sums_over_explicit_copies(model):
    cell, groups = CRYSTALS["monoclinic"]
    structure = random_structure(np.random.default_rng(18), 6, cell, groups[0])
    grid = HklGrid.from_resolution(cell, 2.5, (1, 2, 1))
    found = simulate(structure, model, grid).intensity[grid.within()]
    pick = np.random.default_rng(19).choice(len(found), 60, replace=False)
    unit = model.coherent_unit(structure)
    q = grid.q()[grid.within()][pick]
    f = form_factors(unit.elements, q, unit.occupancies)
    expected = diffuse_of_cell(q, unit.positions, f, dense_of(model, unit), cell, unit.space_group)
    assert np.abs(found[pick] - expected).max() < MAP_ERROR * found.mean()


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("kind", ["gnm", "anm"])
def test_rigid_motions_of_the_whole_are_left_out(kind):
    structure = cluster(9, 9)
    v = dense_of(ElasticNetwork(kind, 100.0), structure)
    if kind == "gnm":
        assert_allclose(v.sum(axis=1), 0.0, atol=1e-12)
        assert np.linalg.matrix_rank(v) == 8
        return
    matrix = flat(v)
    motions = [np.tile(e, 9) for e in np.eye(3)]
    motions += [np.cross(e, structure.positions).ravel() for e in np.eye(3)]
    for motion in motions:
        assert_allclose(matrix @ motion, 0.0, atol=1e-11)
    assert np.linalg.matrix_rank(matrix) == 3 * 9 - 6


@pytest.mark.parametrize("kind", ["gnm", "anm"])
@pytest.mark.parametrize("n_modes", [None, 4])
@pytest.mark.parametrize("nodes", ["all", "calpha"])
def test_overall_scale_gives_the_sum_of_adps(kind, n_modes, nodes):
    structure = peptide()
    v = dense_of(ElasticNetwork(kind, 12.0, nodes, n_modes=n_modes), structure)
    wanted = np.trace(structure.u_aniso, axis1=1, axis2=2).sum()
    assert_allclose(trace_of(v).sum(), wanted, rtol=1e-12)
    unscaled = dense_of(ElasticNetwork(kind, 12.0, nodes, n_modes=n_modes, scale="absolute"),
                        structure)  # fmt: skip
    assert_allclose(v, unscaled * (v.flat[0] / unscaled.flat[0]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", ["gnm", "anm"])
def test_per_atom_scale_gives_every_atom_its_adp_and_keeps_correlations(kind):
    structure = peptide()
    v, w = (
        dense_of(ElasticNetwork(kind, 12.0, "calpha", scale=x), structure)
        for x in ("per-atom", "absolute")
    )
    assert_allclose(trace_of(v), np.trace(structure.u_aniso, axis1=1, axis2=2), rtol=1e-12)
    factors = np.sqrt(trace_of(v) / trace_of(w))
    assert_allclose(blocks(v), blocks(w) * np.outer(factors, factors)[..., None, None], rtol=1e-10,
                    atol=1e-14)  # fmt: skip
    values = np.linalg.eigvalsh(flat(v))
    assert values[0] > -1e-12 * values[-1]


def test_no_adps_no_motion():
    structure = replace(cluster(6), u_aniso=np.zeros((6, 3, 3)))
    for scale in ("overall", "per-atom"):
        assert not np.any(dense_of(ElasticNetwork("anm", 100.0, scale=scale), structure))


def test_all_modes_are_the_whole_network():
    structure = cluster(8, 10)
    whole = dense_of(ElasticNetwork("anm", 100.0), structure)
    by_modes = dense_of(ElasticNetwork("anm", 100.0, n_modes=18), structure)
    assert_allclose(by_modes, whole, atol=1e-10 * whole.max())


def test_a_factor_is_returned_where_it_is_small():
    structure = cluster(30, 11, spread=4.0)
    few = ElasticNetwork("anm", 9.0, n_modes=5).displacements(structure).correlated
    assert isinstance(few, LowRank)
    assert few.factor.shape == (30, 3, 5)
    for kind in ("gnm", "anm"):
        every = ElasticNetwork(kind, 9.0).displacements(structure).correlated
        assert isinstance(every, np.ndarray)


def test_altlocs_are_one_node_at_the_highest_occupancy():
    structure = cluster(8, 12)
    structure = replace(structure, occupancies=np.ones(8))
    split = joined(structure, structure.take(np.array([3])))
    split = replace(
        split,
        altlocs=np.array(["", "", "", "A", "", "", "", "", "B"]),
        occupancies=np.array([1, 1, 1, 0.4, 1, 1, 1, 1, 0.6]),
        positions=np.vstack([structure.positions, structure.positions[3] + 0.5]),
    )
    moved = structure.positions.copy()
    moved[3] = split.positions[8]
    expected = expected_of(made(moved), "anm", [100.0], [1.0])
    which = np.array([0, 1, 2, 3, 4, 5, 6, 7, 3])
    found = dense_of(ElasticNetwork("anm", 100.0, scale="absolute"), split)
    assert_allclose(found, expected[np.ix_(which, which)], rtol=0, atol=1e-9 * expected.max())
    # In the same place they are no contact of length 0.
    split.positions[8] = split.positions[3]
    assert np.all(np.isfinite(dense_of(ElasticNetwork("anm", 100.0), split)))


def test_sites_of_copies_and_of_nameless_atoms_stay_apart():
    structure = cluster(3)
    twice = joined(structure, structure)
    assert altloc_sites(twice)[0].tolist() == [0, 1, 2, 3, 4, 5]
    nameless = replace(structure, names=np.full(3, ""))
    assert altloc_sites(nameless)[0].tolist() == [0, 1, 2]


def test_an_atom_goes_with_its_own_residue_not_with_the_nearest_calpha():
    structure = peptide(6)
    positions = structure.positions.copy()
    calphas = np.flatnonzero(structure.names == "CA")
    positions[4] = positions[calphas[3]] + 0.1  # CB of residue 1, at the Cα of residue 4
    node_of, _ = nodes_of(replace(structure, positions=positions), "calpha")
    assert node_of[4] == 0


def test_calpha_nodes_of_copies_and_calcium():
    one, other = peptide(4), peptide(4, shift=30.0)
    node_of, at = nodes_of(joined(one, other), "calpha")
    half = one.n_atoms
    assert len(at) == 8
    assert node_of[:half].tolist() == [*np.repeat(np.arange(4), 5), node_of[half - 1]]
    assert_allclose(node_of[half:], node_of[:half] + 4)
    calcium = joined(one, made([[0, 0, 3.0]], names=np.array(["CA"]), elements=np.array(["Ca"])))
    assert len(nodes_of(calcium, "calpha")[1]) == 4


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=15)
@given(seed=st.integers(0, 999), kind=st.sampled_from(["gnm", "anm"]))
def test_a_turned_structure_has_a_turned_covariance(seed, kind):
    rng = np.random.default_rng(seed)
    structure = cluster(7, seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    moved = replace(
        structure,
        positions=structure.positions @ turn.T + rng.normal(size=3),
        u_aniso=turn @ structure.u_aniso @ turn.T,
    )
    model = ElasticNetwork(kind, 50.0, power=1.0)
    v = blocks(dense_of(model, structure))
    assert_allclose(
        blocks(dense_of(model, moved)), turn @ v @ turn.T, rtol=0, atol=1e-8 * np.abs(v).max()
    )


@pytest.mark.parametrize("scale", ["overall", "per-atom"])
def test_a_common_factor_of_springs_changes_nothing_where_scaled(scale):
    structure = cluster(8, 13)
    edges = [6.0, 100.0]
    one = ElasticNetwork(distance_edges=edges, spring_constants=[1.0, 0.2], scale=scale)
    other = one.with_parameters({"spring_constants": [7.0, 1.4]})
    assert_allclose(dense_of(one, structure), dense_of(other, structure), rtol=1e-9, atol=1e-13)
    moved = one.tangent(structure, {"spring_constants": one.spring_constants}).correlated
    assert np.abs(moved).max() < 1e-12 * np.abs(dense_of(one, structure)).max() * 1e2


def test_the_order_of_atoms_does_not_matter():
    structure = peptide()
    order = np.random.default_rng(14).permutation(structure.n_atoms)
    model = ElasticNetwork("anm", 11.0, "calpha")
    v = dense_of(model, structure)
    assert_allclose(dense_of(model, structure.take(order)), v[np.ix_(order, order)], rtol=0,
                    atol=1e-9 * np.abs(v).max())  # fmt: skip


CASES = [
    (kind, scale, nodes, n_modes)
    for kind in ("gnm", "anm")
    for scale in ("overall", "per-atom", "absolute")
    for nodes, n_modes in (("all", None), ("calpha", None), ("calpha", 5))
]


def model_of(kind, scale, nodes, n_modes):
    return ElasticNetwork(
        kind, nodes=nodes, distance_edges=[5.0, 8.0, 12.0], spring_constants=[2.0, 1.0, 0.3],
        power=0.5, scale=scale, n_modes=n_modes,
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tangent_is_the_derivative_of_displacements(case):
    structure, model = peptide(9), model_of(*case)
    direction = np.array([0.5, -0.8, 0.3])
    found = model.tangent(structure, {"spring_constants": direction}).correlated
    step = 1e-5
    ahead, behind = (
        dense_of(
            model.with_parameters(
                {"spring_constants": model.spring_constants + sign * step * direction}
            ),
            structure,
        )
        for sign in (1, -1)
    )
    expected = (ahead - behind) / (2 * step)
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 1e-3
    assert_allclose(found, expected, rtol=0, atol=RTOL_DIFFERENCE * np.abs(expected).max())


@pytest.mark.parametrize(
    ("case", "isotropic"),
    [(case, x) for case in CASES for x in (True, False) if case[0] == "gnm" or not x],
    ids=str,
)
def test_pullback_is_the_adjoint_of_tangent(case, isotropic):
    structure, model = peptide(6), model_of(*case)
    n = structure.n_atoms
    rng = np.random.default_rng(15)
    gradient = rng.normal(size=(n, n) if isotropic else (n, n, 3, 3))
    pulled = model.pullback(structure, Displacements(gradient))["spring_constants"]
    for direction in np.eye(3):
        moved = model.tangent(structure, {"spring_constants": direction}).correlated
        moved = moved if isotropic else blocks(moved)
        size = np.sum(np.abs(gradient * moved))
        assert abs(np.sum(gradient * moved) - pulled @ direction) < RTOL_ADJOINT * size


def test_pullback_without_correlations_is_zero():
    structure, model = peptide(6), model_of("anm", "overall", "all", None)
    pulled = model.pullback(structure, Displacements(independent=structure.u_aniso))
    assert pulled["spring_constants"].tolist() == [0.0, 0.0, 0.0]


def test_what_may_be_refined():
    model = model_of("anm", "overall", "all", None)
    parameter = model.refinable["spring_constants"]
    assert parameter.shape == (3,)
    assert parameter.lower > 0
    values = model.parameters(peptide(4))["spring_constants"]
    assert_allclose(model.with_parameters({"spring_constants": values}).spring_constants, values)


def test_contacts_are_all_pairs_within_the_cutoff():
    rng = np.random.default_rng(16)
    cell = Cell(7.0, 8.0, 6.0, 70.0, 100.0, 115.0)
    positions = rng.uniform(-4, 10, (5, 3))
    found = find_contacts(positions, 7.5, cell)
    images = [np.array(m) for m in np.ndindex(9, 9, 9)]
    expected = set()
    for shift in images:
        shift = shift - 4
        for i in range(5):
            for j in range(5):
                r = positions[i] - positions[j] - cell.orth_matrix @ shift
                if np.linalg.norm(r) <= 7.5 and (i != j or shift.any()):
                    expected.add((i, j, *shift))
    listed = list(zip(found.first, found.second, *found.cells.T, strict=True))
    reverse = {(j, i, -a, -b, -c) for i, j, a, b, c in listed}
    assert len(listed) == len(set(listed)) == len(expected) // 2
    assert set(listed) | reverse == expected
    for i, j, shift, r in zip(
        found.first, found.second, found.cells, found.separations, strict=True
    ):
        assert_allclose(r, positions[i] - positions[j] - cell.orth_matrix @ shift, atol=1e-12)


def test_contacts_at_the_cutoff_itself_are_in_whatever_the_last_digit_says():
    line = np.array([[0, 0, 0], [0.1 + 0.2, 0, 0]])
    assert np.linalg.norm(line[1]) > 0.3
    assert len(find_contacts(line, 0.3).first) == 1
    assert len(find_contacts(line, 0.2999).first) == 0
    beyond = find_contacts(np.zeros((1, 3)), 4.9, Cell(4.9, 20.0, 20.0, 75.0, 80.0, 85.0))
    assert np.abs(beyond.cells).tolist() == [[1, 0, 0]]


def test_the_structure_is_not_changed():
    structure, constants = peptide(6), np.array([2.0, 1.0, 0.3])
    before = structure.positions.copy(), structure.u_aniso.copy()
    model = ElasticNetwork("anm", distance_edges=[4, 8, 12.0], spring_constants=constants)
    model.displacements(structure)
    assert np.array_equal(structure.positions, before[0])
    assert np.array_equal(structure.u_aniso, before[1])
    constants[0] = 9.0
    assert model.spring_constants[0] == 2.0


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "enm"}, "kind must be one of gnm anm, got 'enm'"),
        ({"nodes": "cb"}, "nodes must be one of all calpha, got 'cb'"),
        ({"scale": None}, "scale must be one of overall per-atom absolute, got None"),
        ({"coherence": "crystal"}, "coherence must be one of asu cell, got 'crystal'"),
        ({"cutoff": -1.0}, "cutoff must be a positive number of Å, got -1.0"),
        ({"power": np.nan}, "power must be a finite number, got nan"),
        ({"n_modes": 0}, "n_modes must be a whole number >= 1, got 0"),
        ({"distance_edges": [5.0, 4.0]}, "distance_edges must increase from above 0 Å"),
        ({"distance_edges": []}, "distance_edges must increase from above 0 Å"),
        ({"distance_edges": [4.0, 8.0], "cutoff": 9.0}, "distance_edges must end at the cutoff"),
        ({"distance_edges": [4.0, 8.0]}, "spring_constants must be one number for each of 2 class"),
        ({"spring_constants": 0.0}, "spring_constants must be positive, got"),
        ({"spring_constants": [np.nan]}, "spring_constants must be positive, got"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        ElasticNetwork(**arguments)


def test_a_network_in_pieces_is_said():
    structure = made([[0, 0, 0], [2, 0, 0], [1, 2, 0], [1, 1, 2], [30, 0, 0], [32, 0, 0]])
    message = r"the network is in 2 pieces, of 4, 2 nodes: atom A UNL 1 C4 \(index 4\) is not tied"
    for kind in ("gnm", "anm"):
        with pytest.raises(InputError, match=message):
            ElasticNetwork(kind, 5.0).displacements(structure)


@pytest.mark.parametrize("n_modes", [None, 2, 9])
def test_an_under_constrained_network_is_said(n_modes):
    # A tetrahedron, and an atom that reaches two of its corners only: it swings about them.
    structure = made([[0, 0, 0], [2, 0, 0], [1, 2, 0], [1, 1, 2], [1, -1.5, -1.5]])
    model = ElasticNetwork("anm", 2.6, n_modes=n_modes)
    message = (
        r"7 motions cost no energy, expected 6; atom A UNL 1 C4 \(index 4\) has too few springs"
    )
    with pytest.raises(InputError, match=message):
        model.displacements(structure)
    assert np.all(np.isfinite(dense_of(replace(model, kind="gnm", n_modes=None), structure)))


@pytest.mark.parametrize("is_complex", [False, True])
def test_a_mode_is_null_below_a_billionth_of_the_rest(is_complex):
    rng = np.random.default_rng(17)
    noise = rng.normal(size=(8, 8)) + (1j * rng.normal(size=(8, 8)) if is_complex else 0)
    vectors, _ = np.linalg.qr(noise)
    free = vectors[:, :1]
    for least, is_null in ((1e-7, False), (1e-12, True), (0.0, True), (-1e-15, True)):
        values = np.array([0.0, least, *np.ones(6)])
        matrix = (vectors * values) @ vectors.conj().T
        matrix = (matrix + matrix.conj().T) / 2
        if is_null:
            with pytest.raises(NullModesError):
                inverse_root(matrix, free)
            continue
        root = inverse_root(matrix, free)
        expected = (vectors[:, 1:] / values[1:]) @ vectors[:, 1:].conj().T
        # Rounding of 1e-16 in the matrix is 1e-9 of its least eigenvalue.
        assert_allclose(root @ root.conj().T, expected, rtol=0, atol=1e-7 / least)


def test_coincident_atoms_are_named():
    structure = made([[0, 0, 0], [2, 0, 0], [1, 2, 0], [1, 1, 2], [1, 1, 2]])
    message = r"atoms A UNL 1 C3 \(index 3\) and A UNL 1 C4 \(index 4\) lie on top of each other"
    for model in (ElasticNetwork("anm", 5.0), ElasticNetwork("gnm", 5.0, power=2.0)):
        with pytest.raises(InputError, match=message):
            model.displacements(structure)
    assert np.all(np.isfinite(dense_of(ElasticNetwork("gnm", 5.0), structure)))


def test_too_few_nodes_and_too_many_modes():
    with pytest.raises(InputError, match="needs at least 2 nodes, got 1"):
        ElasticNetwork("gnm").displacements(cluster(1))
    with pytest.raises(InputError, match="nodes='calpha' needs carbon atoms named CA, found none"):
        ElasticNetwork("gnm", nodes="calpha").displacements(cluster(4))
    with pytest.raises(InputError, match="n_modes must be at most 12, got 13"):
        ElasticNetwork("anm", 50.0, n_modes=13).displacements(cluster(6))


def test_a_wrong_direction_is_named():
    model = ElasticNetwork("gnm", 50.0)
    with pytest.raises(InputError, match="the model has parameters spring_constants, got 'cutoff'"):
        model.tangent(cluster(4), {"cutoff": 1.0})
    with pytest.raises(InputError, match=r"spring_constants must have shape \(1,\), got \(2,\)"):
        model.tangent(cluster(4), {"spring_constants": [1.0, 2.0]})
