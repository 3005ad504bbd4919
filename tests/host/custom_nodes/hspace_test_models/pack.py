"""What the test nodes take from the pack."""

import sys


def pack_module(name: str):
    return next(module for key, module in sys.modules.items() if "HSpace" in key and key.endswith(f".{name}"))
