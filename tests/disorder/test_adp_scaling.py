"""Scales of elastic networks: traces given by ADPs, correlations kept."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.networks import cluster, dense_of, peptide, trace_of
from tests.oracles import blocks, flat

from offbragg.disorder.elastic_network import ElasticNetwork

# --- 3 exact limits ------------------------------------------------------


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


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("scale", ["overall", "per-atom"])
def test_a_common_factor_of_springs_changes_nothing_where_scaled(scale):
    structure = cluster(8, 13)
    edges = [6.0, 100.0]
    one = ElasticNetwork(distance_edges=edges, spring_constants=[1.0, 0.2], scale=scale)
    other = one.with_parameters({"spring_constants": [7.0, 1.4]})
    assert_allclose(dense_of(one, structure), dense_of(other, structure), rtol=1e-9, atol=1e-13)
    moved = one.tangent(structure, {"spring_constants": one.spring_constants}).correlated
    assert np.abs(moved).max() < 1e-12 * np.abs(dense_of(one, structure)).max() * 1e2
