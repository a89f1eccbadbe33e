"""How Python objects become the bytes that a ring stores.

A codec has four methods; any object that has them will do (see :class:`Codec`). Keys must encode to
the same bytes always: a key is found by its bytes. There is deliberately no pickle codec: whoever
can write to the ring could then run code in every reader.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, Protocol, TypeVar

from .errors import RingValueError

__all__ = ["BYTES", "JSON", "UTF8", "BytesCodec", "Codec", "CodecName", "JsonCodec", "Utf8Codec"]

K = TypeVar("K")
V = TypeVar("V")

#: The codecs that can be called by their names.
CodecName = Literal["bytes", "utf8", "json"]


class Codec(Protocol[K, V]):
    """From keys and values to bytes and back."""

    def encode_key(self, key: K, /) -> bytes:
        """The bytes of a key."""
        raise NotImplementedError

    def decode_key(self, data: bytes, /) -> K:
        """The key with these bytes."""
        raise NotImplementedError

    def encode_value(self, value: V, /) -> bytes:
        """The bytes of a value."""
        raise NotImplementedError

    def decode_value(self, data: bytes, /) -> V:
        """The value with these bytes."""
        raise NotImplementedError


class BytesCodec:
    """``bytes`` as they are; ``bytearray`` and ``memoryview`` are copied."""

    def encode_key(self, key: bytes | bytearray | memoryview, /) -> bytes:
        return key if type(key) is bytes else _to_bytes("key", key)

    def decode_key(self, data: bytes, /) -> bytes:
        return data

    def encode_value(self, value: bytes | bytearray | memoryview, /) -> bytes:
        return value if type(value) is bytes else _to_bytes("value", value)

    def decode_value(self, data: bytes, /) -> bytes:
        return data


class Utf8Codec:
    """``str`` for keys and values, stored as UTF-8."""

    def encode_key(self, key: str, /) -> bytes:
        return _to_utf8("key", key)

    def decode_key(self, data: bytes, /) -> str:
        return _from_utf8("key", data)

    def encode_value(self, value: str, /) -> bytes:
        return _to_utf8("value", value)

    def decode_value(self, data: bytes, /) -> str:
        return _from_utf8("value", data)


class JsonCodec:
    """``str`` for keys, stored as UTF-8, and whatever JSON can express for values.

    JSON has lists only, and names of members are strings: a tuple comes back as a list, ``{1: 2}``
    as ``{"1": 2}``.
    """

    def encode_key(self, key: str, /) -> bytes:
        return _to_utf8("key", key)

    def decode_key(self, data: bytes, /) -> str:
        return _from_utf8("key", data)

    def encode_value(self, value: Any, /) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def decode_value(self, data: bytes, /) -> Any:
        try:
            return json.loads(data)
        except ValueError as error:
            raise RingValueError(f"the value is not JSON: {error}") from error


BYTES: Final = BytesCodec()
UTF8: Final = Utf8Codec()
JSON: Final = JsonCodec()

_BY_NAME: Final[dict[str, Codec[Any, Any]]] = {"bytes": BYTES, "utf8": UTF8, "json": JSON}


def resolve(codec: str | Codec[Any, Any]) -> Codec[Any, Any]:
    """The codec of that name, or the object itself if it has the methods of one."""
    if isinstance(codec, str):
        try:
            return _BY_NAME[codec]
        except KeyError:
            known = ", ".join(_BY_NAME)
            raise RingValueError(f"codec: '{codec}' is not one of {known}") from None
    for method in ("encode_key", "decode_key", "encode_value", "decode_value"):
        if not callable(getattr(codec, method, None)):
            raise TypeError(f"codec: {type(codec).__name__} has no method {method}")
    return codec


def _to_bytes(what: str, data: object) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    hint = "; for str use codec='utf8'" if isinstance(data, str) else ""
    raise TypeError(f"a {what} must be bytes, not {type(data).__name__}{hint}")


def _to_utf8(what: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"a {what} must be str, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise RingValueError(f"the {what} cannot be stored as UTF-8: {error}") from error


def _from_utf8(what: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RingValueError(f"the {what} {data[:40]!r} is not UTF-8: {error}") from error
