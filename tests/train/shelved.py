"""An address that other processes reach too, as a bucket's: ``shelved:///folder``, which fsspec opens and no path is.

What is put there goes through fsspec and not through files of ours, for ours knows none of its names.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NoReturn

import fsspec
from distributed import WorkerPlugin
from fsspec.implementations.local import LocalFileSystem


class Shelved(LocalFileSystem):
    """The local file system under another name."""

    protocol = "shelved"

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        stripped: str = super()._strip_protocol(str(path).removeprefix(f"{cls.protocol}://"))
        return stripped

    def unstrip_protocol(self, name: str) -> str:
        return f"{self.protocol}://{self._strip_protocol(name)}"


class Away(Shelved):
    """A bucket that cannot be reached: what its library raises is no ``OSError``, as with s3fs and gcsfs."""

    protocol = "away"

    def _unreached(self, *_: object, **__: object) -> NoReturn:
        raise EndpointError("could not connect to the endpoint")

    pipe_file = put_file = cat_file = info = rm_file = find = exists = open = _unreached


class Stalled(Shelved):
    """A bucket that is lost while something is read from it."""

    protocol = "stalled"

    def open(self, *_: object, **__: object) -> Any:
        return _StalledFile(b"half")


class _StalledFile(io.BytesIO):
    def read(self, *_: object) -> NoReturn:
        raise EndpointError("the connection was reset")


class EndpointError(Exception):
    """A bucket's library's own."""


class Shelving(WorkerPlugin):
    """Lets workers open such addresses, also those that are started in place of lost ones."""

    name = "shelving"

    def setup(self, worker: Any) -> None:
        register()


def register() -> None:
    """Let this process open such addresses."""
    for kind in (Shelved, Away, Stalled):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)


register()


def names_at(place: Path | str) -> list[str]:
    """What lies at a place, folder or address, as fsspec says."""
    store, path = fsspec.core.url_to_fs(str(place))
    return [one[len(path) + 1 :] for one in sorted(store.find(path))] if store.exists(path) else []
