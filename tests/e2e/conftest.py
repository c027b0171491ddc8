import os, sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from plant import Plant  # noqa: E402



@pytest.fixture(scope="session")
def plant():
    with Plant() as running:
        yield running


@pytest.fixture(scope="session")
def key(plant):
    return plant.key()


@pytest.fixture(scope="session")
def client(plant, key):
    return plant.openai(key)
