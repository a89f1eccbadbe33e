"""The hot potato: a question goes from peer to peer, at random, until one holds the record."""

from __future__ import annotations

import contextlib
import json
import random
import secrets
from queue import Empty, SimpleQueue
from typing import Any, Final

from messages import Member, RefusedError, unpack
from protocol import Endpoint, NoAnswerError

#: Seconds until the next peer is asked in place of one that does not answer.
HOP_PATIENCE: Final = 0.7
#: Seconds until a question is asked anew: whoever had it may have died with it.
WALK_PATIENCE: Final = 5.0
WALKS_MAX: Final = 3


class Walks:
    """The questions of this peer, and those of others that come by."""

    def __init__(self, to_peers: Endpoint) -> None:
        self._to_peers = to_peers
        self._results: dict[int, SimpleQueue[dict[str, Any]]] = {}

    def ask(self, event: int, members: list[Member], first: int) -> dict[str, Any] | None:
        """What the peers say about an event, the member with the id ``first`` being asked first;
        ``None`` if nobody does."""
        walk = secrets.randbits(63)
        results = self._results[walk] = SimpleQueue()
        try:
            for _ in range(WALKS_MAX):
                message = {
                    "command": "find-event",
                    "event_id": event,
                    "walk": walk,
                    "asker": self._to_peers.address,
                    "I": [[at, *member] for at, member in enumerate(members)],
                    "id_seq": [],
                }
                with contextlib.suppress(Empty):
                    if self.pass_on(message, first):
                        return results.get(timeout=WALK_PATIENCE)
        finally:
            del self._results[walk]
        return None

    def pass_on(self, message: dict[str, Any], first: int | None = None) -> bool:
        """Hands a question to a random peer of ``I``, those that were not asked; whether one took
        it. Who does not answer is taken out of ``I``."""
        unasked = message["I"]
        while unasked:
            chosen = next((one for one in unasked if one[0] == first), random.choice(unasked))
            with contextlib.suppress(NoAnswerError, RefusedError):
                text = json.dumps(message)
                unpack(self._to_peers.request((chosen[2], chosen[3]), text, HOP_PATIENCE))
                return True
            unasked.remove(chosen)
        return False

    def come_home(self, message: dict[str, Any]) -> None:
        """Takes a ``find-event-result``; one that nobody waits for any more is forgotten."""
        results = self._results.get(message["walk"])
        if results is not None:
            results.put(message)
