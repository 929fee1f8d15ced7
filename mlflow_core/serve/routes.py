"""What each route answers, without HTTP around it: bytes and names in, a reply out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlflow_core.errors import UnknownNameError, UsageError
from mlflow_core.online.backend import Found
from mlflow_core.serve.feast_json import feast_asked
from mlflow_core.serve.feature_requests import CompactRequest, FeastRequest, FeatureRequest
from mlflow_core.serve.features import Features, reader_of
from mlflow_core.serve.messages import Reply, json_reply
from mlflow_core.serve.metrics import Metrics
from mlflow_core.serve.predict import LoadedModel, Prediction, Predictor
from mlflow_core.serve.refusal import Refusal, unknown
from mlflow_core.serve.request import Asked, asked_of_json, columns_of_rows
from mlflow_core.serve.served import ServedReader, ServedService
from mlflow_core.serve.store_reads import StoreReads
from mlflow_core.serve.threads import Threads

__all__ = ["FEATURES", "V1_FEATURES", "Routes"]

V1_FEATURES = b"/v1/features"
FEATURES = frozenset({b"/get-online-features", V1_FEATURES})
"""The paths of requests for features."""


class Routes:
    """The answers of one application.

    Args:
        features: The project's features.
        predictor: The project's models; None where there are none to be asked.
        metrics: Where values are counted.
        threads: Where blocking work is done.

    Attributes:
        reads: Reads the online store.
    """

    def __init__(
        self, features: Features, predictor: Predictor | None, metrics: Metrics, threads: Threads
    ) -> None:
        self._features = features
        self._predictor = predictor
        self._metrics = metrics
        self._threads = threads
        self.reads = StoreReads(features.store, threads, metrics)

    def services(self) -> Reply:
        """Answer ``GET /v1/services``: the catalogue."""
        catalogue = self._features.catalogue
        entries = [catalogue.services[name].describe() for name in sorted(catalogue.services)]
        return json_reply({"services": entries})

    async def feast(self, body: bytes) -> Reply:
        """Answer ``POST /get-online-features``, in Feast's JSON.

        Raises:
            Refusal: The request is wrong.
            StoreError: The online store cannot be read.
        """
        asked = feast_asked(body)
        if asked.service is not None:
            service = self._features.service(asked.service)
        else:
            service = await self._of_references(asked.features)
        return await self._answered(FeastRequest(asked, service, self._features.clock.now_us()))

    async def features(self, body: bytes, accept: bytes) -> Reply:
        """Answer ``POST /v1/features``.

        Args:
            body: The request's body.
            accept: Its ``Accept`` header.

        Raises:
            Refusal: The request is wrong.
            StoreError: The online store cannot be read.
        """
        asked, service = self._compact(body)
        return await self._answered(CompactRequest(asked, accept, service, self._features.clock.now_us()))

    def begun(self, path: bytes, body: bytes, accept: bytes) -> FeatureRequest | None:
        """Read and check a request for features without waiting for anything.

        Args:
            path: One of ``FEATURES``.
            body: The request's body.
            accept: Its ``Accept`` header.

        Returns:
            The request; None where something has to be waited for: references that are not compiled yet, on-demand
            functions, whose time nobody knows.

        Raises:
            Refusal: The request is wrong.
        """
        if path == V1_FEATURES:
            compact, service = self._compact(body)
            if service.computes:
                return None
            return CompactRequest(compact, accept, service, self._features.clock.now_us())
        asked = feast_asked(body)
        if asked.service is not None:
            found: ServedService | None = self._features.service(asked.service)
        else:
            found = self._features.catalogue.kept(asked.features)
        if found is None or found.computes:
            return None
        return FeastRequest(asked, found, self._features.clock.now_us())

    def ended(self, request: FeatureRequest, found: Sequence[Found]) -> Reply:
        """Turn what the store found into a reply, for a request without on-demand functions.

        Raises:
            StoreError: The store holds rows of another definition.
        """
        reply = self._whole(request, found)
        if reply is not None:
            return reply
        reader = request.served.reader
        answer = reader.answer_of(request.asked, found, now_us=request.now_us, times=request.times)
        self._count(request.served.tallies(answer))
        return request.reply(answer)

    async def predict(self, reference: str, body: bytes) -> Reply:
        """Answer ``POST /v1/predict/{model}``; scoring blocks, so it is done in a thread.

        Args:
            reference: ``name``, ``name@alias`` or ``name:version``.
            body: The request's body.

        Raises:
            Refusal: The request is wrong, or there is no such model.
            ServeError: The model's features are gone or have changed.
        """
        asked = asked_of_json(body, needs_service=False)
        served, prediction = await self._threads.run(self._predicted, reference, asked)
        self._count(served.tallies(prediction.answer))
        data = prediction.describe()
        if asked.features:
            data |= served.compact.data(prediction.answer, times=asked.event_timestamps, types=asked.types)
        return json_reply(data)

    def _predicted(self, reference: str, asked: Asked) -> tuple[ServedReader, Prediction]:
        predictor, model = self._model(reference)
        service = predictor.service_of(model)
        prediction = predictor.predict(model, columns_of_rows(service, asked))
        return reader_of(service, full_feature_names=False), prediction

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

    def _compact(self, body: bytes) -> tuple[Asked, ServedService]:
        asked = asked_of_json(body, needs_service=True)
        return asked, self._features.service(str(asked.service))

    async def _answered(self, request: FeatureRequest) -> Reply:
        found = await self.reads.read(request.asked.asks)
        if not request.served.reader.computes:
            return self.ended(request, found)
        answer = await self.reads.answer(
            request.served.reader, request.asked, found, now_us=request.now_us, times=request.times
        )
        self._count(request.served.tallies(answer))
        return request.reply(answer)

    def _whole(self, request: FeatureRequest, found: Sequence[Found]) -> Reply | None:
        writes, wholes = request.whole, request.wholes(found)
        if writes is None or wholes is None:
            return None
        self._metrics.whole(writes.counted, request.asked.n_rows)
        return Reply(200, request.whole_body(writes, wholes))

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

    async def _of_references(self, references: tuple[str, ...]) -> ServedService:
        catalogue = self._features.catalogue
        kept = catalogue.kept(references)
        if kept is None:  # compiled in a thread, since all the others would wait for it
            return await self._threads.run(catalogue.of_references, references)
        return kept

    async def close(self) -> None:
        """Close the event loop's connections."""
        await self.reads.close()

    def _count(self, tallies: Iterable[tuple[str, str, int]]) -> None:
        for view, status, count in tallies:
            self._metrics.values(view, status, count)
