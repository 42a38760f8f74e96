"""Run the viewer's server until it is interrupted."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from offbragg.errors import InputError
from offbragg.viewer.app import build_server
from offbragg.viewer.collection import Collection

_LOOPBACK = "127.0.0.1"


@dataclass
class ViewerServer:
    """A server on the loopback address of this machine, and nowhere else.

    Attributes
    ----------
    url : str
        Address of the page, the token in it.
    """

    url: str
    _server: uvicorn.Server
    _socket: socket.socket

    @classmethod
    def bind(cls, collection: Collection, port: int = 0) -> ViewerServer:
        """Take a port, any free one where it is 0.

        Raises
        ------
        InputError
            If the port is not free.
        """
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((_LOOPBACK, port))
        except (OSError, OverflowError) as error:
            bound.close()
            raise InputError(f"port {port} cannot be used: {error}") from None
        taken = bound.getsockname()[1]
        token = secrets.token_urlsafe(16)
        hosts = frozenset({f"{_LOOPBACK}:{taken}", f"localhost:{taken}"})
        config = uvicorn.Config(
            build_server(collection, token, hosts),
            log_level="warning", lifespan="off", server_header=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        return cls(f"http://{_LOOPBACK}:{taken}/{token}/", uvicorn.Server(config), bound)

    def run(self, *, on_start: Callable[[str], None]) -> None:
        """Serve until interrupted; ``on_start`` gets the address when pages are answered."""
        watcher = threading.Thread(target=self._tell, args=(on_start,), daemon=True)
        watcher.start()
        # Ctrl-C is how a person ends it, and no failure.
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run([self._socket])

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True

    def _tell(self, on_start: Callable[[str], None]) -> None:
        pause = threading.Event()
        while not self._server.started:
            if self._server.should_exit or pause.wait(0.02):
                return
        on_start(self.url)


def open_browser(url: str) -> None:
    """Show a page in the person's browser, if there is one."""
    webbrowser.open(url)
