"""What is heard of an attempt's ranks: that they began and ended, and what they tell, in order, by way of Dask's events.

Dask's client puts events into a queue from its own thread; they are passed on in the thread that listens. The scheduler
keeps events as long as it lives, so they are taken off it in the end.
"""

from __future__ import annotations

import asyncio
import json
import queue
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlflow_core.train.gang.on_worker import BEGAN, ENDED, TOLD
from mlflow_core.train.gang.rank import CHECKPOINT, Disrupted, Told

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Hearing", "take_off"]

_AT_ONCE_S = 0.25
_LAST_WORDS_S = 2.0


class Hearing:
    """An open ear for the ranks of one attempt.

    Args:
        client: The cluster.
        count: How many ranks there are.
        attempt: Which attempt it is.
        told: Called with what ranks tell, in the thread that listens.
        all_began: Called in it once all ranks run.

    Attributes:
        topic: The name under which the ranks tell.
        began: Ranks that have begun.
        ended: Ranks that have ended, however.
        checkpoint: Where the last checkpoint that was told of is, also one that was told after the attempt was over.
    """

    def __init__(
        self,
        client: Client,
        count: int,
        attempt: int,
        told: Callable[[Told], None],
        all_began: Callable[[], None],
    ) -> None:
        self.topic = f"mlcore-gang-{uuid.uuid4().hex}"
        self.began: set[int] = set()
        self.ended: set[int] = set()
        self.checkpoint: Any = None
        self._client, self._count, self._attempt = client, count, attempt
        self._told, self._all_began = told, all_began
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        client.subscribe_topic(self.topic, lambda event: self._heard.put(event[1]))

    def listen(self, seconds: float) -> bool:
        """Wait for something to be told and pass on what was; stop after a while, however much is told.

        Args:
            seconds: How long to wait for the first.

        Returns:
            Whether anything was heard.

        Raises:
            Disrupted: Dask has started a rank twice.
        """
        until, heard = time.monotonic() + _AT_ONCE_S, False
        try:
            self._take(self._heard.get(timeout=seconds))
            heard = True
            while time.monotonic() < until:
                self._take(self._heard.get_nowait())
        except queue.Empty:
            return heard
        return heard

    def listen_to_the_end(self) -> None:
        """Hear all ranks out that have ended: facts go another way than results, and may come a moment later."""
        heard = time.monotonic()
        while len(self.ended) < self._count and time.monotonic() - heard < _LAST_WORDS_S:
            if self.listen(0.01):
                heard = time.monotonic()

    def listen_for_ends(self, seconds: float) -> None:
        """Wait for ranks to end; what they tell is passed on to nobody any more, for the attempt is over."""
        try:
            rank, kind, name, facts = json.loads(self._heard.get(timeout=seconds))
        except queue.Empty:
            return
        if kind == TOLD:
            self._note(name, facts)
        else:
            (self.began if kind == BEGAN else self.ended).add(rank)

    def close(self) -> None:
        """Listen no more, and leave nothing on the scheduler.

        Raises:
            OSError: There is no scheduler any more.
        """
        take_off(self._client, self.topic)

    def _take(self, text: str) -> None:
        rank, kind, name, facts = json.loads(text)
        if kind == TOLD:
            self._note(name, facts)
            self._told(Told(name, facts, rank, self._attempt))
        elif kind == ENDED:
            self.ended.add(rank)
        elif kind == BEGAN:
            if rank in self.began:
                raise Disrupted(f"rank {rank} was started twice")
            self.began.add(rank)
            if len(self.began) == self._count:
                self._all_began()

    def _note(self, name: str, facts: Any) -> None:
        if name == CHECKPOINT:
            self.checkpoint = facts.get("at")


def take_off(client: Client, topic: str) -> None:
    """Listen to a topic no more, and leave nothing of it on the scheduler.

    Raises:
        OSError: There is no scheduler any more.
    """
    client.unsubscribe_topic(topic)
    client.run_on_scheduler(_forget, topic)


async def _forget(topic: str, dask_scheduler: Any = None) -> None:
    """Take what was told off the scheduler, which keeps it otherwise as long as it lives."""
    topics = dask_scheduler._broker._topics
    for _ in range(100):  # the client's farewell goes another way, and would make the topic anew
        if topic not in topics or not topics[topic].subscribers:
            break
        await asyncio.sleep(0.01)
    topics.pop(topic, None)
