"""The child process that applies a repository and materialises it: its own memory, its own imports, one time.

``python -m benchmarks.online.writer ORDER.json``. Not timed: imports, reading the configuration, ``apply``, and the small
hard view, which is written first and warms everything up. The peak of memory is counted anew from the start of what is
timed, so that the peak of imports does not hide it; the values that are compared afterwards are not in memory meanwhile.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from feast import FeatureStore

from benchmarks.online.hard import make_hard
from benchmarks.online.world import CASES, KEY, VIEWS, World, keys_asked, make_world

__all__ = ["main"]

N_READ = 5  # requests for 100 entities that are read back
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def main(order: Path) -> None:
    """Do what the order says, and write ``answer.json`` beside it."""
    asked = json.loads(order.read_text())
    hard = make_hard(Path(asked["hard"]))
    store = FeatureStore(repo_path=asked["repo"])
    store.apply([*make_world(Path(asked["world"]), asked["entities"]).objects(), *hard.objects()])
    store.materialize(EPOCH, datetime.now(UTC), feature_views=["hard"])
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
    before = _resident("VmRSS")
    end, start = datetime.now(UTC), time.perf_counter()
    store.materialize(EPOCH, end, feature_views=list(VIEWS))
    taken = time.perf_counter() - start
    answer = {"seconds": taken, "before": before, "peak": _resident("VmHWM")}
    answer["differing"] = _differing(store, make_world(Path(asked["world"]), asked["entities"]))
    order.with_name("answer.json").write_text(json.dumps(answer))


def _differing(store: FeatureStore, world: World) -> int:
    """Count the cells that are not what the files say, through Feast's own API whoever's store it is."""
    case = CASES[-1]
    wrong = 0
    for keys in keys_asked(case, world.n_entities, N_READ):
        found = store.get_online_features(
            store.get_feature_service(case.service), [{KEY: key} for key in keys]
        ).to_dict()
        for name, cells in world.truth(case, keys).items():
            values = found.get(name, [None] * len(cells))
            wrong += sum(value != cell[0] for value, cell in zip(values, cells, strict=True))
    return wrong


def _resident(field: str) -> int:
    """Return a field of this process' memory in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
