"""A feature service made ready: its readers, and what writes their answers, prepared once a registry version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.online.answer import Answer, Status
from mlflow_core.online.form import Packed, StoredForm
from mlflow_core.online.reader import Reader
from mlflow_core.plan.retrieval import RetrievalPlan
from mlflow_core.serve.compact import CompactWriter
from mlflow_core.serve.feast_json import FeastWriter
from mlflow_core.serve.whole_json import WholeAnswers, whole_answers
from mlflow_core.serve.wire import Reader as ColumnReader
from mlflow_core.serve.wire import column_reader
from mlflow_core.spec import DType

__all__ = ["ServedReader", "ServedService", "served_reader"]


@dataclass(frozen=True)
class ServedReader:
    """One way to call a service's features, with what writes its answers.

    Attributes:
        reader: Reads the features.
        feast: Writes Feast's JSON.
        compact: Writes ours.
        views: Output columns by the view they are of; on-demand ones under their own name.
        whole: Writes answers of which every value is there; None where a service cannot have such.
    """

    reader: Reader
    feast: FeastWriter
    compact: CompactWriter
    views: tuple[tuple[str, tuple[str, ...]], ...]
    whole: WholeAnswers | None

    @property
    def names(self) -> tuple[str, ...]:
        """The output columns, in order."""
        return tuple(self.reader.types)

    def tallies(self, answer: Answer) -> list[tuple[str, str, int]]:
        """Count an answer's values: (view, status, how many)."""
        counted: dict[tuple[str, Status], int] = {}
        for view, names in self.views:
            for name in names:
                statuses = answer.statuses[name]
                if type(statuses) is tuple:  # all the same
                    if statuses:
                        key = (view, statuses[0])
                        counted[key] = counted.get(key, 0) + len(statuses)
                    continue
                for status in statuses:
                    counted[view, status] = counted.get((view, status), 0) + 1
        return [(view, status.value, count) for (view, status), count in counted.items()]


@dataclass(frozen=True)
class ServedService:
    """One feature service, ready to be answered.

    Attributes:
        name: The service.
        description: One sentence.
        keys: Key columns of its entities and their types.
        request: Request fields of its on-demand features and their types.
        columns: All columns that a row of a request may have; a key wins over a request field of its name.
        short: Its reader with plain feature names; None where two features have one name.
        full: Its reader with names ``{view}__{feature}``.
        fingerprints: ``view NAME`` or ``on_demand NAME`` -> fingerprint of what is computed.
    """

    name: str
    description: str
    keys: Mapping[str, DType]
    request: Mapping[str, DType]
    columns: Mapping[str, DType]
    short: ServedReader | None
    full: ServedReader
    fingerprints: Mapping[str, str]

    @cached_property
    def readers(self) -> tuple[tuple[str, ColumnReader], ...]:
        """What reads each of the columns of a request."""
        return tuple((name, column_reader(dtype)) for name, dtype in self.columns.items())

    @property
    def computes(self) -> bool:
        """Whether it has on-demand functions, whose time nobody knows."""
        return self.full.reader.computes

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features in output order, under their plain names."""
        plan = (self.short or self.full).reader.plan
        return (*plan.columns, *(name for one in plan.on_demand for name in one.features))

    def describe(self) -> dict[str, Any]:
        """Return its entry in the catalogue."""
        return {
            "name": self.name,
            "description": self.description,
            "entities": {name: str(dtype) for name, dtype in self.keys.items()},
            "request": {name: str(dtype) for name, dtype in self.request.items()},
            "features": list(self.feature_names),
        }


def served_reader(
    plan: RetrievalPlan,
    schemas: Mapping[str, pa.Schema],
    keys: Mapping[str, DType],
    versions: Mapping[str, int],
    form: StoredForm,
) -> ServedReader:
    """Make a plan ready to be answered.

    Args:
        plan: What is asked for.
        schemas: For each view of the plan its key columns and features with their types.
        keys: Key columns and their types.
        versions: Feast's version of each view.
        form: How the store keeps rows.

    Raises:
        MlcoreError: As ``Reader`` does.
    """
    reader = Reader(plan, schemas, form)
    features = {name: dtype_of_arrow(name, kind) for name, kind in reader.types.items()}
    return ServedReader(
        reader=reader,
        feast=FeastWriter(keys, features, versions),
        compact=CompactWriter(features),
        views=_views(plan, reader.types),
        whole=whole_answers(reader, schemas) if isinstance(form, Packed) else None,
    )


def _views(
    plan: RetrievalPlan, outputs: Sequence[str] | Mapping[str, Any]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    of_view: dict[str, list[str]] = {}
    left = dict.fromkeys(outputs)
    for read in plan.reads:
        for name in read.shown:
            if read.output(name) in left:
                del left[read.output(name)]
                of_view.setdefault(read.view.name, []).append(read.output(name))
    for one in plan.on_demand:
        mine = [name for name in left if name.startswith(f"{one.prefix}__") or one.prefix is None]
        for name in mine:
            del left[name]
        of_view.setdefault(one.on_demand.name, []).extend(mine)
    return tuple((view, tuple(names)) for view, names in of_view.items() if names)
