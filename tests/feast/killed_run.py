"""A process that materialises and is killed in the middle of it: by itself, at its n-th write to the store."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feast import FeatureStore, RepoConfig

from mlflow_core.engine.views import written
from mlflow_core.online.sqlite import SqliteBackend

ROWS_A_WRITE = 3


def main(config: Path, end: str, at_write: int, rewrite: str) -> None:
    """Materialise with the configuration in a file up to a time, and die at a write."""
    count, write = 0, SqliteBackend.write

    def dying(self: SqliteBackend, *arguments: Any) -> int:
        nonlocal count
        count += 1
        if count == at_write:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, *arguments)

    SqliteBackend.write = dying  # type: ignore[method-assign]
    written.ROWS_A_WRITE = ROWS_A_WRITE
    store = FeatureStore(config=RepoConfig(**json.loads(config.read_text())))
    store._get_provider().batch_engine.rewrite = rewrite
    store.materialize(datetime(2024, 1, 1, tzinfo=UTC), datetime.fromisoformat(end))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
