"""The note that a started cluster leaves: its address and process, for other commands to find. Imports no Dask."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from mlflow_core.config.cluster import STANDING
from mlflow_core.errors import ConfigError, EngineError

__all__ = ["Standing", "address_of_standing", "is_standing", "read_note", "write_note"]

_HOW: Final = "Run: mlcore cluster start"


@dataclass(frozen=True, slots=True)
class Standing:
    """A cluster that stays until it is stopped.

    Attributes:
        address: Its scheduler's.
        pid: The process that holds it.
        born: When that process began, seconds since the epoch; a number is given to other processes later.
        workers: How many workers it was started with.
    """

    address: str
    pid: int
    born: float
    workers: int

    def process(self) -> psutil.Process | None:
        """The process that holds it; None where it is gone."""
        try:
            found = psutil.Process(self.pid)
            alive = found.is_running() and found.status() != psutil.STATUS_ZOMBIE
            return found if alive and abs(found.create_time() - self.born) < 1.0 else None
        except psutil.NoSuchProcess:
            return None


def is_standing(address: str) -> bool:
    """Whether an address stands for a cluster that was started."""
    return address == STANDING or address.startswith(f"{STANDING}:")


def address_of_standing(address: str) -> str:
    """Return the real address of a started cluster.

    Args:
        address: ``started:FILE``.

    Raises:
        ConfigError: There is no file in it: whoever wrote it has no project.
        EngineError: No cluster was started, or it has ended.
    """
    _, _, file = address.partition(":")
    if not file:
        raise ConfigError(
            'the address "started" is for mlcore.toml, where it means the project\'s cluster',
            hint="Write the scheduler's address here; mlcore cluster status tells it.",
        )
    standing = read_note(Path(file))
    if standing is None:
        raise EngineError("no cluster was started", place=file, hint=_HOW)
    return standing.address


def read_note(file: Path) -> Standing | None:
    """Read a note; None where there is none, or its process is gone.

    Args:
        file: The note.

    Raises:
        EngineError: It is no note.
    """
    try:
        standing = Standing(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise EngineError(f"cannot be read: {error}", place=str(file), hint="Remove it.") from error
    return standing if standing.process() is not None else None


def write_note(file: Path, standing: Standing) -> None:
    """Write a note so that it is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(standing)))
    draft.replace(file)
