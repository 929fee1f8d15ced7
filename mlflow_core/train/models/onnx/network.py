"""A trained network as an ONNX graph, with its scale, shift and link, written by torch's own exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch

from mlflow_core.errors import TrainError
from mlflow_core.train.models.network import NetworkScorer
from mlflow_core.train.models.onnx.graph import INPUT, OPSET, OUTPUT
from mlflow_core.train.networks.build import trial_rows

__all__ = ["network_graph"]


def network_graph(scorer: NetworkScorer) -> onnx.ModelProto:
    """Write a network as a graph of ``features`` (n, width) float32 to ``predictions`` (n, outputs) float32.

    Raises:
        TrainError: The network does something that torch cannot write as ONNX.
    """
    rows = trial_rows(scorer.inputs)
    try:
        with _quiet():
            program = torch.onnx.export(
                scorer.predicting,
                (rows,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises what it meets, much of it from a user's module
        raise TrainError(
            f"torch cannot write the network as ONNX: {type(error).__name__}: {str(error).splitlines()[0]}",
            hint="Use the native format, or avoid in forward() what depends on the values of a tensor.",
        ) from error
    if program is None:
        raise TrainError("torch wrote no graph of the network", hint="Use the native format.")
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own deprecations, and its notes on torchvision, which nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
