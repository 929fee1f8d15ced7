"""An on-demand function that outgrows its worker's memory; light to import, because workers import it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from mlflow_core.spec import on_demand

ENOUGH = 1_500_000_000  # bytes, beyond the limit of the tests' workers
STEP = 50_000_000


@on_demand(request={"flag": str, "times": int}, outputs={"sign": int})
def greedy(x):
    """Takes memory without end, for as many of its calls as the entity rows say."""
    flag = Path(x["flag"][0])
    with flag.open("a") as told:
        told.write("called\n")
    if len(flag.read_text().split()) <= int(x["times"][0]):
        taken = []
        while sum(one.nbytes for one in taken) < ENOUGH:
            taken.append(np.ones(STEP // 8))
            time.sleep(0.05)
        time.sleep(30)
    return {"sign": np.ones(len(x["times"]), np.int64)}
