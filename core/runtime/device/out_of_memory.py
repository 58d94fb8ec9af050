"""Errors that mean that memory ran out, on any device."""

from __future__ import annotations

# Parts of errors, in lower case, that mean that memory ran out and that are not of the type OutOfMemoryError.
_OUT_OF_MEMORY_TEXTS = (
    "out of memory",  # CUDA, ROCm, MPS, XPU
    "not enough memory",  # the CPU's allocator on Windows
    "not enough gpu video memory",  # DirectML
    "can't allocate memory",  # the CPU's allocator
    "could not allocate tensor",  # DirectML
    "invalid buffer size",  # MPS, above the size of its largest buffer
    "_status_alloc_failed",  # cuBLAS, cuDNN
    "device_allocation_failed",  # cuDNN 9
    "unable to find an engine",  # cuDNN, where no algorithm fits into memory
    "miopenstatusallocfailed",  # MIOpen
    "miopenstatusinternalerror",  # MIOpen, where its workspace does not fit
    "out_of_resources",  # Level Zero
    "out_of_device_memory",  # Level Zero
    "out_of_host_memory",  # Level Zero
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the device or of the machine ran out."""
    import torch

    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY_TEXTS)
