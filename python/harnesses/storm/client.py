#!/usr/bin/env python3
"""A peer: takes one command per line, and holds a part of the DHT when it is in one."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from messages import Member, RefusedError, is_address, is_number, read_members
from peer import Peer
from protocol import NoAnswerError, say
from records import COLUMNS, event_key, read_year

#: What a query without an event asks for.
BUILT_IN_EVENTS: Final = ("5536849", "2402920", "5539287", "55770111")
#: What programs tell the manager; nobody types that.
INTERNAL: Final = frozenset(
    ("dht-complete", "dht-failed", "dht-rebuilt", "teardown-complete", "peer-lost", "gone")
)
PORTS: Final = "7001-7499"


class Commands:
    """What a user can type. Each command says how it went; it raises ``RefusedError`` with the
    reason, or ``NoAnswerError`` if the manager is out of reach."""

    def __init__(self, peer: Peer, data: Path) -> None:
        self._peer = peer
        self._data = data
        self._commands: dict[str, tuple[str, Callable[..., bool | None]]] = {
            "register": ("<name> <ipv4> <m-port> <p-port>", self._register),
            "setup-dht": ("<name> <n> <YYYY>", self._setup),
            "query-dht": ("<name> [EVENT_ID]", self._query),
            "leave-dht": ("<name>", self._leave),
            "join-dht": ("<name>", self._join),
            "teardown-dht": ("<name>", self._teardown),
            "deregister": ("<name>", self._deregister),
        }

    def run(self, line: str) -> bool:
        """Executes a line; whether the peer goes on."""
        words = line.split()
        if not words:
            say(f"type a command: {', '.join(self._commands)}")
            return True
        usage, execute = self._commands.get(words[0], ("", None))
        try:
            if execute is not None:
                if not usage.count("<") <= len(words) - 1 <= len(usage.split()):
                    raise RefusedError(f"usage: {words[0]} {usage}")
                return execute(*words[1:]) is not False
            if words[0] in INTERNAL:
                raise RefusedError("unknown command")
            self._peer.ask(line.strip()[:1000])  # the manager says that it is unknown
        except RefusedError as reason:
            _fail(reason)
        except NoAnswerError:
            _fail("the manager does not answer")
        return True

    def _register(self, name: str, ip: str, m_port: str, p_port: str) -> None:
        peer = self._peer
        own_ip, own_m_port = peer.to_manager.address
        own = (own_ip, str(own_m_port), str(peer.to_peers.address[1]))
        if (ip, m_port, p_port) != own:
            raise RefusedError(f"the address and ports of this peer are {' '.join(own)}")
        if peer.name not in ("", name):
            raise RefusedError(f"this peer is registered as {peer.name}")
        peer.ask(f"register {name} {ip} {m_port} {p_port}")
        peer.name = name
        say("SUCCESS")

    def _setup(self, name: str, n: str, year: str) -> None:
        """Creates a ring, adds the nodes of the others, and stores the records of a year."""
        peer = self._peer
        try:
            records = read_year(self._data, year)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        with peer.change("setup-dht"):
            members = read_members(peer.ask(f"setup-dht {name} {n} {year}"))
            say("SUCCESS")
            with peer.undone_if_it_fails():
                peer.enter("creator")
                peer.identifier = 0
                peer.tell(
                    (member, {"command": "set-id", "identifier": at})
                    for at, member in enumerate(members)
                    if at > 0
                )
                peer.dht.add(members[1:])
                stored = peer.dht.load(records)
                peer.report(members)
                say(f"{stored} of {len(records)} records stored")
                if stored != len(records):
                    raise RefusedError("records are missing")
            say("sending dht-complete to manager")
            peer.ask(f"dht-complete {name}")
            say("SUCCESS")

    def _leave(self, name: str) -> None:
        """Hands the records of this peer to the others."""
        peer = self._peer
        with peer.change("leave-dht"):
            members = read_members(peer.ask(f"leave-dht {name}"))
            say("Received SUCCESS from manager starting teardown")
            with peer.undone_if_it_fails():
                peer.dht.leave()
            peer.quit()
            self._rebuilt(members)

    def _join(self, name: str) -> None:
        """Takes over a part of the records."""
        peer = self._peer
        with peer.change("join-dht"):
            members = read_members(peer.ask(f"join-dht {name}"))
            with peer.undone_if_it_fails():
                peer.enter(members)
                peer.dht.wait()
            self._rebuilt([*members, Member(name, *peer.to_peers.address)])

    def _rebuilt(self, members: list[Member]) -> None:
        """Tells the members their new ids, and the manager that all is done."""
        peer = self._peer
        peer.ask(f"teardown-complete {peer.name}")
        packed = [list(member) for member in members]
        with contextlib.suppress(RefusedError):  # who has died is reported by those who miss it
            peer.tell((member, {"command": "reset-id", "members": packed}) for member in members)
        say("waiting for dht-rebuilt response from manager")
        peer.ask(f"dht-rebuilt {peer.name} {members[0].name}")
        say("dht-rebuilt response was a SUCCESS")

    def _teardown(self, name: str) -> None:
        """Ends the DHT."""
        peer = self._peer
        with peer.change("teardown-dht"):
            try:
                members = read_members(peer.ask(f"teardown-dht {name}"))
            except RefusedError as reason:
                raise RefusedError(f"message was FAILURE\n{reason}") from None
            say("SUCCESS")
            with contextlib.suppress(RefusedError):  # who is dead holds nothing
                peer.tell((member, {"command": "teardown"}) for member in members)
            peer.ask(f"teardown-complete {name}")
            say("teardown-complete response: SUCCESS")

    def _deregister(self, name: str) -> bool:
        """Ends this peer, if it is in no DHT."""
        try:
            self._peer.ask(f"deregister {name}")
        except RefusedError as reason:
            say(f"failed to deregister\n{reason}")
            return True
        say("terminating...")
        self._peer.name = ""
        return False

    def _query(self, name: str, event: str = "") -> None:
        """Prints a record, and the way on which it was found."""
        peer = self._peer
        try:
            key = event_key(event) if event else random.choice(BUILT_IN_EVENTS)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        try:
            granted = peer.ask(f"query-dht {name}")
        except RefusedError as reason:
            say(f"FAILURE - received failure from manager\n{reason}")
            return
        if not isinstance(granted, dict) or not is_number(granted.get("first")):
            raise RefusedError("the answer of the manager is wrong")
        members = read_members(granted.get("members"))
        say(f"event_id is {key}")
        result = peer.walks.ask(int(key), members, granted["first"])
        if result is None:
            for member in members:
                peer.ask(f"peer-lost {name} {member.name}")
            raise RefusedError("no peer of the DHT answers")
        _print_result(key, result)


def _fail(reason: object) -> None:
    say("FAILURE")
    say(reason)


def _print_result(key: str, result: dict[str, Any]) -> None:
    record = result["record"]
    if record is None:
        say(f"Storm event {key} not found in the DHT")
        return
    say("SUCCESS")
    for column in COLUMNS:
        say(f"{column}: {record[column]}")
    say(f"id_seq: {result['id_seq']}")


def _bind(ip: str, ports: Iterable[int]) -> Iterator[socket.socket]:
    """UDP sockets at those of the ports that are free, for UDP and for TCP."""
    for port in ports:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            bound.bind((ip, port))
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((ip, port))
        except OSError:
            bound.close()
        else:
            yield bound


def port_range(text: str) -> range:
    first, _, last = text.partition("-")
    ports = range(int(first), int(last) + 1)
    if not (0 < ports.start < ports.stop - 1 <= 65_535):
        raise ValueError
    return ports


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A peer of a storm event DHT.")
    parser.add_argument("manager_ip", help="IPv4 address of the manager")
    parser.add_argument("manager_port", type=int, help="its UDP port")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the CSV files")
    parser.add_argument("--ports", type=int, nargs=2, metavar=("M", "P"), help="m-port and p-port")
    parser.add_argument("--port-range", type=port_range, default=PORTS, metavar="FIRST-LAST",
                        help="where to pick two free ports (%(default)s)")  # fmt: skip
    options = parser.parse_args()
    manager = (options.manager_ip, options.manager_port)
    if not is_address(manager):
        parser.error(f"no manager can be at {manager[0]} port {manager[1]}")
    if options.ports and not all(is_address(("0.0.0.0", port)) for port in options.ports):
        parser.error("--ports: two different numbers between 1 and 65535")
    return options


def main() -> int:
    """Runs the peer until it is deregistered, its input ends, or it is interrupted."""
    options = _parse()
    manager = (options.manager_ip, options.manager_port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The address under which the manager, and so the other peers, can reach this one.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(manager)
        except OSError as error:
            print(f"client.py: {manager[0]}: {error.strerror}", file=sys.stderr)
            return 1
        ip = probe.getsockname()[0]
    candidates = options.ports or random.sample(options.port_range, len(options.port_range))
    bound = list(itertools.islice(_bind(ip, candidates), 2))
    if len(bound) < 2:
        for each in bound:
            each.close()
        print(f"client.py: no two free ports at {ip}", file=sys.stderr)
        return 1
    m_port, p_port = (each.getsockname()[1] for each in bound)
    say(f"Manager socket bound to port {m_port}, Peer socket bound to port: {p_port}")
    say(f"running on ip: {ip}")
    peer = Peer(manager, bound[0], bound[1])
    commands = Commands(peer, options.data)
    try:
        sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
        for line in sys.stdin:
            if not commands.run(line):
                break
    except KeyboardInterrupt:
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        peer.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
