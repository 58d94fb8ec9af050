"""What a call of the high-level API reports: progress and a summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..clip import ClipInfo
from ..stabilization_report import StabilizationReport
from ..upscaling.settings import UpscaleStats
from ..video.decode.corruption_report import CorruptionReport


@dataclass(frozen=True)
class Progress:
    """The state of a running call.

    stage: "measuring" (motion), "measuring again" (through a detected lens, or what is held), "upscaling" or
    "stabilizing".
    done, total: frames of this stage; total is None where the source does not state its length.
    message: an estimate of size, memory and time, in words; empty where only the numbers changed.
    """

    stage: str
    done: int
    total: int | None
    message: str = ""


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""Receives each `Progress`, from any thread but never from two at once. What it raises cancels the call."""


@dataclass(frozen=True)
class VideoReport:
    """Report of a finished call: what it read, wrote and used.

    command: "upscale", "stabilize" or "enhance". input: the source file, None for a clip that has none.
    frames_in, frames_out: frames read of the source, and written. info: size and length as read from the written file,
    and the frame rate of the source; that of the file may differ, as where a part is written.
    seconds: wall-clock time. peak_memory_mb: of the process, in 10^6 bytes; None where the system does not report it.
    device: where the network ran, "cpu" without one. damage: the corrupt frames of the source. stats: what the network
    computed; None where none ran. stabilization: what the stabilizer did; None where none ran, and live.
    """

    command: str
    input: str | None
    output: str
    frames_in: int
    frames_out: int
    info: ClipInfo
    seconds: float
    peak_memory_mb: float | None
    device: str
    damage: CorruptionReport
    stats: UpscaleStats | None = None
    stabilization: StabilizationReport | None = None

    def as_dict(self) -> dict[str, object]:
        """The report as JSON values: what `steadyscale ... --json` prints.

        `pixels_computed` is a share, 0 to 1. `stabilization` has the values of `StabilizationReport`.
        """
        engine: dict[str, object] = {}
        reuse: dict[str, object] = {}
        if self.stats is not None:
            engine = {"engine": self.stats.engine}
            reuse = {
                "repeated_frames": self.stats.repeated_frames,
                "tiles_reused": self.stats.tiles_reused,
                "pixels_computed": round(self.stats.computed_fraction, 4),
            }
        return {
            "command": self.command,
            "input": self.input,
            "output": self.output,
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            **info_fields(self.info),
            "seconds": round(self.seconds, 3),
            "peak_memory_mb": self.peak_memory_mb,
            "device": self.device,
            **engine,
            **reuse,
            "damaged_frames": len(self.damage),
            "damage": self.damage.to_table(),
            **({} if self.stabilization is None else {"stabilization": self.stabilization.as_dict()}),
        }

    def __str__(self) -> str:
        """One line, such as "out.mp4: 48 frames, 1280x720 at 24 fps, in 9.1 s on cpu"."""
        size = f"{self.info.width}x{self.info.height} at {float(self.info.fps):g} fps"
        damage = f"; {self.damage}" if self.damage else ""
        stabilization = f"; {self.stabilization}" if self.stabilization is not None else ""
        return (
            f"{self.output}: {self.frames_out} frames, {size}, in {self.seconds:.1f} s on {self.device}"
            f"{self._engine_summary()}{self._reuse_summary()}{stabilization}{damage}"
        )

    def _engine_summary(self) -> str:
        """The engine of the network; empty for torch."""
        engine = "" if self.stats is None else self.stats.engine
        return "" if engine in ("", "torch") else f" by {engine}"

    def _reuse_summary(self) -> str:
        """The share of reused pixels; empty where the network computed everything."""
        if self.stats is None or self.stats.computed_fraction == 1:
            return ""
        repeats = f" ({self.stats.repeated_frames} whole frames)" if self.stats.repeated_frames else ""
        return f"; {1 - self.stats.computed_fraction:.0%} of the pixels{repeats} reused"


def info_fields(info: ClipInfo) -> dict[str, object]:
    """The size and frame rate of a clip as JSON values."""
    return {"width": info.width, "height": info.height, "fps": round(float(info.fps), 6)}
