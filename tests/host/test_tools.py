"""The stdlib tools that everything in this folder stands on: websocket, stamps, links, benchmark bars."""

import hashlib
import json
import os
import socket
import struct
import threading

import pytest

from benchmarks import _report
from devtools import console, demo, host
from devtools.websocket import WebSocket

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Peer:
    """A websocket server for one connection, driven frame by frame."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ready = threading.Thread(target=self._accept)
        self.ready.start()

    def _accept(self):
        import base64

        self.socket, _ = self.listener.accept()
        head = self.socket.recv(4096)
        key = next(
            line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        # The first frame follows in the same packet as the handshake.
        reply = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.socket.sendall(reply + self.frame(0x1, b"hello"))

    @staticmethod
    def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
        size = len(payload)
        length = (
            bytes([size])
            if size < 126
            else b"\x7e" + struct.pack("!H", size)
            if size < 65536
            else b"\x7f" + struct.pack("!Q", size)
        )
        return bytes([(0x80 if final else 0) | opcode]) + length + payload

    def send(self, data: bytes):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()
        self.listener.close()


@pytest.fixture
def connection():
    peer = Peer()
    client = WebSocket("127.0.0.1", peer.port, "/ws", timeout=0.3)
    peer.ready.join()
    yield client, peer
    client.close()
    peer.close()


def test_websocket_reads_messages_of_every_length(connection):
    client, peer = connection
    assert client.receive() == "hello"
    for size in (0, 125, 126, 65535, 65536, 300_000):
        payload = os.urandom(size)
        threading.Thread(target=peer.send, args=(peer.frame(0x2, payload),)).start()
        assert client.receive() == payload


def test_websocket_joins_fragments_and_answers_pings_between_them(connection):
    client, peer = connection
    client.receive()
    peer.send(peer.frame(0x1, b"one ", final=False) + peer.frame(0x9, b"there?") + peer.frame(0x0, b"two"))
    assert client.receive() == "one two"
    pong = peer.socket.recv(100)
    assert pong[0] == 0x8A and bytes(byte ^ pong[2 + i % 4] for i, byte in enumerate(pong[6:])) == b"there?"


def test_websocket_loses_nothing_when_a_read_times_out_in_a_frame(connection):
    client, peer = connection
    client.receive()
    data = peer.frame(0x1, b"slow message")
    peer.send(data[:5])
    with pytest.raises(TimeoutError):
        client.receive()
    peer.send(data[5:])
    assert client.receive() == "slow message"


def test_websocket_says_when_the_server_closes(connection):
    client, peer = connection
    client.receive()
    peer.send(peer.frame(0x8, b""))
    with pytest.raises(ConnectionError):
        client.receive()


def test_failed_step_tells_step_cause_and_remedy():
    with pytest.raises(console.StepFailed) as caught:
        console.run("try", ["a-program-that-does-not-exist"], remedy="Install it.")
    report = caught.value.report()
    assert "FAILED  try" in report and "a-program-that-does-not-exist" in report and "remedy  Install it." in report


def test_torn_stamp_counts_as_not_done(tmp_path):
    stamp = tmp_path / "step.json"
    console.write_stamp(stamp, {"key": "abc"})
    assert console.read_stamp(stamp) == {"key": "abc"}
    stamp.write_text('{"key": "ab')
    assert console.read_stamp(stamp) == {}


def test_pack_is_linked_part_by_part():
    host.ensure_link()
    linked = {entry.name for entry in host.LINK.iterdir()}
    assert {"__init__.py", "core", "nodes"} <= linked <= set(host.PARTS)
    assert (host.LINK / "core" / "schedule.py").samefile(console.ROOT / "core" / "schedule.py")
    assert not (host.LINK / ".host").exists()


@pytest.mark.parametrize(
    ("value", "op", "target", "met"),
    [
        (0.5, "<=", 0.5, True),
        (0.51, "<=", 0.5, False),
        (34.0, ">=", 34, True),
        (True, "==", True, True),
        (float("nan"), "<=", 1, False),
        (None, "==", True, False),
    ],
)
def test_bars(value, op, target, met):
    assert _report.meets({"name": "x", "value": value, "op": op, "target": target}) is met


def test_benchmark_results_make_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(_report, "RESULTS", tmp_path / "results")
    figures = {"rows": [{"region": "mouth", "leak": 0.123456}, {"region": "eyes", "leak": float("nan")}]}
    _report.write("try", figures, [_report.bar("leak", 0.123456, "<=", 0.1)])
    stored = json.loads(_report.path_of("try").read_text())
    assert set(stored) == {"command", "commit", "machine", "figures", "bars"}
    assert _report.check(["try", "absent"]) == [
        ("try", stored["bars"][0]),
        ("absent", {"name": "stored results", "value": None, "op": "==", "target": True}),
    ]
    text = _report.table("try")
    assert "| mouth | 0.1235 |" in text and "| leak | 0.1235 | <= 0.1 | **no** |" in text
    with pytest.raises(ValueError, match="op of bar"):
        _report.bar("leak", 1.0, "<", 2.0)


def test_measurement_becomes_a_table():
    table = demo.as_table([{"direction": "mouth 1", "inside": 0.25}, {"direction": "eyes 1", "outside": 1e-6}])
    assert table.splitlines() == [
        "| direction | inside | outside |",
        "|---|---|---|",
        "| mouth 1 | 0.25 |  |",
        "| eyes 1 |  | 1e-06 |",
    ]
