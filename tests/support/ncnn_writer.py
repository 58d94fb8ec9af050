"""Writes networks as ncnn .param and .bin."""

from __future__ import annotations

import struct

import torch
from steadyscale.models import RRDBNet, SRVGGNetCompact


class Writer:
    """Writes a .param and a .bin layer by layer; methods return the name of the output blob."""

    def __init__(self, half: bool) -> None:
        self.half, self.lines, self.data, self.blobs = half, ["Input in 0 1 data"], b"", 0

    def layer(self, kind, inputs, settings=""):
        self.blobs += 1
        name = f"b{self.blobs}"
        self.lines.append(f"{kind} l{self.blobs} {len(inputs)} 1 {' '.join(inputs)} {name} {settings}")
        return name

    def conv(self, blob, conv, activation=""):
        weight = conv.weight.detach().flatten()
        if self.half:
            raw = weight.half().numpy().tobytes()
            self.data += struct.pack("<I", 0x01306B47) + raw + bytes(-len(raw) % 4)
        else:
            self.data += bytes(4) + weight.numpy().tobytes()
        self.data += conv.bias.detach().numpy().tobytes()
        settings = f"0={conv.out_channels} 1=3 4=1 5=1 6={len(weight)} {activation}"
        return self.layer("Convolution", [blob], settings)

    def save(self, folder, stem="net"):
        text = "\n".join(["7767517", f"{len(self.lines)} {self.blobs + 1}", *self.lines]) + "\n"
        (folder / f"{stem}.param").write_text(text)
        (folder / f"{stem}.bin").write_bytes(self.data)
        return folder / f"{stem}.param"


LEAKY = "9=2 -23310=1,2.000000e-01"


def write_rrdb(net: RRDBNet, half=False, scalar_mul=False, skip_of_block="x") -> Writer:
    """Write an RRDBNet. scalar_mul: residual scaling as a BinaryOp of its own, as newer converters write it."""
    writer = Writer(half)

    def scaled_sum(residual, skip):
        if not scalar_mul:
            return writer.layer("Eltwise", [residual, skip], "0=1 -23301=2,2.000000e-01,1.000000e+00")
        return writer.layer("BinaryOp", [skip, writer.layer("BinaryOp", [residual], "0=2 1=1 2=2.0e-01")], "0=0")

    first = x = writer.conv("data", net.conv_first)
    for block in net.body:
        block_input = x
        for dense in (block.rdb1, block.rdb2, block.rdb3):
            blobs = [x]
            for conv in (dense.conv1, dense.conv2, dense.conv3, dense.conv4):
                blobs.append(writer.conv(writer.layer("Concat", blobs) if blobs[1:] else x, conv, LEAKY))
            x = scaled_sum(writer.conv(writer.layer("Concat", blobs), dense.conv5), x)
        x = scaled_sum(x, block_input if skip_of_block == "x" else first)
    x = writer.layer("BinaryOp", [first, writer.conv(x, net.conv_body)], "0=0")
    for index in range(1, net.config.doublings + 1):
        up = writer.layer("Interp", [x], "0=1 1=2.000000e+00 2=2.000000e+00")
        x = writer.conv(up, net.get_submodule(f"conv_up{index}"), LEAKY)
    writer.conv(writer.conv(x, net.conv_hr, LEAKY), net.conv_last)
    return writer


def write_srvgg(net: SRVGGNetCompact, half=False, slope=None) -> Writer:
    writer, x = Writer(half), "data"
    for layer in net.body:
        if isinstance(layer, torch.nn.Conv2d):
            x = writer.conv(x, layer)
        elif slope is None:
            writer.data += layer.weight.detach().numpy().tobytes()
            x = writer.layer("PReLU", [x], f"0={len(layer.weight)}")
        else:
            x = writer.layer("ReLU", [x], f"0={slope}")
    x = writer.layer("PixelShuffle", [x], f"0={net.scale}")
    up = writer.layer("Interp", ["data"], f"0=1 1={net.scale}.0 2={net.scale}.0")
    writer.layer("BinaryOp", [x, up], "0=0")
    return writer
