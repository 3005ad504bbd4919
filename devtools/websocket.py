"""A websocket client (RFC 6455) for the loopback: text and binary messages, ping, close; no TLS, no extensions."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_LARGEST = 1 << 28  # bytes; a preview is far below


class WebSocket:
    """An open connection; use as a context manager.

    Args:
        host: address of the server.
        port: its port.
        path: request path with its query.
        timeout: seconds that connecting, and later any single read, may take.

    Raises:
        ConnectionError: the server does not speak websocket here.
        OSError: it cannot be reached.
    """

    def __init__(self, host: str, port: int, path: str, timeout: float = 60):
        self._socket = socket.create_connection((host, port), timeout)
        self._buffer = bytearray()
        try:
            self._handshake(f"{host}:{port}", path)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, text: str) -> None:
        """Send a text message."""
        self._send(_TEXT, text.encode())

    def receive(self) -> str | bytes:
        """The next message, text or binary; answers pings on the way.

        Raises:
            TimeoutError: nothing came in time; the connection stays usable.
            ConnectionError: the server closed the connection.
        """
        kind, parts = _TEXT, []
        while True:
            final, opcode, payload = self._frame()
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode == _CLOSE:
                self.close()
                raise ConnectionError("the server closed the websocket")
            elif opcode in (_TEXT, _BINARY, _CONTINUATION):
                kind = opcode or kind
                parts.append(payload)
                if final:
                    message = b"".join(parts)
                    return message.decode() if kind == _TEXT else message

    def close(self) -> None:
        """Say goodbye and close; safe to call twice."""
        try:
            self._send(_CLOSE, b"")
        except OSError:
            pass  # the other side has gone already
        self._socket.close()

    def _handshake(self, authority: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        expected = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()  # noqa: S324 - the protocol's own
        if " 101 " not in f"{status} " or headers.get("sec-websocket-accept") != expected:
            raise ConnectionError(f"{authority} refused the websocket: {status}")

    def _frame(self) -> tuple[bool, int, bytes]:
        # Nothing leaves the buffer until the frame is complete: a timeout in the middle loses no byte.
        self._need(2)
        first, second = self._buffer[0], self._buffer[1]
        length, start = second & 0x7F, 2
        if length >= 126:
            form = "!H" if length == 126 else "!Q"
            start += struct.calcsize(form)
            self._need(start)
            (length,) = struct.unpack(form, self._buffer[2:start])
        if length > _LARGEST:
            raise ConnectionError(f"a websocket message of {length} bytes is too large")
        self._need(start + length)
        payload = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return bool(first & 0x80), first & 0x0F, payload

    def _need(self, size: int) -> None:
        while len(self._buffer) < size:
            self._fill()

    def _fill(self) -> None:
        block = self._socket.recv(1 << 16)
        if not block:
            raise ConnectionError("the server closed the connection")
        self._buffer += block

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = os.urandom(4)
        self._socket.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))
