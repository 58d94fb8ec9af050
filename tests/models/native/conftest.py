"""The native engine, built once for all of these tests."""

import pytest
import torch
from steadyscale.models.native import build, engine
from steadyscale.models.native.bindings import Library


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A cache folder of these tests' own, with the engine built in it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYSCALE_CACHE", str(folder))
        return folder, build()


@pytest.fixture(scope="module")
def cache(built):
    """The engine, which is also what the package finds meanwhile."""
    folder, path = built
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYSCALE_CACHE", str(folder))
        patch.delenv(engine.SWITCH, raising=False)
        yield path


@pytest.fixture(scope="module")
def library(cache):
    return Library(cache)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield
