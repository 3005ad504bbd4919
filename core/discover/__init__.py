"""Directions of h from the Jacobian of the decoder half; called, it is :func:`core.api.discover`."""

import sys

from ..stage import Stage

sys.modules[__name__].__class__ = Stage
