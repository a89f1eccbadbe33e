"""The two ways to a ring: start a node in this process, or connect to nodes of others."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from . import _ringkv
from ._ring import Duration, Ring, _Handle
from .codecs import Codec, CodecName, resolve

K = TypeVar("K")
V = TypeVar("V")


class NodeOptions(TypedDict, total=False):
    """What :meth:`Node.start` can be told, apart from ``codec``. ``None`` means the default."""

    #: Unique in the ring. Default: the address.
    name: str | None
    #: ``host:port`` (port 0 picks a free one) or ``unix:/path``. Default: ``127.0.0.1:0``.
    listen: str | None
    #: Further addresses, for clients on the same host.
    also_listen: Iterable[str] | None
    #: The address that the others use, if it is not the one it listens on.
    advertise: str | None
    #: Failure domain: the copies of a key avoid sharing one.
    zone: str | None
    #: Share of the ring in relation to the other nodes; 0 is a router that holds nothing. Default:
    #: 1.
    weight: int | None
    #: Place on the circle of 2**64 positions. Default: the hash of the name.
    position: int | None
    #: Join the ring of these nodes (with commas, or several) instead of creating one.
    join: str | Iterable[str] | None
    #: Wait, belonging to no ring, until a ring adds it.
    standby: bool | None
    #: Of a new ring: number of partitions, a power of two up to 65536. Default: 4096.
    partitions: int | None
    #: Of a new ring: the function from keys to positions. Default: ``murmur3``.
    hash: Literal["murmur3", "crc16", "integer"] | None
    #: Of a new ring: seed of that function. Default: 0.
    seed: int | None
    #: Of a new ring: how partitions are given to members. Default: ``balanced``.
    placement: Literal["balanced", "successor"] | None
    #: Of a new ring: copies of each key, 1 to 7. Default: 3.
    copies: int | None
    #: Of a new ring: in-sync copies that a write needs, as far as there are members. Default: 2.
    min_insync: int | None
    #: Of a new ring: longest value. Default: 16 MiB.
    value_bytes_max: int | None
    #: Of a new ring: whether reads are answered under leases. ``False`` makes each read wait for a
    #: round trip to the in-sync copies, and does not rely on clocks. Default: ``True``.
    leases: bool | None
    #: Event loops, one thread each. Default: 1.
    workers: int | None
    #: Writes raise ``RingMemoryError`` above this many bytes of stored data. Default: no limit.
    memory_bytes_max: int | None
    #: Listen on an address that is not loopback although nobody is authenticated yet.
    accept_public: bool | None
    #: How long joining may take. Default: 30 seconds.
    start_timeout: Duration | None
    #: Deadline of operations that do not name their own. Default: 5 seconds.
    timeout: Duration | None


class Node:
    """A node in this process. See :meth:`start`."""

    @overload
    @staticmethod
    def start(
        *, codec: Literal["bytes"] = "bytes", **options: Unpack[NodeOptions]
    ) -> Ring[bytes, bytes]: ...
    @overload
    @staticmethod
    def start(*, codec: Literal["utf8"], **options: Unpack[NodeOptions]) -> Ring[str, str]: ...
    @overload
    @staticmethod
    def start(*, codec: Literal["json"], **options: Unpack[NodeOptions]) -> Ring[str, Any]: ...
    @overload
    @staticmethod
    def start(*, codec: Codec[K, V], **options: Unpack[NodeOptions]) -> Ring[K, V]: ...
    @staticmethod
    def start(
        *, codec: CodecName | Codec[Any, Any] = "bytes", **options: Unpack[NodeOptions]
    ) -> Ring[Any, Any]:
        """Starts a node and returns the ring as this node sees it.

        Without ``join`` or ``standby`` the node creates a new ring with itself as the only member.
        ``codec`` is ``"bytes"``, ``"utf8"``, ``"json"`` or an object (see :mod:`ringkv.codecs`);
        the other options are those of :class:`NodeOptions`.

        >>> with Node.start(codec="utf8") as ring:
        ...     ring["greeting"] = "hello"
        ...     ring["greeting"]
        'hello'
        """
        chosen = resolve(codec)
        native = _ringkv.Ring.start(**_native_options(options))
        return Ring(_Handle(native), chosen)


@overload
def connect(
    seeds: str | Iterable[str],
    *,
    codec: Literal["bytes"] = "bytes",
    timeout: Duration | None = None,
) -> Ring[bytes, bytes]: ...
@overload
def connect(
    seeds: str | Iterable[str], *, codec: Literal["utf8"], timeout: Duration | None = None
) -> Ring[str, str]: ...
@overload
def connect(
    seeds: str | Iterable[str], *, codec: Literal["json"], timeout: Duration | None = None
) -> Ring[str, Any]: ...
@overload
def connect(
    seeds: str | Iterable[str], *, codec: Codec[K, V], timeout: Duration | None = None
) -> Ring[K, V]: ...
def connect(
    seeds: str | Iterable[str],
    *,
    codec: CodecName | Codec[Any, Any] = "bytes",
    timeout: Duration | None = None,
) -> Ring[Any, Any]:
    """Connects to a ring through any of its nodes: ``"host:port"``, several with commas between
    them, or an iterable of addresses. ``timeout`` is the deadline of connecting and of operations
    that do not name their own (default: 5 seconds)."""
    chosen = resolve(codec)
    given = seeds if isinstance(seeds, str) else ",".join(seeds)
    native = _ringkv.Ring.connect(given, timeout=_plain(timeout))
    return Ring(_Handle(native), chosen)


def _native_options(options: NodeOptions) -> dict[str, Any]:
    native = {name: _plain(value) for name, value in options.items() if value is not None}
    join = native.get("join")
    if isinstance(join, str):
        native["join"] = [seed.strip() for seed in join.split(",") if seed.strip()]
    for name in ("join", "also_listen"):
        if name in native:
            native[name] = list(native[name])
    return native


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value
