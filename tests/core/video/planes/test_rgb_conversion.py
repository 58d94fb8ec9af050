"""Conversion in torch agrees with a float64 reference, and with swscale within its rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yuv_frames
from steadyscale.core.video.encode.output_format import SWS_MATRIX
from steadyscale.core.video.format.chroma_location import CENTER, LEFT
from steadyscale.core.video.format.stream_format import BT709, LIMITED_RANGE
from steadyscale.core.video.planes.frame_planes import frame_from_planes, frame_planes
from steadyscale.core.video.planes.layout import PlaneLayout, layout_for, layout_of
from steadyscale.core.video.planes.rgb_conversion import planes_to_rgb, rgb_to_planes

# (Kr, Kb) by matrix tag, from the standards.
COEFFICIENTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
YUV_FORMATS = [
    *("yuv420p", "yuv422p", "yuv444p", "nv12", "yuva420p"),
    *("yuv420p9le", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv444p16le", "p010le", "yuva444p10le"),
]
RGB_FORMATS = [
    "gbrp",
    "gbrp10le",
    "gbrp16le",
    "gbrap",
    "gbrap16le",
    "rgb24",
    "bgr24",
    "rgba",
    "bgra",
    "gray",
    "gray10le",
]
SIZES = [(64, 48), (37, 23), (37, 24), (36, 23)]


def to_rgb(frame) -> tuple[np.ndarray, PlaneLayout]:
    layout = layout_of(frame)
    assert layout is not None
    rgb = planes_to_rgb(frame_planes(frame), layout)
    assert rgb.shape == (1, layout.rgb_channels, frame.height, frame.width)
    assert rgb.is_contiguous()
    return rgb[0].numpy().astype(np.float64), layout


def to_codes(planes: list[torch.Tensor], layout: PlaneLayout) -> dict[str, np.ndarray]:
    """Codes of the first frame of a batch by channel, without the shift of p010le."""
    codes = {}
    for plane, names in zip(planes, layout.channels, strict=True):
        values = (plane[0].numpy().astype(np.int64) & (0xFF if layout.bits == 8 else 0xFFFF)) / (1 << layout.shift)
        for index, name in enumerate(names):
            codes[name] = values if len(names) == 1 else values[..., index]
    return codes


def photo_frame(pixel_format: str, width: int = 64, height: int = 48, **options):
    layout = layout_for(pixel_format)
    assert layout is not None
    rgb = yuv_frames.photo(width, height, layout.rgb_channels)
    return yuv_frames.frame_from_rgb(rgb, pixel_format, **options)


# ------------------------------------------------------------------------------------------------------- planes to RGB


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", YUV_FORMATS)
def test_reading_agrees_with_the_reference_and_swscale(pixel_format: str, full_range: bool):
    frame = photo_frame(pixel_format, full_range=full_range)
    rgb, layout = to_rgb(frame)
    kr, kb = COEFFICIENTS[BT709]
    expected = yuv_frames.reference_rgb(yuv_frames.read_codes(frame), layout.bits, kr, kb, full_range=full_range)
    assert np.abs(rgb[:3] - expected).max() < 2e-6
    difference = 255 * np.abs(rgb - yuv_frames.read_with_swscale(frame))
    if layout.bits == 8:
        assert difference.max() < 1
        assert (difference < 0.75).mean() > 0.999, "0.5 for rounding, and swscale's own errors"
    else:
        assert difference.max() < 0.5


@pytest.mark.parametrize("pixel_format", RGB_FORMATS)
def test_reading_rgb_and_gray_agrees_with_swscale(pixel_format: str):
    frame = photo_frame(pixel_format)
    rgb, layout = to_rgb(frame)
    difference = np.abs(rgb - yuv_frames.read_with_swscale(frame))
    # Swscale converts RGB of 9 to 14 bits to YUV in between.
    assert difference.max() < (1e-6 if layout.bits in (8, 16) or pixel_format == "gray10le" else 0.2 / 255)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", SWS_MATRIX)
def test_matrices(matrix: int, full_range: bool):
    for pixel_format in ("yuv420p", "yuv444p10le"):
        frame = photo_frame(pixel_format, matrix=matrix, full_range=full_range)
        rgb, layout = to_rgb(frame)
        expected = yuv_frames.reference_rgb(
            yuv_frames.read_codes(frame), layout.bits, *COEFFICIENTS[matrix], full_range=full_range
        )
        assert np.abs(rgb - expected).max() < 2e-6
        assert np.abs(rgb - yuv_frames.read_with_swscale(frame)).max() < 1 / 255
        planes = rgb_to_planes(yuv_frames.photo(64, 48)[None], layout, (64, 48))
        assert_codes_agree(to_codes(planes, layout), yuv_frames.read_codes(frame), layout)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("location", yuv_frames.LOCATIONS)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv420p10le"])
def test_chroma_locations_and_odd_sizes(pixel_format: str, location: str, width: int, height: int):
    frame = photo_frame(pixel_format, width, height)
    frame = yuv_frames.set_parameters(frame, chroma_location=location)
    rgb, layout = to_rgb(frame)
    expected = yuv_frames.reference_rgb(
        yuv_frames.read_codes(frame), layout.bits, *COEFFICIENTS[BT709], full_range=False, location=location
    )
    # Swscale has fixed-point steps for the stretched chroma of odd sizes, which the reference has not.
    assert np.abs(rgb - expected).max() < (2e-6 if width % 2 == height % 2 == 0 else 2e-4)
    assert np.abs(rgb - yuv_frames.read_with_swscale(frame)).max() < 1 / 255


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p"])
def test_saturated_colors(pixel_format: str, full_range: bool):
    """Swscale clips interpolated chroma, which exceeds the largest code at edges."""
    frame = yuv_frames.frame_from_rgb(yuv_frames.saturated_blocks(64, 48), pixel_format, full_range=full_range)
    rgb, layout = to_rgb(frame)
    codes, coefficients = yuv_frames.read_codes(frame), COEFFICIENTS[BT709]
    expected = yuv_frames.reference_rgb(codes, layout.bits, *coefficients, full_range=full_range)
    assert np.abs(rgb - expected).max() < 2e-6
    swscale = yuv_frames.read_with_swscale(frame)
    clipped = yuv_frames.reference_rgb(codes, layout.bits, *coefficients, full_range=full_range, clips_chroma=True)
    assert (255 * np.abs(clipped - swscale) < 1).mean() > 0.999, "clipping is the only difference"
    assert (255 * np.abs(rgb - swscale) < 1).mean() > (0.97 if full_range else 0.999)


def test_a_batch_in_half_precision():
    frames = [photo_frame("yuva420p"), photo_frame("yuva420p", full_range=True)]
    layout = layout_for("yuva420p")
    assert layout is not None
    single = [planes_to_rgb(frame_planes(frame), layout) for frame in frames]
    planes = [torch.stack(pair) for pair in zip(*map(frame_planes, frames), strict=True)]
    assert torch.equal(planes_to_rgb(planes, layout), torch.cat(single))
    half = planes_to_rgb(planes, layout, torch.float16)
    assert torch.equal(half, torch.cat(single).half())


def test_unsigned_16_bit_planes():
    layout = layout_for("yuv444p16le")
    assert layout is not None
    planes = [torch.from_numpy(np.full((4, 6), value, np.uint16)) for value in (60160, 32768, 32768)]
    rgb = planes_to_rgb(planes, layout)
    assert (rgb - 1).abs().max() < 1e-6, "white"
    assert torch.equal(planes_to_rgb([plane.view(torch.int16) for plane in planes], layout), rgb)


@pytest.mark.parametrize("count", [2, 3])
def test_wrong_planes_are_refused(count: int):
    layout = layout_for("yuv420p10le")
    assert layout is not None
    with pytest.raises(ValueError, match=r"3 planes of torch\.int16"):
        planes_to_rgb([torch.zeros(4, 4, dtype=torch.uint8)] * count, layout)


# ------------------------------------------------------------------------------------------------------- RGB to planes


def assert_codes_agree(codes: dict[str, np.ndarray], expected: dict[str, np.ndarray], layout: PlaneLayout) -> None:
    """Within swscale's errors, in limited range; see the docstring of rgb_conversion for full range."""
    assert codes.keys() == expected.keys()
    for name, values in codes.items():
        assert values.shape == expected[name].shape
        difference = values - expected[name]
        unit = 1 << (layout.bits - 8)
        if layout.full_range:
            assert np.abs(difference).max() <= unit
        else:
            assert np.abs(difference).max() <= max(1, unit / 64)
            assert abs(difference.mean()) < max(0.15, unit / 128)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("content", [yuv_frames.photo, yuv_frames.saturated_blocks])
@pytest.mark.parametrize("pixel_format", YUV_FORMATS)
def test_writing_agrees_with_the_reference_and_swscale(pixel_format: str, content, full_range: bool):
    layout = layout_for(pixel_format, BT709, full_range)
    assert layout is not None
    rgb = content(64, 48, layout.rgb_channels)
    codes = to_codes(rgb_to_planes(rgb[None], layout, (64, 48)), layout)
    expected = yuv_frames.reference_yuv(
        rgb[:3].numpy().astype(np.float64),
        layout.bits,
        *COEFFICIENTS[BT709],
        full_range=full_range,
        subsampling=layout.subsampling,
        location="center",
    )
    for name, values in expected.items():
        assert np.abs(codes[name] - values).max() < 0.5 + layout.bits**4 * 1e-7, "only rounded"
    swscale = yuv_frames.read_codes(yuv_frames.frame_from_rgb(rgb, pixel_format, full_range=full_range))
    if content is yuv_frames.photo or not full_range:
        assert_codes_agree(codes, swscale, layout)


@pytest.mark.parametrize("pixel_format", RGB_FORMATS)
def test_writing_rgb_and_gray_agrees_with_swscale(pixel_format: str):
    layout = layout_for(pixel_format)
    assert layout is not None
    rgb = yuv_frames.photo(64, 48, layout.rgb_channels)
    frame = yuv_frames.frame_from_rgb(rgb, pixel_format)
    for plane, expected in zip(rgb_to_planes(rgb[None], layout, (64, 48)), frame_planes(frame), strict=True):
        mask = 0xFF if layout.bits == 8 else 0xFFFF
        difference = (plane[0].int() & mask) - (expected.int() & mask)
        assert difference.abs().max() <= (3 if pixel_format == "gray10le" else 1)


@pytest.mark.parametrize("location", list(yuv_frames.LOCATIONS)[1:])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv420p10le"])
def test_writing_at_chroma_locations(pixel_format: str, location: str):
    layout = layout_for(pixel_format, BT709, False, list(yuv_frames.LOCATIONS).index(location))
    assert layout is not None
    rgb = yuv_frames.photo(64, 48)
    codes = to_codes(rgb_to_planes(rgb[None], layout, (64, 48)), layout)
    frame = yuv_frames.frame_from_rgb(rgb, pixel_format, location=location)
    assert_codes_agree(codes, yuv_frames.read_codes(frame), layout)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_odd_sizes_are_padded_by_repeating_the_border(pixel_format: str):
    layout = layout_for(pixel_format)
    assert layout is not None
    size = (37 + layout.subsampling[0] - 1, 23 + layout.subsampling[1] - 1)
    rgb = yuv_frames.photo(37, 23)
    codes = to_codes(rgb_to_planes(rgb[None], layout, size), layout)
    frame = yuv_frames.frame_from_rgb(rgb, pixel_format, size=size)
    assert_codes_agree(codes, yuv_frames.read_codes(frame), layout)
    if size != (37, 23):
        with pytest.raises(ValueError, match="needs even sizes, not 37x23"):
            rgb_to_planes(rgb[None], layout, (37, 23))


def test_missing_alpha_is_refused():
    layout = layout_for("yuva420p")
    assert layout is not None
    with pytest.raises(ValueError, match="needs 4 channels, not 3"):
        rgb_to_planes(torch.zeros(1, 3, 4, 4), layout, (4, 4))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", [*YUV_FORMATS, "gbrp", "gbrp10le", "gbrap16le", "bgra", "gray", "gray10le"])
def test_a_round_trip_returns_the_planes(pixel_format: str, full_range: bool):
    """Of smooth frames: chroma with noise does not survive its interpolation."""
    for location in (LEFT, CENTER):
        layout = layout_for(pixel_format, BT709, full_range, location)
        assert layout is not None
        planes = smooth_planes(layout, 64, 48)
        result = rgb_to_planes(planes_to_rgb(planes, layout), layout, (64, 48))
        unit = 1 << (layout.bits - 8)
        for before, after in zip(planes, result, strict=True):
            if layout.bits == 8:
                difference = (after.int() - before.int()).abs()
            else:
                difference = ((after.int() & 0xFFFF) - (before.int() & 0xFFFF)).abs() >> layout.shift
            assert difference.max() <= max(1, unit / 4 if layout.subsampling != (1, 1) else 1)


def smooth_planes(layout: PlaneLayout, width: int, height: int) -> list[torch.Tensor]:
    """Planes of a batch of one, of values in the middle of the range that change slowly."""
    planes = []
    for index, shape in enumerate(layout.plane_shapes(width, height)):
        y, x = torch.meshgrid(torch.linspace(0, 3, shape[0]), torch.linspace(0, 4, shape[1]), indexing="ij")
        values = (0.5 + 0.12 * torch.sin(x + index) * torch.cos(y)) * (1 << layout.bits)
        codes = values.int() << layout.shift
        planes.append((codes if len(shape) == 2 else codes[..., None].expand(shape)).contiguous()[None])
    return [plane.to(torch.uint8 if layout.bits == 8 else torch.int16) for plane in planes]


@pytest.mark.parametrize("pixel_format", YUV_FORMATS)
def test_black_and_white_stay_so(pixel_format: str):
    """Whichever of the two conversions reads them."""
    layout = layout_for(pixel_format)
    assert layout is not None
    rgb = torch.zeros(1, layout.rgb_channels, 16, 16)
    rgb[..., 8:] = 1
    written = rgb_to_planes(rgb, layout, (16, 16))
    frame = frame_from_planes([plane[0] for plane in written], layout, 16, 16)
    frame.colorspace, frame.color_range = BT709, LIMITED_RANGE
    for back in (planes_to_rgb(written, layout)[0].numpy(), yuv_frames.read_with_swscale(frame)):
        assert back[:3, :, 0].max() < 1e-4
        assert back[:3, :, 15].min() > 1 - 1.01 * 2.0**-layout.bits
