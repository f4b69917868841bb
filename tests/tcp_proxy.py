"""A small TCP proxy on loopback, whose connections can be cut."""

import contextlib
import socket
import threading


class Proxy:
    """Passes on what comes to a port of its own to another one of this machine."""

    def __init__(self, port):
        self._target = port
        self._open = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Cut all connections, as a cable that is pulled; new ones may be made. Return how many there were."""
        cut, self._open = self._open, []
        for each in cut:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        return len(cut) // 2

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listening.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one, other):
    with contextlib.suppress(OSError):
        while piece := one.recv(65536):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)
