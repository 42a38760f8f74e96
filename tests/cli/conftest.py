"""A tiny made experiment on disk, and a way to call the program as its user does."""

import contextlib
import io
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np
import pytest

from offbragg import DiffuseMap, HklGrid, LiquidLike, read_map, simulate, write_map
from offbragg.cli.main import run
from offbragg.crystal.tls import TlsGroup, tls_remarks
from offbragg.crystal.writers import write_pdb
from offbragg.made_crystal import make_experiment, make_peptide
from offbragg.reduction.dials_writer import write_experiments

LIQUID = ("--model", "liquid-like", "--rms-displacement", "0.35", "--correlation-length", "5")


class Call(NamedTuple):
    """What one call of the program came to."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one object on stdout; NaN and Infinity are no JSON."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1

        def refuse(name):
            raise AssertionError(f"{name} is no JSON")

        whole = json.loads(self.out, parse_constant=refuse)
        assert list(whole) == ["command", "version", "outputs", "result"]
        return whole


def call_program(*arguments):
    """Run the program in this process, with its two streams apart."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(x) for x in arguments])
    return Call(code, out.getvalue(), err.getvalue())


def done(*arguments):
    """Run the program, which must succeed in silence on stderr."""
    made = call_program(*arguments)
    assert made.code == 0, made.err
    assert made.err == ""
    return made


@pytest.fixture
def call():
    return call_program


@pytest.fixture(autouse=True)
def _same_log_afterwards():
    """The program sets up the package's log for its process: later tests need it untouched."""
    logger = logging.getLogger("offbragg")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """Structures, maps, experiments and images, and files that are none; not to be written to."""
    logger = logging.getLogger("offbragg")
    before = logger.handlers[:], logger.level, logger.propagate
    folder = tmp_path_factory.mktemp("work")
    _write_structures(folder)
    _write_others(folder)
    structure = folder / "s.pdb"
    done(
        "simulate", structure, "-o", folder / "m.h5", *LIQUID, "--d-min", 2.6, "--sampling", 2, 2, 2
    )
    done("simulate", structure, "-o", folder / "coarse.h5", *LIQUID, "--d-min", 2.6)
    done(
        "simulate", structure, "-o", folder / "total.h5", *LIQUID, "--part", "total",
        "--d-min", 2.4, "--sampling", 3, 3, 3,
    )  # fmt: skip
    done("expose", folder / "total.h5", folder / "e.expt", "-o", folder / "images", "--photons", 20)
    done(
        "map", folder / "images/exposed.expt", "-o", folder / "map.h5",
        "--d-min", 2.6, "--sampling", 2, 2, 2,
    )  # fmt: skip
    done("merge", folder / "map.h5", "-o", folder / "merged.h5")
    logger.handlers[:], logger.level, logger.propagate = before
    return folder


def _write_structures(folder):
    peptide = make_peptide("GASM", u=0.1225)
    write_pdb(folder / "s.pdb", peptide)
    write_pdb(folder / "nocell.pdb", replace(peptide, cell=None, space_group="P 1"))
    for name, factor in (("off1", 1.01), ("off5", 1.05)):
        cell = np.array(peptide.cell) * [factor, 1, 1, 1, 1, 1]
        write_pdb(folder / f"{name}.pdb", replace(peptide, cell=cell))
    experiment = make_experiment(
        peptide.cell, peptide.space_group, d_min=2.6, n_images=20, oscillation_deg=9.0, n_pixels=64
    )
    write_experiments(folder / "e.expt", [experiment])


def _write_others(folder):
    """Files that are not what they are called, and maps of the odd kind."""
    for name in ("empty.h5", "empty.pdb", "empty.npz", "empty.lat", "empty.expt", "empty.npy"):
        (folder / name).touch()
    for name in ("text.h5", "text.pdb", "text.npz", "text.lat", "text.expt", "text.npy"):
        (folder / name).write_text("no such thing\n")
    for name in ("dir.h5", "dir.pdb", "dir.npz", "dir.lat", "dir.expt", "dir.npy"):
        (folder / name).mkdir()
    np.save(folder / "three.npy", np.eye(3))
    (folder / "list.expt").write_text("[]")
    (folder / "none.expt").write_text('{"__id__": "ExperimentList", "experiment": []}')
    grid = HklGrid((10.0, 10.0, 10.0, 90, 90, 90), [-1, 0, 1], [-1, 0, 1], [-1, 0, 1])
    write_map(folder / "flat.h5", DiffuseMap(grid, np.ones((3, 3, 3))))
    write_map(folder / "nan.h5", DiffuseMap(grid, np.full((3, 3, 3), np.nan)))


N_ATOMS = 24  # of s.pdb


@pytest.fixture(scope="session")
def motions(tmp_path_factory):
    """What models are made from: structures, frames, TLS groups, arrays; not to be written to."""
    folder = tmp_path_factory.mktemp("motions")
    peptide = make_peptide("GASM", u=0.1225)
    write_pdb(folder / "s.pdb", peptide)
    write_pdb(folder / "nocell.pdb", replace(peptide, cell=None, space_group="P 1"))
    rng = np.random.default_rng(7)
    _write_frames(folder / "frames.pdb", folder / "s.pdb", _frames(rng, peptide, 8))
    _write_frames(folder / "nocell_frames.pdb", folder / "nocell.pdb", _frames(rng, peptide, 8))
    shorter = peptide.take(np.arange(N_ATOMS - 1))
    write_pdb(folder / "short.pdb", shorter)
    _write_frames(folder / "short_frames.pdb", folder / "short.pdb", _frames(rng, shorter, 3))
    swapped = peptide.take(np.r_[1, 0, 2:N_ATOMS])
    write_pdb(folder / "swapped.pdb", swapped)
    _write_frames(folder / "swapped_frames.pdb", folder / "swapped.pdb", _frames(rng, swapped, 3))
    for name, said, u in (("tls", "", 0.4), ("residual", "LIKELY RESIDUAL", 0.05)):
        write_pdb(
            folder / "plain.pdb", replace(peptide, u_aniso=np.tile(u * np.eye(3), (24, 1, 1)))
        )
        remarks = "".join(f"{line:<80}\n" for line in _remarks(peptide, said))
        (folder / f"{name}.pdb").write_text(remarks + (folder / "plain.pdb").read_text())
    factor = rng.normal(0, 0.2, (N_ATOMS, 3, 4))
    np.save(folder / "factor.npy", factor)
    np.save(folder / "matrix.npy", np.einsum("iak,jbk->ijab", factor, factor))
    np.save(folder / "weights.npy", np.arange(1.0, 9.0))
    return folder


def _frames(rng, structure, n_frames):
    """Conformers: a shift and a strain of the whole, and noise of each atom."""
    x = structure.positions
    strain = np.eye(3) + rng.normal(0, 0.01, (n_frames, 3, 3))
    moved = (x - x.mean(axis=0)) @ strain + x.mean(axis=0)
    moved += rng.normal(0, 0.2, (n_frames, 1, 3)) + rng.normal(0, 0.1, (n_frames, *x.shape))
    return moved.round(3)


def _write_frames(path, template, frames):
    whole = gemmi.read_structure(str(template))
    for number, frame in enumerate(frames, start=1):
        model = gemmi.read_structure(str(template))[0]
        model.num = number
        for site, position in zip(model.all(), frame, strict=True):
            site.atom.pos = gemmi.Position(*position)
        whole.add_model(model)
    del whole[0]
    whole.write_pdb(str(path))


def _remarks(structure, said):
    """REMARK 3 of one TLS group that all atoms are in."""
    group = TlsGroup(
        "A 1 - A 4", np.arange(structure.n_atoms), np.diag([0.05, 0.06, 0.07]),
        np.diag([2e-3, 1e-3, 3e-3]), np.zeros((3, 3)), structure.positions.mean(axis=0),
    )  # fmt: skip
    lines = tls_remarks([group]).splitlines()
    return [f"REMARK   3   B VALUE TYPE : {said}"] * bool(said) + lines


@pytest.fixture(scope="session")
def truth(work):
    """The map of m.h5 as it was made, in this process."""
    stored = read_map(work / "m.h5")
    return simulate(make_peptide("GASM", u=0.1225), LiquidLike(0.35, 5.0), stored.grid)


def listing(folder: Path):
    """Names and sizes of everything in a folder."""
    return {str(x): x.stat().st_size for x in sorted(folder.rglob("*")) if x.is_file()}


@pytest.fixture
def refused(work, tmp_path, call):
    """Call with bad input: exit 1 or 2, one line on stderr, nothing else, nothing written."""

    def check(*arguments, code=(1, 2)):
        before = listing(work), listing(tmp_path)
        made = call(*arguments)
        assert made.code in (code if isinstance(code, tuple) else (code,)), made
        assert made.out == ""
        assert made.err.startswith("offbragg: ")
        assert made.err.endswith("\n")
        assert made.err.count("\n") == 1
        assert "Traceback" not in made.err
        assert (listing(work), listing(tmp_path)) == before
        return made.err

    return check
