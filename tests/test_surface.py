"""What is importable is what is promised: no more, no less."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module

import pytest
import steadyscale
import steadyscale.core
import steadyscale.models


@pytest.mark.parametrize("package", [steadyscale.core, steadyscale.models], ids=lambda p: p.__name__)
def test_all_names_exist_and_explain_themselves(package):
    for name in package.__all__:
        thing = getattr(package, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("steadyscale"):
            assert inspect.getdoc(thing), f"{name} has no docstring"


def test_the_surface_of_core():
    assert sorted(steadyscale.core.__all__) == sorted(
        {
            "Alpha",
            "Border", "Clip", "ClipError", "ClipInfo", "Colour", "Correction", "Damage", "Encoding", "Finish",
            "FlowMethod", "FlowModel", "Frames", "ImageClip", "ImageModel", "Motion", "OnDamage", "Precision",
            "Reuse", "Smoothing", "Tally", "Target", "TensorClip", "Tiling", "Trajectory", "VideoClip", "Warped",
            "Window", "adaptive_zoom", "correction", "estimate_motion", "flow_model", "flow_picture", "framed",
            "inverse", "limit_zoom", "live", "load_path", "measure", "open_clip", "path_picture", "save_path",
            "smooth", "upscale", "warp", "with_rolling_shutter", "write_clip", "write_images", "write_video",
        }
    )  # fmt: skip


def test_type_checkers_see_the_names_where_programs_find_them():
    for node in ast.walk(ast.parse(inspect.getsource(steadyscale.core))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for name in node.names:
                assert steadyscale.core._HOMES[name.name] == node.module
                assert getattr(steadyscale.core, name.name) is getattr(
                    import_module(f"steadyscale.core.{node.module}"), name.name
                )


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sharpen'"):
        _ = steadyscale.core.sharpen


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert steadyscale.__version__ == version("steadyscale")
