"""The ring as a mapping."""

from __future__ import annotations

import os
import warnings
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from datetime import timedelta
from itertools import islice
from types import TracebackType
from typing import Any, Final, Literal, TypeVar, cast, overload

from . import _ringkv, reports
from .codecs import Codec, CodecName, resolve
from .errors import RingClosedError, RingError, RingKeyError

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
K2 = TypeVar("K2")
V2 = TypeVar("V2")

#: A duration: seconds, or a ``timedelta``.
Duration = float | timedelta
#: How a key is looked up: straight to its primary; by redirects from node to node; forwarded by the
#: first node asked; or only what the asked node holds, which may be stale.
Lookup = Literal["direct", "iterative", "recursive", "local"]
#: What ``add_node`` and ``drop_node`` call about every 50 ms; returning ``False`` ends the waiting.
OnProgress = Callable[[reports.Progress], object]

# A batch goes to the engine in pieces of at most this many keys and bytes, so that a generator of
# any length needs little memory.
_BATCH_KEYS: Final = 4096
_BATCH_BYTES: Final = 8 * 1024 * 1024

_MISSING: Final = object()


class _Handle:
    """The native ring, shared by all views of it, and whether it was closed."""

    __slots__ = ("closed", "native", "process")

    def __init__(self, native: _ringkv.Ring) -> None:
        self.native = native
        self.closed = False
        self.process = os.getpid()

    def close(self) -> None:
        self.closed = True
        self.native.close()

    def __del__(self) -> None:
        if self.closed or self.process != os.getpid():
            return
        try:
            warnings.warn(
                "a ringkv.Ring was not closed", ResourceWarning, source=self, stacklevel=2
            )
        finally:
            self.close()


class Ring(MutableMapping[K, V]):
    """A ring, seen through a node of this process (:meth:`Node.start <ringkv.Node.start>`) or
    through connections to other processes (:func:`ringkv.connect`).

    It is a ``MutableMapping``: ``ring[key] = value``, ``key in ring``, ``del ring[key]``,
    ``len(ring)``, ``for key in ring`` and so on do what they do with a dict, except that

    - other programs read and write at the same time. Each single-key operation is atomic and
      linearizable; ``pop`` and ``popitem`` hand each stored value to one caller at most, but a
      value that is written between their read and their removal is lost; batches are not atomic;
    - there is no order, and a walk over the ring sees every key that is there all the time, while a
      key that is written meanwhile may be seen or not, and rarely twice;
    - values are stored, not referred to: to change one, assign it again.

    Any thread may use it. A ring of the parent process is dead after a fork. ``close`` it, or use
    it as a context manager.
    """

    __slots__ = ("__weakref__", "_codec", "_decode", "_encode", "_handle", "_native")

    def __init__(self, handle: _Handle, codec: Codec[K, V]) -> None:
        self._handle = handle
        self._native = handle.native
        self._codec = codec
        # Bound once: a local get takes well under a microsecond, so every look-up counts.
        self._encode = codec.encode_key
        self._decode = codec.decode_value

    # Life

    @property
    def address(self) -> str:
        """Where the node of this process listens, or the first address given to ``connect``."""
        return self._native.address

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._handle.closed

    def close(self) -> None:
        """Stops the node, or closes the connections. May be called again; all views are closed with
        it, and calls that block in other threads end with :class:`RingClosedError`."""
        self._handle.close()

    def __enter__(self) -> Ring[K, V]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @overload
    def with_codec(self, codec: Literal["bytes"]) -> Ring[bytes, bytes]: ...
    @overload
    def with_codec(self, codec: Literal["utf8"]) -> Ring[str, str]: ...
    @overload
    def with_codec(self, codec: Literal["json"]) -> Ring[str, Any]: ...
    @overload
    def with_codec(self, codec: Codec[K2, V2]) -> Ring[K2, V2]: ...
    def with_codec(self, codec: CodecName | Codec[Any, Any]) -> Ring[Any, Any]:
        """The same ring, with keys and values seen through another codec."""
        return Ring(self._handle, resolve(codec))

    def __repr__(self) -> str:
        if self.closed:
            return "<ringkv.Ring, closed>"
        try:
            return f"<ringkv.Ring at {self.address}>"
        except RingError as error:
            return f"<ringkv.Ring, {error}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Ring cannot be pickled: pass on its address and connect there")

    # One key

    def __getitem__(self, key: K) -> V:
        data = self._native.get(self._encode(key))
        if data is None:
            raise RingKeyError(key)
        return self._decode(data)

    def __setitem__(self, key: K, value: V) -> None:
        self._native.put(self._encode(key), self._codec.encode_value(value))

    def __delitem__(self, key: K) -> None:
        if not self._native.delete(self._encode(key)):
            raise RingKeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._native.contains(self._encode(cast(K, key)))

    @overload
    def get(
        self,
        key: K,
        /,
        default: None = None,
        *,
        timeout: Duration | None = None,
        lookup: Lookup | None = None,
    ) -> V | None: ...
    @overload
    def get(
        self,
        key: K,
        /,
        default: V,
        *,
        timeout: Duration | None = None,
        lookup: Lookup | None = None,
    ) -> V: ...
    @overload
    def get(
        self,
        key: K,
        /,
        default: D,
        *,
        timeout: Duration | None = None,
        lookup: Lookup | None = None,
    ) -> V | D: ...
    def get(
        self,
        key: K,
        /,
        default: object = None,
        *,
        timeout: Duration | None = None,
        lookup: Lookup | None = None,
    ) -> object:
        """The value of ``key``, or ``default``."""
        data = self._native.get(self._encode(key), _seconds(timeout), lookup)
        return default if data is None else self._decode(data)

    def put(
        self,
        key: K,
        value: V,
        *,
        ttl: Duration | None = None,
        if_absent: bool = False,
        timeout: Duration | None = None,
    ) -> bool:
        """Stores ``value`` under ``key``, for ``ttl`` or until it is deleted.

        Returns whether it was stored: ``False`` only with ``if_absent``, if the key was there.
        """
        data = self._codec.encode_value(value)
        return self._native.put(
            self._encode(key), data, _seconds(timeout), _seconds(ttl), if_absent
        )

    def delete(self, key: K, *, timeout: Duration | None = None) -> bool:
        """Removes ``key``; whether it was there."""
        return self._native.delete(self._encode(key), _seconds(timeout))

    def cas(
        self,
        key: K,
        expected: V | None,
        value: V,
        *,
        ttl: Duration | None = None,
        timeout: Duration | None = None,
    ) -> bool:
        """Compare and swap: stores ``value`` if ``key`` has the value ``expected``, or with
        ``None`` if it is absent. Returns whether it did. Atomic; values are compared by their
        bytes.

        A call that ringkv has to try again takes effect once. After :class:`RingTimeoutError` it
        may or may not have taken effect.
        """
        encode = self._codec.encode_value
        return self._native.cas(
            self._encode(key),
            None if expected is None else encode(expected),
            encode(value),
            _seconds(timeout),
            _seconds(ttl),
        )

    def incr(
        self,
        key: K,
        delta: int = 1,
        *,
        ttl: Duration | None = None,
        timeout: Duration | None = None,
    ) -> int:
        """Adds ``delta`` to the number under ``key`` and returns the sum. Atomic.

        The value is a whole number of 64 bits as decimal text (what the codecs ``utf8`` and
        ``json`` show as such); an absent key counts as 0. Anything else, and a sum that needs more
        bits, is a :class:`RingValueError`. A call that ringkv has to try again counts once.
        ``ttl`` is that of a key that was absent.
        """
        return self._native.incr(self._encode(key), delta, _seconds(timeout), _seconds(ttl))

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V) -> V: ...
    @overload
    def pop(self, key: K, /, default: D) -> V | D: ...
    def pop(self, key: K, /, default: object = _MISSING) -> object:
        """Removes ``key`` and returns its value; ``default`` or a ``KeyError`` if it is not
        there."""
        encoded = self._encode(key)
        data = self._native.get(encoded)
        # Whoever's removal finds the key has popped it; for the others it was not there any more.
        if data is not None and self._native.delete(encoded):
            return self._decode(data)
        if default is _MISSING:
            raise RingKeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Removes some key and returns it with its value; a ``KeyError`` if the ring is empty."""
        for key in self.scan_keys():
            value = self.pop(key, _MISSING)
            if value is not _MISSING:
                return key, cast(V, value)
        raise RingKeyError("the ring is empty")

    def setdefault(self, key: K, default: V = None, /) -> V:  # type: ignore[assignment]
        """The value of ``key``, which becomes ``default`` if it is not there. Atomic."""
        while True:
            value = self.get(key, _MISSING)
            if value is not _MISSING:
                return cast(V, value)
            if self.put(key, default, if_absent=True):
                return default

    # Several keys

    def get_many(
        self,
        keys: Iterable[K],
        *,
        timeout: Duration | None = None,
        lookup: Lookup | None = None,
    ) -> dict[K, V]:
        """The values of all ``keys`` that are there. Faster than one ``get`` after the other.

        ``timeout`` holds for each piece of at most 4096 keys. If keys fail, the error of the first
        one is raised; its ``failures`` has them all.
        """
        found: dict[K, V] = {}
        keys = iter(keys)
        while piece := list(islice(keys, _BATCH_KEYS)):
            encoded = [self._encode(key) for key in piece]
            values, failures = self._native.get_many(encoded, _seconds(timeout), lookup)
            _raise_failures(piece, failures)
            found.update(
                (key, self._decode(data))
                for key, data in zip(piece, values, strict=True)
                if data is not None
            )
        return found

    def put_many(
        self,
        pairs: Mapping[K, V] | Iterable[tuple[K, V]],
        *,
        ttl: Duration | None = None,
        if_absent: bool = False,
        timeout: Duration | None = None,
    ) -> int:
        """Stores many pairs; how many were stored (all, unless ``if_absent``). Not atomic.

        A generator of any length will do: the pairs go out in pieces of at most 4096 keys and about
        8 MiB, and ``timeout`` holds for each piece. If keys of a piece fail, the error of the first
        one is raised after that piece: its ``failures`` has all keys that failed, and the pairs
        after the piece were not tried.
        """
        stored = 0
        for keys, encoded in self._pieces(_pairs(pairs)):
            count, failures = self._native.put_many(
                encoded, _seconds(timeout), _seconds(ttl), if_absent
            )
            _raise_failures(keys, failures)
            stored += count
        return stored

    def delete_many(self, keys: Iterable[K], *, timeout: Duration | None = None) -> int:
        """Removes many keys; how many were there. Not atomic; errors are as with ``put_many``."""
        removed = 0
        keys = iter(keys)
        while piece := list(islice(keys, _BATCH_KEYS)):
            encoded = [self._encode(key) for key in piece]
            count, failures = self._native.delete_many(encoded, _seconds(timeout))
            _raise_failures(piece, failures)
            removed += count
        return removed

    def update(self, other: Any = (), /, **named: Any) -> None:
        """As with a dict; goes out in batches."""
        self.put_many(_pairs(other))
        if named:
            self.put_many(cast("Mapping[K, V]", named))

    def clear(self) -> None:
        """Removes all keys that a walk over the ring finds, also those of other codecs."""
        for page in _pages(self._native.scan(b"", True)):
            _, failures = self._native.delete_many(page)
            _raise_failures(page, failures)

    def _pieces(
        self, pairs: Iterable[tuple[K, V]]
    ) -> Iterator[tuple[list[K], list[tuple[bytes, bytes]]]]:
        keys: list[K] = []
        encoded: list[tuple[bytes, bytes]] = []
        size = 0
        for key, value in pairs:
            pair = (self._encode(key), self._codec.encode_value(value))
            keys.append(key)
            encoded.append(pair)
            size += len(pair[0]) + len(pair[1])
            if len(keys) >= _BATCH_KEYS or size >= _BATCH_BYTES:
                yield keys, encoded
                keys, encoded, size = [], [], 0
        if keys:
            yield keys, encoded

    # All keys

    def __len__(self) -> int:
        """How many keys there are, as the nodes count them: fast, and exact while nobody writes."""
        return self.info().keys

    def __iter__(self) -> Iterator[K]:
        return self.scan_keys()

    def scan(
        self, prefix: K | bytes | None = None, *, timeout: Duration | None = None
    ) -> Iterator[tuple[K, V]]:
        """Walks over the ring, or over the keys whose bytes begin with ``prefix``, page by page.

        ``timeout`` holds for each page.
        """
        walk = self._native.scan(self._prefix(prefix), False, _seconds(timeout))
        decode = self._codec.decode_key
        return ((decode(key), self._decode(data)) for page in _pages(walk) for key, data in page)

    def scan_keys(
        self, prefix: K | bytes | None = None, *, timeout: Duration | None = None
    ) -> Iterator[K]:
        """Like ``scan``, without the values."""
        walk = self._native.scan(self._prefix(prefix), True, _seconds(timeout))
        decode = self._codec.decode_key
        return (decode(key) for page in _pages(walk) for key in page)

    def _prefix(self, prefix: K | bytes | None) -> bytes:
        if prefix is None:
            return b""
        return prefix if isinstance(prefix, bytes) else self._encode(prefix)

    def items(self) -> ItemsView[K, V]:
        """A view of the pairs; iterating over it is a ``scan``."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """A view of the values; iterating over it is a ``scan``."""
        return _Values(self)

    def copy(self) -> dict[K, V]:
        """A dict with all pairs that a walk over the ring finds."""
        return dict(self.scan())

    # The ring itself

    def add_node(
        self,
        node: str | Ring[Any, Any],
        *,
        wait: bool = True,
        timeout: Duration | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Adds the standby node at an address (or a standby node of this process) to the ring.

        Returns when its share has moved to it, or with ``wait=False`` as soon as the ring has
        agreed. Reads and writes go on meanwhile. ``progress`` is called with a :class:`Progress`
        about every 50 ms; if it returns ``False`` the waiting ends with :class:`RingAbortedError`
        while the ring goes on moving. The same error tells that the node died, or left the ring,
        before it had its share.
        """
        address = node.address if isinstance(node, Ring) else node
        self._native.add_node(address, wait, _seconds(timeout), _on_progress(progress))

    def drop_node(
        self,
        node: str | Ring[Any, Any],
        *,
        wait: bool = True,
        timeout: Duration | None = None,
        progress: OnProgress | None = None,
        force: bool = False,
    ) -> int:
        """Drops the member of that name or address: its copies move elsewhere, then it leaves and
        stays as an empty standby. The rest is as with ``add_node``.

        Raises :class:`RingRefusedError` if fewer living nodes than ``min_insync`` would remain, or
        if the member is dead and has the only copy of something. ``force=True`` drops it all the
        same, and forgets a dead member at once. Returns how many partitions lost their last copy by
        that: 0 unless forced (see :meth:`reset_lost`).
        """
        name = node.address if isinstance(node, Ring) else node
        return self._native.drop_node(
            name, wait, _seconds(timeout), _on_progress(progress), force
        )

    def abort_drop(self, node: str | Ring[Any, Any], *, timeout: Duration | None = None) -> None:
        """Takes back a drop that is under way: the member stays, and what has moved moves back.
        Whoever waits in ``drop_node`` gets :class:`RingAbortedError`."""
        name = node.address if isinstance(node, Ring) else node
        self._native.abort_drop(name, _seconds(timeout))

    def reset_lost(self, *, timeout: Duration | None = None) -> int:
        """Lets every partition whose copies are all lost start again, empty; how many.

        Until then operations on their keys raise :class:`RingDataLostError`. What they held is gone
        for good: so the ring never does this by itself.
        """
        return self._native.reset_lost(_seconds(timeout))

    def events(self, *, timeout: Duration | None = None) -> Iterator[reports.Event]:
        """What happens to the ring from now on: members that come, go and die, partitions that
        move, are lost or recover. A node tells at once what it hears; a client looks five times a
        second, while the iterator waits.

        The iterator ends when nothing has happened for ``timeout``, or when the ring is closed;
        without ``timeout`` it waits for ever, and Ctrl-C works.

        >>> import ringkv
        >>> with ringkv.Node.start() as ring, ringkv.Node.start(standby=True) as second:
        ...     events = ring.events(timeout=10)
        ...     ring.add_node(second)
        ...     next(event.member.address for event in events) == second.address
        True
        """
        return _events(self._native.events(), _seconds(timeout))

    def plan_add(self, address: str, *, name: str | None = None, weight: int = 1) -> reports.Plan:
        """What adding the node at ``address`` would move. It need not run yet; its name, by default
        the address, decides over its place if the placement is ``successor``."""
        chosen = address if name is None else name
        return reports.plan(self._native.plan_add(chosen, address, weight))

    def plan_drop(self, node: str | Ring[Any, Any]) -> reports.Plan:
        """What dropping the member of that name or address would move."""
        name = node.address if isinstance(node, Ring) else node
        return reports.plan(self._native.plan_drop(name))

    def wait_settled(self, *, timeout: Duration | None = None) -> None:
        """Waits until nothing moves and every partition has the copies that it should have."""
        self._native.wait_settled(_seconds(timeout))

    def info(self) -> reports.RingInfo:
        """The members, what each holds, and what is moving."""
        return reports.info(self._native.info())

    def locate(self, key: K, *, lookup: Lookup | None = None) -> reports.Location:
        """Where ``key`` lives, and the nodes that were asked on the way there."""
        return reports.location(self._native.locate(self._encode(key), lookup))

    def health(self) -> reports.Health:
        """Whether every partition can take a read and a write now, and if not why."""
        return reports.health(self._native.health())


class _Items(ItemsView[K, V]):
    """The pairs of a ring. Iterates by pages where ``ItemsView`` would get each key on its own."""

    _mapping: Ring[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping.scan()


class _Values(ValuesView[V]):
    """The values of a ring. Iterates by pages where ``ValuesView`` would get each key on its
    own."""

    _mapping: Ring[Any, V]

    def __contains__(self, value: object) -> bool:
        return any(value is mine or value == mine for mine in self)

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping.scan())


def _pages(walk: _ringkv.Scan) -> Iterator[list[Any]]:
    while (page := walk.next_page()) is not None:
        yield page


def _events(feed: _ringkv.Events, timeout: float | None) -> Iterator[reports.Event]:
    try:
        while (raw := feed.next(timeout)) is not None:
            yield reports.event(raw)
    except RingClosedError:
        return


def _pairs(source: Any) -> Iterable[tuple[Any, Any]]:
    """The pairs of whatever ``dict.update`` takes."""
    if isinstance(source, Mapping):
        return source.items()
    if hasattr(source, "keys"):
        return ((key, source[key]) for key in source.keys())  # noqa: SIM118
    return cast("Iterable[tuple[Any, Any]]", source)


def _seconds(duration: Duration | None) -> float | None:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def _on_progress(progress: OnProgress | None) -> Callable[[int, int], object] | None:
    if progress is None:
        return None
    return lambda done, total: progress(reports.Progress(done, total))


def _raise_failures(keys: list[Any], failures: list[tuple[int, RingError]]) -> None:
    """Raises the first failure of a piece, which then tells of all of them."""
    if not failures:
        return
    first = failures[0][1]
    first.failures = {keys[place]: error for place, error in failures}
    first.add_note(f"{len(failures)} of {len(keys)} keys of this batch failed, see failures")
    raise first
