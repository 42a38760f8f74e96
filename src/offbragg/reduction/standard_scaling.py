"""The usual corrections of a scaling, with ranges and knots that the observations suggest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.crystal.friedel import check_friedel
from offbragg.errors import InputError
from offbragg.reduction.scaling_model import Correction, ScalingData
from offbragg.reduction.smooth_function import Axis, SmoothFunction

#: The usual corrections, and all that `standard_corrections` knows.
SCALINGS = ("scale", "absorption", "detector", "offset")
KNOWN = (*SCALINGS, "chip")


@dataclass(frozen=True, kw_only=True)
class ScalingOptions:
    """How observations are scaled.

    Attributes
    ----------
    corrections : tuple of str
        scale: the beam, by rotation; absorption, of what the crystal scatters: by direction and
        rotation; detector: by direction alone; offset: what is added, by resolution and rotation;
        chip: one number for each chip of the detector. Each for every sweep, but for detector and
        chip. What equivalents do not need fades out.
    laue_group : str or None
        Whose equivalents are to agree; that of the space group if not given.
    friedel : str
        merged: I(h) and I(−h) are to agree as well. apart: they may differ, with an anomalous
        signal that corrections are not to take for absorption, nor outliers be found by.
    scale_spacing : float or None
        Between knots of the scale [degrees]; 10, or a tenth of a sweep that turns by less than
        100°, if not given.
    angle_spacing : float or None
        Between knots of absorption and offset in rotation [degrees]; 30, or a sixth of a sweep
        that turns by less than 180°, if not given.
    direction_spacing : float
        Between knots of absorption and detector in direction [rad].
    resolution_spacing : float
        Between knots of the offset [Å⁻¹ in 1/d].
    roughness : float
        Change of slope from knot to knot that is expected at first, of factors; of an offset, in
        units of the mean intensity. Equivalents tell what it is, ten times as much at most.
    outlier_probability : float
        Observations less probable than this by what equivalents make expected are left out; 0:
        none is.
    most_observations : int
        What the corrections are fitted to at most; they are applied to all.
    seed : int
        Draws the orbits that they are fitted to.
    """

    corrections: tuple[str, ...] = SCALINGS
    laue_group: str | None = None
    friedel: Literal["merged", "apart"] = "merged"
    scale_spacing: float | None = None
    angle_spacing: float | None = None
    direction_spacing: float = 0.2
    resolution_spacing: float = 0.1
    roughness: float = 0.03
    outlier_probability: float = 1e-6
    most_observations: int = 300_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_friedel(self.friedel)
        unknown = [name for name in self.corrections if name not in KNOWN]
        if unknown:
            raise InputError(f"corrections must be among {', '.join(KNOWN)}, got {unknown[0]!r}")
        for name in (
            "scale_spacing", "angle_spacing", "direction_spacing", "resolution_spacing",
            "roughness", "most_observations",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be > 0, got {value}")


def standard_corrections(data: ScalingData, options: ScalingOptions) -> tuple[Correction, ...]:
    """Make the corrections that the options name.

    What has no range is no variable: a scale of stills that did not turn has none of rotation.
    """
    columns = data.columns
    n_sweeps = int(columns["sweep"].max()) + 1
    turn = _largest_turn(columns["sweep"], columns["angle"])
    of_scale = options.scale_spacing or min(10.0, turn / 10)
    of_angle = options.angle_spacing or min(30.0, turn / 6)
    made = []
    for name in options.corrections:
        if name == "chip":
            made.append(_of_chips(columns["chip"], options.roughness))
            continue
        spacings = {
            "scale": {"angle": of_scale},
            "absorption": {
                "x": options.direction_spacing, "y": options.direction_spacing,
                "angle": of_angle,
            },
            "detector": {"x": options.direction_spacing, "y": options.direction_spacing},
            "offset": {"inv_d": options.resolution_spacing, "angle": of_angle},
        }[name]  # fmt: skip
        axes = {v: _axis(columns[v], spacing) for v, spacing in spacings.items()}
        if n_sweeps > 1 and name != "detector":
            axes["sweep"] = Axis.of_categories(n_sweeps)
        kind = {"absorption": "crystal", "offset": "offset"}.get(name, "all")
        function = SmoothFunction(name, tuple(axes.values()))
        made.append(Correction(function, tuple(axes), kind, options.roughness))
    return tuple(made)


def _of_chips(chip: FloatArray, roughness: float) -> Correction:
    """One factor a chip."""
    n_chips = int(chip.max()) + 1
    if n_chips < 2:
        raise InputError(
            "corrections: chip needs observations by several chips, found those of one; option "
            "chips of the command that writes them says how many a panel has"
        )
    function = SmoothFunction("chip", (Axis.of_categories(n_chips),))
    return Correction(function, ("chip",), "all", roughness)


def _largest_turn(sweep: FloatArray, angle: FloatArray) -> float:
    """How far the sweep turns that turns most [degrees]; 1 where none does."""
    turns = [float(np.ptp(angle[sweep == number])) for number in np.unique(sweep)]
    return max(turns) or 1.0


def _axis(values: FloatArray, spacing: float) -> Axis:
    """Cover values; linear between two knots where they are but a few spacings."""
    axis = Axis.over(values, spacing)
    if axis.degree == 0:
        return axis
    return axis if axis.n_intervals > 1 else Axis(axis.low, axis.high, 1, degree=1)
