"""Dense optical flow by Farnebäck's method in torch, batched, on any device.

The method is that of G. Farnebäck, "Two-Frame Motion Estimation Based on Polynomial Expansion" (SCIA 2003). A quadratic
is fitted around each pixel, f(p) = c + b.p + p'Ap; where the content moves by d, its b changes by -2Ad, and d is the
least-squares solution over a window of such equations, refined over a pyramid. Sizes, borders and constants follow
`cv2.calcOpticalFlowFarneback`, so that the two are interchangeable.

Convolutions are sums of shifted images rather than conv2d: these kernels are long and have few channels, where the sums
are faster on a CPU; on a GPU they are not affected by TF32, whose 10 bits are too few for second derivatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # BT.601, as in OpenCV's RGB to gray
MIN_SIDE_PIXELS = 32  # the pyramid stops before a side becomes shorter than this
EDGE_WEIGHTS = (0.14, 0.14, 0.4472, 0.4472, 0.4472)  # of the outermost pixels: their quadratics include padding
REGULARIZATION = 1e-3  # added to determinants: far below any texture in gray levels 0-255; flat areas get zero flow


@dataclass(frozen=True, kw_only=True)
class FarnebackSettings:
    """Settings of Farneback's method.

    They are named as in OpenCV where it has them; the defaults suit camera motion between neighboring frames.

    pyramid_scale: size of each level relative to the one below, inside (0, 1).
    levels: maximum number of reduced sizes beside the full one; no side becomes shorter than 32 pixels.
    window: side in pixels of the averaging window, odd, 3 or more; larger is more robust and blurrier.
    iterations: refinements per level, 1 or more.
    poly_n, poly_sigma: radius of the quadratic fit and standard deviation of its weights, in pixels; 7 and 1.5, or
        5 and 1.1 for finer detail.
    gaussian_window: Gaussian instead of uniform window: sharper at motion edges, needs a larger window.
    """

    pyramid_scale: float = 0.5
    levels: int = 5
    window: int = 15
    iterations: int = 3
    poly_n: int = 7
    poly_sigma: float = 1.5
    gaussian_window: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.pyramid_scale < 1:
            raise ValueError(f"pyramid_scale must lie between 0 and 1, got {self.pyramid_scale}")
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"window must be odd and at least 3, got {self.window}")
        if self.levels < 0 or self.iterations < 1:
            raise ValueError(
                f"levels must be 0 or more and iterations at least 1, got {self.levels}, {self.iterations}"
            )
        if self.poly_n < 1 or self.poly_sigma < 0.1:  # below that, only the middle pixel has any weight
            raise ValueError(
                f"poly_n must be 1 or more and poly_sigma 0.1 or more, got {self.poly_n}, {self.poly_sigma}"
            )


@torch.no_grad()
def farneback(first: Tensor, second: Tensor, settings: FarnebackSettings = FarnebackSettings()) -> Tensor:
    """Dense flow between two batches of frames.

    first, second: (B, 1, H, W) gray or (B, 3, H, W) RGB, values in [0, 1], same shape and device, any size from 1x1.
    Returns (B, 2, H, W) float32 on the same device. Pairs of a batch do not affect each other. No gradient flows.

    Convention
        direction: first -> second: what is at pixel p of `first` is found at p + flow(p) in `second`
        units: pixels of the frames given; channel 0 is x (right), channel 1 is y (down)
        origin: flow is a difference, so none; flow[..., row, column] belongs to the centre of that pixel of `first`

    Raises ValueError if the shapes differ or are not (B, 1 or 3, H, W).
    """
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] not in (1, 3) or 0 in first.shape[2:]:
        got = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"farneback needs two batches of one shape (B, 1 or 3, H, W), got {got}")
    pairs, _, height, width = first.shape
    frames = torch.cat([_gray_levels(first), _gray_levels(second)])  # (2B, 1, H, W)

    flow: Tensor | None = None
    for scale in _pyramid_scales(height, width, settings):
        size = (round(height * scale), round(width * scale))
        if flow is None:
            flow = frames.new_zeros(pairs, 2, *size)  # (B, 2, h, w)
        else:
            flow = F.interpolate(flow, size, mode="bilinear", align_corners=False) / settings.pyramid_scale
        expansion = _expand_polynomials(
            _downsample(frames, size, scale), settings.poly_n, settings.poly_sigma
        )  # (2B, 5, h, w)
        for _ in range(settings.iterations):
            equations = _normal_equations(expansion[:pairs], expansion[pairs:], flow)  # (B, 5, h, w)
            flow = _solve(_average_window(equations, settings))  # (B, 2, h, w)
    assert flow is not None, "there is always the full size"
    return flow


def _gray_levels(frames: Tensor) -> Tensor:
    """Convert frames to gray levels in [0, 255], the range of the constants.

    (B, 1 or 3, H, W) in [0, 1] -> (B, 1, H, W) float32.
    """
    frames = frames.float()
    if frames.shape[1] == 3:
        red, green, blue = torch.split(frames, 1, dim=1)  # each (B, 1, H, W)
        frames = LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
    return frames * 255


def _pyramid_scales(height: int, width: int, settings: FarnebackSettings) -> list[float]:
    """Scales of the pyramid, from the smallest level to 1.0."""
    scales = [1.0]
    while len(scales) <= settings.levels:
        scale = scales[-1] * settings.pyramid_scale
        if min(height, width) * scale < MIN_SIDE_PIXELS:
            break
        scales.append(scale)
    return scales[::-1]


# --- the pyramid ----------------------------------------------------------------------------------------------------


def _downsample(frames: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    """Low-pass filter and sample: (B, 1, H, W) -> (B, 1, h, w)."""
    sigma = (1 / scale - 1) / 2
    # The full size is filtered with (1, 2, 1) / 4: second derivatives of raw pixels are mostly noise.
    kernel = _gaussian_kernel(max(round(sigma * 5) // 2, 1), sigma) if sigma > 0 else [0.25, 0.5, 0.25]
    return _resample(_resample(frames, size[0], kernel, dim=2), size[1], kernel, dim=3)


def _resample(x: Tensor, new_size: int, kernel: list[float], dim: int) -> Tensor:
    """Filter along `dim` with an odd kernel and resample to `new_size` positions.

    Positions are interpolated linearly. Each result mixes two neighboring filtered pixels, so it is one sum over
    len(kernel) + 1 pixels. Borders mirror without repeating the edge pixel.
    """
    old, taps = x.shape[dim], len(kernel)
    smooth = torch.tensor([0.0, *kernel, 0.0], dtype=torch.float64)
    position = ((torch.arange(new_size, dtype=torch.float64) + 0.5) * old / new_size - 0.5).clamp(0, old - 1)  # (new,)
    left = position.floor()
    fraction = (position - left)[:, None]  # (new, 1)
    weights = (1 - fraction) * smooth[1:] + fraction * smooth[:-1]  # (new, taps + 1)
    period = max(2 * (old - 1), 1)
    index = (left.long()[:, None] - taps // 2 + torch.arange(taps + 1)) % period  # (new, taps + 1)
    index = torch.minimum(index, period - index).clamp(max=old - 1)
    weights, index = weights.float().to(x.device), index.to(x.device)
    shape = [1] * x.ndim
    shape[dim] = new_size
    out = x.index_select(dim, index[:, 0]) * weights[:, 0].view(shape)
    for tap in range(1, taps + 1):
        out.addcmul_(x.index_select(dim, index[:, tap]), weights[:, tap].view(shape))
    return out


def _gaussian_kernel(radius: int, sigma: float) -> list[float]:
    """2 * radius + 1 weights that sum to 1."""
    weights = [math.exp(-x * x / (2 * sigma * sigma)) for x in range(-radius, radius + 1)]
    total = sum(weights)
    return [w / total for w in weights]


def _correlate_1d(x: Tensor, kernel: list[float], dim: int) -> Tensor:
    """Correlate with an odd kernel along `dim`, which is 2 or 3.

    The edge pixels repeat outwards. Keeps the shape.
    """
    radius, length = len(kernel) // 2, x.shape[dim]
    padded = F.pad(x, (radius, radius, 0, 0) if dim == 3 else (0, 0, radius, radius), mode="replicate")
    out = padded.narrow(dim, 0, length) * kernel[0]
    for shift, weight in enumerate(kernel[1:], start=1):
        out.add_(padded.narrow(dim, shift, length), alpha=weight)
    return out


# --- quadratics and their displacement ------------------------------------------------------------------------------


def _expand_polynomials(gray: Tensor, radius: int, sigma: float) -> Tensor:
    """Fit a quadratic around each pixel.

    (B, 1, h, w) -> (B, 5, h, w), coefficients of x, y, x², y², xy.

    With separable weights the functions x, y, x² - m2, y² - m2 and xy are orthogonal (m2, m4: moments of the weights
    along one axis), so that the inverse of the Gram matrix is a division and each fit is a product of two 1-D kernels.
    """
    weights = _gaussian_kernel(radius, sigma)
    taps = [(x, w) for x, w in enumerate(weights, start=-radius)]
    m2 = sum(w * x**2 for x, w in taps)
    m4 = sum(w * x**4 for x, w in taps)
    slope = [w * x / m2 for x, w in taps]
    bend = [w * (x**2 - m2) / (m4 - m2**2) for x, w in taps]

    level = _correlate_1d(gray, weights, dim=2)  # (B, 1, h, w) each: value, slope and bend along y
    rise = _correlate_1d(gray, slope, dim=2)
    curve = _correlate_1d(gray, bend, dim=2)
    y, yy = _correlate_1d(torch.cat([rise, curve], dim=1), weights, dim=3).chunk(2, dim=1)
    x, xy = _correlate_1d(torch.cat([level, rise], dim=1), slope, dim=3).chunk(2, dim=1)
    xx = _correlate_1d(level, bend, dim=3)
    return torch.cat([x, y, xx, yy, xy], dim=1)


def _normal_equations(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Normal equations of each pixel's motion, given the current estimate `flow`.

    first, second: (B, 5, h, w) of `_expand_polynomials`; flow: (B, 2, h, w). Returns (B, 5, h, w): the entries xx, xy,
    yy of A'A and x, y of A'b in (A'A) d = A'b, where d is the total displacement.
    """
    _, _, height, width = flow.shape
    dx, dy = flow[:, 0], flow[:, 1]  # (B, h, w)
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)  # (w,)
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]  # (h, 1)
    x = (columns + dx).clamp(-1, width)  # (B, h, w): column and row in the second frame
    y = (rows + dy).clamp(-1, height)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)  # (B, h, w, 2)
    there = F.grid_sample(second, grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # (B, 5, h, w)

    # Outside the second frame, the first frame's curvature is used with a slope of zero. The last row and column count
    # as outside, because OpenCV needs all four neighbors of the position.
    inside = (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)  # (B, h, w)
    outside_value = torch.cat([torch.zeros_like(first[:, :2]), first[:, 2:]], dim=1)
    there = torch.where(inside[:, None], there, outside_value)

    edge = _edge_weights(width).to(flow) * _edge_weights(height).to(flow)[:, None]  # (h, w)
    xx = (first[:, 2] + there[:, 2]) / 2 * edge  # A = [[xx, xy], [xy, yy]], the mean of both frames: (B, h, w) each
    yy = (first[:, 3] + there[:, 3]) / 2 * edge
    xy = (first[:, 4] + there[:, 4]) / 4 * edge
    bx = (first[:, 0] - there[:, 0]) / 2 * edge + xx * dx + xy * dy
    by = (first[:, 1] - there[:, 1]) / 2 * edge + xy * dx + yy * dy
    return torch.stack(
        [xx * xx + xy * xy, (xx + yy) * xy, yy * yy + xy * xy, xx * bx + xy * by, xy * bx + yy * by], dim=1
    )


def _edge_weights(length: int) -> Tensor:
    """Return weights (length,) that decrease towards both ends.

    1 in the middle, EDGE_WEIGHTS towards both ends, their product where the two overlap.
    """
    weights = torch.ones(length)
    ramp = torch.tensor(EDGE_WEIGHTS)[:length]
    weights[: len(ramp)] *= ramp
    weights[length - len(ramp) :] *= ramp.flip(0)
    return weights


def _average_window(equations: Tensor, settings: FarnebackSettings) -> Tensor:
    """Mean of the equations over the window: (B, 5, h, w) -> the same shape."""
    radius = settings.window // 2
    kernel = (
        _gaussian_kernel(radius, radius * 0.3) if settings.gaussian_window else [1 / settings.window] * settings.window
    )
    return _correlate_1d(_correlate_1d(equations, kernel, dim=2), kernel, dim=3)


def _solve(equations: Tensor) -> Tensor:
    """Solve the 2x2 system of each pixel: (B, 5, h, w) -> (B, 2, h, w) flow."""
    xx, xy, yy, x, y = equations.unbind(dim=1)  # (B, h, w) each
    # The determinant of A'A is not negative, but rounding can make it so where all texture has one direction.
    determinant = (xx * yy - xy * xy).clamp(min=0) + REGULARIZATION
    return torch.stack([(yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant], dim=1)
