"""The servers that are driven: Feast's with its defaults and tuned, ours, and empty handlers. One at a time."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.online.process import Running, free_port, running
from benchmarks.online.repository import Repository

__all__ = ["FEAST", "empty_server", "feast_server", "our_server"]

BIN = Path(sys.executable).parent
# The default restarts a worker every 1,000 requests; "lasting" is the same one worker without that and without its log.
FEAST: dict[str, Sequence[str]] = {
    "feast serve": (),
    "feast serve, lasting": ("--no-access-log", "--max-requests", "0", "--max-requests-jitter", "0"),
    "feast serve, tuned": (
        *("--no-access-log", "--max-requests", "0", "--max-requests-jitter", "0"),
        *("--workers", str(os.cpu_count() or 1)),
    ),
}


@contextmanager
def feast_server(repository: Repository, name: str) -> Iterator[Running]:
    """Start Feast's server with the options of one of ``FEAST``."""
    port = free_port()
    command = [BIN / "feast", "--chdir", repository.repo, "serve", "--port", str(port), *FEAST[name]]
    log = repository.root / "feast-serve.log"
    with running(command, port=port, log=log, ready=_answers(port, "/health")) as server:
        yield server


@contextmanager
def our_server(
    repository: Repository, *, workers: int = 1, environment: dict[str, str] | None = None
) -> Iterator[Running]:
    """Start ``mlcore serve`` with its defaults."""
    port = free_port()
    command = [BIN / "mlcore", "--root", repository.root, "serve", "--port", str(port)]
    if workers != 1:
        command += ["--workers", str(workers)]
    log = repository.root / "mlcore-serve.log"
    ready = _answers(port, "/readyz")
    with running(command, port=port, log=log, ready=ready, environment=environment) as server:
        yield server


@contextmanager
def empty_server(folder: Path, name: str, n_bytes: int) -> Iterator[Running]:
    """Start an empty handler; ``name`` is one of ``empty.SERVERS``."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.online.empty", name, str(port), str(n_bytes)]
    with running(command, port=port, log=folder / f"{name}.log", ready=_answers(port, "/")) as server:
        yield server


def _answers(port: int, path: str):
    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    return ready
