"""The ends of the lifeline: the main rank, which hears of all ranks, each of the others, and a rank alone."""

from __future__ import annotations

import secrets
import selectors
import socket
import time
from contextlib import suppress

from lockstep.launch.liveness.heartbeats import Heartbeat, Register
from lockstep.launch.liveness.lifeline import Connection, Lifeline, Message
from lockstep.launch.network import is_loopback

CONNECT_SECONDS = 10.0


class MainEnd(Lifeline):
    """The main rank's end."""

    def __init__(self, world_size: int, limit_seconds: float) -> None:
        super().__init__(0, limit_seconds)
        self.token = secrets.token_hex(8)
        """What the others must show: other programs may find the port."""
        self._server = _listen()
        self.port: int = self._server.getsockname()[1]
        self._register = Register(world_size=world_size, limit_seconds=limit_seconds)
        self._register.enter(0, self.node, time.monotonic())
        self._ranks: dict[Connection, int] = {}
        self._thread.start()

    def missing(self) -> list[int]:
        """The ranks that have not come."""
        return self._register.missing()

    def wait_for_all(self, seconds: float) -> bool:
        """Waits until all ranks have come or one has failed; whether that is so."""
        return self._wait(lambda: bool(self._failure) or not self.missing(), seconds)

    def exchange_addresses(self) -> str:
        """Lets the others continue once all have come. Returns this node's address towards another node."""
        addresses = [connection.channel.getsockname()[0] for connection in list(self._ranks)]
        address = next((each for each in addresses if not is_loopback(each)), "")
        for connection in list(self._ranks):
            connection.send(main_address=address)
        return address or next(iter(addresses), "")  # none, if all have failed since

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._wakes, selectors.EVENT_READ)
            next_beat, told = 0.0, ""
            while not self._is_closed:
                for key, _ in selector.select(self._beat_seconds):
                    if key.fileobj is self._server:
                        with suppress(OSError):
                            connection = Connection(self._server.accept()[0])
                            selector.register(connection.channel, selectors.EVENT_READ, connection)
                    elif key.fileobj is self._wakes:
                        with suppress(OSError):
                            self._wakes.recv(64)
                    elif not self._hear(key.data):
                        selector.unregister(key.fileobj)
                        key.data.channel.close()
                now, heartbeat = time.monotonic(), self.heartbeat()
                self._register.hear(0, heartbeat, now)
                was_suspended = self._was_suspended(now)
                self._look_at_itself(heartbeat, now)
                if self._own_failure:
                    break
                if was_suspended:
                    self._register.excuse(now)
                elif failure := self._register.verdict(now):
                    self._lose(failure)
                if self._failure != told or now >= next_beat:
                    self._broadcast(failed=self._failure)
                    told, next_beat = self._failure, now + self._beat_seconds
                self._end_if_due()
        self._broadcast(**({"failed": self._own_failure} if self._own_failure else {"bye": True}))
        self._end()
        self._end_if_it_stands_still()

    def _channels(self) -> list[socket.socket]:
        return [self._server, *(connection.channel for connection in self._ranks)]

    def _hear(self, connection: Connection) -> bool:
        """Takes what a rank says; whether its connection stays open."""
        messages = connection.receive()
        for message in messages or ():
            self._take(connection, message)
        rank = self._ranks.get(connection)
        if messages is not None and (rank is not None or not messages):
            return True
        if rank is not None:
            del self._ranks[connection]
            if rank in self._register.entries:
                name, heartbeat = self._register.name(rank), self._register.entries[rank].heartbeat
                self._lose(f"{name} has ended without a word; it was {heartbeat}")
        return False

    def _take(self, connection: Connection, message: Message) -> None:
        now = time.monotonic()
        if message.get("token") == self.token:
            rank = int(message["rank"])
            self._ranks[connection] = rank
            self._register.enter(rank, message["node"], now)
            self._notify()
        elif (rank := self._ranks.get(connection, -1)) < 0:
            return
        elif "failed" in message:
            self._lose(message["failed"])
        elif "bye" in message:
            self._register.leave(rank)
        else:
            self._register.hear(rank, Heartbeat(message["step"], message["activity"], message["done"]), now)

    def _broadcast(self, **message: object) -> None:
        for connection in list(self._ranks):
            connection.send(**message)


class OtherEnd(Lifeline):
    """The end of a rank that is not the main one."""

    def __init__(
        self, rank: int, limit_seconds: float, address: tuple[str, int], token: str, node: str
    ) -> None:
        """Raises OSError: the main rank, on the node and at the address named, cannot be reached."""
        channel = socket.create_connection(address, CONNECT_SECONDS)  # first: what fails has nothing to close
        super().__init__(rank, limit_seconds)
        self._connection = Connection(channel)
        self._connection.send(token=token, rank=rank, node=self.node)
        self._main = f"rank 0 on {node}"
        self._main_address: str | None = None
        self._thread.start()

    def wait_for_all(self, seconds: float) -> bool:
        """Waits until the main rank says that all ranks have come, or one has failed; whether that is so."""
        return self._wait(lambda: bool(self._failure) or self._main_address is not None, seconds)

    def exchange_addresses(self) -> str:
        """This node's address towards the others, once all have come."""
        own: str = self._connection.channel.getsockname()[0]
        return self._main_address or own if is_loopback(own) else own

    def _run(self) -> None:
        heard_at, next_beat = time.monotonic(), 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection.channel, selectors.EVENT_READ)
            selector.register(self._wakes, selectors.EVENT_READ)
            while not self._is_closed:
                for key, _ in selector.select(self._beat_seconds):
                    if key.fileobj is self._wakes:
                        with suppress(OSError):
                            self._wakes.recv(64)
                        continue
                    messages = self._connection.receive()
                    if messages is None:
                        selector.unregister(self._connection.channel)
                        self._lose(f"{self._main} has ended without a word")
                    for message in messages or ():
                        self._take(message)
                    heard_at = time.monotonic()
                now, heartbeat = time.monotonic(), self.heartbeat()
                was_suspended = self._was_suspended(now)
                self._look_at_itself(heartbeat, now)
                if self._own_failure:
                    break
                if was_suspended:
                    heard_at = now
                if now - heard_at >= self.limit_seconds:
                    limit = f"{self.limit_seconds:g} s (run.timeout_seconds)"
                    self._lose(f"{self._main} has given no sign of life for {limit}")
                if now >= next_beat:
                    self._connection.send(
                        step=heartbeat.step, activity=heartbeat.activity, done=heartbeat.done
                    )
                    next_beat = now + self._beat_seconds
                self._end_if_due()
        self._connection.send(**({"failed": self._own_failure} if self._own_failure else {"bye": True}))
        self._end()
        self._end_if_it_stands_still()

    def _channels(self) -> list[socket.socket]:
        return [self._connection.channel]

    def _take(self, message: Message) -> None:
        if message.get("failed"):
            self._lose(message["failed"])
        elif "bye" in message:
            # After a failure too, as the main rank's process ends. This one is then still to be ended.
            self._is_closed = not self._failure
        elif "main_address" in message:
            self._main_address = message["main_address"]
            self._notify()


class SoloEnd(Lifeline):
    """That of a rank without a connection: it is alone, or in a group that the program itself made."""

    def __init__(self, rank: int, limit_seconds: float) -> None:
        super().__init__(rank, limit_seconds)
        self._thread.start()

    def tell_failure(self, error: BaseException) -> str:
        """There is nobody to tell."""
        return ""

    def wait_for_all(self, seconds: float) -> bool:
        """There is nobody to wait for."""
        return True

    def exchange_addresses(self) -> str:
        """No address leads to a rank alone."""
        return ""

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakes, selectors.EVENT_READ)
            while not self._is_closed:
                selector.select(self._beat_seconds)
                now = time.monotonic()
                self._was_suspended(now)
                self._look_at_itself(self.heartbeat(), now)
                self._end_if_it_stands_still()

    def _channels(self) -> list[socket.socket]:
        return []


def _listen() -> socket.socket:
    """A server on any free port of all addresses of this machine."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    return socket.create_server(("", 0), backlog=4096)
