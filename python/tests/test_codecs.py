"""Codecs: what goes in comes out, and what cannot go in or come out says so."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import ringkv
from ringkv.codecs import BYTES, JSON, UTF8, resolve

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(TEXT)
def test_text_comes_back(text: str) -> None:
    assert UTF8.decode_key(UTF8.encode_key(text)) == text
    assert UTF8.decode_value(UTF8.encode_value(text)) == text


@settings(deadline=None)
@given(JSON_VALUES)
def test_json_comes_back(value: Any) -> None:
    data = JSON.encode_value(value)
    assert JSON.decode_value(data) == value
    assert json.loads(data) == value


def test_bytes_like_objects_are_stored_as_bytes(ring: ringkv.Ring[bytes, bytes]) -> None:
    ring[bytearray(b"k")] = memoryview(b"value")  # type: ignore[index, assignment]
    assert ring[b"k"] == b"value"
    assert type(ring[b"k"]) is bytes
    assert BYTES.encode_value(memoryview(b"abcd")[::2]) == b"ac"


def test_views_share_the_ring(ring: ringkv.Ring[bytes, bytes]) -> None:
    text = ring.with_codec("utf8")
    objects = ring.with_codec("json")
    text["ключ"] = "значение"
    assert ring["ключ".encode()] == "значение".encode()
    objects["o"] = {"a": [1, 2.5, None, "ß"]}
    assert objects["o"] == {"a": [1, 2.5, None, "ß"]}
    assert ring[b"o"] == '{"a":[1,2.5,null,"ß"]}'.encode()
    assert sorted(text) == ["o", "ключ"]
    assert text.get_many(["ключ", "nothing"]) == {"ключ": "значение"}


def test_a_codec_of_your_own(ring: ringkv.Ring[bytes, bytes]) -> None:
    class Numbers:
        def encode_key(self, key: int, /) -> bytes:
            return b"%d" % key

        def decode_key(self, data: bytes, /) -> int:
            return int(data)

        def encode_value(self, value: float, /) -> bytes:
            return value.hex().encode()

        def decode_value(self, data: bytes, /) -> float:
            return float.fromhex(data.decode())

    numbers = ring.with_codec(Numbers())
    numbers.update({n: n / 7 for n in range(1, 100)})
    assert dict(numbers) == {n: n / 7 for n in range(1, 100)}
    assert set(numbers.values()) == {n / 7 for n in range(1, 100)}
    assert numbers.pop(3) == 3 / 7
    assert 3 not in numbers


def test_wrong_types_are_type_errors(ring: ringkv.Ring[bytes, bytes]) -> None:
    with pytest.raises(TypeError, match="utf8"):
        ring["text"]  # type: ignore[index]
    with pytest.raises(TypeError, match="a value must be bytes, not int"):
        ring[b"k"] = 1  # type: ignore[assignment]
    with pytest.raises(TypeError, match="a key must be str, not bytes"):
        ring.with_codec("utf8")[b"k"]  # type: ignore[index]
    assert len(ring) == 0


def test_what_cannot_be_decoded_says_so(ring: ringkv.Ring[bytes, bytes]) -> None:
    ring[b"\xff"] = b"\xfe"
    ring[b"k"] = b"\xfe"
    text = ring.with_codec("utf8")
    with pytest.raises(ringkv.RingValueError, match="value .* is not UTF-8"):
        text["k"]
    with pytest.raises(ringkv.RingValueError, match="is not UTF-8"):
        list(text)
    with pytest.raises(ringkv.RingValueError, match="not JSON"):
        ring.with_codec("json")["k"]
    with pytest.raises(ringkv.RingValueError, match="cannot be stored as UTF-8"):
        text["\ud800"] = "x"
    text.clear()  # but what cannot be read can be removed
    assert len(ring) == 0


def test_what_is_no_codec_is_refused() -> None:
    with pytest.raises(ringkv.RingValueError, match="'pickle' is not one of bytes, utf8, json"):
        resolve("pickle")
    with pytest.raises(TypeError, match="object has no method encode_key"):
        resolve(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ringkv.Node.start(codec=None)  # type: ignore[call-overload]
