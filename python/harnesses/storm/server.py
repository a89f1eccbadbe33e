#!/usr/bin/env python3
"""The manager: knows the peers, who of them is in the DHT, and what may be done when."""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from messages import is_address, is_name
from protocol import Address, Endpoint, NoAnswerError, Request, say

PEERS_MAX: Final = 256
PEERS_MIN: Final = 3
#: Seconds after which a peer that does not answer is taken for dead.
DEAD_AFTER: Final = 1.5
#: How often it is asked whether it still works on the change that it has begun.
CHECK_EVERY: Final = 1.0


class State(StrEnum):
    """What a peer is doing."""

    FREE = "Free"
    IN_DHT = "InDHT"
    LEADER = "Leader"


@dataclass
class Peer:
    """A registered peer."""

    name: str
    ip: str
    m_port: int
    p_port: int
    state: State = State.FREE

    @property
    def address(self) -> Address:
        """Where it talks with the manager."""
        return self.ip, self.m_port


@dataclass
class Change:
    """A change of the DHT that has begun: until its peer completes it, nothing else may."""

    command: str
    peer: str
    completed_by: str
    check_at: float


class Refusal(Exception):
    """A command may not be executed now, or not at all."""


class Manager:
    """The state machine. One thread runs it, request by request."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.peers: dict[str, Peer] = {}
        self.dht: list[str] = []  # the leader first: places are ids
        self.change: Change | None = None
        #: What a peer may ask: the words after its name, and whether that waits for a change.
        self.commands: dict[str, tuple[str, bool, Callable[..., object]]] = {
            "setup-dht": ("<n> <YYYY>", True, self._setup),
            "query-dht": ("", True, self._query),
            "leave-dht": ("", True, self._leave),
            "join-dht": ("", True, self._join),
            "teardown-dht": ("", True, self._teardown),
            "deregister": ("", True, self._deregister),
            "dht-complete": ("", False, self._setup_complete),
            "teardown-complete": ("", False, self._teardown_complete),
            "dht-rebuilt": ("<leader>", False, self._rebuilt),
            "dht-failed": ("", False, self._failed),
            "peer-lost": ("<lost>", False, self._lost),
            "gone": ("", False, self._remove),
        }

    def run(self) -> None:
        """Serves until it is interrupted."""
        while True:
            request = self.endpoint.next_request(timeout=CHECK_EVERY)
            if request is not None:
                request.answer(self._answer(request))
            change = self.change
            if change is not None and time.monotonic() >= change.check_at:
                self._check(change)
                change.check_at = time.monotonic() + CHECK_EVERY

    def _answer(self, request: Request) -> str:
        words = request.text.split()
        try:
            if words and words[0] == "register":
                result = self._register(request.sender, words[1:])
            elif words and words[0] in self.commands:
                result = self._command(request.sender, words)
            else:
                say(f"Unknown command: {words}")
                raise Refusal("unknown command")
        except Refusal as reason:
            say(reason)
            return f"FAILURE {reason}"
        return "SUCCESS" if result is None else f"SUCCESS {json.dumps(result)}"

    def _command(self, sender: Address, words: list[str]) -> object:
        usage, waits, execute = self.commands[words[0]]
        if len(words) != 2 + len(usage.split()):
            raise Refusal(f"usage: {words[0]} <name> {usage}".rstrip())
        if waits:
            self._check_idle()
        peer = self.peers.get(words[1])
        if words[0] == "query-dht" and not self.dht:
            raise Refusal("dht is not setup")
        if peer is None:
            who = "client" if words[0] == "query-dht" else "peer name"
            raise Refusal(f"{who} is not registered")
        if peer.address != sender:
            raise Refusal(f"{peer.name} is another peer's name")
        return execute(peer, *words[2:])

    def _register(self, sender: Address, words: list[str]) -> object:
        self._check_idle()
        if len(words) != 4:
            raise Refusal("usage: register <name> <ipv4> <m-port> <p-port>")
        name, ip = words[:2]
        m_port, p_port = map(_number, words[2:])
        if not is_name(name):
            raise Refusal("a peer name has 1 to 32 letters, digits, '_', '-', '.'")
        if not is_address((ip, m_port)) or not is_address((ip, p_port)) or m_port == p_port:
            raise Refusal("no such address or ports")
        if sender != (ip, m_port):
            raise Refusal(f"ip and m-port are not the peer's own: it sends from {sender}")
        for other in list(self.peers.values()):
            same = other.name == name or other.ip == ip and {m_port, p_port} & {
                other.m_port,
                other.p_port,
            }
            # A peer that was killed and started again registers anew.
            if same and not self._is_there(other):
                self._remove(other)
            elif same:
                name_taken = other.name == name
                raise Refusal("peer name is not unique" if name_taken else "port is not unique")
        if len(self.peers) >= PEERS_MAX:
            raise Refusal(f"there are {PEERS_MAX} peers already")
        self.peers[name] = Peer(name, ip, m_port, p_port)
        say(f"Registering peer: {name}, Address: {ip}, M-port: {m_port}, P-port: {p_port}")
        return None

    def _deregister(self, peer: Peer) -> None:
        if peer.state != State.FREE:
            raise Refusal("peer was not free")
        del self.peers[peer.name]
        self._show("updated client list:", self.peers)

    def _setup(self, peer: Peer, n: str, year: str) -> object:
        size = _number(n)
        if size < PEERS_MIN:
            raise Refusal(f"n isn't at least {PEERS_MIN}")
        if not (year.isdecimal() and len(year) == 4):
            raise Refusal("YYYY isn't a year")
        if size > len(self.peers):
            raise Refusal(f"there aren't {size} clients")
        if self.dht:
            raise Refusal("a dht has already been setup")
        say(f"Setting up DHT for peer: {peer.name}, N: {size}, YYYY: {year}")
        others = [name for name in self.peers if name != peer.name]
        self._begin("setup-dht", peer, "dht-complete")
        self._assign([peer.name, *random.sample(others, size - 1)])
        say(f"leader of current dht is {peer.name}")
        self._show("client list:", self.peers)
        self._show("peers in DHT:", self.dht)
        return self._members()

    def _setup_complete(self, peer: Peer) -> None:
        self._complete(peer, "dht-complete")
        say(f"DHT complete for peer: {peer.name}")

    def _query(self, peer: Peer) -> object:
        if peer.state != State.FREE:
            raise Refusal("client is registered but not free")
        return {"first": random.randrange(len(self.dht)), "members": self._members()}

    def _leave(self, peer: Peer) -> object:
        if not self.dht:
            raise Refusal("there is no dht setup")
        if peer.name not in self.dht:
            raise Refusal("peer is not in the dht")
        if len(self.dht) <= PEERS_MIN:
            raise Refusal("DHT wouldn't be at least three if one left")
        rest = self._without(peer)
        say(f"leaving peer is {peer.name} with id of {self.dht.index(peer.name)}")
        say(f"new leader will be {rest[0]}")
        self._begin("leave-dht", peer, "dht-rebuilt")
        return self._members(rest)

    def _join(self, peer: Peer) -> object:
        if not self.dht:
            raise Refusal("there is no dht setup")
        if peer.state != State.FREE:
            raise Refusal("peer is in the dht already")
        say("sending success to joining peer")
        self._begin("join-dht", peer, "dht-rebuilt")
        return self._members()

    def _teardown(self, peer: Peer) -> object:
        if not self.dht:
            raise Refusal("there is no dht setup")
        if peer.state != State.LEADER:
            raise Refusal("peer that sent teardown-dht is not the leader")
        self._begin("teardown-dht", peer, "teardown-complete")
        return self._members()

    def _teardown_complete(self, peer: Peer) -> None:
        """The DHT is gone, or the old layout of one that is being rebuilt."""
        change = self.change
        if change is None or change.peer != peer.name or change.command == "setup-dht":
            raise Refusal("nobody waits for a teardown-complete of this peer")
        if change.command == "teardown-dht":
            self.change = None
            self._assign([])
            return
        if change.command == "join-dht":
            say("received teardown complete, sending SUCCESS")
            return
        self._show("client list after teardown", self.peers)
        say("waiting for dht-rebuilt")

    def _rebuilt(self, peer: Peer, _leader: str) -> None:
        """A peer has left or joined. Who leads follows from the list: a leader may have died."""
        left = self.change is not None and self.change.command == "leave-dht"
        self._complete(peer, "dht-rebuilt")
        say("received dht-rebuilt")
        self._assign(self._without(peer) if left else [*self.dht, peer.name])
        self._show("current peers in DHT:", self.dht)

    def _failed(self, peer: Peer) -> None:
        """The peer could not do what it had begun."""
        if self.change is None or self.change.peer != peer.name:
            raise Refusal("this peer has begun nothing")
        self._undo(self.change)

    def _lost(self, _reporter: Peer, name: str) -> object:
        """A peer misses another one. It is asked itself, because it may only have been slow."""
        peer = self.peers.get(name)
        if peer is not None and not self._is_there(peer):
            self._remove(peer)
        return self._members()

    def _remove(self, peer: Peer) -> None:
        say(f"peer {peer.name} is gone")
        del self.peers[peer.name]
        if self.change is not None and self.change.peer == peer.name:
            self._undo(self.change)
        if peer.name in self.dht:
            led = peer.state == State.LEADER
            self._assign(self._without(peer) if led else [n for n in self.dht if n != peer.name])
            if self.dht and led:
                say(f"new leader will be {self.dht[0]}")
            self._show("peers in DHT:", self.dht)

    def _undo(self, change: Change) -> None:
        """Ends a change that nobody will complete. Who is in no DHT any more, closes its node."""
        say(f"{change.command} of {change.peer} failed")
        self.change = None
        outside = [] if change.command == "leave-dht" else [change.peer]
        if change.command in ("setup-dht", "teardown-dht"):
            outside = self.dht
            self._assign([])
        for name in outside:
            peer = self.peers.get(name)
            if peer is not None and self._ask(peer, "teardown") != "SUCCESS":
                self._remove(peer)

    def _begin(self, command: str, peer: Peer, completed_by: str) -> None:
        self.change = Change(command, peer.name, completed_by, time.monotonic() + CHECK_EVERY)

    def _complete(self, peer: Peer, command: str) -> None:
        change = self.change
        if change is None or change.peer != peer.name or change.completed_by != command:
            raise Refusal(f"nobody waits for a {command} of this peer")
        self.change = None

    def _check(self, change: Change) -> None:
        """Whoever died in the middle of a change must not block everybody else for ever."""
        peer = self.peers[change.peer]
        if not self._is_there(peer, change.command):
            if self._is_there(peer):
                self._undo(change)
            else:
                self._remove(peer)

    def _check_idle(self) -> None:
        if self.change is not None:
            raise Refusal(f"wait: {self.change.command} of {self.change.peer} is not complete")

    def _without(self, peer: Peer) -> list[str]:
        """The DHT when this peer has left: the one after it leads."""
        at = self.dht.index(peer.name) if peer.name in self.dht else 0
        return [name for name in self.dht[at:] + self.dht[:at] if name != peer.name]

    def _assign(self, dht: list[str]) -> None:
        self.dht = dht
        for name, peer in self.peers.items():
            peer.state = State.IN_DHT if name in dht else State.FREE
        if dht:
            self.peers[dht[0]].state = State.LEADER

    def _members(self, names: list[str] | None = None) -> list[tuple[str, str, int]]:
        peers = [self.peers[name] for name in (self.dht if names is None else names)]
        return [(peer.name, peer.ip, peer.p_port) for peer in peers]

    def _is_there(self, peer: Peer, change: str = "") -> bool:
        """Whether the peer lives, and (if one is named) is still at work on a change."""
        return self._ask(peer, f"are-you {peer.name} {change}".rstrip()) == "SUCCESS"

    def _ask(self, peer: Peer, text: str) -> str:
        try:
            return self.endpoint.request(peer.address, text, DEAD_AFTER)
        except NoAnswerError:
            return "FAILURE"

    def _show(self, title: str, names: Iterable[str]) -> None:
        say(title)
        for name in names:
            say(asdict(self.peers[name]) | {"state": str(self.peers[name].state)})


def _number(word: str) -> int:
    """The whole number that a word is; 0 if it is none."""
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 10 else 0


def main() -> int:
    """Runs the manager until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="The manager of a storm event DHT.")
    parser.add_argument("port", type=int, help="UDP port to listen on")
    parser.add_argument("--ip", default="127.0.0.1", help="address to listen on (%(default)s)")
    options = parser.parse_args()
    if not is_address((options.ip, options.port)):
        parser.error("the address must be an IPv4 address, the port between 1 and 65535")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.bind((options.ip, options.port))
    except OSError as error:
        bound.close()
        print(f"server.py: {options.ip}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    endpoint = Endpoint(bound)
    say("UDP server up and listening")
    say(f"running on ip: {options.ip}")
    try:
        Manager(endpoint).run()
    except KeyboardInterrupt:
        pass
    finally:
        endpoint.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
