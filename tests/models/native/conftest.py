"""The native engine, built once for all of these tests."""

import pytest
import torch
from steadyscale.models.native import build_library, engine
from steadyscale.models.native.bindings import NativeLibrary


@pytest.fixture(scope="session")
def built_engine(tmp_path_factory):
    """A cache folder of these tests' own, with the engine built in it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYSCALE_CACHE", str(folder))
        return folder, build_library()


@pytest.fixture(scope="module")
def engine_path(built):
    """The engine, which is also what the package finds meanwhile."""
    folder, path = built
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYSCALE_CACHE", str(folder))
        patch.delenv(engine.ENGINE_ENV_VAR, raising=False)
        yield path


@pytest.fixture(scope="module")
def library(cache):
    return NativeLibrary(cache)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield
