"""Scenes and a browser that several files of unit tests use."""

import headless
import pytest
import scjd_scene


@pytest.fixture(scope="session")
def scene():
    return scjd_scene.sparse_scene()


@pytest.fixture(scope="session")
def wide():
    return scjd_scene.dense_scene()


@pytest.fixture(scope="session")
def page():
    """A page of a browser, which a test opens its file in."""
    if headless.CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with headless.chromium() as opened:
        yield opened
