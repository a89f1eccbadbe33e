"""The post between peers: small JSON datagrams by UDP on 127.0.0.1, peer N at port base + N.

A datagram is ``[kind, sender, number, notices]``. A ``ping`` and ``notices`` are answered by a
``reply`` of the same number. What is not answered is sent again, and what arrives again is answered
again but heard once. A datagram is believed only if it has exactly this shape, and comes from the
port of the peer that it names as its sender.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

PEERS: Final = 256
#: So many notices travel in one datagram at most.
BATCH: Final = 100
_DATAGRAM_BYTES_MAX: Final = 8192
_NUMBER_MAX: Final = 2**53
_SEEN_MAX: Final = 4096
_RESEND_SECONDS: Final = 0.2
_TRIES: Final = 15


class Notice(NamedTuple):
    """What one peer tells another, or what walks from successor to successor until it is there."""

    #: On a walk: join, store, request. Straight to a peer: accepted, found, absent, received.
    what: str
    #: Four digits; empty if it is not about a file.
    file: str
    #: Who asked; in an answer: who answers.
    peer: int
    #: The asker's number for the question, which comes back in the answer.
    ticket: int = 0


_WITHOUT_FILE: Final = ("join", "accepted")
_WITH_FILE: Final = ("store", "request", "found", "absent", "received")


def is_file_name(text: str) -> bool:
    return re.fullmatch("[0-9]{4}", text) is not None


class Post(asyncio.DatagramProtocol):
    """The datagram socket of one peer."""

    def __init__(self, me: int, base_port: int) -> None:
        self.me = me
        self.base_port = base_port
        #: Called when a peer has pinged.
        self.on_ping: Callable[[int], None] = lambda peer: None
        #: Called with what has arrived. If it answers False, it will be sent again.
        self.on_notices: Callable[[list[Notice]], bool] = lambda notices: False
        self._numbers = itertools.count(random.randrange(_NUMBER_MAX // 2))
        self._asked: dict[int, tuple[set[int], asyncio.Future[None]]] = {}
        self._seen: OrderedDict[tuple[int, int], None] = OrderedDict()

    async def open(self) -> None:
        """Takes the port; an ``OSError`` if somebody has it, such as another peer of this id."""
        where = ("127.0.0.1", self.port(self.me))
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=where)

    def close(self) -> None:
        self._transport.close()

    def port(self, peer: int) -> int:
        return self.base_port + peer

    def address(self, peer: int) -> str:
        """Where the node of that peer listens, by TCP: the number of the port is the same."""
        return f"127.0.0.1:{self.port(peer)}"

    async def ping(self, peer: int, patience: float) -> bool:
        """Whether the peer answers in time."""
        return await self._ask("ping", lambda: peer, [], 1, patience)

    async def deliver(self, notices: Sequence[Notice], to: Callable[[], int]) -> bool:
        """Sends until it is acknowledged; False if it never is. ``to`` is asked before each try,
        because the peer that it was meant for may have died."""
        return await self._ask("notices", to, notices, _TRIES, _RESEND_SECONDS)

    async def _ask(
        self,
        kind: str,
        to: Callable[[], int],
        notices: Sequence[Notice],
        tries: int,
        patience: float,
    ) -> bool:
        number = next(self._numbers)
        asked: set[int] = set()
        answered = asyncio.get_running_loop().create_future()
        self._asked[number] = asked, answered
        try:
            for _ in range(tries):
                asked.add(to())
                self._send(to(), kind, number, notices)
                done, _ = await asyncio.wait([answered], timeout=patience)
                if done:
                    return True
            return False
        finally:
            del self._asked[number]

    def _send(self, peer: int, kind: str, number: int, notices: Sequence[Notice] = ()) -> None:
        data = json.dumps([kind, self.me, number, notices], separators=(",", ":")).encode()
        self._transport.sendto(data, ("127.0.0.1", self.port(peer)))

    def datagram_received(self, data: bytes, source: tuple[str | Any, int]) -> None:
        try:
            kind, sender, number, notices = _read(data)
        except (ValueError, RecursionError):  # not ours
            return
        if source != ("127.0.0.1", self.port(sender)):
            return
        if kind == "ping":
            self._send(sender, "reply", number)
            self.on_ping(sender)
        elif kind == "reply":
            asked, answered = self._asked.get(number, (set(), None))
            if answered is not None and sender in asked and not answered.done():
                answered.set_result(None)
        elif (sender, number) in self._seen or self.on_notices(notices):
            self._seen[sender, number] = None
            if len(self._seen) > _SEEN_MAX:
                self._seen.popitem(last=False)
            self._send(sender, "reply", number)

    def error_received(self, error: Exception) -> None:
        """Lost like any other datagram: whoever waits for an answer sends it again."""


def _read(data: bytes) -> tuple[str, int, int, list[Notice]]:
    if len(data) <= _DATAGRAM_BYTES_MAX:
        match json.loads(data):
            case ["ping" | "reply" as kind, int(sender), int(number), []]:
                return kind, _below(PEERS, sender), _below(_NUMBER_MAX, number), []
            case ["notices" as kind, int(sender), int(number), [_, *_] as raw] if len(raw) <= BATCH:
                notices = [_read_notice(one) for one in raw]
                return kind, _below(PEERS, sender), _below(_NUMBER_MAX, number), notices
    raise ValueError("not a datagram of a peer")


def _read_notice(raw: object) -> Notice:
    match raw:
        case [str(what), str(file), int(peer), int(ticket)]:
            if (what in _WITHOUT_FILE and not file) or (what in _WITH_FILE and is_file_name(file)):
                return Notice(what, file, _below(PEERS, peer), _below(_NUMBER_MAX, ticket))
    raise ValueError("not a notice")


def _below(bound: int, number: int) -> int:
    if 0 <= number < bound and type(number) is int:  # JSON's true is an int, too
        return number
    raise ValueError("out of range")
