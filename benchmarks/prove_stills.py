"""Ten real stills and three oscillation images, reduced and scaled together, beside the map
measured from the same crystal; reduced, the stills alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.results import SHARED_DATA, Limit, finish, size_asked, skip
from offbragg import DiffuseMap, MapOptions, read_experiments, statistics
from offbragg.maps.shells import anisotropic_part
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.reduce import reduce_images

SNASE = SHARED_DATA / "snase"
D_MIN, D_MAX = 2.2, 10.0
EXTENT = 31  # indices of the measured map go from −31 to 31
LEAST_CC, LEAST_GAIN = 0.65, 0.2  # over the axis reversed
LEAST_CC_DETECTED = 0.70  # of the stills alone, peaks found in the images in place of nodes
FILES = {
    "full": ("snase_stills.expt", "snase_osc.expt"),
    "small": ("snase_stills.expt",),
}


def on_one_grid(found: DiffuseMap, measured: np.ndarray) -> tuple[DiffuseMap, DiffuseMap]:
    """Our map and theirs, NaN where not both are measured, between 10 and 2.2 Å."""
    grid = found.grid
    axes = [np.rint(axis).astype(int) for axis in (grid.h, grid.k, grid.l)]
    within = [np.abs(axis) <= EXTENT for axis in axes]
    theirs = np.full(grid.shape, np.nan)
    theirs[np.ix_(*within)] = measured[
        np.ix_(*(a[w] + EXTENT for a, w in zip(axes, within, strict=True)))
    ]
    both = np.isfinite(found.intensity) & np.isfinite(theirs) & grid.within(D_MIN, D_MAX)
    ours, others = (
        DiffuseMap(grid, np.where(both, x, np.nan).astype(np.float32), "P 41")
        for x in (found.intensity, theirs)
    )
    return ours, others


def anisotropic_cc(found: DiffuseMap, measured: np.ndarray) -> tuple[float, int]:
    """CC of what is left of both without the means of shells, and the number of voxels."""
    maps = on_one_grid(found, measured)
    both = maps[0].measured
    parts = [anisotropic_part(one.intensity, one.grid.inv_d())[both] for one in maps]
    return float(np.corrcoef(*parts)[0, 1]), int(both.sum())


def reversed_axis(experiment: Experiment) -> Experiment:
    """The control: the crystal turned the other way."""
    goniometer = experiment.goniometer
    turned = replace(goniometer, rotation_axis=-goniometer.rotation_axis)
    return replace(experiment, goniometer=turned)


def main() -> None:
    """Map, control, and statistics of equivalents over the voxels of both maps."""
    if not SNASE.is_dir():
        skip("needs ../shared/data/snase")
        return
    measured = np.load(SNASE / "maps" / "snc_map.npz")["snc"]
    options = MapOptions(
        d_min=D_MIN, still_sweeps=(0,), scaling="standard", mask=str(SNASE / "snase_mask.npy"),
        overload=10000, overload_margin=3,
    )  # fmt: skip
    experiments = [e for name in FILES[size_asked()] for e in read_experiments(SNASE / name)]
    found, how = reduce_images(experiments, options)
    assert how is not None
    cc, n_voxels = anisotropic_cc(found, measured)
    turned, _ = reduce_images([reversed_axis(e) for e in experiments], options)
    control, _ = anisotropic_cc(turned, measured)
    before, after = how.figures["r_meas_before"], how.figures["r_meas_after"]
    limits = [
        Limit("voxels of both maps", n_voxels, at_least=3000),
        Limit("CC, anisotropic, 10 to 2.2 Å", cc, at_least=LEAST_CC),
        Limit("CC above the reversed axis", cc - control, at_least=LEAST_GAIN),
        Limit("R_meas after over before scaling", after / before, at_most=0.5),
    ]
    if size_asked() == "full":
        stills = experiments[:1]
        detected, _ = reduce_images(stills, replace(options, bragg="detect"))
        limits.append(
            Limit(
                "CC of stills, peaks detected",
                anisotropic_cc(detected, measured)[0],
                at_least=LEAST_CC_DETECTED,
            )
        )
    own, other = (statistics(one)["overall"] for one in on_one_grid(found, measured))
    notes = [
        f"CC {cc:.3f}, reversed axis {control:.3f}; R_meas {before:.4f} to {after:.4f}",
        *(
            f"4/m, {name}: {row['n_pairs']} pairs, R_int {row['r_int']:.4f}, anisotropic "
            f"{row['r_int_anisotropic']:.2f}, CC of that {row['cc_equivalents_anisotropic']:.2f}"
            for name, row in (("ours", own), ("theirs", other))
        ),
    ]
    finish(limits, notes, cc=cc, control=control)


if __name__ == "__main__":
    main()
