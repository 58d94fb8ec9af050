// The first layer, one row at a time: copy an image into planes, or convolve its few channels directly.

#pragma once

#include "cache_hints.h"

// One row of an image (channels, height, width) -> planes; lanes without a channel are zero.
static void pack_row(const Op& op, int row) {
    const float* image = op.in[0];
    const int y = op.top + row;
    for (int plane = 0; plane < op.out_planes; plane++) {
        float* to = op.out[plane] + ptrdiff_t(y - op.out_row) * op.width * LANES;
        for (int c = 0; c < LANES; c++) {
            const int channel = plane * LANES + c;
            const float* from = image + (ptrdiff_t(channel) * op.height + y) * op.width;
            for (int x = op.left; x < op.right; x++) to[ptrdiff_t(x) * LANES + c] = channel < op.channels ? from[x] : 0.0f;
        }
    }
}

// Length of an image row with one zero before it and zeros after it, a whole number of cache lines.
static ptrdiff_t padded_row_floats(int width) {
    return ptrdiff_t(width + ACCUMULATORS + 2) / CACHE_LINE_FLOATS * CACHE_LINE_FLOATS + CACHE_LINE_FLOATS;
}
static size_t input_scratch_floats(int channels, int width) { return size_t(channels) * 3 * padded_row_floats(width); }

// One row of output for NUM_VECTORS planes. rows: the three padded input rows of each channel.
template <int NUM_VECTORS>
static void convolve_row(const Op& op, int y, int plane, const float* rows) {
    constexpr int PIXELS = ACCUMULATORS / NUM_VECTORS;
    const ptrdiff_t row_floats = padded_row_floats(op.width);
    const ptrdiff_t offset = ptrdiff_t(y - op.out_row) * op.width * LANES;
    const bool streaming = uses_streaming_stores(op);
    for (int x = op.left; x < op.right; x += PIXELS) {
        vec sum[PIXELS][NUM_VECTORS];
        for (int i = 0; i < PIXELS; i++)
            for (int j = 0; j < NUM_VECTORS; j++) sum[i][j] = load(op.bias + (plane + j) * LANES);
        const float* weights = op.weights + ptrdiff_t(plane) * LANES;
        for (int row = 0; row < op.channels * 3; row++)
            for (int dx = 0; dx < 3; dx++, weights += ptrdiff_t(op.out_planes) * LANES) {
                const float* from = rows + row * row_floats + x + dx;
                vec w[NUM_VECTORS];
                for (int j = 0; j < NUM_VECTORS; j++) w[j] = load(weights + j * LANES);
                for (int i = 0; i < PIXELS; i++) {
                    const vec a = splat(from[i]);
                    for (int j = 0; j < NUM_VECTORS; j++) sum[i][j] += a * w[j];
                }
            }
        for (int j = 0; j < NUM_VECTORS; j++) {
            const vec slope = op.slope ? load(op.slope + (plane + j) * LANES) : splat(1.0f), zero = splat(0.0f);
            float* to = op.out[plane + j] + offset + ptrdiff_t(x) * LANES;
            for (int i = 0; i < PIXELS; i++) {
                if (x + i >= op.right) break;
                const vec result = sum[i][j] > zero ? sum[i][j] : sum[i][j] * slope;
                streaming ? store_streaming(to + i * LANES, result) : store(to + i * LANES, result);
            }
        }
    }
    if (streaming) fence_streaming_stores();
}

// Convolve one row of an image. `rows`: scratch memory for its padded input rows.
static void convolve_input(const Op& op, int row, float* rows) {
    const int y = op.top + row;
    for (int channel = 0; channel < op.channels; channel++)
        for (int dy = -1; dy <= 1; dy++) {
            float* padded = rows + (channel * 3 + dy + 1) * padded_row_floats(op.width);
            fill(padded, padded_row_floats(op.width), 0.0f);
            if (y + dy >= 0 && y + dy < op.height)
                copy(op.in[0] + (ptrdiff_t(channel) * op.height + y + dy) * op.width, op.width, padded + 1);
        }
    for (int plane = 0; plane < op.out_planes;) {
        const int count = smaller(MAX_PLANES_PER_PASS, op.out_planes - plane);
        const auto convolve = count == 1   ? convolve_row<1>
                              : count == 2 ? convolve_row<2>
                              : count == 3 ? convolve_row<3>
                                           : convolve_row<4>;
        convolve(op, y, plane, rows);
        plane += count;
    }
}
