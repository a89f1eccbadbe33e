#!/usr/bin/env python3
"""Peers that keep files together, each on its place of a circle of 256.

    p2p.py init PEER FIRST_SUCCESSOR SECOND_SUCCESSOR PING_INTERVAL
    p2p.py join PEER KNOWN_PEER PING_INTERVAL

A peer is a ringkv node with its id as name. File 4103 is the key ``4103``; its place is 4103 modulo
256 = 7, so the first peer at or after 7 holds it, and the next two have copies. ringkv stores the
files, moves them when peers come and go, and says who is there. What is left for this program are
the notices that walk from successor to successor, the pings, and what the user sees.

This file is the way into the network. What a peer does there is in ``peer.py``.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from dataclasses import dataclass
from typing import Final

import ringkv
from peer import Peer
from post import PEERS, Notice, Post
from storage import Files
from terminal import say

USAGE: Final = (
    "usage: p2p.py init PEER FIRST_SUCCESSOR SECOND_SUCCESSOR PING_INTERVAL\n"
    "       p2p.py join PEER KNOWN_PEER PING_INTERVAL"
)
BASE_PORT: Final = 12000
FILE_BYTES_MAX: Final = 64 << 20
CALL_SECONDS: Final = 15.0
INTERVAL_MAX: Final = 24 * 3600.0
#: How long a peer looks for the network. It can be interrupted once in every try.
ENTER_SECONDS: Final = 60.0
TRY_SECONDS: Final = 2.0
WALK_SECONDS: Final = 5.0
WALK_TRIES: Final = 4


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    me: int
    #: The two successors of ``init``, the known peer of ``join``.
    others: list[int]
    interval: float

    @property
    def joins(self) -> bool:
        return len(self.others) == 1


class Refused(Exception):
    """The peer cannot enter the network; why, in words for the user."""


def main() -> int:
    try:
        arguments = parse(sys.argv[1:])
    except ValueError:
        say("Invalid arguments")
        print(USAGE, file=sys.stderr)
        return 0  # as the first program did
    base = os.environ.get("P2P_BASE_PORT", str(BASE_PORT))
    if not (re.fullmatch("[0-9]{1,5}", base) and 1024 <= int(base) <= 65536 - PEERS):
        print(f"P2P_BASE_PORT must be from 1024 to {65536 - PEERS}, not {base!r}", file=sys.stderr)
        return 2
    try:
        return asyncio.run(run(arguments, Post(arguments.me, int(base))))
    except Refused as refused:
        say(str(refused))
        return 1
    except KeyboardInterrupt:  # before there was anything to leave
        return 130


def parse(words: list[str]) -> Arguments:
    """The command line, or a ``ValueError``."""
    match words:
        case [kind, me, first, second, interval] if kind.lower() == "init":
            others = [peer_id(first), peer_id(second)]
        case [kind, me, known, interval] if kind.lower() == "join" and known != me:
            others = [peer_id(known)]
        case _:
            raise ValueError("neither init nor join")
    seconds = float(interval)
    if not 0.05 <= seconds <= INTERVAL_MAX:
        raise ValueError("no interval")
    return Arguments(peer_id(me), others, seconds)


def peer_id(word: str) -> int:
    if re.fullmatch("[0-9]{1,3}", word) and int(word) < PEERS:
        return int(word)
    raise ValueError("no peer")


async def run(arguments: Arguments, post: Post) -> int:
    """Enters the network, and is a peer of it until it is told to leave."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Who starts programs in the background tells them so to ignore some of these.
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await post.open()
    except OSError:
        port = post.port(arguments.me)
        raise Refused(f"Peer {arguments.me} is there already: port {port} is in use") from None
    try:
        ring = await (join if arguments.joins else init)(arguments, post, stop)
        if ring is None:
            return 130
        with ring:
            awaited = [] if arguments.joins else arguments.others
            peer = Peer(arguments.me, awaited, arguments.interval, ring, post)
            if arguments.joins:
                say("Join request has been accepted")
            return 0 if await peer.live(stop) else 1
    finally:
        post.close()


async def init(arguments: Arguments, post: Post, stop: asyncio.Event) -> Files | None:
    """Joins the ring of the successors, in whatever order all peers start. The peer after which
    the circle begins anew creates the ring, unless it is there from an earlier life of this peer.
    """
    seeds = [post.address(peer) for peer in arguments.others if peer != arguments.me]
    if arguments.others[0] <= arguments.me and not await asyncio.to_thread(is_ring, seeds):
        return await asyncio.to_thread(start, arguments.me, post, None)
    return await enter(arguments, seeds, post, stop)


async def join(arguments: Arguments, post: Post, stop: asyncio.Event) -> Files | None:
    """Joins at the place to which the known peer shows the way."""
    known = arguments.others[0]
    walk = asyncio.create_task(walk_from(known, arguments.me, post))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({walk, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stop.is_set():
        walk.cancel()
        return None
    return await enter(arguments, [post.address(walk.result()), post.address(known)], post, stop)


async def walk_from(known: int, me: int, post: Post) -> int:
    """Lets a notice walk from the known peer round to the place of this one: the peer before it."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def hear(notices: list[Notice]) -> bool:
        for notice in notices:
            if notice.what == "accepted" and not accepted.done():
                accepted.set_result(notice.peer)
        return True

    post.on_notices = hear
    for _ in range(WALK_TRIES):
        if not await post.deliver([Notice("join", "", me)], lambda: known):
            raise Refused(f"can not connect to port: {post.port(known)}")
        await asyncio.wait([accepted], timeout=WALK_SECONDS)
        if accepted.done():
            return accepted.result()
    raise Refused("Nobody has answered the join request")


async def enter(
    arguments: Arguments, seeds: list[str], post: Post, stop: asyncio.Event
) -> Files | None:
    """Joins the ring of these members as soon as one of them is there."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ENTER_SECONDS
    while not stop.is_set():
        try:
            return await asyncio.to_thread(start, arguments.me, post, seeds)
        except (ringkv.RingTimeoutError, ringkv.RingConnectionError) as error:
            if loop.time() > deadline:
                raise Refused(f"can not enter the network: {error}") from None
    return None


def start(me: int, post: Post, seeds: list[str] | None) -> Files:
    """The node of this peer: in the ring of the seeds, or in a new one."""
    try:
        return ringkv.Node.start(
            name=str(me),
            listen=post.address(me),
            position=me << 56,
            join=seeds,
            partitions=PEERS,
            hash="integer",
            placement="successor",
            copies=3,
            value_bytes_max=FILE_BYTES_MAX,
            start_timeout=TRY_SECONDS,
            timeout=CALL_SECONDS,
        )
    except (ringkv.RingRefusedError, ringkv.RingOSError) as error:
        raise Refused(f"can not enter the network: {error}") from None


def is_ring(seeds: list[str]) -> bool:
    """Whether one of these is a member of a ring."""
    try:
        with ringkv.connect(seeds, timeout=TRY_SECONDS) as ring:
            return bool(ring.info().members)
    except ringkv.RingError:
        return False


if __name__ == "__main__":
    sys.exit(main())
