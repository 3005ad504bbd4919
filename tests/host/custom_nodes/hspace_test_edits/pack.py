"""What the test nodes take from the pack."""

import sys

from comfy_api.latest import io

TOKENS = io.Custom("HSPACE_TOKENMAP")


def pack_module(name: str):
    return next(module for key, module in sys.modules.items() if "HSpace" in key and key.endswith(f".{name}"))
