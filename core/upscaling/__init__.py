"""Frames through a network, to any size.

`upscale` is the entry point. settings: what can be chosen. model_traits: what a model declares. replica, precision,
torch_compile: a model on a device, in a dtype. tiles, tile_size: how frames are cut. change_detection, dirty_rects,
reuse: what need not be computed again. stream: the work on each chunk. resize, postprocess: after the network.
"""
