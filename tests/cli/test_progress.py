"""The progress bar in a terminal and in a pipe, and the log file."""

import logging
import os
import pty
import re
import subprocess
import sys

import pytest

from offbragg.cli import maps

#: 24 steps of 25 ms: 40 a second at most.
STEPS = """
import sys, time
from offbragg.cli.console import BarProgress
with BarProgress(delay=float(sys.argv[1])) as progress:
    progress.start("mapping", 24)
    for _ in range(24):
        time.sleep(0.025)
        progress.step()
print("ended")
"""


def in_terminal(delay):
    """What a program with a bar writes to stderr where that is a terminal, as one text."""
    reader, writer = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", STEPS, str(delay)], stderr=writer, stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as program:  # fmt: skip
        os.close(writer)
        shown = b""
        while True:
            try:
                part = os.read(reader, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        assert program.stdout.read() == b"ended\n"
    os.close(reader)
    assert program.returncode == 0
    return shown.decode()


# --- 1 the bar ------------------------------------------------------------


def test_a_terminal_shows_steps_rate_and_time_left():
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", in_terminal(0.1))
    last = [line for line in re.split(r"[\r\n]+", shown) if "it/s" in line][-1]
    found = re.fullmatch(r"mapping \S+ +(\d+)/24 +([\d.]+) it/s +0:00:0(\d) left *", last)
    assert found, last
    assert int(found[1]) > 12
    assert 4 < float(found[2]) <= 41
    assert int(found[3]) <= 5


def test_what_is_done_before_the_bar_appears_shows_nothing():
    assert in_terminal(60) == ""


def test_a_bar_that_has_appeared_is_taken_away():
    # The last thing that a terminal is told: show the cursor, erase the line.
    assert in_terminal(0.1).endswith(("\x1b[1A\x1b[2K", "\x1b[2K", "\x1b[?25h"))


def test_a_pipe_shows_nothing():
    made = subprocess.run(
        [sys.executable, "-c", STEPS, "0"], capture_output=True, check=True, timeout=60
    )
    assert (made.stdout, made.stderr) == (b"ended\n", b"")


# --- 2 what is watched ----------------------------------------------------


class Watch:
    """Progress that keeps every piece of work: its name, steps, and steps done."""

    def __init__(self):
        self.pieces = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self, what, total):
        self.pieces.append([what, total, 0])

    def step(self, n=1):
        self.pieces[-1][2] += n


LIQUID = ("--model", "liquid-like", "--rms-displacement", "0.35", "--correlation-length", "5")


@pytest.mark.parametrize(
    ("module", "arguments", "piece"),
    [
        ("forward", ("simulate", "s.pdb", "-o", "out.h5", *LIQUID, "--d-min", "3"), "transforms"),
        ("forward", ("simulate", "s.pdb", "-o", "out.h5", *LIQUID, "--d-min", "3", "--method",
                     "splat"), "transforms"),
        ("forward", ("simulate", "s.pdb", "-o", "out.h5", *LIQUID, "--d-min", "4", "--method",
                     "sampled", "--n-samples", "7"), "samples"),
        ("maps", ("merge", "map.h5", "-o", "out.h5"), "merging"),
        ("maps", ("stats", "map.h5"), "statistics"),
        ("maps", ("compare", "m.h5", "coarse.h5"), "comparing"),
        ("real_space", ("delta-pdf", "m.h5", "-o", "out.ccp4"), "delta-PDF"),
        ("real_space", ("covariance", "s.pdb", *LIQUID), "pairs"),
        ("real_space", ("ensemble", "frames.pdb", "--d-min", "4", "--n-blocks", "4"), "frames"),
        ("absolute", ("absolute", "map.h5", "s.pdb", "-o", "out.h5", "--total", "total.h5",
                      "--wavelength", "1"), "absolute scale"),
        ("indexing", ("reindex", "m.h5", "-o", "out.h5", "--operation", "k,h,-l"), "reindexing"),
        ("plotting", ("plot", "sections", "m.h5", "-o", "out.png"), "radial profile"),
        ("plotting", ("plot", "halos", "m.h5", "-o", "out.png"), "halos"),
    ],
)  # fmt: skip
def test_steps_are_as_many_as_were_announced(
    call, work, motions, tmp_path, monkeypatch, module, arguments, piece
):
    watch = Watch()
    monkeypatch.setattr(f"offbragg.cli.{module}.BarProgress", lambda: watch)

    def path(name):
        if name.startswith("out."):
            return tmp_path / name
        return next((x / name for x in (work, motions) if (x / name).is_file()), name)

    made = call(*map(path, arguments))
    assert made.code == 0, made.err
    found = [x for x in watch.pieces if x[0] == piece]
    assert found, watch.pieces
    for _, total, done in found:
        assert total > 0
        assert done == total


# --- 3 the log file -------------------------------------------------------


def test_a_log_file_has_the_command_line_and_is_added_to(call, work, tmp_path):
    log = tmp_path / "a b.log"
    arguments = ("fit", work / "m.h5", work / "s.pdb", "--model", "liquid-like", "-o",
                 tmp_path / "fit", "--max-evaluations", "2", "--held-out", "0")  # fmt: skip
    made = call(*arguments, "--log-file", log)
    assert (made.code, made.err) == (0, "")  # nothing more is shown
    first = log.read_text(encoding="utf-8")
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO offbragg \S+: offbragg fit ", first)
    assert f"--log-file '{log}'" in first
    assert "gradient cosine" in first
    assert f"written: parameters {tmp_path / 'fit' / 'parameters.json'}" in first
    assert re.search(r"INFO ended after \d+\.\d s\n\Z", first)
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:", line) for line in first.splitlines())
    call("info", work / "m.h5", "--log-file", log)
    assert log.read_text(encoding="utf-8").startswith(first)
    assert "offbragg info" in log.read_text(encoding="utf-8")[len(first) :]


def test_warnings_and_failures_are_in_the_log_file(call, work, tmp_path):
    log = tmp_path / "log"
    made = call("simulate", work / "off1.pdb", "-o", tmp_path / "x.h5", "--like", work / "m.h5",
                "--model", "uncorrelated", "--log-file", log)  # fmt: skip
    assert "WARNING" in made.err
    assert re.search(r"WARNING .*cell a differs by 1.00 %", log.read_text(encoding="utf-8"))
    failed = call("stats", work / "text.h5", "--log-file", log)
    assert failed.err.count("\n") == 1
    line = failed.err.removeprefix("offbragg: ")
    assert f"ERROR {line}" in log.read_text(encoding="utf-8")


def test_a_fault_of_our_own_leaves_its_traceback_in_the_log_file(call, work, tmp_path, monkeypatch):
    def fail(path):
        raise AttributeError("a bug")

    monkeypatch.setattr(maps, "read_map", fail)
    with pytest.raises(AttributeError):
        call("stats", work / "m.h5", "--log-file", tmp_path / "log")
    assert "AttributeError: a bug" in (tmp_path / "log").read_text(encoding="utf-8")


def test_the_log_file_is_closed(call, work, tmp_path):
    call("info", work / "m.h5", "--log-file", tmp_path / "log")
    before = (tmp_path / "log").read_text(encoding="utf-8")
    logging.getLogger("offbragg").warning("later")
    assert (tmp_path / "log").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "expected the name of a file"),
        ("none/log", "cannot be written: No such file or directory"),
    ],
)
def test_a_log_file_that_cannot_be_written_is_refused(refused, work, tmp_path, name, message):
    path = tmp_path / name
    line = refused("info", work / "m.h5", "--log-file", path, code=1)
    assert line == f"offbragg: --log-file: {path}: {message}\n"
