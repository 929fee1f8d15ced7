"""What is called and what came of it, as values that travel between machines and processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Called", "Ended", "Fault", "StepCall", "Stored"]


@dataclass(frozen=True, slots=True)
class Stored:
    """An output in the artifact store.

    Attributes:
        digest: Of the file or folder.
        kind: ``"table"`` (a folder of Parquet files), ``"value"`` (a JSON file), ``"file"`` (a folder with one file),
            ``"files"``, ``"dataset"``, ``"model"`` (folders).
    """

    digest: str
    kind: str


@dataclass(frozen=True, slots=True)
class StepCall:
    """A call of a user's step.

    Attributes:
        name: The step.
        import_path: ``module:name`` of what ``@step`` made of a function.
        store: Location of the artifact store; all machines reach it under this name.
        arguments: Parameter -> the output that it reads.
        params: Settings, JSON values.
        project: Folders that are first on the import path, the project's own first.
        seed: What random numbers start from; also the setting ``seed`` where the function has one that is not given.
        code: What ``digest_of_code`` says of the function; the process that runs it has to find the same.
        workdir: Folder in which the step's own working folder is made; by default that for temporary files.
    """

    name: str
    import_path: str
    store: str
    arguments: Mapping[str, Stored] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    project: tuple[str, ...] = ()
    seed: int = 0
    code: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the call as JSON values."""
        given = {name: [one.digest, one.kind] for name, one in self.arguments.items()}
        return {
            **{name: getattr(self, name) for name in ("name", "import_path", "store", "seed", "workdir")},
            "arguments": given,
            "code": dict(self.code),
            "params": dict(self.params),
            "project": list(self.project),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepCall:
        """Read a call back from its JSON values."""
        given = {name: Stored(*one) for name, one in data["arguments"].items()}
        return cls(**{**data, "arguments": given, "project": tuple(data["project"])})


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a step has no result.

    Attributes:
        what: One sentence.
        place: File and line, where they are the user's.
        hint: What to do.
    """

    what: str
    place: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a step's process ended, as it is told to the driver.

    Attributes:
        how: ``"finished"``; ``"failed"`` by an error of the user's; ``"crashed"``; ``"timeout"``; ``"stopped"`` on request.
        digest: Of the output.
        kind: Of the output, as for ``Stored``.
        size: Bytes of the output.
        fault: Why it did not finish.
        memory_bytes: Most memory that its process, or one of its own, had in use.
        cpu_us: CPU time of its process and of those that it waited for, in microseconds.
        log: The last of what it printed and logged.
        worker: Where it ran.
    """

    how: Literal["finished", "failed", "crashed", "timeout", "stopped"]
    digest: str = ""
    kind: str = ""
    size: int = 0
    fault: Fault | None = None
    memory_bytes: int = 0
    cpu_us: int = 0
    log: str = ""
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Called:
    """What a step left.

    Attributes:
        digest: Of its output in the store.
        kind: Of the output, as for ``Stored``.
        size: Bytes of the output.
        worker: Where it ran: a worker's address, or this machine's name.
        memory_bytes: Most memory that its process, or one of its own, had in use.
        cpu_us: CPU time of its process and of those that it waited for, in microseconds.
        log: The last of what it printed and logged.
    """

    digest: str
    kind: str
    size: int
    worker: str
    memory_bytes: int
    cpu_us: int
    log: str
