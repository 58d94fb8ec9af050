"""Convert between planes of video frames and RGB tensors, on any torch device.

A GPU pipeline uploads planes as decoded (uint8 or 16 bits), converts on the device and downloads the encoder's planes:

    layout = layout_of(frame)                             # None: use core.video.decode.convert
    upload = PlaneBuffer.allocate(layout, frame.width, frame.height, pin_memory=True)
    upload.fill(frame_planes(frame))
    rgb = planes_to_rgb(upload.to(device).planes, layout)

The results agree with those of swscale as `core.video.decode.convert` and the writer call it. On a CPU swscale is
several times faster.
"""
