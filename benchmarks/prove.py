"""Proofs at full size (SIZE=small: reduced), each against a limit; exit code 1 if missed."""

import sys

from benchmarks.results import parts_asked, run_all, size_asked

PARTS = [
    "splat",
    "accuracy",
    "physics",
    "exposed",
    "scaling",
    "outliers",
    "stills",
    "dials",
    "recovery",
    "low_rank",
    "selection",
    "snase",
    "ranked",
]

if __name__ == "__main__":
    sys.exit(run_all("prove", parts_asked(PARTS), size_asked()))
