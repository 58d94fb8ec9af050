"""A fake of the newest ComfyUI, for VIDEO: methods, arguments, trims and edits.

No package index has that version, so its interface is reproduced here. Real hosts are tested in tests/host.
"""

from __future__ import annotations

import importlib
import io as bytes_io
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import av
import pytest
import torch
from numbered_video import make_video


class Interrupted(Exception):
    """What ComfyUI raises when the user cancels."""


@dataclass
class Components:
    images: torch.Tensor
    frame_rate: Fraction
    audio: Any = None
    metadata: dict | None = None
    alpha: torch.Tensor | None = None


class VideoInput(ABC):
    """The base class: abstract methods, and defaults that hold all frames in memory."""

    @abstractmethod
    def get_components(self): ...

    @abstractmethod
    def save_to(
        self,
        path,
        format="auto",
        codec="auto",
        metadata=None,
        bit_depth=None,
        crf=None,
        color_space=None,
        preset=None,
    ): ...

    @abstractmethod
    def as_trimmed(self, start_time=None, duration=None, strict_duration=False): ...

    def _everything(self, *_: object, **__: object):
        raise AssertionError("the base class would hold all frames in memory here")

    as_cropped = as_resized = get_stream_source = get_dimensions = get_duration = _everything
    get_frame_count = get_frame_rate = get_container_format = _everything

    def get_display_dimensions(self):
        return self.get_dimensions()

    def get_color_space(self):
        return "auto"

    def get_bit_depth(self):
        return 8

    def has_pending_frame_edits(self):
        return False

    def get_active_trim_window(self):
        return 0.0, 0.0


class VideoFromFile(VideoInput):
    """A file; `save_to` and `get_components` apply trims, the stream source does not."""

    def __init__(self, file: str | bytes_io.BytesIO, window=(0.0, 0.0), crop=None, size=None) -> None:
        self.file, self.window, self.crop, self.size = file, window, crop, size
        self.saved: list[dict[str, Any]] = []

    def get_stream_source(self):
        return self.file

    def get_active_trim_window(self):
        return self.window

    def has_pending_frame_edits(self):
        return self.crop is not None or self.size is not None

    def get_dimensions(self):
        return self.crop or self.size or (64, 48)

    def as_trimmed(self, start_time=None, duration=None, strict_duration=False):
        return VideoFromFile(self.file, (start_time, duration), self.crop, self.size)

    def as_cropped(self, x=0, y=0, width=0, height=0):
        return VideoFromFile(self.file, self.window, (width, height), self.size)

    def as_resized(self, width, height, upscale_method, crop="disabled", post_crop=None):
        return VideoFromFile(self.file, self.window, self.crop, (width, height))

    def _frames(self):
        start, length = self.window
        with av.open(self.file) as container:
            for frame in container.decode(video=0):
                if start <= frame.time + 1e-6 and (not length or frame.time < start + length - 1e-6):
                    width, height = self.size or (frame.width, frame.height)
                    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
                    yield pixels if self.crop is None else pixels[: self.crop[1], : self.crop[0]].copy()

    def get_components(self):
        return Components(torch.stack([torch.from_numpy(f) / 255 for f in self._frames()]), Fraction(24))

    def save_to(self, path, format="auto", codec="auto", metadata=None, bit_depth=None, crf=None, **more):
        self.saved.append({"crf": crf, "path": path})
        with av.open(path, "w") as sink:
            stream = None
            for pixels in self._frames():
                if stream is None:
                    stream = sink.add_stream("libx264", rate=24, options={"crf": str(crf or 23)})
                    stream.height, stream.width = pixels.shape[:2]
                    stream.pix_fmt = "yuv420p"
                sink.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            sink.mux(stream.encode(None))


class VideoFromComponents(VideoInput):
    def __init__(self, components: Components, color_space: str = "sRGB") -> None:
        self.components, self.color_space = components, color_space

    def get_components(self):
        return self.components

    def get_color_space(self):
        return self.color_space

    def as_trimmed(self, start_time=None, duration=None, strict_duration=False):
        return VideoFromComponents(replace(self.components, images=self.components.images[:1]))

    def save_to(self, path, **settings):
        raise AssertionError("a video in memory needs no file")


class NodeOutput:
    def __init__(self, *results: Any, ui: Any = None) -> None:
        self.result, self.ui = results, ui

    def __getitem__(self, index: int) -> Any:
        return self.result[index]


class Bar:
    """ComfyUI's progress bar; `elsewhere` has the events of other nodes."""

    events: list[tuple[int, int, Any]] = []  # noqa: RUF012, the fixture replaces it
    elsewhere: list[tuple[str, int, Any]] = []  # noqa: RUF012

    def __init__(self, total, node_id=None):
        self.total, self.node = total, node_id

    def update_absolute(self, value, total=None, preview=None):
        if self.node is None:
            self.events.append((value, total, preview))
        else:
            self.elsewhere.append((self.node, value, preview))


class Stub:
    """The fake host, as tests control and observe it."""

    def __init__(self, temp: Path) -> None:
        self.temp, self.cancel_after = temp, None
        self.num_checks = 0
        self.Components, self.VideoFromFile = Components, VideoFromFile
        self.VideoFromComponents, self.VideoInput, self.Interrupted = VideoFromComponents, VideoInput, Interrupted
        self.reserved: list[tuple[float, Any]] = []
        Bar.events, Bar.elsewhere = [], []

    @property
    def elsewhere(self) -> list[tuple[str, int, Any]]:
        return Bar.elsewhere

    @property
    def progress(self) -> list[tuple[int, int, Any]]:
        return Bar.events

    def files(self) -> list[str]:
        """Names of the files in the temp folder."""
        return sorted(path.name for path in self.temp.iterdir()) if self.temp.exists() else []

    def check(self) -> None:
        self.num_checks += 1
        if self.cancel_after is not None and self.num_checks > self.cancel_after:
            raise Interrupted

    def import_(self, name: str) -> ModuleType:
        return importlib.import_module(f"steadyscale.nodes.{name}")


@pytest.fixture
def fake_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stub = Stub(tmp_path / "temp")
    node = type("ComfyNode", (), {})
    latest = ModuleType("comfy_api.latest")
    latest.io = MagicMock(ComfyNode=node, NodeOutput=NodeOutput)
    latest.ui, latest.ComfyExtension, latest.ComfyAPI = MagicMock(), type("ComfyExtension", (), {}), MagicMock()
    latest.Input = SimpleNamespace(Video=VideoInput)
    latest.InputImpl = SimpleNamespace(VideoFromFile=VideoFromFile, VideoFromComponents=VideoFromComponents)
    latest.Types = SimpleNamespace(VideoComponents=Components)
    management = MagicMock(throw_exception_if_processing_interrupted=stub.check)
    management.get_torch_device.return_value = torch.device("cpu")
    management.get_free_memory.return_value = 2**33
    management.free_memory = lambda size, device: stub.reserved.append((size, device))
    stub.management = management
    modules = {
        "comfy_api": ModuleType("comfy_api"),
        "comfy_api.latest": latest,
        "comfy": SimpleNamespace(
            model_management=management, utils=SimpleNamespace(ProgressBar=Bar), model_patcher=SimpleNamespace()
        ),
        "comfy.model_management": management,
        "comfy.utils": SimpleNamespace(ProgressBar=Bar),
        "comfy.model_patcher": SimpleNamespace(),
        "folder_paths": SimpleNamespace(
            get_temp_directory=lambda: str(stub.temp),
            get_filename_list=lambda _: [],
            models_dir=str(tmp_path / "models"),
            add_model_folder_path=lambda *_: None,
            get_output_directory=lambda: str(tmp_path / "output"),
            get_input_directory=lambda: str(tmp_path / "input"),
        ),
    }
    ours = [name for name in sys.modules if name.startswith("steadyscale.nodes")]
    for name in ours:
        monkeypatch.delitem(sys.modules, name)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield stub
    for name in [name for name in sys.modules if name.startswith("steadyscale.nodes")]:
        del sys.modules[name]


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    return make_video(tmp_path / "source.mp4", audio_start=0.5, metadata={"title": "twelve bars"})
