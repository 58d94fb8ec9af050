"""The network of nodes to which no model is connected."""

from __future__ import annotations

from comfy_api.latest import Input
from torch import Tensor

from ..core.upscaling.settings import OutputSize
from ..core.upscaling.upscale import ImageModel
from ..models import load_upscaler
from ..models.zoo.bundled import select_bundled
from ._comfy.device import attach_patcher
from ._video.inputs import size_from_input


def model_or_default(
    model: ImageModel | None,
    size: OutputSize = OutputSize(),  # noqa: B008, immutable
    frames: Tensor | Input.Video | None = None,
) -> ImageModel:
    """Return `model`, or without one the bundled network for this size of the result.

    frames: those to be upscaled, whose size counts if the result has one in pixels.
    """
    if model is not None:
        return model
    factor = size.factor if size.size is None or frames is None else size.factor_for(*size_from_input(frames))
    return attach_patcher(load_upscaler(select_bundled(factor).path))
