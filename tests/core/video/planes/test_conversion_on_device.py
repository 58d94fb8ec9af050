"""Conversion on a GPU: few launches, no synchronization, the same values as on the CPU."""

from __future__ import annotations

import pytest
import simulated_gpu
import torch
from steadyscale.core.runtime.device.accelerator import accelerator_for
from steadyscale.core.runtime.device.transfer import DownloadRing, Uploader
from steadyscale.core.video.planes.frame_planes import empty_planes
from steadyscale.core.video.planes.layout import layout_for
from steadyscale.core.video.planes.rgb_conversion import planes_to_rgb, rgb_to_planes

pytestmark = pytest.mark.skipif(not simulated_gpu.can_build(), reason="the simulated GPU cannot be compiled here")

# Launches of (planes_to_rgb, rgb_to_planes), by pixel format and size.
BUDGETS = {
    ("yuv420p", (64, 48)): (8, 12),
    ("yuv422p", (64, 48)): (8, 12),
    ("yuv444p", (64, 48)): (7, 11),
    ("yuva420p", (64, 48)): (9, 15),
    ("yuv420p10le", (64, 48)): (8, 12),
    ("p010le", (64, 48)): (10, 15),
    ("yuv420p16le", (64, 48)): (11, 15),
    ("yuv420p", (38, 23)): (9, 13),
    ("gray", (64, 48)): (1, 6),
    ("gbrp", (64, 48)): (3, 10),
}


@pytest.mark.parametrize(("pixel_format", "size"), BUDGETS)
@pytest.mark.parametrize("inference", [False, True])
def test_launches_transfers_and_values(pixel_format: str, size: tuple[int, int], inference: bool):
    layout = layout_for(pixel_format)
    assert layout is not None
    padded = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    with simulated_gpu.enabled() as gpu, torch.inference_mode(inference):
        accelerator = accelerator_for(torch.device(simulated_gpu.DEVICE))
        uploader, ring = Uploader(accelerator), DownloadRing(accelerator)
        host = empty_planes(layout, *size, batch=2)
        for plane in host:
            plane.random_(0, 1 << min(layout.bits, 10))
        rgb_to_planes(planes_to_rgb(uploader.upload(host), layout), layout, padded)  # uploads filters
        start = gpu.read_counters()
        uploaded = uploader.upload(host)
        before_read = gpu.read_counters()
        rgb = planes_to_rgb(uploaded, layout)
        before_write = gpu.read_counters()
        result = rgb_to_planes(rgb, layout, padded)
        before_download = gpu.read_counters()
        downloaded = ring.start(result).wait()
        end = gpu.read_counters()
        launches = (before_write - before_read).launches, (before_download - before_write).launches
        assert launches == BUDGETS[pixel_format, size]
        total = end - start
        assert (total.synchronizations, total.pageable_bytes) == (0, 0)
        assert total.bytes_to_device == sum(plane.nbytes for plane in host)
        assert total.bytes_to_host == sum(plane.nbytes for plane in downloaded)
        assert rgb.device.type == simulated_gpu.DEVICE
        expected = planes_to_rgb(host, layout)
        assert torch.equal(rgb.cpu(), expected)
        for plane, on_cpu in zip(downloaded, rgb_to_planes(expected, layout, padded), strict=True):
            assert torch.equal(plane, on_cpu)
