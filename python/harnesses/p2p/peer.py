"""A peer that is part of the network: its pings, the notices that walk, and the commands."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, Final, TypeVar

import ringkv
from neighbours import Neighbours
from post import BATCH, PEERS, Notice, Post, is_file_name
from storage import LEAVE_SECONDS, Files, leave_ring, receive_file, store_file
from terminal import say, typed_lines

HELP: Final = """store NNNN    stores NNNN.pdf of this directory, or a small text if there is none
request NNNN  fetches it into received_NNNN.pdf
status        shows the successors, the predecessor and the files of this peer
quit          leaves the network in order"""

FORWARDED: Final = {
    "join": "Peer {peer} Join request forwarded to my successor",
    "store": "Store {file} request forwarded to my successor",
    "request": "Request for File {file} has been received, but the file is not stored here",
}

#: How long the successors that ``init`` names may take to come.
FORM_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 3.0
ANSWER_TRIES: Final = 5
LOST_PINGS: Final = 3
#: Bounds: commands under way, threads for them, notices that wait for the successor.
COMMANDS: Final = 64
THREADS: Final = 8
OUTBOX: Final = 4096
FILES_SHOWN: Final = 20
#: The kinds of events that can change who is a neighbour of whom.
MEMBERSHIP: Final = ("joined", "leaving", "left", "up", "down", "away", "lagged")

T = TypeVar("T")


class Peer:
    """One peer. Everything but ``_watch`` and ``_read`` runs in the event loop."""

    def __init__(
        self, me: int, awaited: list[int], interval: float, ring: Files, post: Post
    ) -> None:
        self.me = me
        self.neighbours = Neighbours(me, set(awaited), self._say_news)
        self._interval = interval
        self._ring = ring
        self._post = post
        self._leaving = self._lost = False
        self._losses: Counter[int] = Counter()
        self._outbox: asyncio.Queue[Notice] = asyncio.Queue(OUTBOX)
        self._tickets = itertools.count()
        self._answers: dict[tuple[str, int], asyncio.Future[Notice]] = {}
        self._stores: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(COMMANDS)
        self._commands: set[asyncio.Task[None]] = set()
        self._errands: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(THREADS)
        self._loop = asyncio.get_running_loop()

    # Life

    async def live(self, stop: asyncio.Event) -> bool:
        """Until the user or a signal stops it; then leaves. Whether that went in order."""
        self._stop = stop
        self._post.on_ping = lambda peer: say(f"Ping request message received from Peer {peer}")
        self._post.on_notices = self._hear
        for work in (self._watch, self._read):
            threading.Thread(target=work, daemon=True).start()
        self._loop.call_later(FORM_SECONDS, self.neighbours.stop_awaiting)
        tasks = [asyncio.create_task(self._carry()), asyncio.create_task(self._ping_successors())]
        await stop.wait()
        stop.clear()
        leave = asyncio.create_task(self._leave())
        again = asyncio.create_task(stop.wait())
        await asyncio.wait([leave, again], return_when=asyncio.FIRST_COMPLETED)
        # Ends the calls that are under way, too, which is what a second signal is meant to do.
        self._ring.close()
        in_order = await leave
        for task in (again, *tasks, *self._commands, *self._errands):
            task.cancel()
        self._threads.shutdown()
        return in_order

    async def _leave(self) -> bool:
        """Ends what was begun, lets the others have the files of this peer, and leaves."""
        self._leaving = True
        if self._lost:
            return False
        if self._commands:
            await asyncio.wait(self._commands, timeout=LEAVE_SECONDS)
        try:
            if not await self._call(leave_ring, self._ring, str(self.me)):
                say("this was the last peer, the files are gone with it")
        except ringkv.RingError as error:
            say(f"can not leave in order, the others will notice: {error}")
            return False
        # What comes from now on finds another way, what has come is brought on its way.
        self._post.on_notices = lambda notices: False
        await asyncio.wait([asyncio.create_task(self._outbox.join())], timeout=ANSWER_SECONDS)
        return True

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Calls what blocks, in another thread."""
        return await self._loop.run_in_executor(self._threads, function, *arguments)

    def _run_errand(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    # Neighbours

    def _watch(self) -> None:
        """Follows who is in the ring, in a thread of its own."""
        peers = {self._post.address(peer): peer for peer in range(PEERS)}

        def look() -> None:
            members = self._ring.info().members
            states = {peers[m.node.address]: m.state for m in members if m.node.address in peers}
            self._loop.call_soon_threadsafe(self.neighbours.learn, states)

        events = self._ring.events()  # before the first look, so that nothing happens in between
        try:
            look()
            for event in events:
                if event.kind in MEMBERSHIP:
                    look()
        except RuntimeError:  # the loop has ended
            pass
        except ringkv.RingError as error:
            if not self._leaving:
                self._loop.call_soon_threadsafe(self._lose_ring, error)

    def _lose_ring(self, error: ringkv.RingError) -> None:
        say(f"this peer is not part of the network any more: {error}")
        self._lost = True
        self._stop.set()

    def _say_news(self, line: str) -> None:
        if not self._leaving:
            say(line)

    # Pings

    async def _ping_successors(self) -> None:
        await self.neighbours.formed.wait()
        while True:
            both = dict.fromkeys((self.neighbours.first, self.neighbours.second))
            successors = [peer for peer in both if peer != self.me]
            if successors:
                numbers = " and ".join(map(str, successors))
                say(f"Ping requests sent to {'Peers' if successors[1:] else 'Peer'} {numbers}")
            for peer in {*successors, *self.neighbours.silent}:
                self._run_errand(self._ping(peer))
            await asyncio.sleep(self._interval)

    async def _ping(self, peer: int) -> None:
        neighbours = self.neighbours
        if await self._post.ping(peer, min(1.0, self._interval)):
            self._losses[peer] = 0
            say(f"Ping response received from Peer {peer}")
            if peer in neighbours.silent:
                neighbours.silent.discard(peer)
                neighbours.update()
            return
        self._losses[peer] += 1
        # Mostly the ring has noticed a death long before.
        if self._losses[peer] >= LOST_PINGS and neighbours.is_up(peer):
            neighbours.silent.add(peer)
            neighbours.update()

    # Notices

    async def _send_off(self, notice: Notice) -> None:
        """Sends a notice on its walk. Half of every outbox is left to what walks already: without
        that, full outboxes all around the circle could wait for each other."""
        while self._outbox.qsize() >= OUTBOX // 2:
            await asyncio.sleep(0.01)
        self._outbox.put_nowait(notice)

    async def _carry(self) -> None:
        """Brings what walks to the first successor, as much as there is at a time."""
        while True:
            batch = [await self._outbox.get()]
            while len(batch) < BATCH and not self._outbox.empty():
                batch.append(self._outbox.get_nowait())
            await self._deliver(batch, lambda: self.neighbours.first)
            for _ in batch:
                self._outbox.task_done()

    async def _tell(self, peer: int, notice: Notice) -> None:
        await self._deliver([notice], lambda: peer)

    async def _deliver(self, notices: list[Notice], to: Callable[[], int]) -> None:
        if not await self._post.deliver(notices, to):
            say(f"can not connect to port: {self._post.port(to())}")

    def _hear(self, notices: list[Notice]) -> bool:
        if self._outbox.qsize() + len(notices) > OUTBOX or len(self._errands) > OUTBOX:
            return False
        for notice in notices:
            self._take(notice)
        return True

    def _take(self, notice: Notice) -> None:
        what, file, peer, ticket = notice
        match what:
            case "join" if self.neighbours.is_next(peer):
                say(f"Peer {peer} Join request received")
                self.neighbours.welcomed.add(peer)
                self._run_errand(self._tell(peer, Notice("accepted", "", self.me)))
            case "store" if self.neighbours.owns(file):
                say(f"Store {file} request accepted")
            case "request" if self.neighbours.owns(file):
                self._run_errand(self._serve(notice))
            case "join" | "store" | "request":
                say(FORWARDED[what].format(peer=peer, file=file))
                self._outbox.put_nowait(notice)
            case "found" | "absent" if (file, ticket) in self._answers:
                answer = self._answers[file, ticket]
                if not answer.done():
                    answer.set_result(notice)
            case "received":
                say("The file has been sent")

    async def _serve(self, request: Notice) -> None:
        """Answers a request whose walk ends here."""
        file = request.file
        try:
            found = await self._call(self._ring.__contains__, file.encode())
        except ringkv.RingError as error:  # the asker will ask again
            say(f"File {file} can not be read now: {error}")
            return
        if found:
            say(f"File {file} is stored here")
            say(f"Sending file {file} to Peer {request.peer}")
        else:
            say("There is no such file")
        answer = Notice("found" if found else "absent", file, self.me, request.ticket)
        await self._tell(request.peer, answer)

    # Commands

    def _read(self) -> None:
        """Takes what the user types, in a thread of its own. The end of the input is not the end of
        the peer, which may run in the background."""
        for line in typed_lines():
            command = self._obey(line)
            try:
                asyncio.run_coroutine_threadsafe(command, self._loop).result()
            except (CancelledError, RuntimeError):  # the peer has left meanwhile
                command.close()
                return

    async def _obey(self, line: str) -> None:
        match line.lower().split():
            case ["store", file] if is_file_name(file):
                earlier = self._stores.get(file)
                self._stores[file] = await self._begin(self._store(file, earlier))
            case ["request", file] if is_file_name(file):
                await self._begin(self._request(file, self._stores.get(file)))
            case ["store" | "request", *_]:
                say("invalid file name")
            case ["status"]:
                await self._begin(self._show_status())
            case ["help"]:
                say(HELP)
            case ["quit"]:
                self._stop.set()
            case [_, *_]:
                say("Command invalid")

    async def _begin(self, command: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a command beside others, as soon as not too many are under way."""
        await self._slots.acquire()
        task = asyncio.create_task(command)
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        task.add_done_callback(lambda _: self._slots.release())
        return task

    async def _store(self, file: str, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:  # of the same file: the later one is to stay
            await asyncio.wait([earlier])
        try:
            await self._call(store_file, self._ring, file)
        except (OSError, ringkv.RingError) as error:
            say(f"File {file} can not be stored: {error}")
            return
        say(FORWARDED["store"].format(file=file))
        await self._send_off(Notice("store", file, self.me))

    async def _request(self, file: str, store: asyncio.Task[None] | None) -> None:
        if store is not None:  # typed before this
            await asyncio.wait([store])
        say(f"File request for {file} has been sent to my successor")
        answer = await self._ask_around(file)
        if answer is None:
            say(f"No peer has answered the request for File {file}")
            return
        if answer.what == "absent":
            say("There is no such file")
            return
        say(f"Peer {answer.peer} had File {file}")
        say(f"Receiving File {file} from Peer {answer.peer}")
        try:
            digest = await self._call(receive_file, self._ring, file)
        except (OSError, ringkv.RingError) as error:
            say(f"File {file} can not be received: {error}")
            return
        say(f"File {file} received")
        say(f"SHA-256 of received_{file}.pdf: {digest}")
        await self._tell(answer.peer, Notice("received", file, self.me))

    async def _ask_around(self, file: str) -> Notice | None:
        """Sends a request on its walk; again, if no answer comes because a peer has died."""
        question = (file, next(self._tickets))
        answer: asyncio.Future[Notice] = self._loop.create_future()
        self._answers[question] = answer
        try:
            for _ in range(ANSWER_TRIES):
                await self._send_off(Notice("request", file, self.me, question[1]))
                await asyncio.wait([answer], timeout=ANSWER_SECONDS)
                if answer.done():
                    return answer.result()
            return None
        finally:
            del self._answers[question]

    async def _show_status(self) -> None:
        try:
            member = (await self._call(self._ring.info)).member(str(self.me))
            keys: list[bytes] = await self._call(list, self._ring.scan_keys())
        except (ringkv.RingError, KeyError) as error:
            say(f"the ring can not be asked: {error}")
            return
        names = (key.decode(errors="replace") for key in keys)
        files = sorted(name for name in names if is_file_name(name) and self.neighbours.owns(name))
        say(f"Peer {self.me} on port {self._post.port(self.me)}")
        say(f"My first successor is Peer {self.neighbours.first}")
        say(f"My second successor is Peer {self.neighbours.second}")
        say(f"My predecessor is Peer {self.neighbours.predecessor}")
        more = " ..." if len(files) > FILES_SHOWN else ""
        say(f"Files of mine: {len(files)}  {' '.join(files[:FILES_SHOWN])}{more}".rstrip())
        say(f"Copies of files of others: {member.keys_held - member.keys}")
