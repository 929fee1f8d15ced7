"""What no network can be trained from is refused in one clear sentence, and what goes wrong on the way is named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from distributed import Client

from mlflow_core.errors import TrainError
from mlflow_core.spec.network import MLP
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.data.matrix import build_matrix
from mlflow_core.train.data.origin import origins
from mlflow_core.train.gang.gang import run_gang
from mlflow_core.train.torch.rank import Program
from tests.train.made import fit, table, training_set, write

NETS = "tests.train.torch.nets"
TRAINER = Torch(module=MLP(hidden=(16,)), epochs=2, batch_size=128, learning_rate=1e-2)


def but(trainer: Torch, **fields: object) -> Torch:
    return Torch.model_validate(trainer.model_dump() | fields)


def named(error: TrainError) -> list[tuple[str, int]]:
    """The shards and rows that an error names."""
    return [(path, int(row)) for path, row in re.findall(r"(/\S+\.parquet) row (\d+)", str(error))]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loss_that_is_no_number_names_the_step_and_the_rows_of_the_batch(
    tmp_path: Path, two: Client, workers: int
) -> None:
    data = training_set(tmp_path / "data")
    delays = {
        str(path): pq.read_table(path).column("delay").to_numpy(zero_copy_only=False)
        for path in data.files("train")
    }
    limit = float(np.sort(np.concatenate([np.nan_to_num(one) for one in delays.values()]))[-3])
    trainer = but(
        TRAINER,
        module=f"{NETS}:Fragile",
        arguments={"limit": limit},
        checkpoint_every=1,
        workers=workers,
        batch_size=64,
    )

    with pytest.raises(TrainError, match=r"the loss is not a finite number in step \d+ of epoch 0") as raised:
        fit(trainer, data, workdir=tmp_path / "work", client=two if workers > 1 else None)

    rows = named(raised.value)
    assert 1 <= len(rows) <= 2
    assert all(delays[path][row] > limit for path, row in rows)
    step = int(re.findall(r"in step (\d+)", str(raised.value))[0])
    kept = sorted((tmp_path / "work" / "checkpoints").glob("*.checkpoint"))
    assert int(kept[-1].stem) == step if step else not kept
    assert torch.isfinite(_weights(kept[-1])).all() if kept else True


def _weights(path: Path) -> torch.Tensor:
    from safetensors.torch import load

    from mlflow_core.train.gang.checkpoints import Checkpoints

    identity = re.search(rb'"identity": "(\w+)"', path.read_bytes())
    assert identity is not None
    last = Checkpoints(path.parent, identity.group(1).decode()).last()
    assert last is not None
    return torch.cat([one.flatten() for one in load(last.files["network.safetensors"]).values()])


def test_a_gradient_that_is_no_number_names_the_batch_s_files(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")

    with pytest.raises(
        TrainError, match=r"the gradient is not a finite number in step 0 of epoch 0"
    ) as raised:
        fit(but(TRAINER, module=f"{NETS}:Steep"), data, workdir=tmp_path / "work")

    assert "the batch has 128 rows of" in str(raised.value)
    assert all(str(path) in str(raised.value) for path in data.files("train"))


def test_a_validation_loss_that_is_no_number_names_the_rows(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    top = np.nan_to_num(data.read("train").column("delay").to_numpy()).max()
    bad = table(900, 3)
    delay = np.array(bad.column("delay").to_numpy(zero_copy_only=False))
    delay[77] = top + 1
    path = data.files("validate")[0]
    pq.write_table(bad.set_column(bad.column_names.index("delay"), "delay", pa.array(delay)), path)
    trainer = but(TRAINER, module=f"{NETS}:Fragile", arguments={"limit": float(top + 0.5)})

    with pytest.raises(TrainError, match="in the validation after epoch 0") as raised:
        fit(trainer, data, workdir=tmp_path / "work")

    assert (str(path), 77) in named(raised.value)


@pytest.mark.parametrize("part", ["train", "validate"])
def test_rows_of_a_matrix_are_traced_to_their_shards(tmp_path: Path, part: str) -> None:
    shards = [table(1700, 1), table(0, 2), table(900, 3)]
    numbered = [one.append_column("number", pa.array(np.arange(len(one)) + 0.0)) for one in shards]
    data = write(
        tmp_path / "data",
        dict.fromkeys(("train", "validate", "test"), numbered),
        features=("delay", "number"),
    )
    from mlflow_core.train.data.profile import merge, profile_shard

    found = [profile_shard(path, "label", data.features, with_features=True) for path in data.files(part)]
    preprocessing = merge(found, data.features)[0]

    matrix = build_matrix(data, part, preprocessing, ("label",), tmp_path / "cache", seed=4)
    traced = origins(matrix, range(matrix.rows), seed=4 if part == "train" else None)

    numbers = matrix.open()[:, 1]
    assert [one.row for one in traced] == numbers.astype(int).tolist()
    assert len({(one.file, one.row) for one in traced}) == 2600


def test_a_module_that_fails_on_import_on_a_worker_is_named_with_the_worker(
    tmp_path: Path, two: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_HERE", "yes")
    data = training_set(tmp_path / "data")
    trainer = but(TRAINER, module="tests.train.torch.only_here:Linear", workers=2)

    with pytest.raises(
        TrainError,
        match=r'module "tests.train.torch.only_here" cannot be imported on the worker tcp://\S+: '
        "RuntimeError: this library is not on this machine",
    ):
        fit(trainer, data, workdir=tmp_path / "work", client=two)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"module": "tests.train.torch.nats:Linear"}, r'module "tests.train.torch.nats:Linear"'),
        ({"module": f"{NETS}:Linea"}, 'Did you mean "Linear"'),
        (
            {"module": f"{NETS}:Late"},
            r"the network gives values of shape \(128,\) for 128 rows. Expected \(128, 1\)",
        ),
        ({"module": f"{NETS}:Keeping"}, 'the network keeps "_extra_state", a dict'),
        ({"objective": "multiclass", "classes": 2, "weight": "delay"}, 'weight "delay" .* null or NaN'),
        ({"weight": "wait"}, 'there is no column "wait"'),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    data = training_set(tmp_path / "data")

    with pytest.raises(TrainError, match=message):
        fit(but(TRAINER, **fields), data, workdir=tmp_path / "work")


def _labelled(values: list[Any], type_: pa.DataType) -> pa.Table:
    made = table(len(values), 5)
    return made.set_column(made.column_names.index("label"), "label", pa.array(values, type_))


@pytest.mark.parametrize(
    ("fields", "bad", "message"),
    [
        ({}, _labelled([True] * 40, pa.bool_()), 'label "label" has no negative in the part "train"'),
        ({}, _labelled([1.0, 0.0, None], pa.float64()), "is null or NaN 1 times"),
        ({"objective": "regression"}, _labelled([1.0, float("inf")], pa.float64()), "infinite 1 times"),
        ({"objective": "multiclass", "classes": 3}, _labelled([0, 1, 3], pa.int64()), "the value 3"),
        ({"objective": "multiclass", "classes": 3}, _labelled([2, 2, 2], pa.int64()), "is 2 in every row"),
        ({}, _labelled(["a", "b"], pa.string()), 'label "label" is of type string'),
    ],
)
def test_labels_that_teach_nothing_are_refused(
    tmp_path: Path, fields: dict[str, Any], bad: pa.Table, message: str
) -> None:
    data = write(tmp_path / "data", {"train": [bad], "validate": [table(50, 2)], "test": [table(50, 3)]})

    with pytest.raises(TrainError, match=message):
        fit(but(TRAINER, **fields), data, workdir=tmp_path / "work")


def test_a_dataset_without_a_label_cannot_be_classified(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data", label="")

    with pytest.raises(TrainError, match='the objective "binary" needs a label'):
        fit(TRAINER, data, workdir=tmp_path / "work")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_gpu_that_is_not_there_is_told(tmp_path: Path, two: Client, workers: int) -> None:
    data = training_set(tmp_path / "data")
    trainer = but(TRAINER, device="cuda", workers=workers)

    with pytest.raises(TrainError, match=r'"cuda" was asked for, but rank 0 on the host \S+ has none'):
        fit(trainer, data, workdir=tmp_path / "work", client=two if workers > 1 else None)


def test_a_matrix_that_a_worker_does_not_see_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = training_set(tmp_path / "data")

    def elsewhere(client: Client | None, program: Program, **named: Any) -> Any:
        path = tmp_path / "not mounted here" / program.train.path.name
        return run_gang(client, replace(program, train=replace(program.train, path=path)), **named)

    monkeypatch.setattr("mlflow_core.train.torch.fit.run_gang", elsewhere)
    with pytest.raises(TrainError, match=r"there is no such matrix here.*a cache that all workers share"):
        fit(TRAINER, data, workdir=tmp_path / "work")
