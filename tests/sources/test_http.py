"""Files behind a web server, whose listings say nothing of sizes and whose errors are its library's own."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.errors import SourceError
from mlflow_core.sources import open_source
from mlflow_core.spec import ParquetSource


class Whole(SimpleHTTPRequestHandler):
    """Gives files whole, or not at all."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class InPieces(Whole):
    """Gives pieces of files too."""

    def send_head(self) -> Any:
        path = self.translate_path(self.path)
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or Path(path).is_dir():
            return super().send_head()
        content = Path(path).read_bytes()
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        return io.BytesIO(content[first : last + 1])


class Forbidding(Whole):
    """Gives nothing."""

    def send_head(self) -> Any:
        self.send_error(HTTPStatus.FORBIDDEN)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[type[Whole]], str]]:
    """Starts a server of a folder of two files, and returns its address."""
    servers = []
    for n in range(2):
        times = pa.array([n], pa.int64()).cast(pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"at": times, "n": [n]}), tmp_path / f"{n}.parquet")

    def start(kind: type[Whole]) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(tmp_path))))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    fsspec.filesystem("http").clear_instance_cache()


def source(path: str) -> ParquetSource:
    return ParquetSource("web", path=path, event_time="at")


@pytest.mark.parametrize(
    ("path", "found"), [("", [0, 1]), ("/", [0, 1]), ("/*.parquet", [0, 1]), ("/1.parquet", [1])]
)
def test_a_folder_a_pattern_and_a_file_are_read(
    served: Callable[[type[Whole]], str], path: str, found: list[int]
) -> None:
    listing = open_source(source(served(InPieces) + path), ".")
    assert listing.read(["n"]).column("n").to_pylist() == found
    assert all(part.rows == 1 for part in listing.found)


def test_a_server_that_gives_no_pieces_or_nothing_is_named_with_what_it_says(
    served: Callable[[type[Whole]], str],
) -> None:
    with pytest.raises(SourceError, match=r'file "0.parquet" cannot be read: .*range requests'):
        open_source(source(served(Whole)), ".").read()
    with pytest.raises(SourceError, match=r"cannot be listed: 403, message=\'Forbidden\'"):
        open_source(source(served(Forbidding)), ".")
