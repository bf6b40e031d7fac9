"""One connection to the server: its request is there within some seconds, or the connection is closed."""

import io
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from werkzeug.serving import WSGIRequestHandler

READING = 20.0
"""Seconds in which a request must have arrived, all of it."""
WRITING = 300.0
"""Seconds in which an answer must be taken."""


class Handler(WSGIRequestHandler):
    """Answers a request in silence: a line each is of no use to who looks at a run."""

    error_message_format, error_content_type = "%(message)s.\n", "text/plain;charset=utf-8"

    def setup(self) -> None:
        """Read by the clock."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_InTime(self.connection))

    def run_wsgi(self) -> None:
        """Answer by the application, unless the address is none."""
        try:
            urlsplit(self.path)
        except ValueError:  # such as a bracket that is never closed
            self.send_error(400, "The address cannot be read")
            return
        super().run_wsgi()

    def log_request(self, *_: Any) -> None:
        """Requests are not written down."""

    def log(self, *_: Any) -> None:
        """Nor are refusals; defects of the application are, by the server."""


class _InTime(io.RawIOBase):
    """What arrives at a socket until a deadline. One byte now and then does not put it off."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._end = connection, time.monotonic() + READING

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(WRITING)
