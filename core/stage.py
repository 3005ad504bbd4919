"""How the package is entered: nothing heavy is imported before a call, and a stage's package can itself be called."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

_NO_TORCH = (
    "hspace needs PyTorch, which is not installed with it because the right build depends on your device; follow"
    " https://pytorch.org/get-started/locally and try again"
)


def import_part(name: str) -> ModuleType:
    """Import a module of this package by its relative name, such as ``.api``.

    Raises:
        ModuleNotFoundError: something it needs is not installed; for PyTorch the message says where to get it.
    """
    try:
        return import_module(name, __package__)
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise ModuleNotFoundError(_NO_TORCH, name="torch") from error
        raise


class Stage(ModuleType):
    """A package that can be called: ``hspace.invert(...)`` runs :func:`core.api.invert`.

    The five calls of the library and the folders of the stages share their names. Were one to hide the other, it would
    depend on the order of imports which of them a program gets.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run the function of :mod:`core.api` that has this package's name."""
        return getattr(import_part(".api"), self.__name__.rpartition(".")[2])(*arguments, **options)
