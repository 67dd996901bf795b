"""Every test of the method draws the same random numbers each time it runs, alone or among others."""

import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seeded() -> None:
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
