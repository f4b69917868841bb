"""A proxy on loopback that passes HTTP on but refuses websockets, as some at facilities do."""

import contextlib
import socket
import threading


class ProxyWithoutWebsockets:
    """Stands before a port of this machine; `refused` counts the websockets that were asked for."""

    def __init__(self, port):
        self._target = port
        self.refused = 0
        self._open = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listening.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self._open.append(near)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        with contextlib.suppress(OSError):
            # A browser opens a connection of its own for each websocket, so its first request tells.
            first = near.recv(65536)
            if b"upgrade: websocket" in first.lower():
                self.refused += 1
                near.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                near.close()
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open.append(far)
            far.sendall(first)
            threading.Thread(target=_pass_on, args=(far, near), daemon=True).start()
            _pass_on(near, far)


def _pass_on(one, other):
    with contextlib.suppress(OSError):
        while piece := one.recv(65536):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)
