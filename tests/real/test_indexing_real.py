"""1STN is in the other indexing mode of P 4₁ than the measured map of staphylococcal nuclease.

(−h,k,−l) is (k,h,−l) turned by the four-fold axis.
"""

import pytest

from offbragg import HklGrid, LiquidLike, import_map, read_structure, simulate
from offbragg.maps.indexing import match_indexing

LIMITS = {"d_max": 10.0, "d_min": 3.5}
LEAST_LEAD = 0.3  # of the correlation in the right indexing over that in the other
# Cell of the map: data/README.md.
CELL = (48.46, 48.46, 63.43, 90.0, 90.0, 90.0)


@pytest.mark.real
@pytest.mark.parametrize(("name", "right"), [("4wor", "h,k,l"), ("1stn_clean", "-h,k,-l")])
def test_the_indexing_of_a_structure_is_found_by_its_diffuse_scattering(shared_data, name, right):
    structure = read_structure(shared_data / f"snase/model/{name}.pdb").select("not water")
    observed = import_map(shared_data / "snase/maps/snc.wmpn.lat", cell=CELL, space_group="P 41")
    grid = HklGrid.from_resolution(structure.cell, LIMITS["d_min"])
    model = simulate(structure, LiquidLike(0.45, 12.0), grid, rtol=1e-3)
    match = match_indexing(observed, model, **LIMITS)
    assert match.operations[match.sure] == right
    assert match.lead > LEAST_LEAD, match.cc
