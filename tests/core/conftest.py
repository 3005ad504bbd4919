"""Core tests run without the host: ``pytest tests/core --device cpu`` (or ``cuda``)."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device(request) -> torch.device:
    """Where tensors of this run live."""
    return torch.device(request.config.getoption("--device"))
