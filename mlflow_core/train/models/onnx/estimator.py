"""A fitted scikit-learn estimator as an ONNX graph: the encoding of its matrix, then its trees or what skl2onnx writes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mlflow_core.errors import TrainError
from mlflow_core.train.models.encoding import Encoding
from mlflow_core.train.models.estimator import EstimatorScorer
from mlflow_core.train.models.onnx.forests import ENCODED, forest_nodes
from mlflow_core.train.models.onnx.graph import INPUT, OPSET, OUTPUT, model_of

__all__ = ["estimator_graph"]

_ML_OPSET = 3  # the newest that skl2onnx writes


def estimator_graph(scorer: EstimatorScorer) -> onnx.ModelProto:
    """Write an estimator as a graph of ``features`` (n, width) float32 to ``predictions`` (n, outputs) float32.

    Raises:
        TrainError: skl2onnx cannot write this estimator.
    """
    encoding = _Nodes("encoding")
    encoding.encode(scorer.encoding)
    forest = forest_nodes(scorer)
    if forest is not None:
        nodes, constants, outputs = forest
        return model_of(
            [*encoding.nodes, *nodes],
            [*encoding.constants, *constants],
            width=len(scorer.encoding.features),
            outputs=outputs,
        )
    converted = _converted(scorer)
    encoding.add("Identity", [ENCODED], converted.graph.input[0].name)
    answer = _Nodes("answer")
    outputs = _answer(scorer, converted.graph.output[-1].name, answer)
    return model_of(
        [*encoding.nodes, *converted.graph.node, *answer.nodes],
        [*encoding.constants, *converted.graph.initializer, *answer.constants],
        width=len(scorer.encoding.features),
        outputs=outputs,
        ml_opset=_ML_OPSET,
    )


class _Nodes:
    """Nodes and constants, written one after another."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: NDArray[Any]) -> str:
        name = f"{self.prefix}_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        name = output or f"{self.prefix}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def encode(self, encoding: Encoding) -> None:
        """What ``Encoding.apply`` does, each feature a block of columns."""
        blocks, means, deviations = [], encoding.means, encoding.deviations
        for position, feature in enumerate(encoding.features):
            column = self.add("Gather", [INPUT, self.constant(np.array([position]))], axis=1)
            if feature.kind == "category" and encoding.categories == "one_hot":
                codes = self.constant(np.arange(len(feature.categories), dtype=np.float32)[None, :])
                equal = self.add("Equal", [column, codes])
                column = self.add("Cast", [equal], to=TensorProto.FLOAT)
            elif feature.kind != "category" and encoding.numbers == "standardised":
                mean = self.constant(means[position : position + 1].astype(np.float32))
                missing = self.add("IsNaN", [column])
                filled = self.add("Where", [missing, mean, column])
                centred = self.add("Sub", [filled, mean])
                deviation = self.constant(deviations[position : position + 1].astype(np.float32))
                column = self.add("Div", [centred, deviation])
            blocks.append(column)
        self.add("Concat", blocks, ENCODED, axis=1)


def _converted(scorer: EstimatorScorer) -> onnx.ModelProto:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    estimator = scorer.estimator
    named: dict[str, bool] = {}
    if scorer.output in ("probability", "probabilities"):
        named = {"zipmap": False}
    elif scorer.output == "unusual" and not hasattr(estimator, "decision_function"):
        named = {"score_samples": True}  # of a density; what else it has comes before
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # skl2onnx's own deprecations
            found: onnx.ModelProto = skl2onnx.to_onnx(
                estimator,
                initial_types=[("given", FloatTensorType([None, scorer.encoding.width]))],
                options={id(estimator): named} if named else None,
                target_opset={"": OPSET, "ai.onnx.ml": _ML_OPSET},
            )
    except Exception as error:  # the converter raises what it meets
        raise TrainError(
            f"skl2onnx cannot write it as ONNX: {type(error).__name__}: {str(error).splitlines()[0]}",
            object=type(estimator).__name__,
            hint="Use the native format.",
        ) from error
    return found


def _answer(scorer: EstimatorScorer, found: str, nodes: _Nodes) -> int:
    """From the estimator's last output to ``predictions``; how many columns those have."""
    match scorer.output:
        case "probability":
            nodes.add("Gather", [found, nodes.constant(np.array([1]))], OUTPUT, axis=1)
            return 1
        case "probabilities":
            nodes.add("Identity", [found], OUTPUT)
            return len(scorer.estimator.classes_)
        case "value":
            nodes.add("Reshape", [found, nodes.constant(np.array([-1, 1]))], OUTPUT)
            return 1
        case "unusual":
            # What detectors give is decision_function, which is score_samples less an offset.
            detector = hasattr(scorer.estimator, "decision_function")
            offset = getattr(scorer.estimator, "offset_", 0.0) if detector else 0.0
            if not hasattr(scorer.estimator, "score_samples"):
                offset = 0.0
            moved = nodes.add("Add", [found, nodes.constant(np.array(offset, dtype=np.float32).reshape(1))])
            flat = nodes.add("Neg", [moved])
            nodes.add("Reshape", [flat, nodes.constant(np.array([-1, 1]))], OUTPUT)
            return 1
