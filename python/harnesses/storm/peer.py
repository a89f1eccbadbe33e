"""A peer without its user: its node, its two sockets, and what others ask of it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from dht import Dht, Role
from messages import Member, RefusedError, read_members, read_message, unpack
from protocol import PATIENCE, Address, Endpoint, NoAnswerError, Request, say
from walks import Walks

from ringkv import RingError

#: Seconds until a peer that does not answer another one is given up.
TELL_PATIENCE: Final = 2.0
END_PATIENCE: Final = 5.0


class Peer:
    """What a peer is and has. The user's commands run in the main thread, what others ask in
    threads of the endpoints."""

    def __init__(self, manager: Address, m_bound: socket.socket, p_bound: socket.socket) -> None:
        self.manager = manager
        self.to_manager = Endpoint(m_bound)
        self.to_peers = Endpoint(p_bound)
        self.walks = Walks(self.to_peers)
        self.name = ""  # until it is registered
        self.identifier: int | None = None
        self._dht: Dht | None = None
        self._changing = ""  # the command of the user that changes the DHT now
        self._lock = threading.RLock()  # held while the node is replaced
        self.to_manager.serve(self._on_manager, threads=2)
        self.to_peers.serve(self._on_peer, threads=4)

    def end(self) -> None:
        """Leaves in order, as far as that is possible now."""
        with contextlib.suppress(RefusedError, NoAnswerError):
            if self.name:
                self.ask(f"gone {self.name}", patience=1.0)
        with contextlib.suppress(RefusedError, RingError):  # the last ones cannot leave: they close
            self.dht.leave(END_PATIENCE)
        self.quit()
        self.to_manager.close()
        self.to_peers.close()

    # The node

    @property
    def dht(self) -> Dht:
        """The node, if there is one."""
        if self._dht is None:
            raise RefusedError("this peer is in no DHT")
        return self._dht

    def enter(self, role: Role) -> None:
        """Starts the node, in place of one that there may still be."""
        with self._lock:
            self.quit()
            self._dht = Dht(self.name, self.to_peers.address, role, self._on_missing)

    def quit(self) -> None:
        """Ends the node."""
        with self._lock:
            if self._dht is not None:
                self._dht.close()
            self._dht = self.identifier = None

    def report(self, members: list[Member]) -> None:
        """Prints how many records each member answers for."""
        counts = self.dht.counts()
        for at, member in enumerate(members):
            say(f"Peer ID: {at}, Record Count: {counts.get(member.name, 0)}")

    # What it asks others

    def ask(self, text: str, patience: float = PATIENCE) -> Any:
        """What the manager answers, after ``SUCCESS``."""
        return unpack(self.to_manager.request(self.manager, text, patience))

    def tell(self, messages: Iterable[tuple[Member, dict[str, Any]]]) -> None:
        """Tells members something, all at once, and waits until all have done it."""

        def tell(each: tuple[Member, dict[str, Any]]) -> None:
            member, message = each
            text = json.dumps({**message, "name": member.name})
            try:
                unpack(self.to_peers.request((member.ip, member.p_port), text, TELL_PATIENCE))
            except (NoAnswerError, RefusedError) as error:
                raise RefusedError(f"{member.name}: {error}") from None

        with ThreadPoolExecutor(max_workers=16) as pool:
            list(pool.map(tell, messages))

    @contextlib.contextmanager
    def change(self, command: str) -> Iterator[None]:
        """While this peer changes the DHT, it says so when the manager asks."""
        self._changing = command
        try:
            yield
        finally:
            self._changing = ""

    @contextlib.contextmanager
    def undone_if_it_fails(self) -> Iterator[None]:
        """Has the manager undo the change if what is done in here fails."""
        try:
            yield
        except (RingError, RefusedError) as error:
            with contextlib.suppress(RefusedError):
                self.ask(f"dht-failed {self.name}")
            raise RefusedError(str(error)) from error

    # What others ask

    def _on_manager(self, request: Request) -> None:
        if request.sender != self.manager:
            raise ValueError("you are not my manager")
        match request.text.split():
            case ["are-you", name, *change]:
                right = name == self.name and change in ([], [self._changing])
                request.answer("SUCCESS" if right else "FAILURE")
            case ["teardown"]:
                self.quit()
                request.answer("SUCCESS")
            case _:
                raise ValueError("unknown command")

    def _on_peer(self, request: Request) -> None:
        message = read_message(request.text)
        if message.get("name", self.name) != self.name:
            raise ValueError(f"this is not {message['name']}")
        try:
            if message["command"] == "find-event":
                self._find_event(request, message)
            else:
                self._obey(message)
                request.answer("SUCCESS")
        except (RingError, RefusedError) as error:
            request.answer(f"FAILURE {error}")

    def _obey(self, message: dict[str, Any]) -> None:
        match message["command"]:
            case "set-id":
                self.enter("standby")
                self._take_id(message["identifier"])
            case "reset-id":
                self._find_place(read_members(message["members"]))
                if self.identifier == 0:
                    self.report(read_members(message["members"]))
            case "teardown":
                self.quit()
            case "find-event-result":
                self.walks.come_home(message)

    def _find_event(self, request: Request, message: dict[str, Any]) -> None:
        """Answers from this peer's own node, or passes the question on."""
        dht = self.dht
        request.answer("SUCCESS")
        message["id_seq"] += [each[0] for each in message["I"] if each[1] == self.name]
        message["I"] = [each for each in message["I"] if each[1] != self.name]
        key = str(message["event_id"])
        record = dht.held(key)
        if record is None:
            if self.walks.pass_on(message):
                return
            # Nobody is left to ask. A record may have moved behind the walk, or those that hold it
            # did not answer: so the ring has the last word.
            try:
                record = dht.find(key)
            except RingError:
                return  # not known, which is not the same as not there: the asker tries again
        result = {
            "command": "find-event-result",
            "walk": message["walk"],
            "record": record,
            "id_seq": message["id_seq"],
        }
        with contextlib.suppress(NoAnswerError):
            self.to_peers.request(tuple(message["asker"]), json.dumps(result))

    def _on_missing(self, name: str) -> None:
        """The node misses a member. The manager finds out whether it is dead, and then the leader
        drops it from the ring, so that its copies are made anew at once."""
        if name == self.name:
            if not self._changing:
                say("the others have dropped this peer from the DHT")
                self.quit()
            return
        try:
            members = read_members(self.ask(f"peer-lost {self.name} {name}"))
            self._find_place(members)
            is_gone = name not in (member.name for member in members)
            if self.identifier == 0 and is_gone and self.dht.forget(name):
                say(f"{name} is lost; its records are not")
                self.report(members)
        except NoAnswerError:
            say("the manager does not answer")
        except (RefusedError, RingError):
            pass  # this peer is not in the DHT any more: others see to it

    def _find_place(self, members: list[Member]) -> None:
        for at, member in enumerate(members):
            if member.name == self.name:
                self._take_id(at)

    def _take_id(self, identifier: int) -> None:
        with self._lock:
            if self._dht is not None and identifier != self.identifier:
                self.identifier = identifier
                say(f"identifier: {identifier}, name: {self.name}")
