"""Fixtures for tests of the native engine, which is built once per session."""

import pytest
import torch
from steadyscale.models.native import build_library, engine
from steadyscale.models.native.bindings import NativeLibrary


@pytest.fixture(scope="session")
def built_engine(tmp_path_factory):
    """(cache folder of these tests, path of the library built in it)."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYSCALE_CACHE", str(folder))
        return folder, build_library()


@pytest.fixture(scope="module")
def engine_path(built_engine):
    """Path of the built library, in the cache folder that the package uses during the test."""
    folder, path = built_engine
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYSCALE_CACHE", str(folder))
        patch.delenv(engine.ENGINE_ENV_VAR, raising=False)
        yield path


@pytest.fixture(scope="module")
def library(engine_path):
    return NativeLibrary(engine_path)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield
