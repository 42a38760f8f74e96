"""What a reader should know of a fit, an inference or a ranking, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offbragg.inference.ranking import RankedModel
from offbragg.report.findings import Finding, good, gravest_first, remark, warning
from offbragg.report.records import FitRecord, InferredRecord

# Correlation on held-out voxels that is none; and how far below the fitted ones' it may be.
_NOTHING, _GAP = 0.1, 0.1
_UNEXPLAINED = 2.0  # mean (residual / σ)²
_FEW_DETERMINED = 0.5  # of the numbers
_ERRORS = 2.0  # standard errors that a gain must have
_CHANCE, _CLIPPED = 0.5, 0.05


def fit_findings(fit: FitRecord) -> list[Finding]:
    """What to know of a fit, gravest first."""
    found = []
    if not fit.converged:
        found.append(warning(f"The fit has not converged: {fit.message}"))
    else:
        found.append(good("The fit converged."))
    if fit.undetermined:
        found.append(warning(fit.undetermined))
    elif fit.n_determined < _FEW_DETERMINED * fit.n_numbers:
        found.append(
            remark(
                f"The map determines about {fit.n_determined:.0f} of the {fit.n_numbers} numbers "
                "that were refined; restraints or the start decided the others."
            )
        )
    found += _told_prediction(fit) + _told_residuals(fit)
    return gravest_first(found)


def _told_prediction(fit: FitRecord) -> list[Finding]:
    """How the model does on voxels that took no part."""
    sets = fit.sets()
    if "held_out" not in sets:
        return [
            remark(
                "No voxels were held out: nothing says how well the model predicts what it was not "
                "fitted to."
            )
        ]
    held, working = (sets[name]["cc_anisotropic"] for name in ("held_out", "working"))
    if held is None or working is None:
        return [remark("Too few voxels were held out for a correlation.")]
    if held < _NOTHING:
        return [
            warning(
                f"The model predicts held-out data no better than chance: the variations correlate "
                f"by {held:.2f} ({working:.2f} where it was fitted)."
            )
        ]
    if working - held > _GAP:
        return [
            warning(
                f"The model fits ({working:.2f}) better than it predicts ({held:.2f} on held-out "
                "voxels): it has more freedom than the map supports."
            )
        ]
    found = [
        good(
            f"The model predicts held-out voxels as well as those that it was fitted to: "
            f"correlations of {held:.2f} and {working:.2f} of the variations."
        )
    ]
    shells = sets["held_out"]["shells"]
    values = np.array(shells["cc_anisotropic"], dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values))
    above = known[values[known] >= _NOTHING]
    if len(above) and above[-1] != known[-1]:
        d = shells["d_min"][above[-1]]
        found.append(
            remark(f"Beyond {d:.2f} Å the model has nothing in common with held-out voxels.")
        )
    return found


def _told_residuals(fit: FitRecord) -> list[Finding]:
    chi2 = fit.sets()["working"]["chi2_reduced"]
    if chi2 is None or chi2 <= _UNEXPLAINED:
        return []
    return [
        remark(
            f"What the model leaves is {np.sqrt(chi2):.1f} times the map's standard errors: there "
            "is more in the map than this model, or its errors are too small."
        )
    ]


def inferred_findings(found: InferredRecord) -> list[Finding]:
    """What to know of an inference, gravest first."""
    told = []
    gain, error = found.exact.gain, found.exact.gain_error
    said = (
        f"the correlation with voxels left out goes from {found.exact.base:.3f} to "
        f"{found.exact.cc:.3f}, a gain of {gain:.4f} ± {error:.4f}"
    )
    if gain <= _ERRORS * error:
        told.append(warning(f"The inferred motions predict no better than the base model: {said}."))
    else:
        told.append(good(f"The inferred motions predict better than the base model: {said}."))
        if found.null is not None and found.null.gain > _CHANCE * found.linear.gain:
            told.append(
                warning(
                    "On a wrongly indexed map the same functions gain "
                    f"{found.null.gain:.3f}, here {found.linear.gain:.3f}: much of it is chance."
                )
            )
    if found.clipped > _CLIPPED:
        told.append(
            remark(
                f"{100 * found.clipped:.0f} % of the motion was cut off to make the covariance a "
                "possible one."
            )
        )
    return gravest_first(told)


def ranking_findings(ranked: Sequence[RankedModel]) -> list[Finding]:
    """What to know of a ranking, gravest first."""
    first, told = ranked[0], []
    if first.cc_null is not None and first.cc - first.cc_null <= _ERRORS * first.cc_error:
        told.append(
            warning(
                f"The best model, {first.name}, predicts no better than on a wrongly indexed map: "
                f"{first.cc:.3f} ± {first.cc_error:.3f} against {first.cc_null:.3f}."
            )
        )
    elif first.cc < _NOTHING:
        told.append(
            warning(f"No model predicts held-out voxels: the best correlates by {first.cc:.3f}.")
        )
    else:
        told.append(
            good(
                f"{first.name} predicts best: a correlation of {first.cc:.3f} ± "
                f"{first.cc_error:.3f} with voxels that it was not fitted to."
            )
        )
    alike = [x.name for x in ranked[1:] if x.behind <= max(x.behind_error, 0.0)]
    if alike:
        names = ", ".join(alike)
        told.append(
            remark(f"Within one standard error of the best, and not told from it: {names}.")
        )
    stuck = [x.name for x in ranked if not x.converged]
    if stuck:
        told.append(warning(f"Fits that have not converged: {', '.join(stuck)}."))
    return gravest_first(told)
