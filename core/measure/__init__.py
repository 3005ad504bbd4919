"""What an edit changed, in numbers and in pictures; called, it is :func:`core.api.measure`."""

import sys

from ..stage import Stage

sys.modules[__name__].__class__ = Stage
