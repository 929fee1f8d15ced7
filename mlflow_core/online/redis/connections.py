"""All ways to one Redis that a backend has: blocking, on the event loop, and through a cluster's own client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Found, Told
from mlflow_core.online.redis.address import Address
from mlflow_core.online.redis.channel import Channels
from mlflow_core.online.redis.cluster import Cluster
from mlflow_core.online.redis.command import Command
from mlflow_core.online.redis.pipelined import Pipelined
from mlflow_core.online.redis.refusals import refused

__all__ = ["Connections"]


class Connections:
    """Connections to one server or cluster, opened when they are needed.

    Args:
        address: The server, or nodes of the cluster.
        timeout_s: How long to wait for a connection, and for each answer.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.cluster = Cluster(address, timeout_s) if address.cluster else None
        self.channels = Channels(address, timeout_s)
        self.pipelined = Pipelined(address, timeout_s)

    def lists(
        self, packed: Callable[[], tuple[bytes, int]], commands: Callable[[], Iterable[Command]]
    ) -> list[Any]:
        """Send commands that are answered with lists, and return these; see ``Channels.execute``.

        Args:
            packed: Gives all commands as one server is sent them, and how many they are.
            commands: Gives them one by one, as a cluster needs them.

        Raises:
            StoreError: There is no connection, it was lost, or a reply is an error.
            StoreTimeout: An answer did not come in time.
        """
        if self.cluster is None:
            text, count = packed()
            replies = self.channels.execute([(text, count)]) if count else []
        else:
            replies = self.cluster.execute(list(commands()))
        for reply in replies:
            if type(reply) is not list:
                raise refused(reply, self.address)
        return replies

    def lists_soon(
        self, text: bytes, count: int, read: Callable[[list[Any]], list[Found]], told: Told
    ) -> bool:
        """Send commands on the event loop's connection; see ``SoonReads.read_soon``.

        Args:
            text: All commands as one server is sent them.
            count: How many they are.
            read: What makes of the replies what was found.
            told: Is called with it, or with why there is none.

        Returns:
            Whether they were sent: not where there is none, to a cluster, or without a connection that is open.
        """
        if self.cluster is not None or not count:
            return False

        def arrived(replies: list[Any] | StoreError) -> None:
            told(replies if isinstance(replies, StoreError) else read(replies))

        return self.pipelined.fetch_soon(text, count, arrived)

    def close(self) -> None:
        """Close the connections of this process."""
        self.pipelined.close()
        self.channels.close()
        if self.cluster is not None:
            self.cluster.close()
