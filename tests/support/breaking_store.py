"""A network that breaks: a proxy that hangs up, or stalls, once enough bytes have passed."""

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class BreakingProxy:
    """Passes connections to `target` on, and cuts each after so many bytes of answers or of requests.

    With `stall` requests are held back instead of cut, until `go_on` is set. A context manager.
    """

    def __init__(
        self, target: str, *, after_bytes: int = 1 << 40, after_request_bytes: int = 1 << 40, stall: bool = False
    ) -> None:
        url = urlsplit(target)
        self._target = (url.hostname, url.port)
        self._after_bytes = after_bytes
        self._after_request_bytes = after_request_bytes
        self._stall = stall
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.broken = 0
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            _hang_up(connection)
        for thread in self._threads:
            thread.join(10)

    def _run(self, work, *args) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._open += [client, server]
            self._run(self._pass_requests, client, server)
            self._run(self._pass_answers, server, client)

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        left = self._after_request_bytes
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
                left -= len(data)
                if left <= 0 and not self._continue():
                    break
        _hang_up(client)
        _hang_up(server)

    def _continue(self) -> bool:
        if not self._stall:
            self.broken += 1
            return False
        self.stalled.set()
        self.go_on.wait()
        return True

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        left = self._after_bytes
        with suppress(OSError), server, client:
            while left and (data := server.recv(min(65536, left))):
                client.sendall(data)
                left -= len(data)
            self.broken += not left
            _hang_up(client)
            _hang_up(server)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
