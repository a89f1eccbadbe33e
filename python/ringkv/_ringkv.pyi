"""The native half. Private: use the classes of `ringkv`."""

from collections.abc import Callable, Sequence
from typing import Any, final

from .errors import RingError

__all__ = [
    "Events",
    "Ring",
    "Scan",
    "__version__",
    "after_fork_in_child",
    "after_fork_in_parent",
    "before_fork",
    "close_log",
    "command_line",
    "fetch_log",
    "open_log",
    "statuses",
]

__version__: str

def statuses() -> list[tuple[int, str, str, bool, bool]]: ...
def command_line(arguments: Sequence[str]) -> int: ...
def before_fork() -> None: ...
def after_fork_in_parent() -> None: ...
def after_fork_in_child() -> None: ...
def open_log(level: int) -> bool: ...
def fetch_log() -> list[tuple[int, str, str]] | None: ...
def close_log() -> None: ...

@final
class Scan:
    def next_page(self) -> list[Any] | None: ...

@final
class Events:
    def next(self, timeout: float | None = None) -> dict[str, Any] | None: ...

@final
class Ring:
    @staticmethod
    def start(**options: Any) -> Ring: ...
    @staticmethod
    def connect(seeds: str, *, timeout: float | None = None) -> Ring: ...
    def close(self) -> None: ...
    @property
    def address(self) -> str: ...
    def get(
        self, key: bytes, timeout: float | None = None, lookup: str | None = None
    ) -> bytes | None: ...
    def contains(self, key: bytes) -> bool: ...
    def put(
        self,
        key: bytes,
        value: bytes,
        timeout: float | None = None,
        ttl: float | None = None,
        if_absent: bool = False,
    ) -> bool: ...
    def delete(self, key: bytes, timeout: float | None = None) -> bool: ...
    def cas(
        self,
        key: bytes,
        expected: bytes | None,
        value: bytes,
        timeout: float | None = None,
        ttl: float | None = None,
    ) -> bool: ...
    def incr(
        self,
        key: bytes,
        delta: int = 1,
        timeout: float | None = None,
        ttl: float | None = None,
    ) -> int: ...
    def get_many(
        self, keys: Sequence[bytes], timeout: float | None = None, lookup: str | None = None
    ) -> tuple[list[bytes | None], list[tuple[int, RingError]]]: ...
    def put_many(
        self,
        pairs: Sequence[tuple[bytes, bytes]],
        timeout: float | None = None,
        ttl: float | None = None,
        if_absent: bool = False,
    ) -> tuple[int, list[tuple[int, RingError]]]: ...
    def delete_many(
        self, keys: Sequence[bytes], timeout: float | None = None
    ) -> tuple[int, list[tuple[int, RingError]]]: ...
    def scan(
        self, prefix: bytes, keys_only: bool = False, timeout: float | None = None
    ) -> Scan: ...
    def add_node(
        self,
        address: str,
        wait: bool = True,
        timeout: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    def drop_node(
        self,
        name_or_address: str,
        wait: bool = True,
        timeout: float | None = None,
        progress: Callable[[int, int], object] | None = None,
        force: bool = False,
    ) -> int: ...
    def abort_drop(self, name_or_address: str, timeout: float | None = None) -> None: ...
    def reset_lost(self, timeout: float | None = None) -> int: ...
    def events(self) -> Events: ...
    def wait_settled(self, timeout: float | None = None) -> None: ...
    def info(self) -> dict[str, Any]: ...
    def locate(self, key: bytes, lookup: str | None = None) -> dict[str, Any]: ...
    def health(self) -> dict[str, Any]: ...
    def plan_add(self, name: str, address: str, weight: int) -> dict[str, Any]: ...
    def plan_drop(self, name_or_address: str) -> dict[str, Any]: ...
