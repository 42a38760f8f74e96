"""`offbragg view`: the address that it prints answers until Ctrl-C."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest


def test_the_program_serves_until_it_is_interrupted(work):
    program = Path(sys.executable).with_name("offbragg")
    with subprocess.Popen(
        [str(program), "view", str(work / "m.h5"), "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        url = running.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}maps.json", timeout=30) as answer:
            assert b"m.h5" in answer.read()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "view needs at least one map file or .expt file"),
        (("nothing.h5",), "nothing.h5: no such file"),
        (("nothing.expt",), "nothing.expt: no such file"),
        (("{work}/m.h5", "--d-min", "0"), "--d-min must be > 0 Å, got 0.0"),
        (("{work}/m.h5", "--port", "70000"), "port 70000 cannot be used"),
        (("{work}/s.pdb",), "s.pdb"),
    ],
)
def test_bad_input_is_one_line(call, work, arguments, message):
    made = call("view", *(x.format(work=work) for x in arguments))
    assert made.code == 1
    assert message in made.err
    assert made.err.count("\n") == 1
