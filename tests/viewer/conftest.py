"""Maps and images to look at, and a running server that shows them."""

import http.client
import json
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from offbragg import DiffuseMap, ExposeOptions, HklGrid, expose, write_map
from offbragg.crystal.cell import Cell
from offbragg.reduction.experiment import (
    Beam,
    CrystalModel,
    Experiment,
    Goniometer,
    Panel,
    Scan,
    read_experiments,
)
from offbragg.viewer import Collection, ViewerServer
from offbragg.viewer.frames import FrameSeries

TRICLINIC = (21.0, 24.0, 27.0, 81.0, 95.0, 104.0)
D_MIN = 2.6


def made_map(seed=0, cell=TRICLINIC, sampling=(2, 1, 2), d_min=D_MIN):
    """A triclinic map with errors, counts and holes; no two voxels alike."""
    rng = np.random.default_rng(seed)
    grid = HklGrid.from_resolution(cell, d_min, sampling)
    intensity = 50 * np.exp(-2 * grid.inv_d()) + rng.normal(0, 3, grid.shape)
    missing = ~grid.within() | (rng.uniform(size=grid.shape) < 0.05)
    intensity[missing] = np.nan
    sigma = np.where(missing, np.nan, rng.uniform(1, 2, grid.shape))
    count = np.where(missing, 0, rng.integers(1, 9, grid.shape)).astype(np.int32)
    return DiffuseMap(
        grid, intensity.astype(np.float32), "P 1", sigma.astype(np.float32), count, laue_group="-1"
    )


@pytest.fixture(scope="package")
def maps(tmp_path_factory):
    """Two map files and what is in them: the second is half the first, and noise."""
    folder = tmp_path_factory.mktemp("maps")
    first = made_map()
    noise = np.random.default_rng(1).normal(0, 1, first.grid.shape).astype(np.float32)
    second = DiffuseMap(first.grid, first.intensity / 2 + noise, "P 1", first.sigma, first.count)
    found = {}
    for name, one in (("first", first), ("second", second)):
        write_map(folder / f"{name}.h5", one)
        found[folder / f"{name}.h5"] = one
    return found


@pytest.fixture(scope="package")
def other_map(tmp_path_factory):
    """A centred map of another cell, sampling and resolution, that ends at l = 2."""
    cell = (21.4, 24.3, 27.2, 81.0, 95.0, 104.0)
    whole = HklGrid.from_resolution(cell, 3.4, (1, 2, 1))
    levels = whole.l[np.abs(whole.l) <= 2]
    grid = HklGrid(whole.cell, whole.h, whole.k, levels, (1, 2, 1), 3.4)
    values = np.random.default_rng(2).normal(10, 1, grid.shape).astype(np.float32)
    path = tmp_path_factory.mktemp("other") / "other.h5"
    write_map(path, DiffuseMap(grid, values, "C 1"))
    return path


@pytest.fixture(scope="package")
def experiment(tmp_path_factory):
    """Three images of a triclinic crystal with bright Bragg nodes."""
    folder = tmp_path_factory.mktemp("images")
    cell = Cell(*TRICLINIC)
    grid = HklGrid.from_resolution(cell, D_MIN * 0.9, 9)
    near = np.linalg.norm(grid.hkl() - np.rint(grid.hkl()), axis=-1)
    total = DiffuseMap(grid, (1 + 2000 * (near < 0.01)).astype(np.float32))
    turned = Rotation.from_euler("xyz", [20, 40, 10], degrees=True).as_matrix()
    panel = Panel(
        name="p",
        origin=np.array([-35.0, 30.0, -100.0]),
        fast_axis=np.array([1.0, 0.0, 0.0]),
        slow_axis=np.array([0.0, -1.0, 0.0]),
        pixel_size=(0.25, 0.25),
        image_size=(280, 240),
        mask=((10, 20, 30, 40),),
    )
    made = Experiment(
        beam=Beam(1.0, np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])),
        detector=(panel,),
        goniometer=Goniometer(np.array([1.0, 0.0, 0.0]), np.eye(3), np.eye(3)),
        scan=Scan((1, 3), np.radians([0.0, 1.0, 2.0]), np.radians([1.0, 1.0, 1.0]), np.ones(3)),
        crystal=CrystalModel(turned @ cell.frac_matrix.T, space_group="P 1"),
    )
    expose(total, made, folder, ExposeOptions(40.0, format="cbf"), np.random.default_rng(0))
    (found,) = read_experiments(next(folder.glob("*.expt")))
    return found


@dataclass
class Running:
    """A server and how to ask it."""

    url: str
    collection: Collection

    @property
    def parts(self):
        return urlsplit(self.url)

    def ask(self, path="", **headers):
        """Status, headers and body of a GET below the token."""
        return self.ask_anywhere(self.parts.path + path, **headers)

    def ask_anywhere(self, path, **headers):
        connection = http.client.HTTPConnection(self.parts.hostname, self.parts.port, timeout=30)
        try:
            connection.request(
                "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def numbers(self, path):
        status, headers, body = self.ask(path)
        assert status == 200, body
        about = json.loads(headers["x-about"])
        return np.frombuffer(body, "<f4"), about


@pytest.fixture(scope="package")
def server(maps, other_map, experiment):
    """The viewer, on a free port of this machine."""
    collection = Collection([*maps, other_map], [FrameSeries("made.expt", experiment, D_MIN)])
    bound = ViewerServer.bind(collection)
    started = threading.Event()
    thread = threading.Thread(
        target=bound.run, kwargs={"on_start": lambda _: started.set()}, daemon=True
    )
    thread.start()
    assert started.wait(20)
    yield Running(bound.url, collection)
    bound.stop()
    thread.join(10)
