"""What the texts mean, and whether to believe them.

Peers and manager exchange plain text (``register n0 127.0.0.1 7081 7436``), peers among
themselves JSON objects with a ``command``. An answer begins with ``SUCCESS`` or ``FAILURE``;
what follows ``FAILURE`` is the reason, what follows ``SUCCESS`` is JSON.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from records import COLUMNS

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")


class RefusedError(Exception):
    """The other program answered ``FAILURE``; this is its reason."""


class Member(NamedTuple):
    """A peer of the DHT as the others know it. Its place in the list of members is its id."""

    name: str
    ip: str
    p_port: int


def unpack(answer: str) -> Any:
    """What a ``SUCCESS`` brings (``None`` if nothing); any other answer is a ``RefusedError``."""
    word, _, rest = answer.partition(" ")
    if word != "SUCCESS":
        raise RefusedError(rest or "without a reason")
    try:
        return json.loads(rest) if rest else None
    except (ValueError, RecursionError):
        raise RefusedError("the answer is not JSON") from None


def read_members(value: Any) -> list[Member]:
    """The members in a list ``[[name, ip, p_port], ...]``; ``RefusedError`` if it is none."""
    if not is_members(value):
        raise RefusedError("the answer is not a list of members")
    return [Member(*each) for each in value]


def read_message(text: str) -> dict[str, Any]:
    """What another peer says, if it is one of ``MESSAGES`` with exactly its fields and each field
    passes its check; ``ValueError`` if not."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("command"), str):
        raise ValueError("not a command")
    shape = MESSAGES.get(message["command"])
    if shape is None:
        raise ValueError("no such command")
    if message.keys() != {"command", *shape}:
        raise ValueError(f"{message['command']} has the fields {', '.join(shape)}")
    for name, is_right in shape.items():
        if not is_right(message[name]):
            raise ValueError(f"{message['command']}: {name} is wrong")
    return message


def is_number(value: object, most: int = 2**64 - 1) -> bool:
    """Whether it is a whole number from 0 to ``most``."""
    return type(value) is int and 0 <= value <= most


def is_name(value: object) -> bool:
    """Whether a peer may be called so."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_address(value: object) -> bool:
    """Whether it is ``[ip, port]``."""
    if not isinstance(value, list | tuple) or len(value) != 2 or not isinstance(value[0], str):
        return False
    try:
        ipaddress.IPv4Address(value[0])
    except ValueError:
        return False
    return is_number(value[1], 65_535) and value[1] > 0


def is_members(value: object) -> bool:
    """Whether it is ``[[name, ip, p_port], ...]``."""
    return isinstance(value, list) and all(
        isinstance(each, list) and len(each) == 3 and is_name(each[0]) and is_address(each[1:])
        for each in value
    )


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(is_number(each) for each in value)


def _is_unasked(value: object) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(each, list) and len(each) == 4 for each in value)
        and all(is_number(each[0]) and is_members([each[1:]]) for each in value)
    )


def _is_record(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.keys() == set(COLUMNS)
        and all(isinstance(text, str) for text in value.values())
    )


#: What peers tell each other: the fields of each command, and what must be true of them.
MESSAGES: Final[Mapping[str, Mapping[str, Callable[[Any], bool]]]] = {
    "set-id": {"name": is_name, "identifier": is_number},
    "reset-id": {"name": is_name, "members": is_members},
    "teardown": {"name": is_name},
    "find-event": {
        "event_id": is_number,
        "walk": is_number,
        "asker": is_address,
        "I": _is_unasked,
        "id_seq": _is_ids,
    },
    "find-event-result": {"walk": is_number, "record": _is_record, "id_seq": _is_ids},
}
