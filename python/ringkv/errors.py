"""The exceptions of ringkv.

Each one is a :class:`RingError` and, where Python has a fitting exception of its own, that one too:
``except KeyError``, ``except TimeoutError`` and ``except ConnectionError`` work as they do
elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "RingAbortedError",
    "RingBusyError",
    "RingClosedError",
    "RingConnectionError",
    "RingDataLostError",
    "RingError",
    "RingForkedError",
    "RingInternalError",
    "RingKeyError",
    "RingMemberError",
    "RingMemoryError",
    "RingOSError",
    "RingRefusedError",
    "RingTimeoutError",
    "RingUnavailableError",
    "RingUnsupportedError",
    "RingValueError",
]


class RingError(Exception):
    """Base of all errors of ringkv."""

    #: The number of the status, the same as in C (see ``ringkv.h``); 0 if the error did not come
    #: from the engine.
    status: int = 0
    #: Whether the same call may succeed later without any change by the caller.
    retryable: bool = False
    #: Whether a write that ended this way may have taken effect, or may still do so.
    maybe_applied: bool = False
    #: For a batch call (``put_many`` and its like): every key that failed, with its own error.
    #: The keys that are not in here succeeded.
    failures: Mapping[Any, RingError]

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.failures = {}

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class RingValueError(RingError, ValueError):
    """An argument is unusable: out of range, a key that is empty or too large, a value that is too
    large, bytes that the codec cannot decode."""


class RingUnsupportedError(RingError, NotImplementedError):
    """This version of ringkv does not know the option or the call."""


class RingKeyError(RingError, KeyError):
    """There is no such key. ``args[0]`` is the key."""

    status = -201

    def __str__(self) -> str:
        return repr(self.args[0]) if len(self.args) == 1 else super().__str__()


class RingClosedError(RingError, ValueError):
    """The ring was closed (as with a closed file, this is a ``ValueError``)."""


class RingForkedError(RingClosedError):
    """The handle was opened by the parent process: open one after the fork, or start processes by
    ``spawn`` or ``forkserver``."""


class RingTimeoutError(RingError, TimeoutError):
    """The deadline passed. A write may or may not have taken effect."""


class RingConnectionError(RingError, ConnectionError):
    """The ring cannot be reached, or the connection to it broke."""


class RingUnavailableError(RingConnectionError):
    """Nobody who could execute the operation can be reached now, or too few copies of the key are
    in sync. The operation was not executed."""


class RingBusyError(RingError):
    """A bounded queue is full. The operation was not executed: slow down and try again."""


class RingDataLostError(RingError):
    """Every copy of the key's partition died. Nothing is known about the key."""


class RingRefusedError(RingError):
    """The ring refuses the change; the message says why and what would be needed."""


class RingMemberError(RingError, LookupError):
    """The ring has no member of that name or address."""


class RingMemoryError(RingError, MemoryError):
    """The memory limit of a node is reached. The write was not executed."""


class RingAbortedError(RingError):
    """The call was interrupted before it was complete."""


class RingOSError(RingError, OSError):
    """The operating system refused something, such as to listen on an address that is in use."""


class RingInternalError(RingError, RuntimeError):
    """A bug of ringkv: please report it with its message."""


_CLASSES: Final[dict[int, type[RingError]]] = {
    -101: RingValueError,  # InvalidArgument
    -102: RingValueError,  # KeyTooLarge
    -103: RingValueError,  # ValueTooLarge
    -104: RingInternalError,  # BufferTooSmall: only C callers lend buffers
    -105: RingUnsupportedError,  # Unsupported
    -201: RingKeyError,  # NotFound
    -202: RingRefusedError,  # Exists: `put` answers False instead
    -203: RingClosedError,  # Closed
    -204: RingForkedError,  # Forked
    -205: RingRefusedError,  # Mismatch
    -206: RingValueError,  # NotANumber
    -207: RingValueError,  # Overflow
    -301: RingTimeoutError,  # Timeout
    -302: RingUnavailableError,  # Unavailable
    -303: RingUnavailableError,  # NotEnoughReplicas
    -304: RingBusyError,  # Busy
    -305: RingDataLostError,  # DataLost
    -306: RingRefusedError,  # Refused
    -307: RingRefusedError,  # WrongRing
    -308: RingMemoryError,  # OutOfMemory
    -309: RingMemberError,  # NoSuchMember
    -310: RingAbortedError,  # Aborted
    -401: RingOSError,  # Io
    -402: RingConnectionError,  # Connect
    -403: RingOSError,  # AddressInUse
    -404: RingConnectionError,  # Protocol
    -405: RingConnectionError,  # UnknownHost
    -406: RingConnectionError,  # ConnectionLost
    -901: RingInternalError,  # Internal
    -902: RingInternalError,  # Panic
}


def from_status(status: int, message: str, retryable: bool, maybe_applied: bool) -> RingError:
    """The exception for an error of the engine. The native module calls this."""
    # A status that is younger than this table is still a RingError, with its number.
    error = _CLASSES.get(status, RingError)(message)
    error.status = status
    error.retryable = retryable
    error.maybe_applied = maybe_applied
    return error
