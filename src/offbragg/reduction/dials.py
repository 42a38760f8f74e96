"""DIALS experiment lists (``.expt``): the JSON of dxtbx models, read without dxtbx.

Only the file's own layout is known here: which key holds what, in which unit and frame. Every
error names the file, the field, what was expected and what was found.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction._checks import checked_array
from offbragg.reduction.geometry import Beam, CrystalModel, Goniometer, Scan
from offbragg.reduction.panel import Panel

logger = logging.getLogger(__name__)

Model = TypeVar("Model")
_MOST_IMAGES = 10_000_000  # beyond this the range is an error, not a scan
_IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)


@dataclass(frozen=True)
class ImageNames:
    """What an experiment says of its images: a template, or files, and places in a file."""

    template: str = ""
    files: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()


class ExptFile:
    """The JSON of one ``.expt`` file, and its models by index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = _read_json(path)
        # Experiments that refer to the same model get the same object.
        self._made: dict[tuple[str, int], Any] = {}
        kind = self.content.get("__id__") if isinstance(self.content, dict) else None
        if kind != "ExperimentList":
            raise self.wrong("__id__", "'ExperimentList'", repr(kind))
        self.experiments = self.content.get("experiment")
        if not isinstance(self.experiments, list) or not self.experiments:
            raise self.wrong("experiment", "a list of experiments", repr(self.experiments)[:60])
        if not all(isinstance(entry, dict) for entry in self.experiments):
            raise self.wrong("experiment", "a list of objects", repr(self.experiments)[:60])

    def wrong(self, field: str, expected: str, found: str) -> FormatError:
        """Build the error for a field of this file."""
        return FormatError(f"{self.path}: {field}: expected {expected}, found {found}")

    def model(self, kind: str, index: int) -> dict[str, Any] | None:
        """Give the model of a kind that experiment ``index`` refers to; None where it has none."""
        reference = self.experiments[index].get(kind)
        if reference is None:
            return None
        models = self.content.get(kind)
        n_models = len(models) if isinstance(models, list) else 0
        is_index = isinstance(reference, int) and not isinstance(reference, bool)
        if not (is_index and 0 <= reference < n_models):
            raise self.wrong(
                f"experiment {index}: {kind}",
                f"an index below {n_models}, the number of {kind} models",
                repr(reference),
            )
        model = models[reference]
        if model is not None and not isinstance(model, dict):
            raise self.wrong(f"{kind} {reference}", "an object", repr(model)[:60])
        return model

    def build(
        self, kind: str, index: int, make: Callable[[dict[str, Any]], Model], missing: str = ""
    ) -> Model:
        """Make a model of experiment ``index``; what it lacks or has wrong is named."""
        model = self.model(kind, index)
        where = f"experiment {index}: {kind}"
        if model is None:
            raise self.wrong(where, missing or f"a {kind} model", "none")
        key = (kind, self.experiments[index][kind])
        try:
            if key not in self._made:
                self._made[key] = make(model)
            made: Model = self._made[key]
            return made
        except KeyError as error:
            raise self.wrong(where, f"a value for {error}", "none") from None
        except InputError as error:
            raise FormatError(f"{self.path}: {where}: {error}") from None
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise FormatError(f"{self.path}: {where}: cannot be read: {error}") from None


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"{path}: expected a DIALS .expt file (JSON), {reason}") from None


def imageset_from_dict(model: Mapping[str, Any]) -> ImageNames:
    """Read where the images are; maps of DIALS that are not used are warned of."""
    for kind in ("mask", "gain", "pedestal", "dx", "dy"):
        if model.get(kind):
            logger.warning("imageset: its %s file is a DIALS pickle and not used", kind)
    files = model.get("images") or []
    if not isinstance(files, list):
        raise InputError(f"images must be a list of names, got {files!r}")
    return ImageNames(
        template=str(model.get("template") or ""),
        files=tuple(str(name) for name in files),
        indices=tuple(int(number) for number in model.get("single_file_indices") or ()),
    )


def beam_from_dict(model: Mapping[str, Any]) -> Beam:
    """Read a beam; the file's direction is from the crystal to the source."""
    kind = str(model.get("__id__", "monochromatic"))
    if "mono" not in kind.lower():
        raise InputError(f"__id__ must be 'monochromatic', got {kind!r}")
    points = model.get("s0_at_scan_points")
    return Beam(
        wavelength=float(model["wavelength"]),
        direction=-_vector("direction", model["direction"]),
        polarization_normal=np.array(model.get("polarization_normal", (0.0, 1.0, 0.0))),
        polarization_fraction=float(model.get("polarization_fraction", 0.999)),
        s0_points=np.array(points) if points else None,
    )


def goniometer_from_dict(model: Mapping[str, Any]) -> Goniometer:
    """Read a goniometer of one axis, or of several with their angles in degrees."""
    if {"axes", "angles", "scan_axis"} <= set(model):
        angles = np.radians(np.array(model["angles"], dtype=np.float64))
        return Goniometer.from_axes(model["axes"], angles, int(model["scan_axis"]))
    points = model.get("setting_rotation_at_scan_points")
    return Goniometer(
        rotation_axis=np.array(model["rotation_axis"]),
        fixed_rotation=_matrix(model.get("fixed_rotation", _IDENTITY)),
        setting_rotation=_matrix(model.get("setting_rotation", _IDENTITY)),
        setting_points=np.array([_matrix(point) for point in points]) if points else None,
    )


def scan_from_dict(model: Mapping[str, Any]) -> Scan:
    """Read a scan: ``properties`` with one value an image, or ``oscillation: [start, width]``."""
    first, last = (int(number) for number in model["image_range"])
    n_images = last - first + 1
    if not 1 <= n_images <= _MOST_IMAGES:
        raise InputError(f"image_range must be first <= last, got {[first, last]}")
    table = model.get("properties")
    if table is None:
        start, width = _old_oscillation(model, n_images)
        exposure = model.get("exposure_time")
    else:
        start, width = _tabulated_oscillation(table, n_images)
        exposure = table.get("exposure_time")
    return Scan(
        (first, last), np.radians(start), np.radians(width), _exposure_times(exposure, n_images)
    )


def _old_oscillation(model: Mapping[str, Any], n_images: int) -> tuple[FloatArray, FloatArray]:
    """Give starts and widths (n_images,) [degrees] from a first start and one width."""
    start, width = (float(angle) for angle in model.get("oscillation", (0.0, 0.0)))
    widths: FloatArray = np.full(n_images, width)
    return start + widths * np.arange(n_images), widths


def _tabulated_oscillation(
    table: Mapping[str, Any], n_images: int
) -> tuple[FloatArray, FloatArray]:
    """Give starts and widths (n_images,) [degrees] from a table with a row for each image."""
    start = np.array(table.get("oscillation", np.zeros(n_images)), dtype=np.float64)
    if start.shape != (n_images,):
        raise InputError(
            f"properties.oscillation must have one value for each of the {n_images} images, got "
            f"{start.size}"
        )
    given = table.get("oscillation_width")
    if given is not None:
        width = np.broadcast_to(np.array(given, dtype=np.float64), (n_images,))
    elif n_images == 1:
        width = np.zeros(1)  # nothing says how far it turned: a still
    else:
        steps = np.diff(start)
        width = np.append(steps, steps[-1])
    return start, width


def _exposure_times(given: Any, n_images: int) -> FloatArray | None:
    """Exposure times (n_images,) [s]; a list that is too short goes on with its last value."""
    if given is None:
        return None
    times = np.atleast_1d(np.array(given, dtype=np.float64))
    if times.size == 0:
        return None
    return np.append(times, np.full(max(0, n_images - times.size), times[-1]))[:n_images]


def crystal_from_dict(model: Mapping[str, Any]) -> CrystalModel:
    """Read a crystal: rows a, b, c in real space, or A matrices along the scan."""
    names = [f"real_space_{axis}" for axis in "abc"]
    rows = np.stack([_vector(name, model[name]) for name in names])
    if not abs(np.linalg.det(rows)) > 1e-6:
        raise InputError(f"real_space_a, _b, _c must span a volume, got {rows.tolist()}")
    symbol = next(
        (model[key] for key in ("space_group_hall_symbol", "space_group") if model.get(key)), None
    )
    if symbol is None:
        raise KeyError("space_group_hall_symbol")
    points = model.get("A_at_scan_points")
    a_matrix = np.asarray(np.linalg.inv(rows), dtype=np.float64)
    return CrystalModel(
        a_matrix=a_matrix,
        scan_points=np.array([_matrix(point) for point in points]) if points else None,
        space_group=str(symbol),
    )


def detector_from_dict(model: Mapping[str, Any]) -> tuple[Panel, ...]:
    """Read the panels, each in the laboratory frame.

    A file's vectors are local to the group that holds the panel: they are turned by the matrix
    of columns fast, slow, fast × slow of that group, and origins moved by its origin; groups
    likewise by theirs.
    """
    entries = model["panels"]
    frames: list[tuple[FloatArray, FloatArray] | None] = [None] * len(entries)
    hierarchy = model.get("hierarchy")
    if hierarchy is None:
        frames = [(np.eye(3), np.zeros(3))] * len(entries)
    else:
        _collect_frames(hierarchy, np.eye(3), np.zeros(3), frames)
    panels = []
    for number, (entry, frame) in enumerate(zip(entries, frames, strict=True)):
        if frame is None:
            raise InputError(f"hierarchy must name every panel, panel {number} is not in it")
        panels.append(_panel_from_dict(entry, *frame))
    return tuple(panels)


def _collect_frames(
    node: Mapping[str, Any],
    parent: FloatArray,
    parent_origin: FloatArray,
    frames: list[tuple[FloatArray, FloatArray] | None],
) -> None:
    """Fill in the frame of the group that holds each panel, going down the hierarchy."""
    turn, origin = parent, parent_origin
    if {"fast_axis", "slow_axis", "origin"} <= set(node):
        fast = _unit("fast_axis", node["fast_axis"])
        slow = _unit("slow_axis", node["slow_axis"])
        local = np.stack([fast, slow, np.cross(fast, slow)], axis=1)
        turn = parent @ local
        origin = parent @ _vector("origin", node["origin"]) + parent_origin
    for child in node.get("children", ()):
        if "panel" not in child:
            _collect_frames(child, turn, origin, frames)
        elif not 0 <= child["panel"] < len(frames):
            raise InputError(f"hierarchy must name panels 0 to {len(frames) - 1}, got {child}")
        else:
            frames[child["panel"]] = (turn, origin)


def _panel_from_dict(model: Mapping[str, Any], turn: FloatArray, origin: FloatArray) -> Panel:
    strategy = model.get("px_mm_strategy") or {}
    name, kind = str(model.get("name", "")), str(strategy.get("type", ""))
    if kind.startswith("Offset"):
        logger.warning("panel %r: the dx, dy maps of its %s are not used", name, kind)
    low, high = (float(x) for x in model.get("trusted_range", (0.0, 0.0)))
    if not low < high:
        low, high = -np.inf, np.inf  # what dxtbx writes where nothing is known
    fast, slow = (int(n) for n in model["image_size"])
    width, height = (float(size) for size in model["pixel_size"])
    offset = model.get("raw_image_offset")
    return Panel(
        name=name,
        origin=turn @ _vector("origin", model["origin"]) + origin,
        fast_axis=turn @ _unit("fast_axis", model["fast_axis"]),
        slow_axis=turn @ _unit("slow_axis", model["slow_axis"]),
        pixel_size=(width, height),
        image_size=(fast, slow),
        trusted_range=(low, high),
        thickness=float(strategy.get("t0", model.get("thickness", 0.0))),
        mu=float(strategy.get("mu", model.get("mu", 0.0))),
        gain=float(model.get("gain", 1.0)),
        pedestal=float(model.get("pedestal", 0.0)),
        mask=tuple(
            (int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in model.get("mask", ())
        ),
        parallax="Parallax" in kind,
        raw_image_offset=(int(offset[0]), int(offset[1])) if offset else None,
    )


def _matrix(values: Any) -> FloatArray:
    """Make a matrix (3, 3) from nine numbers, row by row."""
    return np.array(values, dtype=np.float64).reshape(3, 3)


def _vector(name: str, values: Any) -> FloatArray:
    """Make a vector (3,) of finite numbers."""
    return checked_array(name, values, (3,))


def _unit(name: str, values: Any) -> FloatArray:
    """Make a unit vector (3,)."""
    vector = _vector(name, values)
    length = float(np.linalg.norm(vector))
    if not length > 0:
        raise InputError(f"{name} must not be zero, got {vector.tolist()}")
    unit: FloatArray = vector / length
    return unit
