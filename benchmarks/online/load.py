"""The one load generator: wrk with one thread, and what it measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "drive", "load_of_text", "write_bodies"]

SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Load:
    """One run under load.

    Attributes:
        requests: Answers of any status.
        seconds: How long it went on.
        p50_ms: Median latency.
        p99_ms: What 99 % stay below.
        refused: Answers with a status of 400 or more.
        broken: Connections that could not be made, were cut or timed out.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def rate(self) -> float:
        """Requests answered well, a second."""
        return (self.requests - self.refused) / self.seconds


def drive(
    url: str,
    path: str,
    bodies: Path,
    *,
    seconds: float,
    connections: int = 8,
    seed: int = 1,
) -> Load:
    """Post bodies for a while, as fast as answers come.

    Args:
        url: The server.
        path: The route.
        bodies: A file with one body a line.
        seconds: How long, in whole seconds.
        connections: Connections that are kept open, one request at a time on each.
        seed: Of the order of bodies.

    Raises:
        RuntimeError: wrk is missing or failed.
    """
    binary = shutil.which("wrk")
    if binary is None:
        raise RuntimeError("wrk is missing: make bench-online installs it")
    command = [binary, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    command += ["-s", str(SCRIPT), f"{url}{path}", "--", str(bodies), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise RuntimeError(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    return load_of_text(done.stdout)


def load_of_text(text: str) -> Load:
    """Read what the script has wrk print.

    Raises:
        RuntimeError: There is no result in it.
    """
    for line in text.splitlines():
        if line.startswith("RESULT "):
            told = json.loads(line.removeprefix("RESULT "))
            broken = sum(told[kind] for kind in ("connect", "read", "write", "timeout"))
            return Load(
                told["requests"],
                told["us"] / 1e6,
                told["p50"] / 1e3,
                told["p99"] / 1e3,
                told["status"],
                broken,
            )
    raise RuntimeError(f"wrk told no result: {text[-300:]}")


def write_bodies(file: Path, bodies: Sequence[bytes]) -> Path:
    """Write bodies for ``drive``; none of them may hold a line break."""
    file.write_bytes(b"\n".join(bodies) + b"\n")
    return file
