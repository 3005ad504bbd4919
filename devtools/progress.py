"""A progress bar fed by the host's websocket events."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any


class ProgressBar:
    """Draws how far a prompt is; pass :meth:`on_event` to the client.

    In a terminal it redraws one line, elsewhere it prints a line for each node that starts.

    Args:
        prompt: the API-format prompt; its node titles are shown.
    """

    def __init__(self, prompt: Mapping[str, Mapping[str, Any]]):
        self._titles = {
            node: (entry.get("_meta") or {}).get("title") or entry["class_type"] for node, entry in prompt.items()
        }
        self._done: dict[str, float] = {}
        self._current = ""
        self._started = time.monotonic()
        self._live = sys.stdout.isatty()

    def on_event(self, kind: str, data: dict) -> None:
        """Take one event of the websocket."""
        if kind == "execution_cached":
            self._done |= dict.fromkeys(data["nodes"], 1.0)
        elif kind == "executing" and data.get("node"):
            self._start(data.get("display_node") or data["node"])
        elif kind == "progress_state":
            for node, state in data["nodes"].items():
                share = 1.0 if state.get("state") == "finished" else state["value"] / max(state["max"], 1)
                self._done[state.get("display_node_id") or node] = share
        elif kind == "execution_success":
            self._done = dict.fromkeys(self._titles, 1.0)
            self._current = ""
        else:
            return
        if self._live:
            self._draw()

    def close(self) -> None:
        """Leave the line."""
        if self._live:
            print(flush=True)

    def _start(self, node: str) -> None:
        title = self._titles.get(node, node)
        if title != self._current and not self._live:
            print(f"  {self._share():4.0%} {time.monotonic() - self._started:5.0f} s  {title}", flush=True)
        self._current = title

    def _share(self) -> float:
        return sum(self._done.get(node, 0.0) for node in self._titles) / max(len(self._titles), 1)

    def _draw(self) -> None:
        columns = shutil.get_terminal_size().columns
        filled = round(30 * self._share())
        line = (
            f"  [{'#' * filled}{'.' * (30 - filled)}] {self._share():4.0%} {time.monotonic() - self._started:4.0f} s "
            f" {self._current}"
        )
        print("\r" + line[: columns - 1].ljust(columns - 1), end="", flush=True)
