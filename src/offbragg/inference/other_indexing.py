"""Whether a map agrees with a fitted model as it is indexed, or in another way that it may be."""

from __future__ import annotations

from collections.abc import Callable

from offbragg.crystal.symmetry import fits_sampling
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.indexing import indexing_choices, match_indexing


def told_other_indexing(
    observed: DiffuseMap,
    fitted: DiffuseMap,
    at_start: Callable[[], DiffuseMap],
    *,
    d_max: float | None = None,
    d_min: float | None = None,
) -> str:
    """Say so where another indexing agrees better, by four standard errors; else ``""``.

    A structure refined against another crystal may be in the other indexing mode of P 4₁, say. Its
    model then explains nothing of the map, and nothing else tells why. A model that was fitted to
    the wrong indexing is bent towards it, so that the motions it started from tell more.

    Parameters
    ----------
    observed, fitted : DiffuseMap
        The map, and that of the fitted model.
    at_start : callable
        Gives the map of the model that the fit started from; called where the fitted one does not
        agree with the map as it is indexed, and there is another way.
    d_max, d_min : float, optional
        Limits of resolution [Å].

    Returns
    -------
    str
        A sentence for people. ``""`` too where there is one way to index only, or a map sampled
        unequally along axes that another way exchanges.
    """
    choices = indexing_choices(observed.cell, observed.laue_group or observed.space_group)
    if len(choices) < 2 or not fits_sampling(choices, observed.grid.sampling):
        return ""
    if match_indexing(observed, fitted, d_max=d_max, d_min=d_min).best == 0:
        return ""
    match = match_indexing(observed, at_start(), d_max=d_max, d_min=d_min)
    if not match.sure:
        return ""
    return (
        f"The map agrees better with the model that the fit started from if it is indexed as "
        f"{match.operations[match.sure]}: correlation {match.cc[match.sure]:.2f}, not "
        f"{match.cc[0]:.2f}; see offbragg reindex."
    )
