"""The storm programs as their tests start them: manager, peers, and who only seems one."""

from __future__ import annotations

import json
import re
import socket
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from console import HARNESSES, Console, free_ports, load

import ringkv

STORM = HARNESSES / "storm"
#: A peer's first line.
BOUND = r"Manager socket bound to port (\d+), Peer socket bound to port: (\d+)\n"

protocol = load(STORM / "protocol.py")
records = load(STORM / "records.py")


def row(event: int) -> list[str]:
    """A row as NOAA writes them; every field of every row is another one."""
    fields = [f"{column.lower()} {event}" for column in records.COLUMNS]
    return [str(event), *fields[1:-1], ""]


def write_year(folder: Path, year: int, events: range, end: str = "\n") -> None:
    """A year's file with these events and line ends."""
    lines = [records.COLUMNS, *map(row, events)]
    text = "".join(",".join(line) + end for line in lines)
    (folder / f"details-{year}.csv").write_text(text, newline="")


class Storm:
    """A manager and peers, each at a terminal of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.stack = ExitStack()
        self.consoles: list[Console] = []
        (self.port,) = free_ports(1)
        (self.base,) = free_ports(1, together=60)
        self.peers: dict[str, Console] = {}
        self.p_ports: dict[str, int] = {}
        self.start_manager()

    def __enter__(self) -> Storm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.__exit__(kind, error, trace)
        for console in self.consoles:  # pytest shows it if the test has failed
            print(f"--- {' '.join(console.command)}\n{console.text}")

    def open(self, script: str, *arguments: object) -> Console:
        console = self.stack.enter_context(Console(STORM / script, *arguments))
        self.consoles.append(console)
        return console

    def start_manager(self) -> None:
        self.manager = self.open("server.py", self.port)
        self.manager.expect("UDP server up and listening\nrunning on ip: 127.0.0.1\n")

    def start(self, *options: object) -> Console:
        """A peer that is not registered."""
        range_of_ports = f"{self.base}-{self.base + 59}"
        where = ("127.0.0.1", self.port, "--data", self.data, "--port-range", range_of_ports)
        return self.open("client.py", *where, *options)

    def register(self, *names: str) -> None:
        """Peers with these names, started side by side."""
        started = [(name, self.start()) for name in names]
        for name, peer in started:
            ports = peer.match(BOUND)
            peer.expect("running on ip: 127.0.0.1\n")
            peer.type(f"register {name} 127.0.0.1 {ports[1]} {ports[2]}")
            peer.expect("SUCCESS\n")
            self.manager.expect(
                f"Registering peer: {name}, Address: 127.0.0.1, "
                f"M-port: {ports[1]}, P-port: {ports[2]}\n"
            )
            self.peers[name] = peer
            self.p_ports[name] = int(ports[2])

    def setup(self, leader: str, n: int, year: int) -> list[str]:
        """Sets a DHT up; the names in it, in the order of their ids."""
        before = len(self.manager.text)
        self.peers[leader].type(f"setup-dht {leader} {n} {year}")
        self.peers[leader].expect("records stored\nsending dht-complete to manager\nSUCCESS\n")
        self.manager.expect(f"DHT complete for peer: {leader}\n")
        return self.listed("peers in DHT:", before)

    def listed(self, title: str, since: int = 0) -> list[str]:
        """The names that the manager has listed last under a title."""
        block = self.manager.text[since:].rpartition(title + "\n")[2]
        names = []
        for line in block.split("\n"):
            found = re.match(r"\{'name': '([^']+)'", line)
            if not found:
                break
            names.append(found[1])
        return names

    def free(self, dht: list[str]) -> list[str]:
        return [name for name in self.peers if name not in dht]

    def ring(self, name: str) -> ringkv.Ring[str, Any]:
        """The ring, seen through the node of a peer."""
        return ringkv.connect(f"127.0.0.1:{self.p_ports[name]}", codec="json")

    def query(self, name: str, event: object) -> tuple[dict[str, str], list[int]]:
        """What a peer prints for an event: its fields and the way."""
        peer = self.peers[name]
        peer.type(f"query-dht {name} {event}")
        found = peer.match(rf"^event_id is {event}\nSUCCESS\n((?:.*\n){{14}})id_seq: (\[.*\])\n")
        fields = [line.partition(": ") for line in found[1].splitlines()]
        assert [name for name, _, _ in fields] == list(records.COLUMNS)
        return {name: value for name, _, value in fields}, json.loads(found[2])

    def refused(self, name: str, command: str, reason: str) -> None:
        """A command that fails, with a reason."""
        self.peers[name].type(command)
        self.peers[name].match(rf"^FAILURE.*\n(?:message was FAILURE\n)?{re.escape(reason)}\n")


class Fake:
    """Somebody who speaks the manager's language without being a peer."""

    def __init__(self, storm: Storm) -> None:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        self.manager = ("127.0.0.1", storm.port)
        self.endpoint = protocol.Endpoint(bound)
        self.port = self.endpoint.address[1]
        self.is_there = "SUCCESS"
        self.asked: list[str] = []
        self.endpoint.serve(self._answer, 1)

    def _answer(self, request: Any) -> None:
        self.asked.append(request.text)
        request.answer(self.is_there)

    def says(self, text: str) -> str:
        answer = self.endpoint.request(self.manager, text)
        assert isinstance(answer, str)
        return answer

    def register(self, name: str) -> None:
        p_port = 100 + int(name[1:])  # nobody is there
        assert self.says(f"register {name} 127.0.0.1 {self.port} {p_port}") == "SUCCESS"
