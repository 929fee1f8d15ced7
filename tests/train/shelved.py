"""An address that other processes reach too, as a bucket's: ``shelved:///folder``, which fsspec opens and no path is.

What is put there goes through fsspec and not through files of ours, for ours knows none of its names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
from distributed import WorkerPlugin
from fsspec.implementations.local import LocalFileSystem


class Shelved(LocalFileSystem):
    """The local file system under another name."""

    protocol = "shelved"

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        stripped: str = super()._strip_protocol(str(path).removeprefix("shelved://"))
        return stripped

    def unstrip_protocol(self, name: str) -> str:
        return f"shelved://{self._strip_protocol(name)}"


class Shelving(WorkerPlugin):
    """Lets workers open such addresses, also those that are started in place of lost ones."""

    name = "shelving"

    def setup(self, worker: Any) -> None:
        register()


def register() -> None:
    """Let this process open such addresses."""
    fsspec.register_implementation("shelved", Shelved, clobber=True)


register()


def names_at(place: Path | str) -> list[str]:
    """What lies at a place, folder or address, as fsspec says."""
    store, path = fsspec.core.url_to_fs(str(place))
    return [one[len(path) + 1 :] for one in sorted(store.find(path))] if store.exists(path) else []
