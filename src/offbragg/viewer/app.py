"""The viewer's server: what a page may ask for, as JSON or as plain float32 numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from offbragg.conventions import FloatArray
from offbragg.errors import InputError, OffbraggError
from offbragg.maps.provenance import plain
from offbragg.viewer.collection import Collection
from offbragg.viewer.guard import Guard
from offbragg.viewer.planes import Plane, axis_plane, general_plane, mates, sample
from offbragg.viewer.viewed import ViewedMap

_STATIC = Path(str(files("offbragg.viewer") / "static"))
_COLOURS = ("viridis", "magma", "gray", "gray_r", "RdBu_r", "PuOr_r", "coolwarm")
_VOLUME_EDGE = 64
_LARGEST = 1e9  # number that a question may hold: whatever is worked out of it is finite


def build_server(collection: Collection, token: str, hosts: frozenset[str]) -> ASGIApp:
    """Build the application that serves one collection behind a token."""
    pages = _Answers(collection)
    routes = [
        Route("/", lambda _: FileResponse(_STATIC / "index.html")),
        Route("/plotly.min.js", lambda _: FileResponse(_plotly_script())),
        Mount("/static", StaticFiles(directory=_STATIC)),
        Route("/colours.json", _checked(pages.colours)),
        Route("/maps.json", _checked(pages.maps)),
        Route("/maps/{map:int}/section", _checked(pages.section)),
        Route("/maps/{map:int}/plane", _checked(pages.plane)),
        Route("/maps/{map:int}/mates.json", _checked(pages.mates)),
        Route("/maps/{map:int}/profile.json", _checked(pages.profile)),
        Route("/maps/{map:int}/volume", _checked(pages.volume)),
        Route("/maps/{map:int}/delta-pdf.json", _checked(pages.delta_pdf)),
        Route("/compare.json", _checked(pages.compare)),
        Route("/frames/{series:int}/image", _checked(pages.image)),
        Route("/frames/{series:int}/nodes.json", _checked(pages.nodes)),
        Route("/frames/{series:int}/pixel.json", _checked(pages.pixel)),
    ]
    return Guard(Starlette(routes=routes), token, hosts)


def _checked(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """An answer whose errors are one line of JSON for the page."""

    def checked(request: Request) -> Response:
        try:
            return answer(request)
        except (OffbraggError, OSError) as error:
            return JSONResponse({"error": " ".join(str(error).split())}, status_code=400)

    return checked


class _Answers:
    """One method a kind of question. Starlette runs them in threads."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def colours(self, _: Request) -> Response:
        import matplotlib as mpl

        steps = np.linspace(0, 1, 256)
        tables = {x: (255 * mpl.colormaps[x](steps)[:, :3]).round().astype(int) for x in _COLOURS}
        return JSONResponse({name: table.ravel().tolist() for name, table in tables.items()})

    def maps(self, _: Request) -> Response:
        """All that a page needs to know before it asks for voxels."""
        frames = [
            {
                "name": series.name,
                "images": series.n_images,
                "angles": np.degrees(series.experiment.angles()),
                "panels": [
                    {"name": p.name, "size": list(p.image_size), "shrinkage": series.shrinkage(i)}
                    for i, p in enumerate(series.experiment.detector)
                ],
            }
            for series in self.collection.frames
        ]
        maps = [_describe(viewed) for viewed in self.collection.maps]
        return JSONResponse(plain({"maps": maps, "frames": frames}))

    def section(self, request: Request) -> Response:
        viewed = self._map(request)
        plane = self._axis_plane(viewed, request)
        return self._plane(viewed, plane, request)

    def plane(self, request: Request) -> Response:
        """A plane given by its points, or by three vectors that it is laid through."""
        viewed = self._map(request)
        if "through" in request.query_params:
            vectors = (_vector(request, name) for name in ("through", "along", "towards"))
            plane = general_plane(viewed, *(x.tolist() for x in vectors))
        else:
            n_u, n_v = (int(n) for n in _vector(request, "shape", 2))
            origin, u, v = (_vector(request, name) for name in ("origin", "u", "v"))
            plane = Plane(origin, u, v, (n_u, n_v))
        return self._plane(viewed, plane, request)

    def mates(self, request: Request) -> Response:
        viewed = self._map(request)
        plane = self._axis_plane(viewed, request)
        return JSONResponse([_plane_json(viewed, mate) for mate in mates(viewed, plane)])

    def profile(self, request: Request) -> Response:
        table = self._map(request).isotropic()
        middle = (np.arange(len(table.mean)) + 0.5) * table.width
        columns = {"inv_d": middle, "mean": table.mean, "spread": table.variation}
        return JSONResponse(plain({**columns, "count": table.n}))

    def volume(self, request: Request) -> Response:
        array = request.query_params.get("array", "anisotropic")
        # Cells larger than voxels, so that each has some.
        fine = int(0.7 * min(self._map(request).shape))
        edge = int(_number(request, "edge", min(max(fine, 8), _VOLUME_EDGE)))
        values, reach = self.collection.volume(request.path_params["map"], array, edge)
        return _numbers(values, {"edge": edge, "reach": reach})

    def delta_pdf(self, request: Request) -> Response:
        number = self.collection.delta_pdf(request.path_params["map"])
        return JSONResponse(plain({"map": number, **_describe(self.collection.map(number))}))

    def compare(self, request: Request) -> Response:
        a, b = (int(_number(request, name)) for name in "ab")
        return JSONResponse(plain(self.collection.comparison(a, b)))

    def image(self, request: Request) -> Response:
        series = self.collection.series(request.path_params["series"])
        kinds = {"raw": series.raw, "corrected": series.corrected, "mask": series.mask}
        kind = request.query_params.get("kind", "raw")
        if kind not in kinds:
            raise InputError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")
        panel = int(_number(request, "panel", 0))
        values = kinds[kind](int(_number(request, "image", 0)), panel)
        return _numbers(values, {"shape": values.shape, "shrinkage": series.shrinkage(panel)})

    def nodes(self, request: Request) -> Response:
        series = self.collection.series(request.path_params["series"])
        found = series.nodes(int(_number(request, "image", 0)), int(_number(request, "panel", 0)))
        return JSONResponse([[*node.hkl, node.fast, node.slow] for node in found])

    def pixel(self, request: Request) -> Response:
        series = self.collection.series(request.path_params["series"])
        names = ("image", "panel", "fast", "slow")
        found = series.pixel(*(int(_number(request, name)) for name in names))
        return JSONResponse(plain(found))

    def _map(self, request: Request) -> ViewedMap:
        return self.collection.map(request.path_params["map"])

    def _axis_plane(self, viewed: ViewedMap, request: Request) -> Plane:
        normal = request.query_params.get("normal", viewed.axes[2])
        if normal not in viewed.axes:
            raise InputError(f"normal must be one of {' '.join(viewed.axes)}, got {normal!r}")
        return axis_plane(viewed, viewed.axes.index(normal), _number(request, "level", 0.0))

    def _plane(self, viewed: ViewedMap, plane: Plane, request: Request) -> Response:
        array = request.query_params.get("array", "intensity")
        return _numbers(sample(viewed, plane, array), _plane_json(viewed, plane))


def _describe(viewed: ViewedMap) -> dict[str, Any]:
    return {
        "name": viewed.name,
        "space": viewed.space,
        "axes": viewed.axes,
        "shape": viewed.shape,
        "first": viewed.first,
        "step": viewed.step,
        "vectors": viewed.vectors,
        "arrays": list(viewed.arrays),
        "cell": list(viewed.cell),
        "space_group": viewed.space_group,
        "group": viewed.group,
        "d_min": viewed.d_min,
        "allowed": viewed.allowed,
    }


def _plane_json(viewed: ViewedMap, plane: Plane) -> dict[str, Any]:
    """A plane with its vectors in the Cartesian frame beside those in coordinates."""
    return {
        "shape": list(plane.shape),
        "origin": plane.origin.tolist(),
        "u": plane.u.tolist(),
        "v": plane.v.tolist(),
        "cartesian": {
            name: (getattr(plane, name) @ viewed.vectors).tolist() for name in ("origin", "u", "v")
        },
    }


def _numbers(values: Any, about: dict[str, Any]) -> Response:
    """Little-endian float32 in C order, and in a header what they are."""
    data = np.ascontiguousarray(values, dtype="<f4").tobytes()
    headers = {"x-about": json.dumps(plain(about))}
    return Response(data, media_type="application/octet-stream", headers=headers)


def _number(request: Request, name: str, default: float | None = None) -> float:
    given = request.query_params.get(name)
    if given is None and default is not None:
        return default
    try:
        number = float(given or "")
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise InputError(f"{name} must be a number, got {given!r}")
    return number


def _vector(request: Request, name: str, n: int = 3) -> FloatArray:
    given = request.query_params.get(name, "")
    try:
        vector = np.array([float(x) for x in given.split(",")])
    except ValueError:
        vector = np.zeros(0)
    if vector.shape != (n,) or not np.all(np.abs(vector) <= _LARGEST):
        raise InputError(f"{name} must be {n} numbers with commas, got {given!r}")
    return vector


def _plotly_script() -> Path:
    return Path(str(files("plotly") / "package_data" / "plotly.min.js"))
