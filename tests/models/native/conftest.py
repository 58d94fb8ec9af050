"""Fixtures for tests of the native engine, which is built once per run of the tests."""

import os

import pytest
import torch
from filelock import FileLock
from steadyscale.models.native import build_library, engine
from steadyscale.models.native.bindings import NativeLibrary


@pytest.fixture(scope="session")
def built_engine(tmp_path_factory):
    """(cache folder of these tests, path of the library built in it)."""
    # Workers have folders of their own, side by side in that of the run.
    has_workers = "PYTEST_XDIST_WORKER" in os.environ
    folder = (
        tmp_path_factory.getbasetemp().parent / "native_engine" if has_workers else tmp_path_factory.mktemp("cache")
    )
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
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
