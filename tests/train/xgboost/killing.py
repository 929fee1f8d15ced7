"""Killing a worker's process from within, at an exact moment of one rank, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xgboost
from distributed import Client
from xgboost import collective

from mlflow_core.train.gang.folder import Folder
from mlflow_core.train.xgboost.batches import Batches

_PLACES = {"load": (Batches, "next"), "round": (xgboost.Booster, "update"), "write": (Folder, "_fill")}
_KEPT: dict[str, Any] = {}


@dataclass(frozen=True)
class Moment:
    """The ``n``-th time, from 0, that this rank reads a batch, makes a round, or is half through writing a checkpoint."""

    place: str
    n: int
    rank: int
    flag: Path


@contextmanager
def killed_at(client: Client, moment: Moment) -> Iterator[None]:
    client.run(_arm, moment)
    try:
        yield
    finally:
        client.run(_disarm)


def _arm(moment: Moment) -> None:
    kind, name = _PLACES[moment.place]
    inner: Callable[..., Any] = getattr(kind, name)
    _KEPT[moment.place] = inner
    count = 0

    def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        own = collective.is_distributed() and collective.get_rank() == moment.rank
        if own and count == moment.n and not moment.flag.exists():
            moment.flag.touch()
            if moment.place == "write":
                args[0].write(b"half of it")
                args[0].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        count += own
        return inner(self, *args, **kwargs)

    setattr(kind, name, outer)


def _disarm() -> None:
    for place, inner in _KEPT.items():
        kind, name = _PLACES[place]
        setattr(kind, name, inner)
    _KEPT.clear()
