"""The outside of every graph: ``features`` (n, width) float32 in, ``predictions`` (n, outputs) float32 out."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from mlflow_core.train.models.onnx.scorer import INPUT, OUTPUT

__all__ = ["INPUT", "OPSET", "OUTPUT", "model_of"]

OPSET = 18
_ML_OPSET, _IR = 5, 10


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    *,
    width: int,
    outputs: int,
    ml_opset: int = _ML_OPSET,
) -> onnx.ModelProto:
    """A checked model of some nodes.

    Args:
        nodes: They read ``features`` and write ``predictions``.
        constants: What they read besides.
        width: Columns of the former.
        outputs: Columns of the latter.
        ml_opset: Version of the operators of ``ai.onnx.ml``.
    """
    given, found = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", columns])
        for name, columns in ((INPUT, width), (OUTPUT, outputs))
    )
    graph = helper.make_graph(list(nodes), "model", [given], [found], list(constants))
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ml_opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=_IR, producer_name="mlflow-core")
    onnx.checker.check_model(model)
    return model
