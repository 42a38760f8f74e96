"""Agreement by operation: a loop over voxels as oracle, and groups that hold or do not."""

import numpy as np
import pytest

from offbragg import DiffuseMap, HklGrid, InputError
from offbragg.crystal.symmetry import laue_rotations, rotate_hkl
from offbragg.maps import operation_agreement as module
from offbragg.maps.operation_agreement import named_hkl, operation_agreement
from offbragg.maps.shells import anisotropic_part

TETRAGONAL = (20.0, 20.0, 26.0, 90.0, 90.0, 90.0)
CHANCE = 0.03  # of 4000 voxels in place of all: three standard errors


def noisy(group="P 4 2 2", seed=0, d_min=4.0):
    grid = HklGrid.from_resolution(TETRAGONAL, d_min, (2, 2, 2))
    values = np.random.default_rng(seed).normal(10.0, 2.0, grid.shape)
    values[np.random.default_rng(1).random(grid.shape) < 0.3] = np.nan
    return DiffuseMap(grid, np.where(grid.within(), values, np.nan), group)


# --- 2 independent oracle -------------------------------------------------------


def test_figures_are_those_of_a_loop_over_pairs():
    made = noisy()
    grid = made.grid
    varying = anisotropic_part(made.intensity, grid.inv_d())
    for row in operation_agreement(made):
        rotation = next(r for r in laue_rotations("P 4 2 2") if named_hkl(r) == row.hkl)
        x, y, difference, total = [], [], 0.0, 0.0
        for here in zip(*np.nonzero(made.measured), strict=True):
            hkl = [axis[i] for axis, i in zip((grid.h, grid.k, grid.l), here, strict=True)]
            there, inside = grid.index_of(rotate_hkl(np.array(hkl), rotation))
            there = tuple(int(i) for i in there)
            if not inside or there == here or not made.measured[there]:
                continue
            x += [varying[here], varying[there]]
            y += [varying[there], varying[here]]
            difference += abs(made.intensity[here] - made.intensity[there])
            total += made.intensity[here] + made.intensity[there]
        assert row.n_pairs == len(x)
        assert row.cc_anisotropic == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert row.r == pytest.approx(difference / total)


# --- 3 exact limits ---------------------------------------------------------------


def test_only_the_operations_that_hold_agree():
    grid = HklGrid.from_resolution(TETRAGONAL, 4.0, (2, 2, 2))
    hkl = grid.hkl()
    signal = sum(
        np.cos(2 * np.pi * rotate_hkl(hkl, r) @ [0.31, 0.17, 0.23]) for r in laue_rotations("P 4")
    )
    found = operation_agreement(DiffuseMap(grid, signal, "P 4 2 2"))
    holds = {named_hkl(r) for r in laue_rotations("P 4")}
    assert found[0].is_friedel
    assert sum(row.is_friedel for row in found) == 1
    for row in found:
        if row.hkl in holds:
            assert row.cc_anisotropic == pytest.approx(1.0)
            assert row.r == pytest.approx(0.0, abs=1e-12)
        else:
            assert row.cc_anisotropic < 0.5


def test_names_of_operations():
    # 16 operations of 4/mmm; two pairs of inverses, 4 and -4, and the identity are left out.
    found = operation_agreement(noisy())
    kinds = [row.kind for row in found]
    assert len(found) == 13
    assert kinds[0] == "inversion (Friedel mates)"
    assert kinds.count("4-fold axis") == kinds.count("4-fold with inversion") == 1
    assert kinds.count("2-fold axis") == kinds.count("mirror") == 5
    by_hkl = {row.hkl: row.kind for row in found}
    assert by_hkl["-h, -k, l"] == "2-fold axis"
    assert by_hkl["k, h, l"] == "mirror"
    hexagonal = HklGrid.from_resolution((20, 20, 26, 90, 90, 120), 6.0)
    names = {
        row.hkl: row.kind
        for row in operation_agreement(DiffuseMap(hexagonal, np.ones(hexagonal.shape), "P 6"))
    }
    assert sorted(names.values()) == [
        "2-fold axis", "3-fold axis", "3-fold with inversion", "6-fold axis",
        "6-fold with inversion", "inversion (Friedel mates)", "mirror",
    ]  # fmt: skip


# --- 4 invariances ------------------------------------------------------------------


def test_some_voxels_tell_what_all_tell(monkeypatch):
    made = noisy(d_min=2.5)
    doubled = np.where(made.grid.h[:, None, None] > 0, made.intensity, made.intensity[::-1])
    made = DiffuseMap(made.grid, doubled, "P 2 2 2")
    whole = operation_agreement(made)
    monkeypatch.setattr(module, "MOST_VOXELS", 4000)
    some = operation_agreement(made, np.random.default_rng(3))
    for all_of, row in zip(whole, some, strict=True):
        assert row.hkl == all_of.hkl
        assert row.n_pairs < all_of.n_pairs
        assert row.cc_anisotropic == pytest.approx(all_of.cc_anisotropic, abs=CHANCE)


# --- 5 errors -----------------------------------------------------------------------


def test_a_group_that_does_not_fit_the_cell_is_refused():
    grid = HklGrid.from_resolution((20, 24, 26, 90, 90, 90), 6.0)
    with pytest.raises(InputError, match=r"laue_group 4/m does not fit the cell"):
        operation_agreement(DiffuseMap(grid, np.ones(grid.shape), "P 4"))
