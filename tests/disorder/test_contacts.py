"""Contacts: all pairs within a cutoff, across cells too, each once."""

import numpy as np
from numpy.testing import assert_allclose

from offbragg.crystal.cell import Cell
from offbragg.disorder.contacts import find_contacts

# --- 4 invariances -------------------------------------------------------


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
