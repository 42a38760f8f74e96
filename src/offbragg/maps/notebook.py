"""What a notebook shows of a map: what it is, and three sections of its anisotropic part.

Sections are pixels with a colour each, put by SVG into their true shape: no figure is laid out,
and matplotlib is asked only for the colours and the PNG.
"""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offbragg.formatting import show
from offbragg.maps.radial import RadialProfile, radial_profile
from offbragg.maps.section import take_section

if TYPE_CHECKING:
    from offbragg.maps.diffuse_map import DiffuseMap

_WIDTH = 220  # of a section on the page [pixels]
_LARGEST = 400  # voxels along a section: more are not seen at that width
_CONTRAST = 98.0  # percentile of |I - isotropic| that has full colour
_MISSING = (0.75, 0.75, 0.75)
_PLANES = ("kl", "hl", "hk")  # h = 0, k = 0, l = 0


def map_html(diffuse_map: DiffuseMap) -> str:
    """HTML of a map: a table, and the sections nearest to h = 0, k = 0 and l = 0."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in _facts(diffuse_map)
    )
    # Whatever a map holds is shown.
    with np.errstate(all="ignore"):
        profile = radial_profile(diffuse_map)
    sections = "".join(_figure(diffuse_map, p, profile) for p in _PLANES)
    return (
        f"<div><table>{rows}</table><div style='display:flex;gap:1em;flex-wrap:wrap'>{sections}"
        "</div><small>Anisotropic part: intensity less the mean of its shell. Red above, blue "
        "below, grey not measured.</small></div>"
    )


def _facts(diffuse_map: DiffuseMap) -> list[tuple[str, str]]:
    grid, measured = diffuse_map.grid, diffuse_map.measured
    d_min = grid.d_min
    if d_min is None:
        finest = float(np.max(grid.inv_d(), where=measured, initial=0.0))
        d_min = 1 / finest if finest > 0 else None
    within = grid.within(d_min)
    share = float(np.count_nonzero(measured & within)) / max(int(np.count_nonzero(within)), 1)
    laue = diffuse_map.laue_group
    merged = "not merged" if laue is None else f"{laue}, Friedel mates {diffuse_map.friedel}"
    return [
        ("cell", str(grid.cell)),
        ("space group", diffuse_map.space_group),
        ("merged", merged),
        ("voxels", " × ".join(map(str, grid.shape))),
        ("sampling", " × ".join(map(str, grid.sampling))),
        ("d_min", "–" if d_min is None else f"{show(d_min)} Å"),
        ("completeness", f"{100 * share:.1f} %"),
    ]


def _figure(diffuse_map: DiffuseMap, plane: str, profile: RadialProfile) -> str:
    """One section in its true shape, under its name."""
    with np.errstate(all="ignore"):
        section = take_section(diffuse_map, plane, 0.0, profile)
    per_index = dict(zip("hkl", diffuse_map.grid.sampling, strict=True))
    across, up = plane[0], plane[1]
    name = f"{section.normal} = {section.level:g}"
    thin = tuple(slice(None, None, -(-n // _LARGEST)) for n in section.values.shape)
    # Rows of an image go downwards.
    image = base64.b64encode(_png(section.values[thin][::-1])).decode()
    # The first axis lies along x.
    length = len(section.across) / per_index[across] * section.vectors[0, 0]
    along, height = len(section.up) / per_index[up] * section.vectors[1, :2]
    width = length + abs(along)
    # From the unit square, y downwards, to the parallelogram, whose upper edge is moved by `along`.
    matrix = (length, 0.0, -along, height, max(along, 0.0), 0.0)
    scale = _WIDTH / max(width, height)
    numbers = " ".join(f"{scale * x:.6g}" for x in matrix)
    size = f"width='{scale * width:.6g}' height='{scale * height:.6g}'"
    return (
        f"<figure style='margin:0'><svg xmlns='http://www.w3.org/2000/svg' {size}>"
        f"<image href='data:image/png;base64,{image}' width='1' height='1' "
        f"preserveAspectRatio='none' style='image-rendering:pixelated' "
        f"transform='matrix({numbers})'/></svg><figcaption>{html.escape(name)}, "
        f"{across} to the right, {up} upwards</figcaption></figure>"
    )


def _png(section: NDArray[np.floating]) -> bytes:
    """Colours of a section, as PNG."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    finite = np.isfinite(section)
    level = float(np.percentile(np.abs(section[finite]), _CONTRAST)) if np.any(finite) else 0.0
    values = np.where(finite, section, 0.0) / (level if level > 0 else 1.0)
    pixels: NDArray[np.float64] = colormaps["RdBu_r"](0.5 + 0.5 * np.clip(values, -1, 1))[..., :3]
    pixels[~finite] = _MISSING
    file = io.BytesIO()
    imsave(file, pixels, format="png")
    return file.getvalue()
