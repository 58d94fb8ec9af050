"""Every argument of the high-level API arrives where it has its effect: none is dropped, swapped or replaced."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered_video import numbered_frames
from recorded_calls import RecordedCalls
from steadyscale.core import (
    Border,
    ClipError,
    Encoding,
    OutputSize,
    PostProcess,
    StabilizeSettings,
    TensorClip,
    UpscaleSettings,
    enhance_video,
    stabilize_video,
    upscale_video,
)
from steadyscale.core.api import stabilize_live_video
from steadyscale.core.api.processing import _smoother_loader
from steadyscale.core.api.report import VideoReport
from steadyscale.core.api.run import VideoRun
from steadyscale.core.bars import FirstBars
from steadyscale.core.jobs.run import JobResult
from steadyscale.core.jobs.state.folder import default_job_folder
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.deflicker_op import DeflickerOp
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.upscale_operations import upscale_operations
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.smoothing.strength import Strength
from steadyscale.core.upscaling.settings import ColorCorrection, UpscaleStats
from steadyscale.core.video.decode.corruption_report import OnDamage
from steadyscale.core.video.decode.packets.demux import NO_PIXEL_LIMIT
from steadyscale.core.video.format.source_description import SourceDescription
from steadyscale.core.video.images.image_clip import ImageClip
from steadyscale.core.video.images.png_writer import write_images

API = "steadyscale.core.api"
COUNT = 3
ENCODING, DEVICE = Encoding("hevc", 30), "cuda:1"
SHARED: dict[str, Any] = {
    "encoding": ENCODING,
    "bits": 16,
    "fps": Fraction(50),
    "max_pixels": 4321,
    "on_damage": OnDamage.KEEP,
    "hwaccel": "auto",
    "device": DEVICE,
    "resumable": True,
    "job": "folder",
    "segment_seconds": 3.5,
    "progress": lambda _: None,
}
OWN: dict[Any, dict[str, Any]] = {
    upscale_video: {"model": "a model", "settings": UpscaleSettings(OutputSize(2)), "deflicker": 0.3},
    stabilize_video: {"settings": StabilizeSettings(seconds=2), "mask": torch.ones(1, 48, 64)},
    enhance_video: {
        "model": "a model",
        "upscaling": UpscaleSettings(OutputSize(2)),
        "stabilization": StabilizeSettings(seconds=2),
        "deflicker": 0.3,
        "mask": torch.ones(1, 48, 64),
    },
}
FUNCTIONS = pytest.mark.parametrize("function", OWN, ids=lambda function: function.__name__)


class Network:
    """A 2x network that no test runs."""

    scale, halo = 2, 0


@pytest.fixture
def clip() -> TensorClip:
    return TensorClip(numbered_frames(COUNT), Fraction(25))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, clip: TensorClip) -> RecordedCalls:
    """Recorders for all that the API calls, between its own arguments and its report."""
    recorded = RecordedCalls(monkeypatch)
    still = Correction(np.tile(np.eye(3), (COUNT, 1, 1)), [slice(0, COUNT)], clip.info)
    recorded.replace(f"{API}.run.check_hwaccel")
    recorded.replace(f"{API}.run.check_target")
    recorded.replace(f"{API}.run.open_clip", clip)
    recorded.replace(f"{API}.run.resolve_devices", "the device")
    recorded.replace(f"{API}.run.write_video", COUNT)
    recorded.replace(f"{API}.run.write_images", COUNT)
    recorded.replace(f"{API}.processing.measure_motion", Motion(still.matrices, np.arange(COUNT) / COUNT, clip.info))
    recorded.replace(f"{API}.processing.plan_stabilization", WarpOp(still, Border.MIRROR))
    recorded.replace("steadyscale.models.zoo.zoo.find_weights", "weights file")
    recorded.replace("steadyscale.models.load_upscaler", Network())
    recorded.replace("steadyscale.core.pipeline.upscale_operations.upscale_operations", (UpscaleOp(Network()),))
    return recorded


def call(function: Any, target: str = "out.mp4", **changes: Any) -> VideoReport:
    arguments = {**OWN[function], **SHARED, "resumable": False, "job": None, **changes}
    return function("in.mp4", target, **arguments)


@FUNCTIONS
def test_every_argument_has_a_value_here(function):
    optional = {name for name, p in inspect.signature(function).parameters.items() if p.default is not p.empty}
    assert optional == {*OWN[function], *SHARED}


@FUNCTIONS
def test_arguments_reach_source_and_target(function, calls):
    report = call(function)
    source, result = calls.all("open_clip")
    expected = {"path": "in.mp4", "fps": 50, "max_pixels": 4321, "on_damage": OnDamage.KEEP, "hwaccel": "auto"}
    assert source == {**source, **expected}
    assert (result["path"], result["max_pixels"], result["fps"]) == (Path("out.mp4"), NO_PIXEL_LIMIT, 25)
    assert calls.one("check_hwaccel") == {"name": "auto"}
    assert calls.one("check_target") == {"path": Path("out.mp4"), "encoding": ENCODING, "source": "in.mp4"}
    written = calls.one("write_video")
    assert (written["path"], written["encoding"]) == (Path("out.mp4"), ENCODING)
    assert calls.one("resolve_devices")["names"] == DEVICE
    assert (report.input, report.output, report.frames_out) == ("in.mp4", "out.mp4", COUNT)
    assert report.command == function.__name__.removesuffix("_video")


@FUNCTIONS
def test_images_have_the_requested_bits(function, calls):
    call(function, "folder")
    assert calls.one("write_images")["bits"] == 16


@FUNCTIONS
def test_checks_come_before_the_source_is_opened_and_work_after(function, calls):
    call(function)
    names = [name for name, _ in calls.calls]
    assert names[:3] == ["check_hwaccel", "check_target", "open_clip"]
    assert names[-2:] == ["write_video", "open_clip"]


@FUNCTIONS
@pytest.mark.parametrize("keep", [{"resumable": True}, {"job": "kept"}, {"resumable": True, "job": "kept"}])
def test_a_resumable_run_gets_its_folder_and_segments(function, calls, keep):
    job = object()
    calls.replace("steadyscale.core.jobs.state.folder.open_job", nullcontext(job))
    calls.replace("steadyscale.core.jobs.run.run_job", JobResult(7, 2, 1))
    report = call(function, **keep)
    assert calls.one("open_job")["folder"] == keep.get("job", default_job_folder("out.mp4"))
    assert calls.one("open_job")["source"] == "in.mp4"
    run = calls.one("run_job")
    assert (run["job"], run["target"], run["encoding"], run["segment_seconds"]) == (job, Path("out.mp4"), ENCODING, 3.5)
    assert not run["keep_files"]
    assert calls.all("write_video") == []
    assert (report.frames_in, report.frames_out) == (7, 7)
    if function is not upscale_video:
        measured = calls.one("measure_motion")
        assert (measured["job"], measured["segment_seconds"]) == (job, 3.5)


@pytest.mark.parametrize("function", [upscale_video, enhance_video])
def test_arguments_reach_the_network(function, calls):
    report = call(function)
    assert calls.one("find_weights")["name_or_path"] == "a model"
    assert calls.one("load_upscaler")["path"] == "weights file"
    operations = calls.one("upscale_operations")
    assert operations["settings"] == UpscaleSettings(OutputSize(2))
    assert (operations["deflicker"], operations["device"]) == (0.3, "the device")
    assert operations["stats"] is report.stats
    assert report.device == "the device"


class Named(Network):
    """A network of a name, as `load_upscaler` returns it."""

    def __init__(self, name: str) -> None:
        self.name = name


RESTORING = ("steadyscale-restore-2x", "steadyscale-restore-4x")
OTHERS = ("steadyscale-faithful-2x", "steadyscale-calm-4x", "steadyscale-2x", "mine.safetensors")


@pytest.mark.parametrize("function", [upscale_video, enhance_video])
@pytest.mark.parametrize("given", [str, Path, Named])
@pytest.mark.parametrize("name", [*RESTORING, *OTHERS])
def test_without_a_strength_restored_video_is_deflickered(function, given, name, calls):
    calls.replace("steadyscale.models.zoo.zoo.find_weights", Path("weights") / name)
    call(function, model=given(name), deflicker=None)
    assert calls.one("upscale_operations")["deflicker"] == (0.3 if name in RESTORING else 0)


@pytest.mark.parametrize(("factor", "name"), [(None, RESTORING[0]), (3, RESTORING[1])])
def test_without_a_model_the_default_network_decides(factor, name, calls):
    calls.replace("steadyscale.models.zoo.zoo.find_weights", Path("weights") / f"{name}.safetensors")
    call(upscale_video, model=None, settings=UpscaleSettings(OutputSize(factor)), deflicker=None)
    assert {row["name_or_path"] for row in calls.all("find_weights")} == {name}
    assert calls.one("upscale_operations")["deflicker"] == 0.3


@pytest.mark.parametrize("strength", [0.0, 0.05, 1.0])
def test_a_strength_counts_with_every_network(strength, calls):
    call(upscale_video, model=Named(RESTORING[0]), deflicker=strength)
    assert calls.one("upscale_operations")["deflicker"] == strength


def test_still_images_are_not_deflickered_unless_asked(calls, clip, tmp_path):
    write_images(tmp_path / "images", iter([numbered_frames(COUNT)]))
    for stills in (TensorClip(numbered_frames(1)), ImageClip(tmp_path / "images")):
        calls.replace(f"{API}.run.open_clip", stills)
        calls.calls.clear()
        call(upscale_video, model=Named(RESTORING[0]), deflicker=None)
        assert calls.one("upscale_operations")["deflicker"] == 0
        call(upscale_video, model=Named(RESTORING[0]), deflicker=0.3)
        assert calls.all("upscale_operations")[-1]["deflicker"] == 0.3


@pytest.mark.parametrize("function", [stabilize_video, enhance_video])
def test_arguments_reach_the_measuring(function, calls):
    report = call(function)
    measured, planned = calls.one("measure_motion"), calls.one("plan_stabilization")
    assert (
        measured["settings"] == planned["settings"] == StabilizeSettings(seconds=2, bars=FirstBars(0, 0, 0, 0))
    )  # none found
    assert measured["mask"] is OWN[function]["mask"]
    assert planned["load_smoother"] is not None
    assert planned["motion"].confidence.tolist() == [0, 1 / 3, 2 / 3]
    assert measured["job"] is None
    assert report.stabilization is not None
    assert report.stabilization.zoom_max == 1


@FUNCTIONS
def test_none_takes_the_default_settings(function, calls):
    defaults = {name: None for name in ("settings", "upscaling", "stabilization") if name in OWN[function]}
    call(function, **defaults)
    if function is not stabilize_video:
        assert calls.one("upscale_operations")["settings"] == UpscaleSettings()
    if function is not upscale_video:
        assert calls.one("plan_stabilization")["settings"] == StabilizeSettings(bars=FirstBars(0, 0, 0, 0))


@pytest.mark.parametrize(
    ("size", "factor"), [(OutputSize(), None), (OutputSize(3), 3), (OutputSize(size=(64, 144)), 3.0)]
)
def test_without_a_model_one_is_chosen_for_the_larger_factor(calls, size, factor):
    bundled = type("Bundled", (), {"name": "chosen"})()
    calls.replace("steadyscale.models.zoo.zoo.select_bundled", bundled)
    call(upscale_video, model=None, settings=UpscaleSettings(size))
    assert calls.one("select_bundled") == {"factor": factor}
    assert calls.one("find_weights")["name_or_path"] == "chosen"


def test_a_given_network_is_not_loaded(calls):
    network = Network()
    call(upscale_video, model=network)
    assert calls.one("upscale_operations")["model"] is network
    assert calls.all("load_upscaler") == []


def test_enhancing_measures_the_source_then_upscales_and_warps_last(calls, monkeypatch):
    written: list[tuple] = []
    monkeypatch.setattr(VideoRun, "write", lambda _, *args: written.append(args))
    operations = UpscaleOp(Network()), DeflickerOp()
    calls.replace("steadyscale.core.pipeline.upscale_operations.upscale_operations", operations)
    call(enhance_video)
    [(pipeline, stage, stats, report)] = written
    assert [type(operation) for operation in pipeline.operations] == [UpscaleOp, DeflickerOp, WarpOp]
    assert stage == "upscaling"
    assert stats is calls.one("upscale_operations")["stats"]
    assert calls.one("measure_motion")["clip"].info.size == (64, 48), "not the upscaled frames"
    assert report.cuts == []


def test_a_source_with_another_shape_than_the_result_is_refused_before_measuring(calls):
    operations = (UpscaleOp(Network(), UpscaleSettings(OutputSize(size=(100, 100)))),)
    calls.replace("steadyscale.core.pipeline.upscale_operations.upscale_operations", operations)
    with pytest.raises(ClipError, match="100x100 has another shape than 64x48"):
        call(enhance_video)
    assert calls.all("measure_motion") == calls.all("write_video") == []


def test_a_wrong_device_is_refused_before_the_network_is_loaded(calls):
    calls.replace(f"{API}.run.resolve_devices", ClipError("no such device"))
    with pytest.raises(ClipError, match="no such device"):
        call(upscale_video)
    assert calls.all("load_upscaler") == calls.all("write_video") == []


def test_grain_is_added_once_after_deflickering():
    post = PostProcess(0.5, ColorCorrection.MEAN, 0.25, linear_light=True)
    settings, stats, network = UpscaleSettings(OutputSize(3), postprocess=post), UpscaleStats(), Network()
    first, second = upscale_operations(network, settings, deflicker=0.4, device="cpu", stats=stats)
    assert isinstance(first, UpscaleOp)
    assert first.settings == UpscaleSettings(
        OutputSize(3), postprocess=PostProcess(0.5, ColorCorrection.MEAN, 0.0, linear_light=True)
    )
    assert isinstance(second, DeflickerOp)
    assert (second.strength, second.grain) == (0.4, 0.25)
    [alone] = upscale_operations(network, settings, device="cpu", stats=stats)
    assert alone.settings is settings
    for operation in (first, alone):
        assert (operation.model, operation.device, operation.stats) == (network, "cpu", stats)


def test_the_strongest_deflickering_is_accepted():
    assert upscale_operations(Network(), UpscaleSettings(), deflicker=1)[1].strength == 1


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_a_deflickering_strength_outside_0_to_1_is_refused(strength):
    with pytest.raises(ValueError, match="it goes from 0"):
        upscale_operations(Network(), UpscaleSettings(), deflicker=strength)


# -- live

LIVE_SETTINGS = StabilizeSettings(
    smoothing="kalman",
    seconds=1.5,
    border="mirror",
    max_zoom=1.7,
    flow="dis",
    strength=Strength(x=0.5),
    horizon=0.25,
    rolling_shutter=0.4,
)


class LiveSource:
    """A live source of numbered frames."""

    def __init__(self, clip: TensorClip) -> None:
        self.info, self.bit_depth, self._clip, self.stops = clip.info, 8, clip, []
        self.time, self.time_base, self.times = None, Fraction(1, 1000), "the timestamps"
        self.description = SourceDescription(metadata={"title": "A title"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def frames(self, stop):
        self.stops.append(stop)
        return self._clip.frames()


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch, clip: TensorClip):
    recorded = RecordedCalls(monkeypatch)
    source = LiveSource(clip)
    recorded.replace(f"{API}.live.check_target")
    recorded.replace(f"{API}.live.resolve_device")
    recorded.replace(f"{API}.live.open_live_source", source)
    recorded.replace(f"{API}.live.flow_model", "the flow")
    recorded.replace("steadyscale.core.warping.live.stream_motion", iter([]))
    recorded.replace("steadyscale.core.warping.live.stabilize_live", iter([]))
    recorded.replace(f"{API}.live.write_video", 5)
    recorded.replace(f"{API}.live.write_images", 6)
    recorded.replace(f"{API}.live.write_y4m", 7)
    return recorded, source


def test_arguments_of_a_live_run_arrive(live):
    recorded, source = live
    arguments: dict[str, Any] = {
        "settings": LIVE_SETTINGS, "look_ahead": 5, "encoding": ENCODING, "bits": 16, "max_pixels": 4321,
        "on_damage": OnDamage.KEEP, "device": DEVICE, "progress": None, "stop": lambda: True,
    }  # fmt: skip
    optional = {n for n, p in inspect.signature(stabilize_live_video).parameters.items() if p.default is not p.empty}
    assert optional == {*arguments}
    report = stabilize_live_video("camera", "out.mp4", **arguments)
    assert recorded.one("check_target") == {"path": "out.mp4", "encoding": ENCODING, "source": "camera"}
    assert recorded.one("resolve_device")["name"] == DEVICE
    opened = recorded.one("open_live_source")
    assert opened == {**opened, "name": "camera", "max_pixels": 4321, "on_damage": OnDamage.KEEP}
    assert source.stops == [arguments["stop"]]
    assert recorded.one("flow_model")["method"] is LIVE_SETTINGS.flow
    assert recorded.one("stream_motion")["flow"] == "the flow"
    stabilized = recorded.one("stabilize_live")
    assert stabilized == {
        **stabilized, "fps": 25, "seconds": 1.5, "look_ahead": 5, "max_zoom": 1.7, "border": Border.MIRROR,
        "smoother": None, "strength": Strength(x=0.5), "horizon": 0.25, "readout": 0.4,
    }  # fmt: skip
    written = recorded.one("write_video")
    assert (written["path"], written["encoding"], written["info"]) == ("out.mp4", ENCODING, source.info)
    assert (written["times"], written["description"]) == ("the timestamps", source.description)
    assert (report.command, report.input, report.output, report.frames_out) == ("stabilize", "camera", "out.mp4", 5)
    assert report.info.length == 5


def test_a_live_run_to_images_has_the_requested_bits(live):
    stabilize_live_video("camera", "folder", bits=16)
    assert live[0].one("write_images")["bits"] == 16


def test_a_live_run_to_stdout_checks_no_target(live, monkeypatch):
    monkeypatch.setattr("sys.stdout", type("Stdout", (), {"buffer": "pipe"})())
    report = stabilize_live_video("-", "-")
    assert live[0].all("check_target") == []
    assert live[0].one("write_y4m")["pipe"] == "pipe"
    assert report.frames_out == 7


def test_a_live_source_on_stdin_is_no_file_to_be_replaced(live):
    stabilize_live_video("-", "out.mp4")
    assert live[0].one("check_target")["source"] is None


@pytest.mark.parametrize(("value", "readout"), [("auto", 0.0), ("off", 0.0), (-0.3, -0.3)])
def test_live_only_a_stated_readout_is_corrected(live, value, readout):
    stabilize_live_video("camera", "out.mp4", settings=StabilizeSettings(rolling_shutter=value))
    assert live[0].one("stabilize_live")["readout"] == readout


def test_the_learned_smoother_is_loaded_only_for_learned(live):
    loaded = type("Loaded", (), {"make_controller": "a controller"})()
    live[0].replace("steadyscale.models.load_path_smoother", loaded)
    settings = StabilizeSettings(smoothing="learned", smoother="path.safetensors")
    stabilize_live_video("camera", "out.mp4", settings=settings)
    assert live[0].one("stabilize_live")["smoother"] == "a controller"
    assert live[0].one("load_path_smoother")["path"] == "path.safetensors"


def test_the_file_of_the_learned_smoother_is_loaded(monkeypatch):
    seen = []
    loaded = type("Loaded", (), {"make_smoother": lambda self, *size: seen.append(size) or (lambda path, period: path)})
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.models.load_path_smoother", loaded())
    settings = StabilizeSettings(smoothing="learned", smoother="path.safetensors", max_zoom=1.2)
    assert _smoother_loader(settings)(64, 48, 1.2)("values", 9) == "values"
    assert (calls.one("load_path_smoother")["path"], seen) == ("path.safetensors", [(64, 48, 1.2)])


@pytest.mark.parametrize(
    "settings",
    [{"smoothing": "gaussian"}, {"smoothing": "l1"}, {"border": "mirror", "pad": 4}, {"hold": "background"}],
)
def test_live_what_needs_the_whole_clip_is_refused_before_the_source_is_opened(live, settings):
    with pytest.raises(ClipError, match=r"needs the whole clip|cannot be padded|the whole frame is followed"):
        stabilize_live_video("camera", "out.mp4", settings=StabilizeSettings(**settings))
    assert live[0].all("open_live_source") == []
