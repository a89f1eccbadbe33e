"""What type checkers must conclude. mypy reads this file; nothing runs it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from datetime import timedelta
from typing import Any, assert_type

import ringkv


class Numbers:
    def encode_key(self, key: int, /) -> bytes:
        return b"%d" % key

    def decode_key(self, data: bytes, /) -> int:
        return int(data)

    def encode_value(self, value: float, /) -> bytes:
        return value.hex().encode()

    def decode_value(self, data: bytes, /) -> float:
        return float.fromhex(data.decode())


def opening() -> None:
    assert_type(ringkv.Node.start(), ringkv.Ring[bytes, bytes])
    assert_type(ringkv.Node.start(codec="utf8", copies=2), ringkv.Ring[str, str])
    assert_type(ringkv.Node.start(codec=Numbers()), ringkv.Ring[int, float])
    assert_type(ringkv.connect("host:1"), ringkv.Ring[bytes, bytes])
    assert_type(ringkv.connect(["a:1", "b:2"], codec="json"), ringkv.Ring[str, Any])
    assert_type(ringkv.connect("host:1", codec=ringkv.Utf8Codec()), ringkv.Ring[str, str])
    assert_type(ringkv.connect("host:1").with_codec(Numbers()), ringkv.Ring[int, float])


def using(ring: ringkv.Ring[str, str]) -> None:
    mapping: MutableMapping[str, str] = ring
    assert_type(mapping["k"], str)
    assert_type(ring.get("k"), str | None)
    assert_type(ring.get("k", "default"), str)
    assert_type(ring.get("k", 0), str | int)
    assert_type(ring.put("k", "v", ttl=timedelta(seconds=3), if_absent=True), bool)
    assert_type(ring.get_many(["k"]), dict[str, str])
    assert_type(ring.scan("k"), Iterator[tuple[str, str]])
    assert_type(ring.pop("k"), str)
    assert_type(ring.copy(), dict[str, str])
    assert_type(ring.info().members[0].node.name, str)
    with ring as same:
        assert_type(same, ringkv.Ring[str, str])
