"""Run the command from a checkout, or under ``torchrun -m``."""

from . import main

main()
