"""A registered model as files for others: as it is kept, or as ONNX, held to its predictions on its own dataset's rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.artifacts import Artifact, ArtifactStore
from mlflow_core.errors import TrainError
from mlflow_core.metadata import MetadataStore, ModelVersion
from mlflow_core.plan.dataset import PARTS
from mlflow_core.train.data.training_set import check_columns
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.onnx.export import TOLERANCE, Exported, export_onnx
from mlflow_core.workflow.dataset import open_dataset

__all__ = ["COMPARED", "export_model_as_onnx", "rows_of_model"]

COMPARED = 10_000
"""So many rows are compared, spread over the files of the dataset."""


def export_model_as_onnx(
    metadata: MetadataStore,
    artifacts: ArtifactStore,
    version: ModelVersion,
    folder: Path,
    *,
    rows: Path | None = None,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a registered model as ONNX.

    Args:
        metadata: Where the dataset that it was trained on is recorded.
        artifacts: Where both are kept.
        version: The model.
        folder: Where it goes: new, empty, or an earlier export.
        rows: A Parquet file of real rows to compare on; by default rows of its dataset, of the test part first.
        tolerance: How far a prediction may be off, as a share of the greatest one of its output.

    Raises:
        TrainError: The dataset is not at hand and no rows are given, or the model cannot be written as ONNX.
        ArtifactError: The model or its dataset is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="mlcore-model-") as place:
        model = Model.load(artifacts.fetch_tree(version.artifact_digest, Path(place) / "model"))
    given = None if rows is None else _some([rows], model.features)
    found = rows_of_model(metadata, artifacts, version, model) if given is None else given
    return export_onnx(model, folder, found, tolerance=tolerance)


def rows_of_model(
    metadata: MetadataStore, artifacts: ArtifactStore, version: ModelVersion, model: Model
) -> pa.Table:
    """Some rows of the dataset that a model was trained on, of the test part if it has any.

    Raises:
        TrainError: The dataset is not recorded, or was removed.
    """
    title = f'model "{version.title}"'
    record = None if version.dataset_id is None else metadata.get_dataset(version.dataset_id)
    digest = None if record is None else record.artifact_digest
    if record is None or digest is None or not artifacts.exists(digest):
        what = (
            "its dataset is not recorded"
            if record is None
            else f"the rows of its dataset {record.id} are gone"
        )
        why = f" ({record.removed_why})" if record is not None and record.removed_why else ""
        raise TrainError(
            f"cannot be compared with its export: {what}{why}",
            object=title,
            expected="real rows with its features",
            hint="Name a Parquet file of such rows: --rows FILE.",
        )
    stored = open_dataset(Artifact(record.uri or "", digest, 0, "", record.name), artifacts)
    for part in reversed(PARTS):
        if files := stored.data.shards.get(part):
            return _some(files, model.features)
    raise TrainError(
        "its dataset has no rows", object=title, hint="Name a Parquet file of rows: --rows FILE."
    )


def _some(files: Sequence[Path], features: Sequence[str]) -> pa.Table:
    """Rows from the beginning of each file."""
    share = -(-COMPARED // len(files))
    found = []
    for path in files:
        if not path.is_file():
            raise TrainError("there is no such file", place=str(path))
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow, features, path)
            batch = next(file.iter_batches(batch_size=share, columns=list(features)), None)
        if batch is not None:
            found.append(pa.Table.from_batches([batch]))
    return pa.concat_tables(found, promote_options="permissive") if found else pa.table({})
