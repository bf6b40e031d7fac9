"""A connection whose request is none, or does not arrive, is ended in a sentence and leaves nothing in the terminal."""

import contextlib
import socket
import threading
import time

import pytest
from callbacks import CALLBACKS

from pbb_probe.views.explorer import handler
from pbb_probe.views.explorer.app import make_server
from pbb_probe.views.explorer.explored import Explored


@pytest.fixture
def port(runs, monkeypatch):
    monkeypatch.setattr(handler, "READING", 0.5)
    server = make_server(Explored(runs / "whole"), port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def received(port: int, data: bytes, pause: float = 0.0) -> bytes:
    """What comes back on a connection that stays open, to bytes that are sent at once or one by one."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    with connection, contextlib.suppress(ConnectionError):
        for part in [data[i : i + 1] for i in range(len(data))] if pause else [data]:
            connection.sendall(part)
            time.sleep(pause)
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


POST = b"POST " + CALLBACKS.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET\r\n\r\n",
        b"\xff\xfe\x00\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://example.org/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\n\r\n",
        b"GET /\xff?\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        POST + b"Content-Length: 100\r\n\r\n{",
        POST + b"Content-Length: many\r\n\r\n{}",
        POST + b"Content-Length: 99999999\r\n\r\n" + b" " * 300_000,
        POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
    ids=lambda sent: str(sent[:40]),
)
def test_what_is_no_request_is_refused_in_a_sentence_too(port, capfd, sent):
    answer = received(port, sent)
    head, _, said = answer.rpartition(b"\r\n\r\n")
    assert not head or b" 4" in head.split(b"\r\n")[0] or b" 505 " in head.split(b"\r\n")[0]
    assert said.endswith(b".\n")
    assert said.count(b"\n") == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("sent", "pause"),
    [(b"", 0), (b"GET / HTTP/1.1\r\nHost: loc", 0), (b"GET / HTTP/1.1\r\nX: " + b"a" * 100, 0.05)],
    ids=["nothing", "half of it", "byte by byte"],
)
def test_a_request_that_does_not_arrive_is_not_waited_for(port, capfd, sent, pause):
    before, begun = threading.active_count(), time.monotonic()
    received(port, sent, pause)
    assert time.monotonic() - begun < 4
    time.sleep(0.2)
    assert threading.active_count() <= before
    assert capfd.readouterr() == ("", "")
