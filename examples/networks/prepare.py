"""Write the flights and the weather of 2013 for this example: all of them, or those of some of the planes."""

import argparse
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.prepare_data import prepare

DATA = Path(__file__).parent / "operations" / "data"


def keep_some_planes(share: int) -> None:
    """Keep the flights of every share-th plane, so that everything runs in seconds."""
    path = DATA / "flights.parquet"
    flights = pq.read_table(path)
    planes = sorted(set(flights["tailnum"].to_pylist()) - {None})[::share]
    pq.write_table(flights.filter(pc.is_in(flights["tailnum"], pc.cast(planes, "string"))), path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--one-plane-in", type=int, default=1, help="keep the flights of every n-th plane only"
    )
    given = parser.parse_args()
    prepare(DATA)
    if given.one_plane_in > 1:
        keep_some_planes(given.one_plane_in)
