"""A client of ComfyUI's HTTP and websocket interface; knows nothing of this pack."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .websocket import WebSocket

Prompt = Mapping[str, Mapping[str, Any]]
Event = tuple[str, dict]

_FINAL = {"execution_success", "execution_error", "execution_interrupted"}


class PromptRefused(Exception):
    """The host did not accept the prompt; ``node_errors`` says which input of which node."""

    def __init__(self, reply: dict):
        self.reply = reply
        self.node_errors: dict[str, dict] = reply.get("node_errors") or {}
        error = reply.get("error") or {}
        lines = [f"{error.get('message', 'prompt refused')} {error.get('details', '')}".strip()]
        for node, found in self.node_errors.items():
            for one in found.get("errors", []):
                lines.append(f"{found.get('class_type')} (node {node}): {one.get('message')}: {one.get('details')}")
        super().__init__("\n".join(lines))


class ExecutionFailed(Exception):
    """A node raised; ``message`` is what it said, ``kind`` the exception's type."""

    def __init__(self, data: dict):
        self.data = data
        self.node_id, self.node_type = str(data.get("node_id")), data.get("node_type")
        self.kind, self.message = data.get("exception_type", ""), str(data.get("exception_message", "")).strip()
        super().__init__(f"{self.node_type} (node {self.node_id}): {self.kind}: {self.message}")


class Interrupted(Exception):
    """The prompt was cancelled."""


@dataclass
class Result:
    """What a finished prompt left.

    Args:
        prompt_id: the host's id.
        outputs: node id to its UI outputs (``images``, ``text``, ...).
        entry: the whole history entry.
        events: what the websocket said meanwhile, ``(type, data)``; previews as ``("binary", {"kind", "size"})``.
    """

    prompt_id: str
    outputs: dict[str, dict]
    entry: dict
    events: list[Event]

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose outputs were reused from an earlier prompt."""
        return {node for kind, data in self.events if kind == "execution_cached" for node in data["nodes"]}


class Client:
    """One client of one server.

    Args:
        url: ``http://127.0.0.1:<port>``.
        alive: called while waiting; raises when the server's process has ended.
    """

    def __init__(self, url: str, alive: Callable[[], None] | None = None):
        self.url = url.rstrip("/")
        self.id = uuid.uuid4().hex
        self.events: list[Event] = []
        self._alive = alive or (lambda: None)
        # Loopback only: a proxy of the environment must not see it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._socket: WebSocket | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the websocket, if one was opened."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def fetch(self, path: str) -> bytes:
        """GET anything, as bytes."""
        return self._open(path)

    def get(self, path: str, timeout: float = 60) -> Any:
        """GET a JSON document."""
        return json.loads(self._open(path, timeout=timeout) or b"null")

    def post(self, path: str, data: Any, timeout: float = 60) -> Any:
        """POST JSON, get JSON or None."""
        reply = self._open(path, json.dumps(data).encode(), {"Content-Type": "application/json"}, timeout)
        return json.loads(reply) if reply.strip() else None

    def object_info(self, node: str = "") -> dict:
        """The schemas of all nodes, or of one."""
        return self.get(f"/object_info/{urllib.parse.quote(node)}" if node else "/object_info", timeout=300)

    def upload(self, path: Path | str, name: str | None = None) -> str:
        """Upload a picture; returns the name that loader nodes take."""
        path = Path(path)
        filename, boundary = (name or path.name).replace('"', "_"), uuid.uuid4().hex
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode() + path.read_bytes()
        body += f"\r\n--{boundary}--\r\n".encode()
        reply = json.loads(
            self._open("/upload/image", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        )
        return f"{reply['subfolder']}/{reply['name']}" if reply.get("subfolder") else reply["name"]

    def view(self, file: Mapping[str, str]) -> bytes:
        """The content of an output file, given its entry (``filename``, ``subfolder``, ``type``)."""
        query = {name: file.get(name, "") for name in ("filename", "subfolder", "type")}
        return self._open(f"/view?{urllib.parse.urlencode(query)}")

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Cancel the running prompt."""
        self.post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def submit(self, prompt: Prompt) -> str:
        """Queue an API-format prompt; returns its id.

        Raises:
            PromptRefused: an input of some node is invalid. Nothing is left in the queue.
        """
        self._connect()
        body = {"prompt": prompt, "client_id": self.id}
        try:
            reply = self.post("/prompt", body)
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                refused = json.loads(text)
            except ValueError:
                refused = {"error": {"message": f"HTTP {error.code}", "details": text[:300].decode(errors="replace")}}
            raise PromptRefused(refused) from None
        if reply.get("node_errors"):
            # The host still runs the outputs that are valid; half a result is not what was asked for.
            self.post("/queue", {"delete": [reply["prompt_id"]]})
            self.interrupt(reply["prompt_id"])
            raise PromptRefused(reply)
        return reply["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 600, on_event: Callable[[str, dict], None] | None = None) -> Result:
        """Wait for a queued prompt.

        Raises:
            ExecutionFailed: a node raised.
            Interrupted: it was cancelled.
            TimeoutError: it did not finish in ``timeout`` seconds.
        """
        events: list[Event] = []
        deadline = time.monotonic() + timeout
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError(f"prompt {prompt_id} did not finish within {timeout:.0f} s")
            event = self._next_event()
            if event is None:
                continue
            kind, data = event
            if data.get("prompt_id") not in (prompt_id, None):
                continue
            events.append(event)
            if on_event:
                on_event(kind, data)
            if data.get("prompt_id") == prompt_id and kind in _FINAL:
                break
        if kind == "execution_error":
            raise ExecutionFailed(data)
        if kind == "execution_interrupted":
            raise Interrupted(f"prompt {prompt_id} was cancelled at node {data.get('node_id')}")
        entry = self._history(prompt_id)
        return Result(prompt_id, entry["outputs"], entry, events)

    def queue(
        self, prompt: Prompt, timeout: float = 600, on_event: Callable[[str, dict], None] | None = None
    ) -> Result:
        """Submit and wait; see both for what they raise."""
        return self.wait(self.submit(prompt), timeout, on_event)

    def _history(self, prompt_id: str) -> dict:
        # The last event is sent a moment before the entry is filed.
        for _ in range(100):
            found = self.get(f"/history/{prompt_id}")
            if prompt_id in found:
                return found[prompt_id]
            time.sleep(0.05)
        raise TimeoutError(f"the host filed no history for prompt {prompt_id}")

    def _connect(self) -> None:
        if self._socket is None:
            address = urllib.parse.urlsplit(self.url)
            self._socket = WebSocket(
                address.hostname or "127.0.0.1", address.port or 80, f"/ws?clientId={self.id}", timeout=2
            )

    def _next_event(self) -> Event | None:
        self._alive()
        self._connect()
        assert self._socket is not None  # noqa: S101 - connected on the line above
        try:
            message = self._socket.receive()
        except TimeoutError:
            return None
        except ConnectionError:
            self._socket = None
            # If the process ended, that is the cause to report.
            time.sleep(0.5)
            self._alive()
            raise
        if isinstance(message, bytes):
            event = ("binary", {"kind": int.from_bytes(message[:4], "big"), "size": len(message)})
        else:
            document = json.loads(message)
            event = (document["type"], document.get("data") or {})
        self.events.append(event)
        return event

    def _open(
        self, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> bytes:
        request = urllib.request.Request(self.url + path, data=data, headers=dict(headers or {}))
        with self._opener.open(request, timeout=timeout) as reply:
            return reply.read()
