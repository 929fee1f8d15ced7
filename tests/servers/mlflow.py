"""A real MLflow tracking server for tests: its own code from mlflow-skinny, on a free port, an SQLite file and a folder behind it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_S = 180
_PROGRAM = """\
import sys

sys.modules["feast"] = None  # has a plug-in that does nothing here, and loads for seconds
from mlflow.server import app
from werkzeug.serving import run_simple

run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
"""


class Tracking:
    """One server, which can be stopped in its tracks.

    Args:
        folder: Its folder.
        port: Where it listens.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        }
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(port)],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
            )

    def wait(self) -> None:
        """Wait until it answers, its tables made."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, f"no answer\n{(self.folder / 'log').read_text()}"
            time.sleep(0.1)

    def pause(self) -> None:
        """Let it hang: connections are taken, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it."""
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        address = f"{self.url}/api/2.0/mlflow/experiments/get?experiment_id=0"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def tracking_server(folder: Path) -> Iterator[Tracking]:
    """A server for the time of a ``with`` block."""
    server = Tracking(folder, free_port())
    try:
        server.wait()
        yield server
    finally:
        server.end()
