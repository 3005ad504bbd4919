"""Prompts in this process, by the host's own executor: no server, every output at hand, any object on any socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import uuid
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from . import host

TEST_NODES = host.ROOT / "tests" / "host" / "custom_nodes"
_KEPT = 2000  # outputs of nodes that stay at hand from prompt to prompt


class NodeFailed(Exception):
    """A node raised, or the host refused the prompt.

    Attributes:
        kind: name of the exception's class, or ``refused``.
        node: id of the node in the prompt.
    """

    def __init__(self, kind: str, node: str, message: str):
        super().__init__(message)
        self.kind, self.node = kind, node


class _Server:
    """What the executor tells a server; kept for the tests."""

    client_id: str | None = "tests"
    last_node_id: str | None = None
    sockets_metadata: dict[str, Any]

    def __init__(self) -> None:
        from aiohttp import web

        self.events: list[tuple[str, Any]] = []
        self.sockets_metadata, self.routes = {}, web.RouteTableDef()
        self.node_replace_manager = import_module("app.node_replace_manager").NodeReplaceManager()

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        """An event."""
        if event != "progress_state":
            self.events.append((event, data))

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        """A line shown on a node."""
        self.events.append(("text", (node_id, text)))

    def add_on_prompt_handler(self, handler: Any) -> None:
        """Nobody posts prompts here."""


class Executor:
    """A ComfyUI inside of this process, with the pack and the nodes of the tests. One a process: the host is made of
    global state.

    Args:
        folder: base directory of the host: models, input and output lie in it.
    """

    def __init__(self, folder: Path):
        host.ensure_link()
        source = host.COMFYUI
        if str(source) not in sys.path:
            sys.path.insert(0, str(source))
        options = import_module("comfy.options")
        options.enable_args_parsing(False)
        arguments = import_module("comfy.cli_args").args
        arguments.cpu, arguments.base_directory, arguments.disable_api_nodes = True, str(folder), True
        for name in ("models", "input", "output", "temp", "custom_nodes"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        logging.getLogger().setLevel(logging.WARNING)
        self._execution = import_module("execution")
        self.server = _Server()
        import_module("server").PromptServer.instance = self.server
        self.nodes: ModuleType = import_module("nodes")
        # One loop for all prompts. asyncio.run would print every tensor of a prompt into the name of a signal handler.
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._load())
        gc.freeze()  # the host collects garbage at many loads; its own million objects need not be walked each time
        self.pack = next(name for name in sys.modules if name.endswith("ComfyUI-HSpace"))
        self._executor = self._execution.PromptExecutor(
            self.server,
            cache_type=self._execution.CacheType.LRU,
            cache_args={"lru": _KEPT, "ram": 0.0, "ram_inactive": 0.0},
        )

    async def _load(self) -> None:
        await self.nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
        for path in (host.LINK, *sorted(p for p in TEST_NODES.iterdir() if p.is_dir())):
            if not await self.nodes.load_custom_node(str(path), module_parent="custom_nodes"):
                raise RuntimeError(f"the host did not load {path}")

    @property
    def classes(self) -> dict[str, Any]:
        """Every node by its id."""
        return self.nodes.NODE_CLASS_MAPPINGS

    def module(self, name: str) -> ModuleType:
        """A module of the pack as the host has loaded it, such as ``nodes.host.model.run``."""
        return import_module(f"{self.pack}.{name}")

    def run(self, prompt: dict[str, dict], *wanted: str) -> list[tuple[Any, ...]]:
        """Run a prompt as far as the ``wanted`` nodes need it; what ran before with the same inputs does not run again.

        Returns:
            The outputs of each wanted node.

        Raises:
            NodeFailed: the host refused the prompt, or a node raised.
        """
        return self._loop.run_until_complete(self._run(prompt, wanted))

    async def _run(self, prompt: dict[str, dict], wanted: tuple[str, ...]) -> list[tuple[Any, ...]]:
        checked: dict[str, Any] = {}
        prompt = {
            name: dict(part) for name, part in prompt.items()
        }  # the host notes in it which files have not changed
        for name in wanted:
            good, errors, node = await self._execution.validate_inputs("check", prompt, name, checked)
            if not good:
                found = next((e for _, (ok, e, _) in checked.items() if not ok and e), errors)
                raise NodeFailed("refused", str(node), "; ".join(f"{e['message']}: {e['details']}" for e in found))
        self.server.events.clear()
        await self._executor.execute_async(prompt, uuid.uuid4().hex, {"client_id": "tests"}, list(wanted))
        for event, data in self._executor.status_messages:
            if event == "execution_error":
                raise NodeFailed(
                    data["exception_type"].rpartition(".")[2], data["node_id"], data["exception_message"].strip()
                )
            if event == "execution_interrupted":
                raise NodeFailed("interrupted", data["node_id"], "interrupted")
        entries = [await self._executor.caches.outputs.get(name) for name in wanted]
        return [tuple(values[0] for values in entry.outputs) for entry in entries]

    def forget(self) -> None:
        """Let every node run again, whatever ran before with the same inputs."""
        self._executor.reset()

    def call(self, kind: str, **inputs: Any) -> tuple[Any, ...]:
        """Call one node with objects of any sort, as the executor does, in inference mode; what it raises comes out as
        it is.
        """
        import torch

        node = self.classes[kind]
        with torch.inference_mode():
            if hasattr(node, "PREPARE_CLASS_CLONE"):
                return tuple(node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**inputs).result or ())
            return tuple(getattr(node(), node.FUNCTION)(**inputs))
