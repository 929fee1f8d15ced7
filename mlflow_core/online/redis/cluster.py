"""A Redis cluster, through redis-py: which node has which slot, redirections, and connections to the nodes.

Commands are sent to all of their nodes before the first reply is read. What a node no longer has (a slot that moved)
is sent again one by one, following the redirection. Blocking: reads of an event loop happen in threads here, which
is slower than the one shared connection to a single server.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import hiredis
import redis
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.retry import Retry

from mlflow_core.errors import StoreError
from mlflow_core.online.redis.address import Address
from mlflow_core.online.redis.command import Command
from mlflow_core.online.redis.refusals import lost, timed_out, unreachable
from mlflow_core.online.redis.scripts import Script

__all__ = ["Cluster"]

_ERRORS = (RedisError, RedisClusterException, OSError)
_REDIRECTIONS = (
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
)


class Cluster:
    """The nodes of one cluster, found at the first use; safe among threads and after a fork.

    Args:
        address: Some of its nodes.
        timeout_s: How long to wait for a connection, and for each answer.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._cluster: Any = None
        self._loaded: set[bytes] = set()
        self._process = os.getpid()

    def execute(self, commands: Sequence[Command], *, harm: str | None = None) -> list[Any]:
        """Send commands to their nodes and return all replies in order; see ``Channels.execute``."""
        cluster = self._opened()
        by_node: dict[str, tuple[Any, list[int]]] = {}
        for i, command in enumerate(commands):
            node = self._node(cluster, command.key)
            by_node.setdefault(node.name, (node, []))[1].append(i)
        replies: list[Any] = [None] * len(commands)
        try:
            self._exchange(by_node, commands, replies)
            for i, reply in enumerate(replies):
                if isinstance(reply, _REDIRECTIONS):
                    replies[i] = self._redirected(cluster, commands[i])
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            # After a failover the next call asks another node.
            with suppress(*_ERRORS):
                cluster.nodes_manager.initialize()
            raise self._explained(error, harm) from error
        except RedisClusterException as error:
            raise self._explained(error, harm) from error
        return [_coded(reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    def slot(self, key: bytes) -> int:
        """Return the slot that a key belongs to."""
        return int(self._opened().keyslot(key))

    def load(self, script: Script) -> None:
        """Make a script known to all primaries, once in this object's life."""
        if script.digest in self._loaded:
            return
        try:
            for node in self._opened().get_primaries():
                node.redis_connection.execute_command("SCRIPT LOAD", script.text)
        except _ERRORS as error:
            raise self._explained(error, None) from error
        self._loaded.add(script.digest)

    def scan(self, pattern: bytes, count: int) -> Iterator[list[bytes]]:
        """Go through the keys of a pattern on all primaries; a key may come more than once."""
        try:
            for node in self._opened().get_primaries():
                cursor = 0
                while True:
                    cursor, keys = node.redis_connection.scan(cursor, match=pattern, count=count)
                    yield keys
                    if not cursor:
                        break
        except _ERRORS as error:
            raise self._explained(error, None) from error

    def close(self) -> None:
        """Close the connections to all nodes."""
        with self._lock:
            cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def _exchange(
        self, by_node: dict[str, tuple[Any, list[int]]], commands: Sequence[Command], replies: list[Any]
    ) -> None:
        taken: list[tuple[Any, Any, list[int]]] = []
        finished = False
        try:
            for node, indices in by_node.values():
                pool = node.redis_connection.connection_pool
                connection = pool.get_connection()
                taken.append((pool, connection, indices))
                packed = connection.pack_commands([commands[i].args for i in indices])
                connection.send_packed_command(packed, check_health=False)
            for _, connection, indices in taken:
                for i in indices:
                    try:
                        replies[i] = connection.read_response(disable_decoding=True)
                    except ResponseError as error:
                        replies[i] = error
            finished = True
        finally:
            for pool, connection, _ in taken:
                if not finished:  # replies may still be on their way
                    connection.disconnect()
                pool.release(connection)

    def _redirected(self, cluster: Any, command: Command) -> Any:
        name, *args = command.args
        try:
            return cluster.execute_command(name.decode(), *args)
        except ResponseError as error:
            return error

    def _node(self, cluster: Any, key: bytes) -> Any:
        try:
            return cluster.nodes_manager.get_node_from_slot(cluster.keyslot(key))
        except _ERRORS as error:
            raise self._explained(error, None) from error

    def _opened(self) -> Any:
        cluster = self._cluster
        if cluster is not None and self._process == os.getpid():
            return cluster
        with self._lock:
            if self._cluster is None or self._process != os.getpid():
                try:
                    self._cluster = self._discovered()
                except _ERRORS as error:
                    raise self._explained(error, None) from error
                self._process = os.getpid()
                self._loaded.clear()
            return self._cluster

    def _discovered(self) -> Any:
        options: dict[str, Any] = {}
        tls = self.address.tls
        if tls is not None:
            options = {
                "ssl": True,
                "ssl_ca_certs": tls.ca_certs,
                "ssl_certfile": tls.certfile,
                "ssl_keyfile": tls.keyfile,
                "ssl_cert_reqs": "required" if tls.verified else "none",
                "ssl_check_hostname": tls.verified and tls.check_hostname,
            }
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self.address.hosts],  # type: ignore[no-untyped-call]
            username=self.address.username,
            password=self.address.password,
            socket_timeout=self.timeout_s,
            socket_connect_timeout=self.timeout_s,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 4),
            protocol=2,
            **options,
        )

    def _explained(self, error: Exception, harm: str | None) -> StoreError:
        if isinstance(error, redis.exceptions.TimeoutError):
            return timed_out(self.address, self.timeout_s, harm=harm)
        if isinstance(error, OSError):
            return unreachable(error, self.address, harm=harm)
        text = str(error)
        if self.address.password:
            text = text.replace(self.address.password, "***")
        if isinstance(error, RedisClusterException):
            return unreachable(ConnectionError(text), self.address, harm=harm)
        return lost(self.address, text, harm=harm)


def _coded(error: ResponseError) -> Exception:
    """Return an error reply as the server sent it: redis-py takes off the codes that it has classes for."""
    code = getattr(error, "status_code", None)
    return hiredis.ReplyError(f"{code} {error}" if code else str(error))
