"""ElasticNetwork: textbook matrices, null modes, Cα nodes, modes, derivatives.

The oracle is a Kirchhoff matrix or Hessian made by plain loops over pairs, and its pseudo-inverse.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.networks import cluster, dense_of, joined, made, peptide
from tests.oracles import blocks, copies, diffuse_of_cell, flat, form_factors
from tests.strategies import CRYSTALS, random_structure

from offbragg import HklGrid, simulate
from offbragg.disorder.elastic_network import ElasticNetwork
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank

RTOL_ROUNDING = 1e-9  # two ways to invert matrices of condition 1e3 to 1e5; 1e-12 seen
RTOL_MODES = 1e-6  # shift-inverted Lanczos iterations to 1e-12, of nearly equal modes
RTOL_DIFFERENCE = 1e-6  # central differences of step 1e-5: 1e-9 of higher order and rounding
RTOL_ADJOINT = 1e-12  # the same sum in another order
MAP_ERROR = 1e-3  # of the mean, the project's own figure


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
