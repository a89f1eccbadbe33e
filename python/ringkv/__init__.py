"""ringkv: a distributed hash table that lives inside your program.

Start a node, or connect to one, and use the ring like a dict:

>>> import ringkv
>>> with ringkv.Node.start() as ring:
...     ring[b"apple"] = b"red"
...     ring[b"apple"]
b'red'

``ring.add_node`` and ``ring.drop_node`` grow and shrink the ring while it is in use;
``ring.info()`` shows who holds what. Every error is a :class:`RingError`. The package logs to
``logging.getLogger("ringkv")``, the engine too after :func:`enable_logging`.
"""

import logging
import os

from . import _ringkv
from ._logging import enable_logging
from ._open import Node, NodeOptions, connect
from ._ring import Duration, Lookup, OnProgress, Ring
from .codecs import BytesCodec, Codec, JsonCodec, Utf8Codec
from .errors import (
    RingAbortedError,
    RingBusyError,
    RingClosedError,
    RingConnectionError,
    RingDataLostError,
    RingError,
    RingForkedError,
    RingInternalError,
    RingKeyError,
    RingMemberError,
    RingMemoryError,
    RingOSError,
    RingRefusedError,
    RingTimeoutError,
    RingUnavailableError,
    RingUnsupportedError,
    RingValueError,
)
from .reports import (
    Event,
    EventKind,
    Health,
    Location,
    MemberInfo,
    NodeRef,
    Plan,
    Progress,
    RingInfo,
    RingParams,
    Share,
)

__all__ = [
    "BytesCodec",
    "Codec",
    "Duration",
    "Event",
    "EventKind",
    "Health",
    "JsonCodec",
    "Location",
    "Lookup",
    "MemberInfo",
    "Node",
    "NodeOptions",
    "NodeRef",
    "OnProgress",
    "Plan",
    "Progress",
    "Ring",
    "RingAbortedError",
    "RingBusyError",
    "RingClosedError",
    "RingConnectionError",
    "RingDataLostError",
    "RingError",
    "RingForkedError",
    "RingInfo",
    "RingInternalError",
    "RingKeyError",
    "RingMemberError",
    "RingMemoryError",
    "RingOSError",
    "RingParams",
    "RingRefusedError",
    "RingTimeoutError",
    "RingUnavailableError",
    "RingUnsupportedError",
    "RingValueError",
    "Share",
    "Utf8Codec",
    "__version__",
    "connect",
    "enable_logging",
]

__version__: str = _ringkv.__version__

logging.getLogger("ringkv").addHandler(logging.NullHandler())

# A node's threads exist only in the process that started it: its handles are dead in a forked
# child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_ringkv.before_fork,
        after_in_parent=_ringkv.after_fork_in_parent,
        after_in_child=_ringkv.after_fork_in_child,
    )
