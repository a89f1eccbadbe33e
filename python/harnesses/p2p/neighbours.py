"""Who is next on the circle, by what the ring and the pings say, and what the user hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from post import PEERS


class Neighbours:
    """The two successors and the predecessor of a peer: itself where there is nobody else."""

    def __init__(self, me: int, awaited: set[int], say: Callable[[str], None]) -> None:
        self.me = me
        self.first = self.second = self.predecessor = me
        #: Members that the ring counts on, but whose pings are lost.
        self.silent: set[int] = set()
        #: Peers that are about to join between this one and its first successor.
        self.welcomed: set[int] = set()
        #: Set when the network has formed: when the awaited peers are there. Changes are no news
        #: until then.
        self.formed = asyncio.Event()
        self._awaited = awaited
        self._states: Mapping[int, str] = {}
        self._say = say

    def learn(self, states: Mapping[int, str]) -> None:
        """Takes over what the ring says about its members."""
        self._states = states
        self.silent = {peer for peer in self.silent if self.is_up(peer)}
        self.update()

    def is_up(self, peer: int) -> bool:
        """Whether the ring counts on that peer."""
        return self._states.get(peer) == "up"

    def update(self) -> None:
        """Finds the neighbours, and says so if they are others than before."""
        living = {peer for peer in self._states if self.is_up(peer)} - self.silent - {self.me}
        others = sorted(living, key=self.distance)
        before = (self.first, self.second)
        self.first, self.second = [*others, self.me, self.me][:2]
        self.predecessor = others[-1] if others else self.me
        gone = [peer for peer in dict.fromkeys(before) if peer not in (self.me, *others)]
        if not self.formed.is_set():
            if gone or self._awaited <= {self.me, *others}:
                self.stop_awaiting()
        elif before != (self.first, self.second):
            self._say_news(gone)

    def stop_awaiting(self) -> None:
        """From now on changes are news."""
        if not self.formed.is_set():
            self.formed.set()
            self._say(f"My first successor is Peer {self.first}")
            self._say(f"My second successor is Peer {self.second}")

    def distance(self, peer: int) -> int:
        """How far that peer is in the direction of the successors."""
        return (peer - self.me) % PEERS

    def is_next(self, peer: int) -> bool:
        """Whether the place of that peer is between this one and its first successor."""
        return 0 < self.distance(peer) <= (self.distance(self.first) or PEERS)

    def owns(self, file: str) -> bool:
        """Whether this is the first peer at or after the place of that file."""
        reach = (self.me - self.predecessor) % PEERS or PEERS
        return (self.me - int(file)) % PEERS < reach

    def _say_news(self, gone: list[int]) -> None:
        for peer in gone:
            if peer in self.silent or self._states.get(peer) in ("down", "away"):
                self._say(f"Peer {peer} is no longer alive")
            else:
                self._say(f"Peer {peer} will depart from the network")
        if not gone and self.first not in self.welcomed:
            self._say("Successor Change request received")
        self.welcomed.discard(self.first)
        self._say(f"My new first successor is Peer {self.first}")
        self._say(f"My new second successor is Peer {self.second}")
