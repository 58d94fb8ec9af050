"""Build prompts node by node, and read the outputs of their runs."""

from __future__ import annotations

import io
from itertools import pairwise

import cv2
import numpy as np
from bootstrap import DEFAULT_NETWORK
from comfyhost import Host
from PIL import Image

MODEL_NAME = f"{DEFAULT_NETWORK}.safetensors"
SMALL_MODELS = {2: "steadyscale-calm-2x", 4: "steadyscale-calm-4x"}
"""Networks of the pack, by scale, that take a tenth of its time: for tests of what is around a network."""


class PromptBuilder(dict):
    """A prompt; `add` returns a node's id, and links are [id, output index]."""

    def add(self, class_type: str, **inputs: object) -> str:
        key = str(len(self) + 1)
        self[key] = {"class_type": class_type, "inputs": inputs}
        return key

    def add_video(self, name: str) -> list:
        """A file of the input folder as VIDEO."""
        return [self.add("LoadVideo", file=name), 0]

    def add_images(self, video: list | str) -> list:
        """The frames of a VIDEO, or of a file of the input folder, as IMAGE."""
        return [self.add("GetVideoComponents", video=self.add_video(video) if isinstance(video, str) else video), 0]

    def add_clip(self, name: str, frames: int, start: int = 0) -> list:
        """Some frames of a file as IMAGE."""
        return [self.add("ImageFromBatch", image=self.add_images(name), batch_index=start, length=frames), 0]

    def add_model(self, name: str = MODEL_NAME) -> list:
        """A network by way of our loader."""
        return [self.add("SteadyScale_LoadESRGANModel", model_name=name), 0]


def read_image(host: Host, item: dict) -> np.ndarray:
    """A file that a node put out: (H, W, C), in steps of 8 bits."""
    return np.asarray(Image.open(io.BytesIO(host.view(item)))).astype(int)


def read_images(host: Host, outputs: dict) -> np.ndarray:
    """The images of a node's outputs: (N, H, W, C), 8-bit values."""
    return np.stack([read_image(host, item) for item in outputs["images"]])


def run_and_listen(host: Host, graph: PromptBuilder) -> tuple[dict[str, list[str]], dict[str, dict]]:
    """Run a graph; return the texts of each node, and the outputs by node id."""
    run = host.run(graph).raise_for_status()
    texts: dict[str, list[str]] = {}
    for kind, data in run.events:
        if kind == "node_text":
            texts.setdefault(data["node"], []).append(data["text"])
    return texts, run.outputs


def measure_shake(frames: np.ndarray) -> float:
    """RMS change of the motion between frames (N, H, W, 3), in pixels."""
    grey = [frame.mean(2).astype(np.float32) for frame in frames]
    window = cv2.createHanningWindow(grey[0].shape[::-1], cv2.CV_32F)
    moves = np.array([cv2.phaseCorrelate(a, b, window)[0] for a, b in pairwise(grey)])
    return float(np.sqrt((np.diff(moves, axis=0) ** 2).sum(1).mean()))
