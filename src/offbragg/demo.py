"""The whole way on made data with known truth: a crystal, its images, a map, a fit, a page.

A peptide is built from ideal geometry in a monoclinic cell; its atoms move by liquid-like motions
of known amplitude and correlation length. Bragg peaks and diffuse scattering are exposed on a
two-panel detector with photon noise. From the images alone, with the average structure, the map
and the motions are recovered and set beside the truth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.writers import write_pdb
from offbragg.disorder import LiquidLike
from offbragg.errors import InputError
from offbragg.inference import FitResult, fit
from offbragg.made_crystal import make_experiment, make_peptide
from offbragg.maps.comparison import Comparison, compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.io import write_map
from offbragg.maps.provenance import plain
from offbragg.maps.symmetrize import MergeResult, merge
from offbragg.plotting import draw_correlation, draw_image, draw_sections
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions, ExposeResult, expose
from offbragg.reduction.images import open_images
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map
from offbragg.report import MapFacts, Page, map_findings
from offbragg.report.fit_report import add_fit
from offbragg.report.history import add_history
from offbragg.report.map_report import add_statistics
from offbragg.report.records import FitRecord
from offbragg.report.result_findings import fit_findings
from offbragg.runtime import SILENT, Progress
from offbragg.simulation import simulate

TRUTH = LiquidLike(rms_displacement=0.35, correlation_length=6.0)
START = LiquidLike(rms_displacement=0.5, correlation_length=12.0)
D_MIN = 2.0
SAMPLING = (3, 3, 3)
# The map that is exposed is sampled finer than the one measured: Bragg peaks, spread by the linear
# interpolation over one of its voxels each way, keep clear of the voxels between; and the
# interpolation smooths the less the finer it is. The molecule is longest along the short axis c.
_EXPOSED_SAMPLING = (9, 9, 18)
# The innermost voxels are as wide as their distance from the beam; a beam stop hides them anyway.
_D_MAX = 8.0
_BRAGG_RADIUS = 0.2  # > √3 / 9, the reach of a peak


@dataclass(frozen=True)
class DemoOptions:
    """How large and how bright the made experiment is.

    Attributes
    ----------
    n_images : int
        Images of the half turn.
    n_pixels : int
        Pixels along each edge of the detector.
    photons : float
        Mean photons a pixel, Bragg peaks included.
    seed : int
        Of photon noise, random halves and held-out blocks.
    """

    n_images: int = 180
    n_pixels: int = 256
    photons: float = 12.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_images < 20 or self.n_pixels < 64:
            raise InputError(
                f"demo needs at least 20 images of 64 pixels, got {self.n_images} of "
                f"{self.n_pixels}"
            )
        if self.n_pixels % 2:
            raise InputError(f"n_pixels must be even, got {self.n_pixels}")
        if not (np.isfinite(self.photons) and self.photons > 0):
            raise InputError(f"photons must be > 0 a pixel, got {self.photons}")
        if self.seed < 0:
            raise InputError(f"seed must be >= 0, got {self.seed}")


@dataclass(frozen=True)
class DemoResult:
    """What was made and found.

    Attributes
    ----------
    files : mapping of str to Path
    truth : LiquidLike
    fit : FitResult
    map_to_truth : Comparison
        Anisotropic parts of the merged map and of the true diffuse map.
    statistics : mapping
        Of the merged map.
    """

    files: Mapping[str, Path]
    truth: LiquidLike
    fit: FitResult
    map_to_truth: Comparison
    statistics: Mapping[str, object]

    def summary(self) -> dict[str, object]:
        """Truth and recovery as plain values."""
        recovered = {
            name: {
                "truth": getattr(self.truth, name),
                "recovered": p.value,
                "standard_error": p.standard_error,
                "unit": p.unit,
            }
            for name, p in self.fit.parameters.items()
        }
        return {
            "parameters": recovered,
            "converged": self.fit.converged,
            "map_to_truth_cc_anisotropic": self.map_to_truth.overall.cc,
            "fit_statistics": plain(self.fit.statistics),
            "map_statistics": plain(self.statistics.get("overall", {})),
        }


def run_demo(
    out_dir: str | Path, options: DemoOptions | None = None, progress: Progress = SILENT
) -> DemoResult:
    """Go the whole way on made data and write every file on it, with one page.

    Parameters
    ----------
    out_dir : str or Path
        Folder for the files; made where it does not exist.
    options : DemoOptions, optional
    progress : Progress

    Returns
    -------
    DemoResult
    """
    settings = options or DemoOptions()
    rng = np.random.default_rng(settings.seed)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "structure": out / "structure.pdb",
        "truth": out / "truth.h5",
        "map": out / "map.h5",
        "merged": out / "merged.h5",
        "model": out / "model.h5",
        "parameters": out / "parameters.json",
        "report": out / "report.html",
    }
    structure = make_peptide(u=float(np.mean(TRUTH.u)))
    write_pdb(files["structure"], structure)
    truth = simulate(structure, TRUTH, HklGrid.from_resolution(structure.cell, D_MIN, SAMPLING))
    write_map(files["truth"], truth)
    exposed = _expose(structure, settings, out, rng, progress)
    files |= {"experiments": exposed.experiments, "images": exposed.images[0]}
    experiments = read_experiments(exposed.experiments)
    observed = compute_map(
        experiments,
        MapOptions(d_min=D_MIN, sampling=SAMPLING, bragg_radius=_BRAGG_RADIUS),
        rng,
        progress,
    )
    write_map(files["map"], observed)
    merged = merge(observed)
    write_map(files["merged"], merged.map)
    found = fit(merged.map, structure, START, d_max=_D_MAX, rng=rng, progress=progress)
    write_map(files["model"], found.model_map)
    agreement = compare(merged.map, truth)
    result = DemoResult(files, TRUTH, found, agreement, merged.statistics)
    files["parameters"].write_text(json.dumps(result.summary(), indent=2) + "\n", encoding="utf-8")
    with open_images(experiments[0]) as images:
        first_image = images.read(0)
    _write_page(result, merged, truth, first_image, settings)
    return result


def _expose(
    structure: AtomicStructure,
    settings: DemoOptions,
    out: Path,
    rng: np.random.Generator,
    progress: Progress,
) -> ExposeResult:
    """Images of Bragg peaks and diffuse scattering, a little beyond the resolution of the map."""
    cell = structure.require_cell()
    grid = HklGrid.from_resolution(cell, 0.95 * D_MIN, _EXPOSED_SAMPLING)
    total = simulate(structure, TRUTH, grid, part="total")
    experiment = make_experiment(
        cell,
        structure.space_group,
        d_min=D_MIN,
        n_images=settings.n_images,
        oscillation_deg=180.0 / settings.n_images,
        n_pixels=settings.n_pixels,
    )
    photons = ExposeOptions(settings.photons, overwrite=True)
    return expose(total, experiment, out, photons, rng, progress)


def _write_page(
    result: DemoResult,
    merged: MergeResult,
    truth: DiffuseMap,
    image: tuple[np.ndarray, ...],
    settings: DemoOptions,
) -> None:
    page = Page("offbragg demo: from images to motions, with the truth beside the answer")
    page.text(
        "A made peptide crystal, monoclinic, whose atoms move together over short distances "
        "(liquid-like motions). Its X-ray images were computed with Bragg peaks, diffuse "
        f"scattering and photon noise: {settings.n_images} images of "
        f"{settings.n_pixels} × {settings.n_pixels} pixels, {settings.photons:g} photons a pixel "
        "on average, most of them in Bragg peaks. From these images and the average structure the "
        "motions were inferred."
    )
    page.heading("Truth and recovery")
    page.table(
        ("quantity", "truth", "recovered", "standard error", "off by"),
        [
            (
                f"{name.replace('_', ' ')} ({p.unit})",
                float(getattr(result.truth, name)),
                p.value,
                p.standard_error,
                f"{(p.value - getattr(result.truth, name)) / p.standard_error:+.1f} "
                "standard errors",
            )
            for name, p in result.fit.parameters.items()
        ],
    )
    page.heading("An image")
    page.figure(
        draw_image(image[::-1], "image 1, both panels"),
        "The first image: dark spots are Bragg peaks, the clouds between them are diffuse.",
    )
    page.heading("The map")
    facts = MapFacts.of(merged.map)
    page.findings(map_findings(facts))
    page.text(
        "Beside the truth: the anisotropic parts of the measured and of the true map correlate by "
        f"{result.map_to_truth.overall.cc:.3f}. Pixels within {_BRAGG_RADIUS:g} of a Bragg node "
        "were left out."
    )
    page.figure(
        draw_sections({"measured, merged": merged.map, "truth": truth}),
        "Section l = 0 of the measured and of the true diffuse map, isotropic part removed.",
    )
    page.figure(
        draw_correlation({"measured and true map": result.map_to_truth}),
        "Correlation of the anisotropic parts by resolution.",
    )
    add_statistics(page, facts)
    fit = FitRecord.of(result.fit)
    add_fit(page, merged.map, fit)
    page.findings(fit_findings(fit))
    add_history(page, fit.model_map.provenance)
    page.write(result.files["report"])
