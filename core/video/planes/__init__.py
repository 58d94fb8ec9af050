"""Convert between planes of video frames and RGB tensors, on any torch device.

A GPU pipeline uploads planes as decoded (uint8 or 16 bits), converts on the device and downloads the encoder's planes:

    layout = layout_of(frame)                                       # None: use core.video.decode.convert
    rgb = planes_to_rgb(uploader.upload(frame_planes(frame)), layout)  # core.runtime.device.transfer.Uploader

The results agree with those of swscale as `core.video.decode.convert` and the writer call it. On a CPU swscale is
several times faster.
"""
