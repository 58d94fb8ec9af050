"""Convert frames on a device to the encoder's planes there, and transfer those."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import torch
from av.video.frame import VideoFrame
from torch import Tensor

from ...clip import ClipError, Frames
from ...runtime.device.accelerator import accelerator_for
from ...runtime.device.transfer import Download, DownloadRing, with_cpu_fallback
from ..format.stream_format import bit_depth
from ..planes.frame_planes import frame_from_planes
from ..planes.layout import PlaneLayout, layout_for
from ..planes.rgb_conversion import rgb_to_planes
from .output_format import OutputFormat


class PlaneDownloader:
    """Transfers frames from a device as planes of the encoder.

    Each is transferred while the next one is computed.
    needs_reformat: whether frames come as planar full-range RGB, because no device converts to the encoder's format.
    """

    def __init__(self, output_format: OutputFormat, device: torch.device, path: Path) -> None:
        self._output_format, self._path = output_format, path
        self._ring = DownloadRing(accelerator_for(device))
        layout = output_format.layout
        self.needs_reformat = layout is None
        self._layout: PlaneLayout = layout or self._rgb_layout()
        self._pending: list[Download] = []
        self._count = 0

    def exchange(self, frames: Frames) -> Iterator[VideoFrame]:
        """Start the transfer of frames (B, C, H, W), and yield those of the last call.

        They have no color tags.
        """
        last, self._pending = self._pending, []
        # One by one, because the ring has few buffers.
        for frame in frames:
            yield from self._wait(last)
            last.append(self._start(frame))
        self._pending = last

    def finish(self) -> Iterator[VideoFrame]:
        """Wait for the transfers that are in progress, and yield their frames."""
        yield from self._wait(self._pending)

    def _start(self, frame: Tensor) -> Download:
        return with_cpu_fallback(self._convert, frame[None].detach())

    @torch.inference_mode(False)
    @torch.no_grad()
    def _convert(self, frame: Tensor) -> Download:
        rgb = frame.float()
        planes = rgb_to_planes(rgb, self._layout, self._output_format.padded_size)
        # NaN and infinity become some code; the sum of the values is neither if none of them is.
        results = [*(plane[0] for plane in planes), rgb.sum().reshape(1)]
        return self._ring.start(results) if frame.device.type != "cpu" else Download((), results, None)

    def _wait(self, downloads: list[Download]) -> Iterator[VideoFrame]:
        while downloads:
            *planes, checksum = downloads.pop(0).wait()
            if not isfinite(float(checksum)):
                raise ClipError(
                    f"{self._path}: frame {self._count} has non-finite values (NaN or infinity); compute it in float32"
                )
            self._count += 1
            yield frame_from_planes(planes, self._layout, *self._output_format.padded_size)

    def _rgb_layout(self) -> PlaneLayout:
        bits = "16le" if bit_depth(self._output_format.pixel_format) > 8 else ""
        layout = layout_for(f"gbr{'a' if self._output_format.keeps_alpha else ''}p{bits}")
        assert layout is not None
        return layout
