"""What each route answers, without HTTP around it: bytes and names in, a reply out; blocking, run in a thread."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mlflow_core.algebra.types import dtype_of_arrow
from mlflow_core.config.times import format_time
from mlflow_core.errors import UnknownNameError, UsageError
from mlflow_core.online.answer import Answer
from mlflow_core.serve.features import Features
from mlflow_core.serve.messages import Reply, json_reply
from mlflow_core.serve.metrics import Metrics
from mlflow_core.serve.predict import LoadedModel, Predictor
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.request import Asked, asked_of_json, columns_of_rows
from mlflow_core.serve.wire import write_column

__all__ = ["Routes", "answer_data"]


class Routes:
    """The answers of one application.

    Args:
        features: The project's features.
        predictor: The project's models; None where there are none to be asked.
        metrics: Where values are counted.
    """

    def __init__(self, features: Features, predictor: Predictor | None, metrics: Metrics) -> None:
        self._features = features
        self._predictor = predictor
        self._metrics = metrics

    def services(self) -> Reply:
        """Answer ``GET /v1/services``: the catalogue."""
        catalogue = self._features.catalogue
        entries = [catalogue.services[name].describe() for name in sorted(catalogue.services)]
        return json_reply({"services": entries})

    def features(self, body: bytes) -> Reply:
        """Answer ``POST /v1/features``.

        Raises:
            Refusal: The request is wrong.
            StoreError: The online store cannot be read.
        """
        asked = asked_of_json(body, needs_service=True)
        service = self._features.service(str(asked.service))
        columns = columns_of_rows(service, asked)
        answer = self._features.answer(service, columns, full_feature_names=asked.full_feature_names)
        self._count(service.name, answer)
        return json_reply(answer_data(answer, asked))

    def predict(self, reference: str, body: bytes) -> Reply:
        """Answer ``POST /v1/predict/{model}``.

        Args:
            reference: ``name``, ``name@alias`` or ``name:version``.
            body: The request's body.

        Raises:
            Refusal: The request is wrong, or there is no such model.
            ServeError: The model's features are gone or have changed.
        """
        asked = asked_of_json(body, needs_service=False)
        predictor, model = self._model(reference)
        service = predictor.service_of(model)
        prediction = predictor.predict(model, columns_of_rows(service, asked))
        self._count(service.name, prediction.answer)
        data: dict[str, Any] = {"predictions": prediction.values, "model": model.describe()}
        return json_reply({**data, **answer_data(prediction.answer, asked)} if asked.features else data)

    def ready(self) -> Reply:
        """Answer ``GET /readyz``: 200 while requests can be answered, with what is wrong beside it; else 503.

        A registry that cannot be read, or whose new version does not compile, is told but does not make the
        server unready: all servers see the same registry, and what it said before can still be served.
        """
        catalogue, registry = self._features.catalogue, self._features.registry_problem
        store = self._features.store_problem()
        nothing = bool(catalogue.problems) and not catalogue.services
        state = "unready" if store or nothing else "degraded" if registry or catalogue.problems else "ready"
        data = {
            "status": state,
            "registry": {"ok": registry is None, "error": registry, "version": catalogue.digest[:12]},
            "store": {"ok": store is None, "error": store},
            "services": {
                name: catalogue.problems.get(name)
                for name in sorted({*catalogue.services, *catalogue.problems})
            },
        }
        return json_reply(data, status=503 if state == "unready" else 200)

    def _model(self, reference: str) -> tuple[Predictor, LoadedModel]:
        if self._predictor is None:
            raise unknown(f'there is no model "{reference}"', reference, (), status=404)
        try:
            return self._predictor, self._predictor.models.get(reference)
        except UnknownNameError as error:
            name, known = reference.partition("@")[0].partition(":")[0], self._predictor.models.names()
            raise unknown(error.what, reference if name in known else name, known, status=404) from error
        except UsageError as error:
            raise Refusal(error.what, status=404, name=reference, expected=error.expected) from error

    def _count(self, service: str, answer: Answer) -> None:
        for status, count in Counter(one for many in answer.statuses.values() for one in many).items():
            self._metrics.values(service, status.value, count)


def answer_data(answer: Answer, asked: Asked) -> dict[str, Any]:
    """Return an answer as JSON data: features and statuses, and what else was asked for."""
    dtypes = {name: dtype_of_arrow(name, kind) for name, kind in answer.types.items()}
    data: dict[str, Any] = {
        "features": {name: write_column(values, dtypes[name]) for name, values in answer.columns.items()},
        "statuses": answer.statuses,
    }
    if asked.event_timestamps:
        data["event_timestamps"] = {
            name: [None if time is None else format_time(time) for time in times]
            for name, times in answer.event_times.items()
        }
    if asked.types:
        data["types"] = {name: str(dtype) for name, dtype in dtypes.items()}
    return data
