// The output transform: into planes for the next layer, or by pixel shuffle into an image.

#pragma once

#include "activations.h"
#include "cache_hints.h"
#include "input_transform.h"

// Products of the tiles [begin, end) -> planes, with bias, activation and residuals applied in registers.
template <bool HAS_SLOPE, int NUM_RESIDUALS, int ACTIVATION = LINEAR>
static void transform_output(const Op& op, const TileGrid& grid, int begin, int end, const float* points) {
    const ptrdiff_t row_stride = ptrdiff_t(op.width) * LANES;
    const bool streaming = uses_streaming_stores(op);
    const vec scale1 = splat(op.scale1), scale2 = splat(op.scale2), zero = splat(0.0f);
    for (int plane = 0; plane < op.out_planes; plane++) {
        const vec bias = load(op.bias + plane * LANES), slope = HAS_SLOPE ? load(op.slope + plane * LANES) : zero;
        for (int t = begin; t < end; t++) {
            const TileBounds tile(op, grid, t);
            const ptrdiff_t tile_offset = (tile.y - op.out_row) * row_stride + ptrdiff_t(tile.x) * LANES;
            const float* from = points + (t - begin) * grid.tile_pitch + plane * LANES;
            transform_output_tile(from, grid.point_stride, tile.top, tile.bottom, [&](int i, const vec y[OUTPUT_TILE]) {
                for (int j = 0; j < OUTPUT_TILE; j++) {
                    if (j < tile.left || j >= tile.right) continue;
                    const ptrdiff_t offset = tile_offset + i * row_stride + j * LANES;
                    vec result = y[j] + bias;
                    if (ACTIVATION == SILU) result = silu(result);
                    if (ACTIVATION == MISH) result = mish(result);
                    if (ACTIVATION == GATE) result = load(op.add1[plane] + offset) * sigmoid(result);
                    if (ACTIVATION == ATTENTION)
                        result = (result + load(op.add1[plane] + offset)) * (sigmoid(result) - 0.5f);
                    if (HAS_SLOPE) result = result > zero ? result : result * slope;
                    if (NUM_RESIDUALS > 0) result = result * scale1 + load(op.add1[plane] + offset);
                    if (NUM_RESIDUALS > 1) result = result * scale2 + load(op.add2[plane] + offset);
                    streaming ? store_streaming(op.out[plane] + offset, result) : store(op.out[plane] + offset, result);
                }
            });
        }
    }
    if (streaming) fence_streaming_stores();  // Other threads read the results after the barrier.
}

// The target of OUTPUT_CONV: a window of the upscaled image.
struct OutputImage {
    int shuffle, top, left;     // factor, and the window's position before upscaling
    ptrdiff_t row_stride, channel_stride;
    int channel_count;          // at most 4
    float* channels[4];

    explicit OutputImage(const Op& op)
        : shuffle(op.shuffle),
          top(op.out_row),
          left(op.out_column),
          row_stride(op.row_stride),
          channel_stride(op.channel_stride),
          channel_count(smaller(op.out_channels, 4)) {
        for (int i = 0; i < channel_count; i++) channels[i] = op.out[0] + i * channel_stride;
    }

    // Floats from the start of a channel to the first of the pixels that (y, x) is upscaled to.
    ALWAYS_INLINE ptrdiff_t offset_of(int y, int x) const {
        return (ptrdiff_t(y - top) * row_stride + x - left) * shuffle;
    }
};

// Products of the tiles [begin, end) -> the target image. SHUFFLE: op.shuffle if known at compile time, else 0.
// tile_output: scratch memory for the results of one tile, all channels of a pixel together.
template <int SHUFFLE>
static void transform_pixel_shuffle(const Op& op, const TileGrid& grid, int begin, int end, const float* points,
                                    float* tile_output) {
    typedef float subrow __attribute__((vector_size((SHUFFLE ? SHUFFLE : 1) * 4), aligned(4), may_alias));
    const OutputImage image(op);
    const int s = SHUFFLE ? SHUFFLE : op.shuffle, pixel_floats = op.out_planes * LANES;
    for (int t = begin; t < end; t++) {
        const TileBounds tile(op, grid, t);
        // Start from the nearest-neighbour upscaled skip image, or from zeros.
        for (int i = tile.top; i < tile.bottom; i++)
            for (int channel = 0; channel < op.out_channels; channel++) {
                const ptrdiff_t offset = (ptrdiff_t(channel) * op.height + tile.y + i) * op.width + tile.x;
                float* to = tile_output + i * OUTPUT_TILE * pixel_floats + channel * s * s;
                for (int j = tile.left; j < tile.right; j++)
                    fill(to + j * pixel_floats, s * s, op.add1 ? op.add1[0][offset + j] : 0.0f);
            }
        for (int plane = 0; plane < op.out_planes; plane++) {
            const vec bias = load(op.bias + plane * LANES), zero = splat(0.0f), one = splat(1.0f);
            const float* from = points + (t - begin) * grid.tile_pitch + plane * LANES;
            transform_output_tile(from, grid.point_stride, tile.top, tile.bottom, [&](int i, const vec y[OUTPUT_TILE]) {
                for (int j = 0; j < OUTPUT_TILE; j++) {
                    float* to = tile_output + (i * OUTPUT_TILE + j) * pixel_floats + plane * LANES;
                    vec result = y[j] + bias + load(to);
                    if (op.clamp) {
                        result = result < zero ? zero : result;
                        result = result > one ? one : result;
                    }
                    store(to, result);
                }
            });
        }
        for (int i = tile.top; i < tile.bottom; i++)
            for (int channel = 0; channel < op.out_channels; channel++)
                for (int sub = 0; sub < s; sub++) {
                    const float* from = tile_output + i * OUTPUT_TILE * pixel_floats + (channel * s + sub) * s;
                    float* to = op.out[0] + channel * image.channel_stride + image.offset_of(tile.y + i, tile.x) +
                                sub * image.row_stride;
                    for (int j = tile.left; j < tile.right; j++)
                        if (SHUFFLE)
                            *reinterpret_cast<subrow*>(to + j * s) = *reinterpret_cast<const subrow*>(from + j * pixel_floats);
                        else
                            copy(from + j * pixel_floats, s, to + j * s);
                }
    }
}
