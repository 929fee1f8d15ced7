"""What each clock says: the same model trained under each, its own figure and the one it would really reach.

A model that was trained and tested on features that nobody had at the time looks better than it is. So each
clock's model is measured twice on the same rows: on its own clock's features, which is what a test of that kind
reports, and on the deployed clock's, which is what it would do in service. Both differences to the deployed
model are paired, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import EngineError
from mlflow_core.spec import ClockName, Dataset, Trainer
from mlflow_core.telemetry.progress import Progress
from mlflow_core.train.evaluation.bootstrap import Interval
from mlflow_core.train.evaluation.evaluate import Evaluation, evaluate
from mlflow_core.train.evaluation.truth import truth_of
from mlflow_core.train.models.model import Model
from mlflow_core.workflow.dataset import StoredDataset

__all__ = ["ClockComparison", "ClockResult", "compare_clocks", "other_clocks"]

Floats = NDArray[np.float64]

_FIGURES = ("own", "deployed", "pretended", "lost")


@dataclass(frozen=True, slots=True)
class ClockResult:
    """One clock's model.

    Attributes:
        clock: The clock that it was trained under.
        own: Its figure on its own clock's features: what a test under that clock reports.
        deployed: Its figure on the deployed clock's features: what it would reach in service.
        pretended: ``own`` minus the deployed model's figure, paired; above 0 is what leakage pretends to buy.
        lost: ``deployed`` minus the deployed model's figure, paired; below 0 is what training on it costs.
    """

    clock: ClockName
    own: Interval
    deployed: Interval
    pretended: Interval
    lost: Interval

    def to_json(self) -> dict[str, Any]:
        """JSON-able values."""
        intervals = {name: getattr(self, name).to_json() for name in _FIGURES}
        return {"clock": self.clock, **intervals}


@dataclass(frozen=True, slots=True)
class ClockComparison:
    """The same model under several clocks, measured on the same rows.

    Attributes:
        metric: What was measured.
        deployed: The clock of the deployed model.
        results: One result for each clock, the deployed one first.
        rows: Rows of the test part.
        evaluation: All figures with their resamples.
    """

    metric: str
    deployed: ClockName
    results: tuple[ClockResult, ...]
    rows: int
    evaluation: Evaluation

    def to_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "metric": self.metric,
            "deployed": self.deployed,
            "rows": self.rows,
            "clocks": [result.to_json() for result in self.results],
        }

    def whole(self) -> dict[str, Any]:
        """Everything but the evaluation, to be read again by ``of_json``; figures that are not defined are NaN."""
        return {
            "metric": self.metric,
            "deployed": self.deployed,
            "rows": self.rows,
            "results": [asdict(one) for one in self.results],
        }

    @classmethod
    def of_json(cls, told: Mapping[str, Any], evaluation: Evaluation) -> ClockComparison:
        """Read what ``whole`` gave."""
        results = tuple(
            ClockResult(one["clock"], **{name: Interval(**one[name]) for name in _FIGURES})
            for one in told["results"]
        )
        return cls(told["metric"], told["deployed"], results, told["rows"], evaluation)

    def describe(self) -> str:
        """Return the comparison as lines for a person."""
        lines = []
        for one in self.results:
            line = f"{one.clock:<8}{self.metric} {one.own.value:.4f} in its own test"
            if one.clock != self.deployed:
                line += (
                    f" ({_signed(one.pretended)}), {one.deployed.value:.4f} in service ({_signed(one.lost)})"
                )
            lines.append(line)
        return "\n".join(lines)


def other_clocks(dataset: Dataset, deployed: ClockName) -> tuple[ClockName, ...]:
    """Name the clocks that a dataset can be built under besides the deployed one."""
    served = all(one.view.availability is not None for one in dataset.features.selections)
    clocks: tuple[ClockName, ...] = get_args(ClockName)
    return tuple(one for one in clocks[::-1] if one != deployed and (served or one != "served"))


def compare_clocks(
    trainer: Trainer,
    deployed: tuple[ClockName, StoredDataset, Model],
    others: Mapping[ClockName, tuple[StoredDataset, Model]],
    metric: str,
    *,
    count: int,
    seed: int,
    progress: Progress,
) -> ClockComparison:
    """Measure models of several clocks on the test rows of the deployed one.

    Args:
        trainer: What all of them were trained with.
        deployed: Clock, dataset and model in service.
        others: Dataset and model by further clock; their test parts have the same rows in the same order.
        metric: What is measured.
        count: Resamples of the intervals.
        seed: Their seed.
        progress: Who is told.

    Raises:
        EngineError: The datasets' test rows are not the same.
    """
    clock, dataset, model = deployed
    served = dataset.data.read("test")
    predictions: dict[str, Floats] = {clock: model.predict(served)}
    for other, (own_dataset, own_model) in others.items():
        own = own_dataset.data.read("test")
        _same_rows(dataset, served, own, other)
        predictions[f"{other} in its own test"] = own_model.predict(own)
        predictions[f"{other} in service"] = own_model.predict(served)
    truth = truth_of(trainer, served, dataset.data.label, outputs=model.outputs)
    times = served[dataset.data.time_column].cast(pa.int64()).to_numpy()
    found = evaluate(truth, predictions, [metric], times=times, count=count, seed=seed, progress=progress)
    zero = found.difference(metric, clock, clock)
    results = [ClockResult(clock, found.score(metric), found.score(metric), zero, zero)]
    for other in others:
        own_name, deployed_name = f"{other} in its own test", f"{other} in service"
        results.append(
            ClockResult(
                other,
                found.score(metric, own_name),
                found.score(metric, deployed_name),
                found.difference(metric, own_name, clock),
                found.difference(metric, deployed_name, clock),
            )
        )
    return ClockComparison(metric, clock, tuple(results), served.num_rows, found)


def _same_rows(dataset: StoredDataset, mine: pa.Table, theirs: pa.Table, clock: str) -> None:
    own = set(dataset.data.features)
    for column in (name for name in mine.column_names if name not in own):
        if not mine[column].equals(theirs[column]):
            raise EngineError(
                f'the test rows under clock "{clock}" differ in "{column}", so they cannot be paired'
            )


def _signed(one: Interval) -> str:
    return f"{one.value:+.4f}, 95 % {one.low:+.4f} to {one.high:+.4f}"
