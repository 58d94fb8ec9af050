"""What is importable is what is promised: no more, no less."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import steadyscale
import steadyscale.core
import steadyscale.models


@pytest.mark.parametrize("package", [steadyscale.core, steadyscale.models], ids=lambda p: p.__name__)
def test_all_exported_names_exist_and_have_docstrings(package):
    for name in package.__all__:
        thing = getattr(package, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("steadyscale"):
            assert inspect.getdoc(thing), f"{name} has no docstring"


def test_the_surface_of_core():
    assert sorted(steadyscale.core.__all__) == sorted(
        {
            "Alpha", "BarDetection", "Bars", "Border", "Clip", "ClipError", "ClipInfo", "ColorCorrection", "Correction",
            "CorruptionReport", "Encoding", "Engine", "FlowMethod", "FlowModel", "Frames", "Hold", "ImageClip",
            "ImageModel", "JobPlan", "Keyframe", "Lens", "LensDetection", "MeasureReport", "MeshWarp", "Motion",
            "OnDamage", "OutputSize", "Pipeline", "PostProcess", "Precision", "Progress", "Region", "RegionMask",
            "Reuse", "RollingShutter", "ShardReport", "Smoothing", "StabilizeSettings", "Strength", "Telemetry",
            "TensorClip", "Tiling", "TimeRange", "Trajectory", "UpscaleSettings", "UpscaleStats", "VideoClip",
            "VideoReport", "Warped", "adaptive_zoom", "correction", "enhance_video", "estimate_motion", "flow_model",
            "flow_to_image", "inverse", "join_job", "limit_zoom", "load_path", "measure_job", "open_clip",
            "parse_keyframes", "plan_job", "plan_stabilization", "plot_trajectory", "read_keyframes", "run_shard",
            "save_path", "smooth", "stabilize_live", "stabilize_video", "stream_motion", "upscale", "upscale_video",
            "warp", "with_border_zoom", "with_rolling_shutter", "write_clip", "write_images", "write_video",
        }
    )  # fmt: skip


@pytest.mark.parametrize("old", steadyscale.core.DEPRECATED_NAMES)
def test_deprecated_names_still_work_and_warn(old):
    new = steadyscale.core.DEPRECATED_NAMES[old]
    with pytest.warns(DeprecationWarning, match=f"steadyscale.core.{old} is now steadyscale.core.{new}"):
        assert getattr(steadyscale.core, old) is getattr(steadyscale.core, new)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="sharpen"):
        _ = steadyscale.core.sharpen


def test_the_root_has_the_high_level_functions():
    assert {name: getattr(steadyscale, name) for name in steadyscale.__all__} == {
        name: getattr(steadyscale.core, name)
        for name in (
            "enhance_video",
            "join_job",
            "measure_job",
            "plan_job",
            "run_shard",
            "stabilize_video",
            "upscale_video",
        )
    }
    assert set(steadyscale.__all__) < set(dir(steadyscale))
    with pytest.raises(AttributeError, match="sharpen"):
        _ = steadyscale.sharpen


def test_importing_the_root_imports_nothing_else():
    code = "import sys, steadyscale; sys.exit(str([m for m in ('torch', 'numpy', 'av', 'cv2') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert steadyscale.__version__ == version("steadyscale")
