"""What a ring tells about itself, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

__all__ = [
    "Event",
    "EventKind",
    "Health",
    "Location",
    "MemberInfo",
    "NodeRef",
    "Plan",
    "Progress",
    "RingInfo",
    "RingParams",
    "Share",
]

_Report = TypeVar("_Report")


@dataclass(frozen=True, slots=True)
class NodeRef:
    """A member as others refer to it."""

    #: Its id in the ring: one boot of one node.
    member: int
    name: str
    #: Where it listens.
    address: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a movement has come, in partition copies."""

    copies_done: int
    copies_total: int

    @property
    def fraction(self) -> float:
        """From 0 to 1; 1 if there is nothing to move."""
        return self.copies_done / self.copies_total if self.copies_total else 1.0


@dataclass(frozen=True, slots=True)
class RingParams:
    """What was fixed when the ring was created."""

    partitions: int
    hash: Literal["murmur3", "crc16", "integer"]
    seed: int
    placement: Literal["balanced", "successor"]
    #: Wanted copies of each key.
    copies: int
    #: A write needs at least this many in-sync copies (never more than there are members).
    min_insync: int
    value_bytes_max: int
    #: Whether reads are answered under leases.
    leases: bool


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One member and what it holds."""

    node: NodeRef
    #: Failure domain.
    zone: str
    #: Share it should have in relation to the others.
    weight: int
    #: Place on the circle of 2**64 positions.
    position: int
    state: Literal["up", "down", "leaving", "away"]
    #: Whether it answered just now; the counts below are 0 if not.
    reachable: bool
    #: Whether it runs the coordinator.
    coordinator: bool
    #: Partitions whose operations it executes.
    primaries: int
    #: Partition copies that it holds in sync.
    copies: int
    #: Its part of all in-sync copies, 0 to 1.
    share: float
    #: Keys, and bytes of keys and values, in the partitions it is primary of.
    keys: int
    bytes: int
    #: The same in all copies that it holds.
    keys_held: int
    bytes_held: int
    #: Memory that its tables take.
    memory_bytes: int
    #: Received in movements since it started.
    keys_moved_in: int
    bytes_moved_in: int


@dataclass(frozen=True, slots=True)
class RingInfo:
    """The ring as a whole."""

    #: Identity of the ring, 32 hexadecimal digits.
    cluster: str
    #: Version of the ring map.
    version: int
    params: RingParams
    #: Copies that a write needs now.
    required: int
    #: In the order of their positions: the next one is the successor.
    members: tuple[MemberInfo, ...]
    #: Keys, and bytes of keys and values, each counted once.
    keys: int
    bytes: int
    #: Partitions with fewer in-sync copies than wanted and possible.
    under_replicated: int
    #: Partitions whose copies are all lost.
    lost: int
    #: A movement under way.
    moving: Progress | None

    def member(self, name_or_address: str) -> MemberInfo:
        """The member of that name or address; ``KeyError`` if there is none."""
        for member in self.members:
            if name_or_address in (member.node.name, member.node.address):
                return member
        raise KeyError(name_or_address)

    def successor(self, name_or_address: str) -> MemberInfo:
        """The next member on the ring; itself if it is alone."""
        at = self.members.index(self.member(name_or_address))
        return self.members[(at + 1) % len(self.members)]

    def predecessor(self, name_or_address: str) -> MemberInfo:
        """The member before it on the ring; itself if it is alone."""
        return self.members[self.members.index(self.member(name_or_address)) - 1]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a key lives."""

    partition: int
    #: The key's place on the circle of 2**64 positions.
    position: int
    #: The in-sync holders, the primary first.
    holders: tuple[NodeRef, ...]
    #: The nodes that were asked on the way, in order; the last one answered.
    hops: tuple[NodeRef, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether every partition can take a read and a write now, with all wanted copies in sync."""

    ok: bool
    #: Partitions that cannot take a write now.
    unwritable: int
    #: One sentence for each thing that is not as it should be.
    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True, slots=True)
class Share:
    """What one member holds of the ring."""

    member: int
    name: str
    #: The share that is due, in relation to the others.
    weight: int
    #: Copies of partitions that it holds.
    copies: int
    #: Partitions that it leads.
    primaries: int
    #: Its part of all copies, 0 to 1.
    share: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would move. While an earlier change is under way, what is left of that is part
    of it."""

    #: Copies of partitions that would have to be made, and what is in them.
    partitions_moved: int
    keys: int
    bytes: int
    #: Partitions that another member would lead.
    primaries_moved: int
    #: The least bytes that an even load would cost, taking each partition for an average one.
    ideal_bytes: int
    #: What the members hold now, and what they would hold.
    shares_before: tuple[Share, ...]
    shares_after: tuple[Share, ...]


#: What kind of thing happened.
EventKind = Literal[
    "joined",
    "leaving",
    "left",
    "up",
    "suspect",
    "down",
    "away",
    "primaries_moved",
    "under_replicated",
    "recovered",
    "stalled",
    "lost",
    "reset",
    "leader",
    "voters",
    "moving",
    "settled",
    "lagged",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a ring. Later versions may have more kinds."""

    kind: EventKind
    #: When it was noticed, in milliseconds since 1970.
    time_ms: int
    #: The member that it is about, if it is about one.
    member: NodeRef | None
    #: How many partitions it is about; of ``lagged``, how many events are missing.
    partitions: int
    #: Of ``moving`` and ``settled``: partition copies that have moved, of how many.
    done: int
    total: int
    #: The event as a sentence.
    text: str


def event(raw: Mapping[str, Any]) -> Event:
    """The dataclass for what the native module tells."""
    member = raw["member"]
    return _make(Event, raw, member=None if member is None else _make(NodeRef, member))


def info(raw: Mapping[str, Any]) -> RingInfo:
    """The dataclass for what the native module tells."""
    moving = raw["moving"]
    return _make(
        RingInfo,
        raw,
        params=_make(RingParams, raw["params"]),
        members=tuple(_make(MemberInfo, m, node=_make(NodeRef, m["node"])) for m in raw["members"]),
        moving=None if moving is None else _make(Progress, moving),
    )


def location(raw: Mapping[str, Any]) -> Location:
    """The dataclass for what the native module tells."""
    return _make(
        Location,
        raw,
        holders=tuple(_make(NodeRef, node) for node in raw["holders"]),
        hops=tuple(_make(NodeRef, node) for node in raw["hops"]),
    )


def health(raw: Mapping[str, Any]) -> Health:
    """The dataclass for what the native module tells."""
    return _make(Health, raw, reasons=tuple(raw["reasons"]))


def plan(raw: Mapping[str, Any]) -> Plan:
    """The dataclass for what the native module tells."""
    return _make(
        Plan,
        raw,
        shares_before=tuple(_make(Share, share) for share in raw["shares_before"]),
        shares_after=tuple(_make(Share, share) for share in raw["shares_after"]),
    )


def _make(report: type[_Report], raw: Mapping[str, Any], **nested: Any) -> _Report:
    names = [field.name for field in fields(report)]  # type: ignore[arg-type]
    return report(**{name: nested[name] if name in nested else raw[name] for name in names})
