"""Pass 2: warp frames by a correction.

In reading order: sampling_map and remap sample one frame; warp, temporal_fill, warp_yuv and live process clips.
"""
