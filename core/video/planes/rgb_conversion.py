"""Convert YUV planes to RGB and back by color matrix and range, on any device.

There are few operations, because each is a launch on a GPU. Differences from swscale, beside rounding: it clips chroma
above the largest code while upsampling; full-range chroma that it writes is too low by half a code on average; and with
more than 8 bits its white of limited range is 65280 of 65535, and that of full range 1/1024 too low for 10 bits, which
is why it is not used for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...runtime.typed_torch import unflatten
from .chroma_resampling import downsample, upsample
from .frame_planes import empty_planes
from .layout import LUMA_COEFFICIENTS, PlaneLayout


def planes_to_rgb(planes: Sequence[Tensor], layout: PlaneLayout, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert planes to (B, 3, H, W), or (B, 4, H, W) with alpha, in [0, 1].

    planes: as `PlaneLayout.plane_shapes`, or with a batch dimension before; uint8, or int16 or uint16 with the bits of
    unsigned samples. The orientation is the stored one. Values are not rounded.
    Raises ValueError for other dtypes.
    """
    channels = _split_channels(planes, layout)
    batch, height, width = channels["Y" if "Y" in channels else "G"].shape
    rgb = torch.empty(batch, layout.rgb_channels, height, width, device=planes[0].device)
    gain = 1 / (layout.levels_per_step * layout.white)
    if layout.has_chroma:
        _yuv_to_rgb(channels, layout, rgb[:, :3])
    elif not layout.is_rgb:
        torch.mul(channels["Y"][:, None].expand(-1, 3, -1, -1), gain, out=rgb)
    gain = 1 / (layout.levels_per_step * layout.max_step)
    for index, name in enumerate("RGBA"):
        if name in channels:
            torch.mul(channels[name], gain, out=rgb[:, index])
    return rgb.to(dtype)


def rgb_to_planes(rgb: Tensor, layout: PlaneLayout, padded_size: tuple[int, int]) -> list[Tensor]:
    """Convert (B, 3 or 4, H, W) in [0, 1] to planes (B, h, w).

    They are as `empty_planes` allocates them, on the device of the input.
    padded_size: (width, height); where it is larger than the input, the last column and row are repeated.
    Raises ValueError for odd sizes that the format cannot have, and for missing alpha.
    """
    width, height = padded_size
    if any(length % step for length, step in zip(padded_size, layout.subsampling, strict=True)):
        raise ValueError(f"{layout.pixel_format} needs even sizes, not {width}x{height}; pad to the next even size")
    if rgb.shape[1] < layout.rgb_channels:
        raise ValueError(f"{layout.pixel_format} needs {layout.rgb_channels} channels, not {rgb.shape[1]}; add alpha")
    rgb = rgb[:, : layout.rgb_channels].detach().float().clamp(0, 1)
    if rgb.shape[-2:] != (height, width):
        rgb = F.pad(rgb, (0, width - rgb.shape[-1], 0, height - rgb.shape[-2]), mode="replicate")
    planes = empty_planes(layout, width, height, batch=len(rgb), device=rgb.device)
    targets = _name_channels([_as_signed(plane) for plane in planes], layout)
    if "Y" in targets:
        _rgb_to_yuv(rgb, layout, targets)
    for index, name in enumerate("RGBA"):
        if name in targets:
            codes = torch.mul(rgb[:, index], layout.codes_per_step * layout.max_step).add_(0.5)
            _store(codes, layout, targets[name], may_overflow=layout.bits not in (8, 16))
    return planes


def _yuv_to_rgb(channels: dict[str, Tensor], layout: PlaneLayout, rgb: Tensor) -> None:
    """Write (B, 3, H, W); the matrix is applied before chroma is upsampled."""
    y, u, v = (channels[name] for name in "YUV")
    black, luma_gain, chroma_gain = _ranges(layout)
    kr, kb = LUMA_COEFFICIENTS[layout.matrix]
    kg = 1 - kr - kb
    gain = 1 / (layout.levels_per_step * layout.white)
    red_v, blue_u = 2 * (1 - kr) * chroma_gain * gain, 2 * (1 - kb) * chroma_gain * gain
    green_u, green_v = -blue_u * kb / kg, -red_v * kr / kg
    chroma = torch.empty(len(u), 3, *u.shape[1:], device=u.device)
    torch.mul(v, red_v, out=chroma[:, 0])
    torch.mul(u, green_u, out=chroma[:, 1])
    chroma[:, 1].add_(v, alpha=green_v)
    torch.mul(u, blue_u, out=chroma[:, 2])
    neutral, offset = 128 * layout.levels_per_step, black * layout.levels_per_step * luma_gain * gain
    bias = (-neutral * red_v - offset, -neutral * (green_u + green_v) - offset, -neutral * blue_u - offset)
    upsampled = upsample(chroma, layout, (y.shape[1], y.shape[2]), bias)  # (B, 3, h, H/h, w, W/w)
    blocks = upsampled.shape[2:4], upsampled.shape[4:6]
    luma, target = (unflatten(unflatten(tensor, -1, blocks[1]), -3, blocks[0]) for tensor in (y[:, None], rgb))
    torch.add(upsampled, luma, alpha=luma_gain * gain, out=target)
    rgb.clamp_(0, 1)


def _rgb_to_yuv(rgb: Tensor, layout: PlaneLayout, targets: dict[str, Tensor]) -> None:
    """Write the channels Y and, if there is chroma, U and V.

    0.5 is added to all of them, because they are truncated to integers.
    """
    black, luma_gain, chroma_gain = _ranges(layout)
    kr, kb = LUMA_COEFFICIENTS[layout.matrix]
    scale, offset = layout.codes_per_step * layout.white / luma_gain, layout.codes_per_step * black + 0.5
    luma = torch.mul(rgb[:, 0], kr * scale).add_(rgb[:, 1], alpha=(1 - kr - kb) * scale)
    luma.add_(rgb[:, 2], alpha=kb * scale).add_(offset)
    if layout.has_chroma:
        differences = torch.add(luma[:, None], rgb[:, 0:3:2], alpha=-scale)  # luma - red, luma - blue, plus offset
        gains = tuple(-luma_gain / chroma_gain / (2 * (1 - k)) for k in (kr, kb))
        neutral = 128 * layout.codes_per_step + 0.5
        bias = tuple(neutral - gain * offset for gain in gains)
        chroma = downsample(differences, layout, gains, bias).clamp_(0, (1 << layout.bits) - 1)
        for index, name in enumerate("VU"):
            _store(chroma[:, index], layout, targets[name], may_overflow=False)
    _store(luma, layout, targets["Y"], may_overflow=layout.full_range and layout.bits not in (8, 16))


def _ranges(layout: PlaneLayout) -> tuple[int, float, float]:
    """Return black in steps of 8 bits, and RGB steps per step of luma and chroma."""
    return (0, 1.0, 1.0) if layout.full_range else (16, 255 / 219, 255 / 224)


def _store(codes: Tensor, layout: PlaneLayout, target: Tensor, *, may_overflow: bool) -> None:
    """Truncate codes that are not negative, and write them.

    may_overflow: whether they may exceed the largest code.
    """
    if may_overflow:
        codes.clamp_(max=(1 << layout.bits) - 1)
    if layout.bits == 16:
        codes = codes.to(torch.int32)  # so that large codes wrap around in int16
    target.copy_(codes)
    if layout.shift:
        target.mul_(1 << layout.shift)


def _split_channels(planes: Sequence[Tensor], layout: PlaneLayout) -> dict[str, Tensor]:
    """Return the channels of batched or single planes by name, (B, h, w).

    Their values are not negative.
    """
    dtypes = (torch.uint8,) if layout.bits == 8 else (torch.int16, torch.uint16)
    if len(planes) != len(layout.channels) or any(plane.dtype not in dtypes for plane in planes):
        raise ValueError(
            f"{layout.pixel_format} has {len(layout.channels)} planes of {dtypes[0]}, "
            f"not {[str(plane.dtype) for plane in planes]}"
        )
    batched: list[Tensor] = []
    for plane, names in zip(planes, layout.channels, strict=True):
        values = _as_signed(plane)
        if layout.bits + layout.shift == 16:
            values = torch.remainder(values, 65536.0)  # the highest bit is that of the value, not the sign
        batched.append(values if plane.ndim == (3 if len(names) == 1 else 4) else values[None])
    return _name_channels(batched, layout)


def _name_channels(planes: Sequence[Tensor], layout: PlaneLayout) -> dict[str, Tensor]:
    channels: dict[str, Tensor] = {}
    for plane, names in zip(planes, layout.channels, strict=True):
        for index, name in enumerate(names):
            channels[name] = plane if len(names) == 1 else plane[..., index]
    return channels


def _as_signed(plane: Tensor) -> Tensor:
    """Reinterpret uint16 as int16, as devices have few operations on uint16."""
    return plane.view(torch.int16) if plane.dtype == torch.uint16 else plane
