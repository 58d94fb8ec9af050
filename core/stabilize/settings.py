"""Settings of stabilization."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..bars import BarDetection, Bars
from ..clip import ClipError
from ..crop.border import Border
from ..hold import Hold, Region, RegionMask
from ..lens import Lens, LensDetection, parse_lens
from ..motion.camera.readout_time import RollingShutter
from ..motion.camera.telemetry import Telemetry
from ..motion.optical_flow.flow import FlowMethod
from ..smoothing.keyframes import Keyframe, check_keyframes, has_value
from ..smoothing.mesh_smooth import MeshWarp
from ..smoothing.smooth import Smoother, Smoothing
from ..smoothing.strength import Strength


@dataclass(frozen=True)
class StabilizeSettings:
    """How a clip is stabilized; the defaults are those of the CLI and the nodes.

    smoothing: how the camera's path is smoothed: a `Smoothing`, its value ("kalman"), or a function, see `Smoother`.
    seconds: camera movements with a shorter period are removed; above 0.
    border: what fills the area that a moved frame leaves empty. The crops zoom in until it is out of view.
    max_zoom: the largest magnification of a crop, 1 or more (1.3 is 30 %); where the shake needs more, less of it is
    removed.
    flow: how motion between frames is measured.
    strength: the share of the shake that is removed, per axis, each 0 to 1.
    horizon: how much of the slow roll is removed as well, 0 to 1.
    rolling_shutter: AUTO detects the readout time, OFF ignores it, and a number is the share of the frame time between
    the exposure of the first and of the last row, -1 to 1.
    reference: `Smoothing.LOCKED` only: number of the frame whose view is held, from 0; None holds a median view.
    pad: pixels added to each side of the frame; 0 for the crops.
    bars: black bars around the image, which stay in place: AUTO detects those of each shot; NONE takes them for a
    part of the image, and so does a pad; or `Bars`.
    smoother: `Smoothing.LEARNED` only: the file of its network, from `train_path_net`; None takes the bundled one.
    keyframes: strength, max_zoom and center of the crop over time, see `Keyframe`; `read_keyframes` reads a file.
    A zoom over time needs CROP_ADAPTIVE, a center any crop.
    mesh: AUTO bends frames with a mesh where it leaves less shake than a homography, in scenes with depth, whose lines
    stay straight, and where textures swim; OFF never does. Live, with a lens, and where something else than AUTO is
    held, there is no mesh.
    lens: of a wide camera, whose frames are then turned along rays, so that their edges do not wobble. AUTO detects a
    fisheye; OFF takes the frames as they are; or a `Lens`, one of `LENSES` by name, or a horizontal field of view in
    degrees, 1 to 300.
    telemetry: AUTO uses the gyroscope in a file of an action camera, where it correlates with the motion of the frames.
    What else than AUTO is held is then measured relative to the camera that it shows.
    hold: what is held: AUTO the motion of most of the frame, BACKGROUND or FOREGROUND one layer, REGION a subject, see
    `hold_motion`. All but AUTO read the clip once more, and need OpenCV.
    region: the subject to hold, a `Region` or `RegionMask`; REGION only. hold_strength: REGION only, how much of the
    subject's own motion is followed, 0 (that of the background alone) to 1.
    Raises ClipError for a value outside its range, ValueError for a name that is no member of its enum.
    """

    smoothing: Smoothing | Smoother = Smoothing.KALMAN
    seconds: float = 4.0
    border: Border = Border.CROP
    max_zoom: float = 1.3
    flow: FlowMethod = FlowMethod.FARNEBACK
    strength: Strength = field(default_factory=Strength)
    horizon: float = 0.0
    rolling_shutter: RollingShutter | float = RollingShutter.AUTO
    reference: int | None = None
    pad: int = 0
    bars: BarDetection | Bars = BarDetection.AUTO
    smoother: str | Path | None = None
    keyframes: tuple[Keyframe, ...] = ()
    mesh: MeshWarp = MeshWarp.AUTO
    lens: LensDetection | Lens | float | str = LensDetection.AUTO
    telemetry: Telemetry = Telemetry.OFF
    hold: Hold = Hold.AUTO
    region: Region | RegionMask | None = None
    hold_strength: float = 1.0

    def __post_init__(self) -> None:
        values: dict[str, object] = {"border": Border(self.border), "flow": FlowMethod(self.flow)}
        values |= {"mesh": MeshWarp(self.mesh), "hold": Hold(self.hold)}
        if not callable(self.smoothing):
            values["smoothing"] = Smoothing(self.smoothing)
        if isinstance(self.rolling_shutter, str):
            values["rolling_shutter"] = RollingShutter(self.rolling_shutter)
        if isinstance(self.bars, str):
            values["bars"] = BarDetection(self.bars)
        values |= {"keyframes": check_keyframes(self.keyframes)}
        values |= {"lens": parse_lens(self.lens), "telemetry": Telemetry(self.telemetry)}
        for name, value in values.items():
            object.__setattr__(self, name, value)  # frozen: strings become members of their enum here and nowhere else
        if self.smoother is not None and self.smoothing is not Smoothing.LEARNED:
            name = getattr(self.smoothing, "value", "a function")
            raise ClipError(
                f"smoother is {self.smoother}, and smoothing is {name}; such a file is for 'learned': choose that, or "
                "leave the file out"
            )
        if not self.seconds > 0:
            raise ClipError(f"seconds is {self.seconds}; smoothing needs a period above 0")
        if not self.max_zoom >= 1:
            raise ClipError(f"max_zoom is {self.max_zoom}; it is a magnification of 1 or more (1.2 is 20 %)")
        if not 0 <= self.horizon <= 1:
            raise ClipError(f"horizon is {self.horizon}; it goes from 0 (as smoothed) to 1 (level)")
        if self.readout_time is not None and not -1 <= self.readout_time <= 1:
            raise ClipError(f"rolling_shutter is {self.rolling_shutter}; a readout time goes from -1 to 1")
        if self.reference is not None and self.reference < 0:
            raise ClipError(f"reference is {self.reference}; frames are counted from 0, and None chooses one")
        if self.pad < 0:
            raise ClipError(f"pad is {self.pad}; it is a number of pixels, 0 or more")
        if self.pad and self.is_cropped:
            raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")
        if self.pad and isinstance(self.bars, Bars):
            raise ClipError("frames with bars cannot be padded: leave out bars, or choose a pad of 0")
        if has_value(self.keyframes, "max_zoom") and self.border is not Border.CROP_ADAPTIVE:
            raise ClipError(
                f"keyframes set max_zoom over time, and the border {self.border.value} has no zoom that changes: "
                "choose crop-adaptive, or leave max_zoom out of the keyframes"
            )
        if has_value(self.keyframes, "center") and not self.is_cropped:
            raise ClipError(
                f"keyframes set the center of the crop, and the border {self.border.value} does not crop: choose crop "
                "or crop-adaptive, or leave center out of the keyframes"
            )
        if self.hold is Hold.REGION and self.region is None:
            raise ClipError("hold is 'region': give the region (--region), a box or a mask")
        if self.hold is not Hold.REGION and self.region is not None:
            raise ClipError(
                f"a region is given and hold is '{self.hold.value}': hold 'region' (--hold), or leave it out"
            )
        if not 0 <= self.hold_strength <= 1:
            raise ClipError(f"hold_strength is {self.hold_strength}; it goes from 0 (background) to 1 (subject)")

    @property
    def is_cropped(self) -> bool:
        """Whether the border is one that zooms in, and `max_zoom` therefore counts."""
        return self.border in (Border.CROP, Border.CROP_ADAPTIVE)

    @property
    def readout_time(self) -> float | None:
        """The readout time as a share of the frame time; None where it is to be detected."""
        value = self.rolling_shutter
        return value.readout if isinstance(value, RollingShutter) else float(value)


DEFAULT_SETTINGS = StabilizeSettings()
