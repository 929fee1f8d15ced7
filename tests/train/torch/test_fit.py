"""Networks trained from shards: equal to a plain PyTorch loop, the same twice, the same over two ranks, told while it runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from distributed import Client, LocalCluster
from torch.nn import functional

from mlflow_core.errors import TrainError
from mlflow_core.spec.network import MLP
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.data.matrix import build_matrix
from mlflow_core.train.data.shuffle import BlockOrder
from mlflow_core.train.evaluation.metrics import measure
from mlflow_core.train.models.model import Model
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs
from tests.train.kept import Kept
from tests.train.made import FEATURES, fit, table, training_set, write

SMALL = MLP(hidden=(32, 32), dropout=0.0, embedding=8)
TRAINER = Torch(module=SMALL, epochs=3, batch_size=128, learning_rate=3e-3, seed=5)


def weights(model: Model) -> dict[str, np.ndarray]:
    return {name: one.numpy() for name, one in model.scorer.network.state_dict().items()}


def but(trainer: Torch, **fields: object) -> Torch:
    return Torch.model_validate(trainer.model_dump() | fields)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_one_rank_learns_what_a_plain_loop_learns(tmp_path: Path, clip: float | None) -> None:
    data = training_set(tmp_path / "data")
    trainer = but(TRAINER, clip=clip, warmup=0.1, weight_decay=0.1)

    model = fit(trainer, data, workdir=tmp_path / "work", cache=tmp_path / "cache")

    stored = build_matrix(
        data, "train", model.preprocessing, ("label",), tmp_path / "cache", seed=trainer.seed
    )
    rows, width = np.array(stored.open()), model.preprocessing.width
    inputs = Inputs.of(model.preprocessing, rows[:10_000])
    net = build(SMALL, {}, inputs, 1, seed=trainer.seed)
    flat = [p for n, p in net.named_parameters() if p.ndim < 2 or n == "flat.table.weight" or "bias" in n]
    steep = [p for p in net.parameters() if all(p is not one for one in flat)]
    groups = [{"params": steep, "weight_decay": 0.1}, {"params": flat, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=trainer.learning_rate, foreach=False)
    steps = math.ceil(len(rows) / 128)
    rising = math.ceil(0.1 * 3 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda at: (
            (at + 1) / rising
            if at < rising
            else 0.5 * (1 + math.cos(math.pi * (at - rising) / (3 * steps - rising)))
        ),
    )
    validate = torch.from_numpy(model.preprocessing.matrix(data.read("validate")))
    y = torch.from_numpy(data.read("validate").column("label").to_numpy().astype(np.float32))
    losses = []
    for epoch in range(3):
        order = BlockOrder(len(rows), stored.block, trainer.seed, epoch).take(rows, 0, len(rows))
        net.train()
        for start in range(0, len(rows), 128):
            batch = torch.from_numpy(order[start : start + 128])
            optimiser.zero_grad()
            out = net(batch[:, :width])[:, 0]
            functional.binary_cross_entropy_with_logits(out, batch[:, width]).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimiser.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            losses.append(float(functional.binary_cross_entropy_with_logits(net(validate)[:, 0], y)))
    np.testing.assert_allclose(model.history["loss"], losses, rtol=1e-4)
    for name, learned in weights(model).items():
        np.testing.assert_allclose(learned, net.state_dict()[name].numpy(), atol=2e-4, err_msg=name)


def test_the_same_seed_rows_and_workers_give_the_same_bits(tmp_path: Path, two: Client) -> None:
    data = training_set(tmp_path / "data")
    trainer = but(TRAINER, module=MLP(hidden=(32,), dropout=0.3), epochs=2, ema=0.9)

    here = [fit(trainer, data, workdir=tmp_path / f"here{n}").scorer.weights for n in range(2)]
    over = but(trainer, workers=2)
    there = [fit(over, data, workdir=tmp_path / f"there{n}", client=two).scorer.weights for n in range(2)]
    other = fit(but(trainer, seed=6), data, workdir=tmp_path / "other").scorer.weights

    assert here[0] == here[1]
    assert there[0] == there[1]
    assert here[0] != other


def weighted(rows: int, seed: int) -> pa.Table:
    made = table(rows, seed)
    return made.append_column("weight", pa.array(np.random.default_rng(seed).random(rows)))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"batch_size": 127, "accumulate": 3, "ema": 0.9},
        {"weight": "weight", "batch_size": 700},
        {"objective": "regression", "module": SMALL.model_copy(update={"members": 4})},
    ],
    ids=["plain", "uneven parts and average", "weights", "members"],
)
def test_two_ranks_learn_what_one_learns(tmp_path: Path, two: Client, fields: dict[str, Any]) -> None:
    parts = {
        "train": [weighted(2000, 1), weighted(1500, 2)],
        "validate": [weighted(901, 3)],
        "test": [weighted(300, 4)],
    }
    label = "amount" if fields.get("objective") == "regression" else "label"
    data = write(tmp_path / "data", parts, label=label)
    trainer = but(TRAINER, **fields)

    one = fit(trainer, data, workdir=tmp_path / "one")
    both = fit(but(trainer, workers=2), data, workdir=tmp_path / "two", client=two)

    np.testing.assert_allclose(one.history["loss"], both.history["loss"], rtol=1e-4)
    test = data.read("test")
    scale = np.std(one.predict(test))
    np.testing.assert_allclose(one.predict(test) / scale, both.predict(test) / scale, atol=2e-3)


def test_what_a_batch_does_not_use_is_left_alone_by_one_rank_and_by_two(tmp_path: Path, two: Client) -> None:
    data = training_set(tmp_path / "data")
    rare = {"module": "tests.train.torch.nets:Rare", "arguments": {"limit": 62.0}, "weight_decay": 3.0}
    trainer = but(TRAINER, **rare, batch_size=64)

    one = weights(fit(trainer, data, workdir=tmp_path / "one"))
    both = weights(fit(but(trainer, workers=2), data, workdir=tmp_path / "two", client=two))
    never = weights(fit(but(trainer, arguments={"limit": 1e9}), data, workdir=tmp_path / "never"))

    assert not np.allclose(one["rare.weight"], never["rare.weight"], rtol=1e-3)  # some batches use it
    for name, wanted in one.items():
        np.testing.assert_allclose(both[name], wanted, rtol=1e-3, atol=1e-5)


def test_weights_say_which_rows_count(tmp_path: Path) -> None:
    def twice(rows: int, seed: int) -> pa.Table:
        """Rows, and the same rows with the opposite label that weigh nothing."""
        good = table(rows, seed)
        label = pa.compute.invert(good.column("label"))
        bad = good.set_column(good.column_names.index("label"), "label", label)
        both = pa.concat_tables([good, bad])
        return both.append_column("weight", pa.array(np.repeat([1.0, 0.0], rows)))

    data = write(
        tmp_path / "data", {"train": [twice(1500, 1)], "validate": [twice(400, 2)], "test": [twice(400, 3)]}
    )

    model = fit(but(TRAINER, weight="weight", epochs=6), data, workdir=tmp_path / "work")

    test = data.read("test").slice(0, 400)
    y = test.column("label").to_numpy().astype(float)
    assert measure("auc", y, model.predict(test)) > 0.7
    assert model.history["loss"][-1] < 0.63


def test_a_batch_in_parts_learns_what_it_learns_at_once(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")

    whole = fit(TRAINER, data, workdir=tmp_path / "whole")
    parts = fit(but(TRAINER, accumulate=5), data, workdir=tmp_path / "parts")

    np.testing.assert_allclose(whole.history["loss"], parts.history["loss"], rtol=1e-4)


def test_what_happens_is_told_while_it_happens(tmp_path: Path, two: Client) -> None:
    data, kept = training_set(tmp_path / "data"), Kept()

    model = fit(
        but(TRAINER, workers=2),
        data,
        workdir=tmp_path / "work",
        client=two,
        recorder=kept,
        profile=True,
    )

    epochs = [(step, told) for step, told in kept.told if "validate_loss" in told]
    assert [step for step, _ in epochs] == [0, 1, 2]
    assert [told["validate_loss"] for _, told in epochs] == list(model.history["loss"])
    assert epochs[2][1]["train_loss"] < epochs[0][1]["train_loss"]
    steps = [(step, told) for step, told in kept.told if "batch_loss" in told]
    assert len(steps) > 20
    assert [step for step, _ in steps] == sorted({step for step, _ in steps})
    assert all(told["rows_per_second"] > 0 for _, told in steps)
    assert steps[-1][1]["learning_rate"] < steps[0][1]["learning_rate"]
    spent = {name: value for step, told in kept.told if step is None for name, value in told.items()}
    assert {"seconds.data", "seconds.computing", "seconds.communication"} <= spent.keys()
    assert 0 < spent["seconds.communication"] < spent["seconds.total"]
    assert kept.seen["rows.train"] == 3500
    assert kept.seen["trainer.objective"] == "binary"


def test_it_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    noise = {}
    for number, part in enumerate(("train", "validate", "test")):
        made = table(400, number)
        label = np.random.default_rng(number).random(400) < 0.5
        noise[part] = [made.set_column(made.column_names.index("label"), "label", pa.array(label))]
    data = write(tmp_path / "data", noise)
    trainer = but(TRAINER, epochs=40, early_stopping=3, schedule="constant", learning_rate=1e-2)

    model = fit(trainer, data, workdir=tmp_path / "work")

    losses = model.history["loss"]
    assert len(losses) == model.best + 1 + 3 < 40
    assert model.best == int(np.argmin(losses))
    y = data.read("validate").column("label").to_numpy().astype(float)
    assert measure("log_loss", y, model.predict(data.read("validate"))) == pytest.approx(
        losses[model.best], rel=1e-4
    )


def test_the_moving_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")

    model = fit(but(TRAINER, ema=0.98), data, workdir=tmp_path / "averaged")
    plain = fit(TRAINER, data, workdir=tmp_path / "plain")

    y = data.read("validate").column("label").to_numpy().astype(float)
    loss = measure("log_loss", y, model.predict(data.read("validate")))
    assert loss == pytest.approx(model.history["loss"][-1], rel=1e-4)
    assert model.history["loss"] != plain.history["loss"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_nearly_the_same(tmp_path: Path, precision: str) -> None:
    data = training_set(tmp_path / "data")

    mixed = fit(but(TRAINER, precision=precision), data, workdir=tmp_path / "mixed")
    exact = fit(TRAINER, data, workdir=tmp_path / "exact")

    assert mixed.history["loss"] != exact.history["loss"]
    np.testing.assert_allclose(mixed.history["loss"], exact.history["loss"], rtol=0.02)


@pytest.mark.parametrize(("name", "arguments"), [("Linear", {"normed": True}), ("Tied", {})])
def test_a_user_s_module_is_trained_saved_and_read_back(
    tmp_path: Path, two: Client, name: str, arguments: dict[str, Any]
) -> None:
    data = training_set(tmp_path / "data")
    trainer = but(TRAINER, module=f"tests.train.torch.nets:{name}", arguments=arguments, workers=2)

    model = fit(trainer, data, workdir=tmp_path / "work", client=two)

    read = Model.load(model.save(tmp_path / "model"))
    test = data.read("test")
    np.testing.assert_array_equal(read.predict(test), model.predict(test))
    assert model.history["loss"][-1] < model.history["loss"][0]


def test_more_ranks_than_there_are_seats_are_refused(tmp_path: Path, two: Client) -> None:
    data = training_set(tmp_path / "data")

    with pytest.raises(TrainError, match="2 workers were asked for, but there is no cluster"):
        fit(but(TRAINER, workers=2), data, workdir=tmp_path / "work")
    with pytest.raises(TrainError, match="3 ranks were asked for, but the cluster has 2 workers"):
        fit(but(TRAINER, workers=3), data, workdir=tmp_path / "work", client=two)


def test_fewer_rows_than_workers_are_refused(tmp_path: Path, two: Client) -> None:
    one = table(1, 0).set_column(table(1, 0).column_names.index("label"), "label", pa.array([1.5]))
    data = write(tmp_path / "data", {"train": [table(50, 1)], "validate": [one], "test": [one]})
    trainer = but(TRAINER, objective="regression", workers=2)

    with pytest.raises(TrainError, match='the part "validate" has 1 rows for 2 workers'):
        fit(trainer, data, workdir=tmp_path / "work", client=two)
    with pytest.raises(TrainError, match="a batch of 1 rows cannot be shared by 2 workers"):
        fit(but(trainer, batch_size=1), data, workdir=tmp_path / "work", client=two)


def test_a_last_batch_with_fewer_rows_than_ranks_is_learned_from(tmp_path: Path, two: Client) -> None:
    parts = {"train": [table(65, 1)], "validate": [table(3, 2)], "test": [table(3, 3)]}
    data = write(tmp_path / "data", parts, label="amount", features=("delay", "gust"))
    trainer = but(TRAINER, batch_size=32, objective="regression")

    one = fit(trainer, data, workdir=tmp_path / "one")
    both = fit(but(trainer, workers=2), data, workdir=tmp_path / "two", client=two)

    np.testing.assert_allclose(one.history["loss"], both.history["loss"], rtol=1e-4)


def test_shards_and_parts_that_are_empty_are_passed_over_or_refused(tmp_path: Path) -> None:
    good = {"train": [table(0, 0), table(300, 1)], "validate": [table(100, 2)], "test": [table(50, 3)]}

    model = fit(but(TRAINER, epochs=1), write(tmp_path / "some", good), workdir=tmp_path / "work")

    assert len(model.history["loss"]) == 1
    with pytest.raises(TrainError, match='the part "validate" of the dataset has no rows'):
        fit(TRAINER, write(tmp_path / "none", good | {"validate": [table(0, 0)]}), workdir=tmp_path / "work")


def test_ranks_in_one_process_are_refused(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    with (
        LocalCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        pytest.raises(TrainError, match=r"two ranks are in one process.*processes=True"),
    ):
        fit(but(TRAINER, workers=2), data, workdir=tmp_path / "work", client=client)


def test_a_feature_of_one_value_and_an_unseen_category_do_no_harm(tmp_path: Path) -> None:
    def flat(rows: int, seed: int) -> pa.Table:
        return table(rows, seed).append_column("flat", pa.array(np.full(rows, 3.0)))

    parts = {"train": [flat(500, 1)], "validate": [flat(200, 2)], "test": [flat(200, 3)]}
    data = write(tmp_path / "data", parts, features=(*FEATURES, "flat"))

    model = fit(TRAINER, data, workdir=tmp_path / "work")

    test = data.read("test")
    other = test.set_column(test.column_names.index("carrier"), "carrier", pa.array(["ZZ"] * 200))
    assert any('"flat" has one value' in note for note in model.notes)
    assert np.isfinite(model.predict(other)).all()
