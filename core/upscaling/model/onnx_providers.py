"""Execution providers of ONNX Runtime, and sessions of a fixed shape."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...clip import ClipError
from ...runtime.typed_torch import from_numpy
from .onnx_graph import INPUT_NAME, OUTPUT_NAME

NUMPY_DTYPES: dict[torch.dtype, type[np.floating[Any]]] = {torch.float32: np.float32, torch.float16: np.float16}

Options = dict[str, Any]


@dataclass(frozen=True)
class Provider:
    """An execution provider.

    name: in onnxruntime. label: for people. device_types: types of torch devices whose hardware it runs on.
    options: of the provider, for an input on its device and a folder for compiled engines.
    """

    name: str
    label: str
    device_types: frozenset[str]
    options: Callable[[Tensor, Path], Options]

    @property
    def shares_memory(self) -> bool:
        """Whether it reads and writes the tensors of its torch device."""
        return self.device_types == frozenset({"cuda"})


def _tensorrt_options(image: Tensor, folder: Path) -> Options:
    return {
        "device_id": image.device.index or 0,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": image.dtype is torch.float16,
    }


def _cuda_options(image: Tensor, _folder: Path) -> Options:
    # TF32 is further from fp32 than fp16 is.
    return {"device_id": image.device.index or 0, "use_tf32": 0}


def _directml_options(image: Tensor, _folder: Path) -> Options:
    return {"device_id": image.device.index or 0}


def _coreml_options(image: Tensor, _folder: Path) -> Options:
    # The neural engine would run float32 in float16.
    units = "ALL" if image.dtype is torch.float16 else "CPUAndGPU"
    return {"ModelFormat": "MLProgram", "MLComputeUnits": units, "RequireStaticInputShapes": "1"}


def _openvino_options(image: Tensor, folder: Path) -> Options:
    on_cpu = image.device.type == "cpu"
    # Without the precision some processors would run in bfloat16.
    precision = {"precision": "FP16" if image.dtype is torch.float16 else "FP32"}
    threads = {"num_of_threads": str(torch.get_num_threads())} if on_cpu else {}
    return {"device_type": "CPU" if on_cpu else "GPU", "cache_dir": str(folder), **precision, **threads}


def _cpu_options(_image: Tensor, _folder: Path) -> Options:
    return {}


PROVIDERS = (
    Provider("TensorrtExecutionProvider", "TensorRT", frozenset({"cuda"}), _tensorrt_options),
    Provider("CUDAExecutionProvider", "CUDA", frozenset({"cuda"}), _cuda_options),
    Provider("DmlExecutionProvider", "DirectML", frozenset({"cuda", "xpu", "privateuseone"}), _directml_options),
    Provider("CoreMLExecutionProvider", "CoreML", frozenset({"mps"}), _coreml_options),
    Provider("OpenVINOExecutionProvider", "OpenVINO", frozenset({"cpu", "xpu"}), _openvino_options),
    Provider("CPUExecutionProvider", "CPU", frozenset({"cpu"}), _cpu_options),
)
"""In the order in which they are tried."""


def import_onnxruntime() -> Any:
    """Import onnxruntime; raise ClipError if it or the package onnx is missing."""
    if importlib.util.find_spec("onnx") is None:  # It is needed for an export only, and takes long to import.
        raise ClipError("the ONNX Runtime engine needs the package onnx: pip install 'steadyscale[onnx]'")
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ClipError(
            f"the ONNX Runtime engine needs onnxruntime ({error}): pip install 'steadyscale[onnx]'"
        ) from error


def available_providers(device: torch.device) -> list[Provider]:
    """List the execution providers of onnxruntime for a device, the best first."""
    built = import_onnxruntime().get_available_providers()
    return [provider for provider in PROVIDERS if provider.name in built and device.type in provider.device_types]


class OnnxSession:
    """A graph of a fixed shape on a provider.

    (b, C, h, w) of the shape, the dtype and the device of `like` -> the result on the same device. Raises RuntimeError
    where the provider does not start, and whatever onnxruntime raises.
    """

    def __init__(self, graph: Path, provider: Provider, like: Tensor) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as well
        options.intra_op_num_threads = torch.get_num_threads()
        # Waiting threads would take the processor from decoder and encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if provider.label == "DirectML":  # it supports neither
            options.enable_mem_pattern = False
            options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        chosen = [(provider.name, provider.options(like, graph.parent))]
        if provider.label != "CPU":
            chosen.append(("CPUExecutionProvider", {}))  # for operators that the provider does not have
        # Without this, onnxruntime would print and continue on another provider.
        session = onnxruntime.InferenceSession(str(graph), options, providers=chosen, enable_fallback=0)
        session.disable_fallback()
        if session.get_providers()[0] != provider.name:
            raise RuntimeError("onnxruntime cannot load it")
        self._session, self._dtype = session, NUMPY_DTYPES[like.dtype]
        self._shares_memory = provider.shares_memory
        self._shape: tuple[int, ...] | None = None  # of the result, known after the first call

    def __call__(self, image: Tensor) -> Tensor:
        if self._shares_memory and self._shape is not None:
            return self._run_in_place(image.contiguous(), self._shape)
        result = self._session.run([OUTPUT_NAME], {INPUT_NAME: image.cpu().contiguous().numpy()})[0]
        self._shape = result.shape
        return from_numpy(result).to(image.device)

    def _run_in_place(self, image: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Let the provider read and write the memory of tensors on the GPU."""
        result = torch.empty(shape, dtype=image.dtype, device=image.device)
        binding, index = self._session.io_binding(), image.device.index or 0
        binding.bind_input(INPUT_NAME, "cuda", index, self._dtype, tuple(image.shape), image.data_ptr())
        binding.bind_output(OUTPUT_NAME, "cuda", index, self._dtype, shape, result.data_ptr())
        # onnxruntime has a stream of its own, and waits for it before it returns.
        torch.cuda.current_stream(image.device).synchronize()
        self._session.run_with_iobinding(binding)
        return result
