"""What a training is given besides its data: where it runs, where it writes, whom it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.train.recorder import NullRecorder, Recorder

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["TrainContext"]


@dataclass(frozen=True)
class TrainContext:
    """Where a training runs, and whom it tells.

    Args:
        workdir: A folder that the workers can read and write too.
        client: The cluster; None trains in this process.
        recorder: Told settings, metrics while training runs, and files.
        progress: Told of stages, rounds and steps.
        cache: Where matrices of training sets are kept, content-addressed; by default in ``workdir``.
        profile: Whether to measure and record the time in data, computing and communication.
        threads: How many threads a rank in this process may use, where several trainings share a machine; None uses
            all of them. On a cluster the ranks' seats say it.
        checkpoints: Where checkpoints are, a folder or an fsspec address that the workers reach too: the same trainer on the
            same data with the same place goes on from the last one. Whoever names a place clears it once the model is
            in safety; until then nothing is trained again. By default they are in ``workdir``, and gone when the
            training has ended well.
    """

    workdir: Path
    client: Client | None = None
    recorder: Recorder = field(default_factory=NullRecorder)
    progress: Progress = field(default_factory=SilentProgress)
    cache: Path | None = None
    profile: bool = False
    threads: int | None = None
    checkpoints: Path | str | None = field(default=None, repr=False)  # an address may hold what opens it

    @property
    def checkpoint_place(self) -> Path | str:
        """Where checkpoints are."""
        return self.workdir / "checkpoints" if self.checkpoints is None else self.checkpoints
