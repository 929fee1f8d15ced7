"""Parts of a source that do harm to the worker that reads them; light to import, because workers import it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_core.errors import SourceError
from mlflow_core.spec import on_demand


@dataclass(frozen=True)
class Part:
    """A part of a source that leaves its reader's process number, then waits."""

    inner: Any
    flag: Path
    wait: float
    name: str = "part"
    rows: int = 1
    bytes: int = 1
    span: None = None

    @property
    def fingerprint(self) -> str:
        return f"{self.inner.fingerprint} {type(self).__name__} {self.wait}"

    def within(self, between: Any) -> Part:
        return self

    def read(self, columns: Any = None) -> pa.Table:
        with self.flag.open("a") as flag:
            flag.write(f"{os.getpid()}\n")
        time.sleep(self.wait)
        return self.inner.read(columns)


@dataclass(frozen=True)
class Deadly(Part):
    """A part that ends every process that reads it."""

    def read(self, columns: Any = None) -> pa.Table:
        os._exit(1)


@dataclass(frozen=True)
class Broken(Part):
    """A part that cannot be read, which is found while another is being read."""

    def read(self, columns: Any = None) -> pa.Table:
        for _ in range(1_000):
            if self.flag.exists():
                break
            time.sleep(0.01)
        raise SourceError("cannot be read", object="events")


@on_demand(request={"flag": str, "wait": float}, outputs={"where": int})
def slow(x):
    """Leaves its process number where the entity rows say, waits, and answers with it."""
    with Path(x["flag"][0]).open("a") as flag:
        flag.write(f"{os.getpid()}\n")
    time.sleep(float(x["wait"][0]))
    return {"where": np.full(len(x["wait"]), os.getpid())}


@on_demand(request={"flag": str, "wait": float}, outputs={"where": int})
def failing_later(x):
    """Fails in the rows that are to wait for nothing; the others are still being written then."""
    if x["wait"][0] == 0.0:
        for _ in range(1_000):
            if Path(x["flag"][0]).exists():
                break
            time.sleep(0.01)
        raise ValueError("no such wind")
    return slow(x)
