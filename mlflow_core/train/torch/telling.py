"""What the caller makes of what rank 0 tells: progress for people, metrics for the run, nothing twice.

After a restart the steps since the checkpoint are told again; what was heard already is passed over.
"""

from __future__ import annotations

from mlflow_core.telemetry.logs import get_logger
from mlflow_core.telemetry.progress import Stage
from mlflow_core.train.gang.rank import CHECKPOINT, Told
from mlflow_core.train.recorder import Recorder

__all__ = ["Telling"]

_log = get_logger(__name__)

_STEP = {"loss": "batch_loss", "learning_rate": "learning_rate", "rows_per_second": "rows_per_second"}


class Telling:
    """Passes on what a training tells.

    Args:
        stage: Told of steps and rows.
        recorder: Told of each epoch's losses, by epoch, and now and then of a step's, by step.
    """

    def __init__(self, stage: Stage, recorder: Recorder) -> None:
        self._stage, self._recorder = stage, recorder
        self._step, self._epoch = 0, -1

    def told(self, told: Told) -> None:
        """Hear one thing."""
        facts = told.facts
        if told.name == "step":
            self._heard_step(facts["at"], facts["rows"])
            metrics = {ours: facts[name] for name, ours in _STEP.items() if name in facts}
            if metrics and facts["at"] > self._step:
                self._recorder.metrics(metrics, step=facts["at"])
            self._step = max(self._step, facts["at"])
        elif told.name == "epoch" and facts["epoch"] > self._epoch:
            self._epoch = facts["epoch"]
            losses = {name: facts[name] for name in ("train_loss", "validate_loss")}
            self._recorder.metrics(losses, step=self._epoch)
        elif told.name == CHECKPOINT and facts.get("resumed"):
            _log.info("training goes on from the checkpoint at step %d", facts["at"])
            self._heard_step(facts["at"], 0)
            self._step = max(self._step, facts["at"])

    def _heard_step(self, at: int, rows: int) -> None:
        if at > self._step:
            self._stage.advance(at - self._step, rows=rows)
