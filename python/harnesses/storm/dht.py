"""A peer's part of the DHT: its ringkv node, and all that a storm peer asks of it.

The key of an event is its id as a decimal number, the value its row as a JSON object.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from messages import Member
from protocol import Address
from records import COLUMNS, Record

import ringkv

# A ring of a few peers needs no more; fewer partitions are agreed on and moved faster.
_PARTITIONS = 1024
_ATTEMPTS = 3
_SECONDS_MAX = 30.0
_QUERY_SECONDS_MAX = 2.0


#: How a node begins: it creates a ring, waits until it is added to one, or joins these members.
Role = Literal["creator", "standby"] | list[Member]


class Dht:
    """A node of the ring. ``on_missing`` is called, in a thread, with the name of each member that
    is not heard or has left."""

    def __init__(
        self, name: str, address: Address, role: Role, on_missing: Callable[[str], None]
    ) -> None:
        self.name = name
        self._on_missing = on_missing
        options: ringkv.NodeOptions = {
            "name": name,
            "listen": _at(address),
            # Whoever registers with an address of a network wants to be reached there.
            "accept_public": not ipaddress.IPv4Address(address[0]).is_loopback,
            "start_timeout": _SECONDS_MAX,
        }
        match role:
            case "creator":
                options |= {"hash": "integer", "copies": 3, "partitions": _PARTITIONS}
            case "standby":
                options["standby"] = True
            case members:
                options["join"] = [_at((member.ip, member.p_port)) for member in members]
        self._ring = ringkv.Node.start(codec="json", **options)
        threading.Thread(target=self._watch, args=(self._ring.events(),), daemon=True).start()

    def add(self, members: Iterable[Member]) -> None:
        """Takes standby nodes into the ring."""
        for member in members:
            self._ring.add_node(_at((member.ip, member.p_port)), wait=False)
        self.wait()

    def load(self, records: Mapping[str, Record]) -> int:
        """Stores the records; how many the ring has then."""
        for attempt in range(_ATTEMPTS):
            try:
                self._ring.put_many(records, timeout=_SECONDS_MAX)
                break
            except ringkv.RingError as error:
                # If a member dies just then, the fate of a write may be unknown. A row can be
                # stored twice without harm.
                if attempt + 1 == _ATTEMPTS or not (error.maybe_applied or error.retryable):
                    raise
        return len(self._ring)

    def wait(self) -> None:
        """Waits until every record is where it belongs."""
        self._ring.wait_settled(timeout=_SECONDS_MAX)

    def counts(self) -> dict[str, int]:
        """How many records each member answers for."""
        return {member.node.name: member.keys for member in self._ring.info().members}

    def held(self, event: str) -> Record | None:
        """The record, if this very node holds a copy of it."""
        with contextlib.suppress(ringkv.RingError):
            return _as_record(self._ring.get(event, lookup="local"))
        return None

    def find(self, event: str) -> Record | None:
        """The record, wherever it is."""
        return _as_record(self._ring.get(event, timeout=_QUERY_SECONDS_MAX))

    def forget(self, name: str) -> bool:
        """Drops a dead member, so that its copies are made anew at once; whether that was done."""
        with contextlib.suppress(KeyError, ringkv.RingError):
            if self._ring.info().member(name).state != "up":
                self._ring.drop_node(name, timeout=_SECONDS_MAX)
                return True
        return False

    def leave(self, timeout: float = _SECONDS_MAX) -> None:
        """Hands this node's records to the others, and closes it."""
        self._ring.drop_node(self.name, timeout=timeout)
        self.close()

    def close(self) -> None:
        """Ends the node. To the others it has crashed, unless it left before."""
        self._ring.close()

    def _watch(self, events: Iterator[ringkv.Event]) -> None:
        for event in events:
            if event.kind in ("suspect", "down", "left") and event.member is not None:
                self._on_missing(event.member.name)


def _at(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _as_record(value: Any) -> Record | None:
    """What is stored, if it looks like a record: other programs may write into the ring, too."""
    if isinstance(value, dict) and all(isinstance(value.get(name), str) for name in COLUMNS):
        return {name: value[name] for name in COLUMNS}
    return None
