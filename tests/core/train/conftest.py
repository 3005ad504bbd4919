"""What tests of training train on."""

import pytest


@pytest.fixture(scope="module")
def model(small):
    return small


@pytest.fixture(scope="module")
def path(small_trajectory):
    return small_trajectory
