"""Lets CUDA builds of torchvision and torchaudio be imported beside a CPU build of torch.

Copied into ``.venv`` and named in a ``.pth`` file, only where the plain imports were seen to fail. It costs nothing
until one of the two packages is imported. ComfyUI imports both, and uses neither's compiled parts for this pack's
nodes.
"""

import importlib.abc
import importlib.machinery
import sys


class _Finder(importlib.abc.MetaPathFinder):
    """Steps in just before the two modules that look for CUDA libraries are loaded."""

    _library = None

    def find_spec(self, fullname, path=None, target=None):
        """Declare torchvision's operators, and stand in for torchaudio's loader of compiled code."""
        del path, target
        if fullname == "torchvision" and self._library is None:
            import torch

            # torchvision registers fake kernels for these at import and fails if nobody has declared them.
            self._library = torch.library.Library("torchvision", "DEF")
            self._library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self._library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        elif fullname == "torchaudio._extension":
            return importlib.machinery.ModuleSpec(fullname, _NoExtension(), is_package=True)
        return None


class _NoExtension(importlib.abc.Loader):
    """``torchaudio._extension`` as it is when no compiled library was built."""

    def create_module(self, spec):
        """Use an ordinary module."""
        del spec

    def exec_module(self, module):
        """Define the names that torchaudio reads from it."""

        def refuse(*args, **kwargs):
            raise RuntimeError("torchaudio's compiled library needs CUDA, which the installed torch does not have.")

        vars(module).update(
            _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=lambda function: refuse
        )
        module.__path__ = []


sys.meta_path.insert(0, _Finder())
