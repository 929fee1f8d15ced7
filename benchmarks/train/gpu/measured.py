"""Our trainers on a card: rows a second, how busy it was, and the share of its own limits that they reach."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xgboost
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import Row
from benchmarks.train.boosting import auc
from benchmarks.train.data import training_set
from benchmarks.train.gpu.card import Busy, Device, Limits, limits, watched
from benchmarks.train.stepping import last_losses, trainer_steps
from mlflow_core.spec import GRU, MLP, FTTransformer, Torch, XGBoost
from mlflow_core.train import TrainContext, fit
from mlflow_core.train.data.profile import merge, profile_shard
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.networks.build import build, trial_rows
from mlflow_core.train.networks.inputs import Inputs

__all__ = ["Scale", "measure"]

MOST_AUC, MOST_LOSS = 0.002, 0.02
DEPTH, FEW, MANY = 6, 20, 120  # rounds of two trainings whose difference is the rounds alone


@dataclass(frozen=True)
class Scale:
    """How much is trained on; the last is for what only looks whether everything runs.

    Attributes:
        rows: Rows of the networks' training part.
        batch: Rows of a batch.
        boosted: Rows that trees are boosted on.
        features: Columns.
    """

    rows: int = 2_000_000
    batch: int = 8192
    boosted: int = 4_000_000
    features: int = 50


def measure(scratch: Path, scale: Scale, device: Device) -> list[Row]:
    """Train on the device, and compare with its limits.

    Args:
        scratch: A folder for data and work.
        scale: How much.
        device: ``"cuda"``; the tests of this benchmark take ``"cpu"``, whose rows say nothing about a card.
    """
    most = limits(device)
    rows = []
    for name, module, sequences in (
        ("MLP", MLP(hidden=(512, 512, 512), dropout=0.0), 0),
        ("FT-Transformer", FTTransformer(blocks=3, width=192, dropout=0.0), 0),
        ("GRU", GRU(hidden=256, dropout=0.0), 16),
    ):
        data = training_set(
            scratch / f"networks-{sequences}", scale.rows, scale.features, sequences=sequences
        )
        rows += _network(name, module, data, scale, most, scratch / name, device)
    return rows + _boosted(scratch, scale, most, device)


def _network(
    name: str, module: Any, data: TrainingData, scale: Scale, most: Limits, scratch: Path, device: Device
) -> list[Row]:
    found: dict[str, Mapping[str, Any]] = {}
    busy: dict[str, Busy] = {}
    for precision in ("float32", "bf16"):
        print(f"  {name}, {precision} ...", end="", file=sys.stderr, flush=True)
        trainer = Torch(
            module=module,
            epochs=2,
            batch_size=scale.batch,
            precision=precision,
            schedule="constant",
            device=device,
            seed=1,
        )
        order = {"threads": torch.get_num_threads(), "workers": 0}
        with watched() as seen:
            found[precision] = trainer_steps(trainer, data, scratch / "cache", scratch / precision, order)
        busy[precision] = seen[-1]
        print(f" {found[precision]['rows_per_second']:,.0f} rows/s", file=sys.stderr, flush=True)
    ours, exact = found["bf16"], found["float32"]
    mine, theirs = last_losses(ours["losses"], exact["losses"])
    equal = abs(mine / theirs - 1) <= MOST_LOSS
    case = f"{name}, {scale.rows:,} x {scale.features}, bf16"
    note = f"loss {mine:.4f} and {theirs:.4f}"
    rate, other = ours["rows_per_second"], exact["rows_per_second"]
    reached = rate * flops_of_a_row(module, data) / 1e12
    return [
        Row(
            case, "rows/s", rate, "float32, same card", other, rate / other if equal else None,
            None, None, equal, note,
        ),
        Row(
            case, "TFLOP/s", reached, "bf16 matrix product, measured", most.flops / 1e12,
            1e12 * reached / most.flops,
        ),
        *_busy(case, busy["bf16"]),
    ]  # fmt: skip


def flops_of_a_row(module: Any, data: TrainingData) -> float:
    """Operations of a row going forward and backward, counted by torch at its matrix products and convolutions."""
    profiles = [profile_shard(data.files("train")[0], data.label, data.features, with_features=True)]
    preprocessing, _notes, _label = merge(profiles, data.features, sequences=True)
    inputs = Inputs.of(preprocessing)
    net = build(module, {}, inputs, outputs=1)
    x = trial_rows(inputs)
    with FlopCounterMode(display=False) as counter:
        net(x).sum().backward()
    return counter.get_total_flops() / len(x)


def _boosted(scratch: Path, scale: Scale, most: Limits, device: Device) -> list[Row]:
    data = training_set(scratch / "boosted", scale.boosted, scale.features)
    small = training_set(scratch / "warm", 8_000, scale.features)
    seconds, quality, busy = {}, {}, Busy((), ())
    for where in dict.fromkeys(("cpu", device)):
        print(f"  XGBoost, {where} ...", end="", file=sys.stderr, flush=True)
        _fitted(small, where, FEW, scratch / f"warm-{where}")
        few, _ = _fitted(data, where, FEW, scratch / f"few-{where}")
        with watched() as seen:
            many, booster = _fitted(data, where, MANY, scratch / f"many-{where}")
        busy = seen[-1]
        seconds[where] = max(many - few, 1e-9) / (MANY - FEW)
        quality[where] = auc(booster, data)
        print(f" {seconds[where]:.4f} s a round", file=sys.stderr, flush=True)
    equal = abs(quality[device] - quality["cpu"]) <= MOST_AUC
    case = f"XGBoost, {scale.boosted:,} x {scale.features}, {device}"
    # A round reads each row's bins, a byte each, and its two gradients once for each level of the tree.
    least = scale.boosted * (scale.features + 8) * DEPTH / seconds[device]
    ratio = seconds["cpu"] / seconds[device] if equal and device != "cpu" else None
    return [
        Row(
            case, "rows/s in a round", scale.boosted / seconds[device], "ours, this machine's processor",
            scale.boosted / seconds["cpu"], ratio, None, None, equal,
            f"AUC {quality[device]:.4f} and {quality['cpu']:.4f}",
        ),
        Row(
            case, "GB/s that a round must read", least / 1e9, "copy, measured", most.bytes / 1e9,
            least / most.bytes,
        ),
        *_busy(case, busy),
    ]  # fmt: skip


def _fitted(data: TrainingData, where: str, rounds: int, scratch: Path) -> tuple[float, xgboost.Booster]:
    trainer = XGBoost(rounds=rounds, max_depth=DEPTH, device=where, seed=1)
    start = time.perf_counter()
    model = fit(trainer, data, TrainContext(scratch))
    return time.perf_counter() - start, xgboost.Booster(model_file=bytearray(model.scorer.ubj))


def _busy(case: str, busy: Busy) -> list[Row]:
    if busy.usual is None:
        return []
    note = f"{len(busy.percent)} looks of nvidia-smi, warm-up included; at most {max(busy.mib):,.0f} MiB"
    return [Row(case, "% of time busy", busy.usual, "always", 100.0, busy.usual / 100, note=note)]
