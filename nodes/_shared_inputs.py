"""Inputs that several nodes have, with their defaults, ranges and common tooltips."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from comfy_api.latest import io
from torch import Tensor

from ..core.crop.border import Border
from ..core.hold import Hold, Region, RegionMask
from ..core.lens import LENSES, MAX_FOV, Lens, LensDetection, parse_lens
from ..core.motion.camera.readout_time import RollingShutter
from ..core.motion.camera.telemetry import Telemetry
from ..core.motion.estimate import WORKING_SIDE
from ..core.motion.optical_flow.flow import FlowMethod
from ..core.smoothing.mesh_smooth import MeshWarp
from ..core.smoothing.smooth import Smoothing
from ..core.smoothing.strength import AXIS_LABELS
from ..core.stabilize import StabilizeSettings
from ..core.upscaling.settings import OutputSize, Precision, UpscaleSettings
from ..models.zoo.bundled import DEFAULT_2X, DEFAULT_4X, MAX_FACTOR_2X
from ._comfy.adapter import combo_options

_AXIS_NAMES = {"x": "horizontal", "y": "vertical", "roll": "rotation", "zoom": "zoom", "tilt": "tilt"}
STABILIZE_DEFAULTS, UPSCALE_DEFAULTS = StabilizeSettings(), UpscaleSettings()
ROLLING_SHUTTER = RollingShutter(STABILIZE_DEFAULTS.rolling_shutter).value


class HoldSettings(NamedTuple):
    """The values of `hold_inputs`, as fields of `StabilizeSettings`."""

    hold: Hold
    region: Region | RegionMask | None
    hold_strength: float


# -- clip


def fps_input(tooltip: str) -> io.Input:
    return io.Float.Input("fps", default=24.0, min=1.0, max=1000.0, step=0.01, tooltip=tooltip)


def resumable_input() -> io.Input:
    return io.Boolean.Input(
        "resumable",
        default=False,
        optional=True,
        tooltip="For a VIDEO from a file: keep finished parts in ComfyUI's output folder (steadyscale_jobs), so that "
        "after a crash, a kill or a cancel the same graph goes on where it stopped. They go when the result is saved, "
        "and take as much room as that meanwhile.",
    )


# -- motion


def flow_method_input() -> io.Input:
    return io.Combo.Input(
        "method",
        options=combo_options(FlowMethod),
        default=STABILIZE_DEFAULTS.flow.value,
        tooltip="How motion is measured. farneback: everywhere, the most exact on most footage. dis: the same, faster, "
        "and better where the frame has little texture (walls, sky). tracks: follows corners, the fastest; its "
        "flow image is dis's.",
    )


def detail_input(tooltip: str) -> io.Input:
    return io.Int.Input(
        "detail", display_name="analysis resolution", default=WORKING_SIDE, min=64, max=4096, step=16, tooltip=tooltip
    )


def frame_number_input(tooltip: str) -> io.Input:
    return io.Int.Input("frame", display_name="frame number", default=0, min=0, max=10_000_000, tooltip=tooltip)


def pad_input(tooltip: str) -> io.Input:
    return io.Int.Input("pad", display_name="padding", default=0, min=0, max=4096, tooltip=tooltip)


def mask_input() -> io.Input:
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="White is not looked at: people and whatever else moves on its own. One mask for each frame, or one "
        "for all.",
    )


def rolling_shutter_input() -> io.Input:
    return io.Combo.Input(
        "rolling_shutter",
        options=combo_options(RollingShutter),
        default=ROLLING_SHUTTER,
        optional=True,
        tooltip="Most cameras expose a frame row by row, so their shake also slants and wobbles the frame. auto: "
        "straightens that where the motion clearly shows it, and leaves all other clips as they are. off: never.",
    )


def lens_inputs() -> list[io.Input]:
    """The lens by name, and its field of view, which takes precedence."""
    return [
        io.Combo.Input(
            "lens",
            options=[*LensDetection, *LENSES],
            default=LensDetection.AUTO.value,
            optional=True,
            tooltip="Of a wide camera: turns frames along the rays of its lens, so that their edges do not wobble. "
            "auto: where the motion clearly shows a fisheye. off: never. Or the camera that recorded the clip.",
        ),
        io.Float.Input(
            "field_of_view",
            display_name="field of view [degrees]",
            default=0.0,
            min=0.0,
            max=MAX_FOV,
            step=0.5,
            optional=True,
            tooltip="Horizontal field of view of a fisheye, if it is known: it is used instead of lens. "
            "0: as lens says.",
        ),
    ]


def parse_lens_inputs(lens: str, field_of_view: float) -> LensDetection | Lens:
    """The lens that the values of `lens_inputs` stand for."""
    return parse_lens(field_of_view or lens)


def telemetry_input() -> io.Input:
    return io.Combo.Input(
        "telemetry",
        options=combo_options(Telemetry),
        default=STABILIZE_DEFAULTS.telemetry.value,
        optional=True,
        tooltip="For a VIDEO from a file of an action camera: auto uses the camera's gyroscope, which the file holds, "
        "where it agrees with the motion of the frames. It needs the package telemetry-parser. off: the frames alone.",
    )


# -- stabilization


def smoothing_inputs() -> list[io.Input]:
    """Smoother, its time constant, and the zoom budget."""
    return [
        io.Combo.Input(
            "smoothing",
            options=combo_options(Smoothing),
            default=Smoothing(STABILIZE_DEFAULTS.smoothing).value,
            tooltip="kalman: looks at past and future; the best choice. kalman-causal: at the past only, as a "
            "live camera must; lags. gaussian: a plain weighted mean. locked: as if on a tripod. l1: stands "
            "still, moves evenly or speeds up evenly, as a dolly does, and never needs more than max_zoom. whittaker: "
            "the exact least-squares curve, nearly the same as kalman. learned: a small network that smooths as "
            "whittaker does and gives way early and gently where max_zoom leaves no room.",
        ),
        io.Float.Input(
            "seconds",
            display_name="smoothing window [s]",
            default=STABILIZE_DEFAULTS.seconds,
            min=0.05,
            max=60.0,
            step=0.05,
            tooltip="Swings of the camera quicker than this are taken for shake and removed. More is steadier and "
            "costs more of the frame's edges.",
        ),
        max_zoom_input(
            "The most that cropping may zoom in, 1.3 = 30 %. Where the shake needs more, less of it is removed."
        ),
    ]


def max_zoom_input(tooltip: str) -> io.Input:
    default = STABILIZE_DEFAULTS.max_zoom
    return io.Float.Input("max_zoom", default=default, min=1.0, max=4.0, step=0.01, tooltip=tooltip)


def strength_inputs() -> list[io.Input]:
    """The share of the shake that is removed, per axis, and the level horizon."""
    strengths: list[io.Input] = [
        io.Float.Input(
            f"strength_{axis}",
            display_name=f"{_AXIS_NAMES[axis]} strength",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip=f"How much of the shake {way} is removed: 1 all of it, 0 none.",
        )
        for axis, way in AXIS_LABELS.items()
    ]
    horizon = io.Float.Input(
        "horizon",
        display_name="horizon lock",
        default=STABILIZE_DEFAULTS.horizon,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=True,
        tooltip="Keeps the frame level: 1 holds the roll still for the whole shot, 0 follows slow turns. "
        "Level is how the shot is mostly held; with locked, how the reference frame is.",
    )
    return [*strengths, horizon]


def keyframes_input() -> io.Input:
    return io.String.Input(
        "keyframes",
        default="",
        multiline=True,
        optional=True,
        tooltip="Changes over time: a JSON list of entries with time, in seconds, and strength (0 to 1), max_zoom "
        "(with crop-adaptive) or center (of the crop, such as [0.4, 0.5]). Values go smoothly from one entry to the "
        "next. Empty: none. The help page has an example.",
    )


def mesh_input() -> io.Input:
    return io.Combo.Input(
        "mesh",
        display_name="mesh warp",
        options=combo_options(MeshWarp),
        default=STABILIZE_DEFAULTS.mesh.value,
        optional=True,
        tooltip="Bends the frame where one movement of the whole frame cannot hold it still: near and far things that "
        "shake differently, or swimming textures of generated video. auto: only in shots that it makes steadier. off: "
        "never.",
    )


def hold_inputs() -> list[io.Input]:
    """What is held, and the region of a subject."""
    return [
        io.Combo.Input(
            "hold",
            options=combo_options(Hold),
            default=STABILIZE_DEFAULTS.hold.value,
            optional=True,
            tooltip="What is held still. auto: the region if there is one, otherwise what most of the frame shows. "
            "background: what is far away. foreground: what is near and moves most. region: a subject that is followed "
            "through its shot. All but auto without a region read the clip once more.",
        ),
        io.String.Input(
            "region",
            default="",
            optional=True,
            tooltip="The subject to hold: a box around it in the first frame, left, top, width and height in pixels, "
            "such as 300,120,96,140. A fifth number is the frame, counted from 0: 300,120,96,140,25.",
        ),
        io.Float.Input(
            "hold_strength",
            display_name="hold strength",
            default=STABILIZE_DEFAULTS.hold_strength,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip="With a region: 1 follows the subject, 0 the background; between, the two are mixed.",
        ),
        io.Mask.Input(
            "region_mask",
            display_name="region mask",
            optional=True,
            tooltip="The subject to hold, instead of a box: white is the subject. One mask of the first frame, or one "
            "for each frame, black where the subject is not seen.",
        ),
    ]


def parse_hold(hold: str, region: str, hold_strength: float, region_mask: Tensor | None) -> HoldSettings:
    """The settings that the values of `hold_inputs` stand for.

    A region is ignored where the background or the foreground is held.
    """
    choice, subject = Hold(hold), None
    if choice in (Hold.AUTO, Hold.REGION):
        if region_mask is not None:
            subject = RegionMask(region_mask)
        elif region.strip():
            subject = Region.parse(region)
    return HoldSettings(choice if subject is None else Hold.REGION, subject, hold_strength)


def border_input(tooltip: str, default: Border = STABILIZE_DEFAULTS.border) -> io.Input:
    return io.Combo.Input(
        "border", display_name="border mode", options=combo_options(Border), default=default.value, tooltip=tooltip
    )


# -- upscaling


def model_input() -> io.Input:
    return io.UpscaleModel.Input(
        "upscale_model",
        optional=True,
        tooltip="From Load ESRGAN Model or Load Upscale Model. Without one, the bundled network is used: "
        f"{DEFAULT_2X.name}, or {DEFAULT_4X.name} for results of more than {MAX_FACTOR_2X:g} times the size.",
    )


class ResizeTo(str, Enum):
    """How the size of the result is chosen."""

    MODEL = "model scale"
    FACTOR = "factor"
    SIZE = "size"


def size_inputs(size_note: str = "") -> list[io.Input]:
    """The size of the result; size_note: an addition to the tooltip."""
    return [
        io.Combo.Input(
            "resize_to",
            options=combo_options(ResizeTo),
            default=ResizeTo.MODEL.value,
            tooltip="model scale: what the network gives (a 4x model upscales 4 times). factor and size: the network's "
            f"result, resized to exactly that{size_note}.",
        ),
        io.Float.Input(
            "factor",
            default=2.0,
            min=0.1,
            max=16.0,
            step=0.05,
            tooltip="For resize_to = factor: times each side.",
        ),
        io.Int.Input("width", default=1920, min=1, max=32768, tooltip="For resize_to = size, in pixels."),
        io.Int.Input("height", default=1080, min=1, max=32768, tooltip="For resize_to = size, in pixels."),
    ]


def parse_output_size(resize_to: str, factor: float, width: int, height: int) -> OutputSize:
    """The output size that the values of `size_inputs` stand for."""
    choice = ResizeTo(resize_to)
    if choice is ResizeTo.FACTOR:
        return OutputSize(factor=factor)
    return OutputSize(size=(width, height)) if choice is ResizeTo.SIZE else OutputSize()


def tile_input(tooltip: str) -> io.Input:
    return io.Int.Input("tile", display_name="tile size", default=0, min=0, max=8192, step=32, tooltip=tooltip)


def precision_input(tooltip: str) -> io.Input:
    default = UPSCALE_DEFAULTS.precision.value
    return io.Combo.Input("precision", options=combo_options(Precision), default=default, tooltip=tooltip)
