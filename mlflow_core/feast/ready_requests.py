"""Requests through Feast's API that come again: resolved and made ready once, for as long as the registry stays."""

from __future__ import annotations

import threading
from typing import Any

from feast import FeatureService

from mlflow_core.feast.online_request import OnlineRequest, feasts_resolution, resolve
from mlflow_core.online.reader import Reader

__all__ = ["ReadyRequests"]

_KEPT = 500


class ReadyRequests:
    """Readers of the requests seen so far; used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: dict[tuple[Any, ...], tuple[tuple[Any, ...], OnlineRequest, Reader]] = {}

    def ready(
        self, features: list[str] | FeatureService, registry: Any, project: str, full_feature_names: bool
    ) -> tuple[OnlineRequest, Reader]:
        """Return a request and what reads it.

        Args:
            features: References ``view:feature``, or a feature service.
            registry: Feast's registry.
            project: The project's name.
            full_feature_names: Call output columns ``{view}__{feature}``.

        Raises:
            FeastError: A name that the registry does not know, as Feast says it.
            MlcoreError: A view that cannot be stored, or an on-demand function that cannot be run.
        """
        named = features.name if isinstance(features, FeatureService) else tuple(features)
        key = (named, project, full_feature_names)
        resolution = feasts_resolution(features, registry, project, full_feature_names)
        known = self._ready.get(key)
        # Feast gives the same object again as long as its registry has not changed.
        if known is not None and known[0] is resolution:
            return known[1], known[2]
        request = resolve(resolution, full_feature_names)
        reader = Reader(request.plan, request.schemas)
        with self._lock:
            if len(self._ready) >= _KEPT:
                self._ready.clear()
            self._ready[key] = (resolution, request, reader)
        return request, reader
