"""Test Estimate Flow on a VIDEO that is not rendered."""

from __future__ import annotations

from pathlib import Path

from node_calls import CountingUpscaler, run_upscale


def test_flow_is_measured_at_the_rate_of_the_video_and_before_upscaling(fake_host, clip_file: Path):
    network = CountingUpscaler()
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    node = fake_host.import_("estimate_flow").EstimateFlow
    flow, images = node.execute(video, "farneback", 1.0, 64, 3).result
    assert flow.info.fps == 24, "not the 1.0 of the setting"
    assert (flow.info.width, len(flow.steps)) == (128, 12)
    assert network.frame_count == 0
    assert images.shape[0] == 3
