"""Choose the engine that runs a network: the model's own, torch or ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...clip import ClipError
from ...runtime.device.accelerator import Accelerator
from ..settings import Engine, Precision
from .engine_module import EngineModule
from .fastest_module import FastestModule
from .model_traits import ModelTraits, find_module
from .onnx_engine import OnnxModule
from .onnx_providers import import_onnxruntime
from .rebind import replace_module

log = logging.getLogger(__name__)


def check_engine(
    engine: Engine, model: object, traits: ModelTraits, device: torch.device, precision: Precision
) -> ModelTraits:
    """Return the traits of a model as this engine runs it.

    Raises ClipError where the engine is not installed or cannot run the model. A model without a torch module runs as
    it is; a warning states that.
    """
    if engine is Engine.NATIVE:
        _check_native(traits, device, precision)
    if engine is Engine.ONNX:
        import_onnxruntime()
    if device.type != "cpu":
        traits = replace(traits, exact_halo=0, roi_stages=())  # The native engine runs on CPUs only.
    if engine not in (Engine.TORCH, Engine.ONNX):
        return traits
    if find_module(model) is None:
        log.warning("%s holds no torch module, so it runs as it is and not by the engine %s", traits.name, engine.value)
        return traits
    # What follows is the native engine's.
    traits = replace(traits, exact_halo=0, roi_stages=(), supports_roi=False, prefers_full_frames=False)
    # What a network declares is measured in torch; some compute the upscaled end in pieces there.
    return replace(traits, activation_bytes=None) if engine is Engine.ONNX else traits


def with_engine(
    model: Callable[..., Tensor], engine: Engine, original: object, accelerator: Accelerator, *, compiled: bool = False
) -> Callable[..., Tensor]:
    """Return a model whose torch module runs on an engine.

    model: the replica on its device, or the model itself, which is not modified. original: the model with the weights
    as they were loaded. compiled: whether the module runs through `torch.compile`, which fuses kernels itself.
    """
    module, source = find_module(model), find_module(original)
    if module is None or source is None:
        return model
    if engine is Engine.ONNX:
        return replace_module(model, OnnxModule(module, source))
    if engine is Engine.TORCH:
        return replace_module(model, EngineModule(module))
    if engine is Engine.AUTO and not accelerator.is_cpu and not compiled:
        return replace_module(model, FastestModule(module, accelerator))
    return model


def _check_native(traits: ModelTraits, device: torch.device, precision: Precision) -> None:
    if device.type != "cpu":
        raise ClipError(f"the native engine runs on CPUs, not on {device}; choose the device cpu or the engine auto")
    if precision not in (Precision.AUTO, Precision.FP32):
        raise ClipError(f"the native engine runs in fp32, not in {precision.value}; choose the precision auto")
    if not traits.has_native_engine:
        raise ClipError(
            f"the native engine is not built, or cannot run {traits.name}; run `steadyscale native build`, or choose "
            "the engine auto"
        )
