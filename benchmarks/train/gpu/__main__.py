"""``make bench-train-gpu``: our trainers on this machine's card; without one nothing is measured and nothing claimed."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.results import markdown, report
from benchmarks.train.gpu.card import name_of
from benchmarks.train.gpu.measured import Scale, measure


def main() -> None:
    """Train on the card, print the table and write the results."""
    parser = argparse.ArgumentParser(prog="make bench-train-gpu ARGS=...", description=__doc__)
    parser.add_argument("--folder", help="where the data is made, instead of the system's temporary folder")
    parser.add_argument("--markdown", action="store_true", help="print the last run's table, run nothing")
    given = parser.parse_args()
    if given.markdown:
        print(markdown("train-gpu"))
        return
    if not torch.cuda.is_available():
        print("There is no card that PyTorch can use here: nothing was measured, and nothing is claimed.")
        return
    print(name_of("cuda"))
    with tempfile.TemporaryDirectory(prefix="bench-train-gpu-", dir=given.folder) as folder:
        rows = measure(Path(folder), Scale(), "cuda")
    report("train-gpu", rows)
    if any(row.equal is False for row in rows):
        raise SystemExit("models differ in quality: those rows say nothing")


if __name__ == "__main__":
    main()
