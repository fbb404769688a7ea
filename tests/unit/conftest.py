"""Scenes that several files of unit tests look at."""

import pytest
import scjd_scene


@pytest.fixture(scope="session")
def scene():
    return scjd_scene.sparse_scene()


@pytest.fixture(scope="session")
def wide():
    return scjd_scene.dense_scene()
