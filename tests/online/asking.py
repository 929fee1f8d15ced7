"""How tests of the Redis backend ask it: one entity, by key column ``id``."""

from __future__ import annotations

import asyncio

from mlflow_core.online.backend import Ask, Found
from mlflow_core.online.redis.backend import RedisBackend


def ask(*keys: bytes, views: tuple[str, ...] = ("v",)) -> list[Ask]:
    return [Ask(("id",), views, keys)]


def read_async(backend: RedisBackend, asks: list[Ask]) -> list[Found]:
    """Read on an event loop of its own."""

    async def read() -> list[Found]:
        try:
            return await backend.read_async(asks)
        finally:
            await backend.close_async()

    return asyncio.run(read())
