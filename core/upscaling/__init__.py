"""Frames through a network, to any size.

`upscale` is the entry point, for one device or several. settings: what can be chosen. chunk_upscaler, stream: the work
on each chunk. tiles, tile_size: how frames are cut. model: a network on a device. regions: what need not be computed
again. resize, postprocess: after the network.
"""
