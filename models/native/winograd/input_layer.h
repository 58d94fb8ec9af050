// The way from plain pictures into planes, a row at a time: as they are, or, for a few channels such as a picture's colours,
// convolved directly.

#pragma once

#include <algorithm>

#include "cache_hints.h"

static void pack(const Op& op, int row) {
    const float* plain = op.in[0];
    const int y = op.first + row;
    for (int plane = 0; plane < op.out_planes; plane++) {
        float* to = op.out[plane] + ptrdiff_t(y - op.out_row) * op.width * V;
        for (int c = 0; c < V; c++) {
            const int channel = plane * V + c;
            const float* from = plain + (ptrdiff_t(channel) * op.height + y) * op.width;
            for (int x = op.left; x < op.right; x++) to[ptrdiff_t(x) * V + c] = channel < op.channels ? from[x] : 0.0f;
        }
    }
}

// Rows of the picture with a zero before each and zeros behind it.
static ptrdiff_t line_floats(int width) { return ptrdiff_t(width + ACCUMULATORS + 2) / LINE * LINE + LINE; }
static size_t lines_floats(int channels, int width) { return size_t(channels) * 3 * line_floats(width); }

template <int NV>
static void convolve_row(const Op& op, int y, int plane, const float* lines) {
    constexpr int H = ACCUMULATORS / NV;
    const ptrdiff_t line = line_floats(op.width);
    const ptrdiff_t at = ptrdiff_t(y - op.out_row) * op.width * V;
    const bool past = goes_past(op);
    for (int x = op.left; x < op.right; x += H) {
        vec sum[H][NV];
        for (int i = 0; i < H; i++)
            for (int j = 0; j < NV; j++) sum[i][j] = load(op.bias + (plane + j) * V);
        const float* weights = op.weights + ptrdiff_t(plane) * V;
        for (int row = 0; row < op.channels * 3; row++)
            for (int dx = 0; dx < 3; dx++, weights += ptrdiff_t(op.out_planes) * V) {
                const float* from = lines + row * line + x + dx;
                vec w[NV];
                for (int j = 0; j < NV; j++) w[j] = load(weights + j * V);
                for (int i = 0; i < H; i++) {
                    const vec a = splat(from[i]);
                    for (int j = 0; j < NV; j++) sum[i][j] += a * w[j];
                }
            }
        for (int j = 0; j < NV; j++) {
            const vec slope = op.slope ? load(op.slope + (plane + j) * V) : splat(1.0f), zero = splat(0.0f);
            float* to = op.out[plane + j] + at + ptrdiff_t(x) * V;
            for (int i = 0; i < H; i++) {
                if (x + i >= op.right) break;
                const vec result = sum[i][j] > zero ? sum[i][j] : sum[i][j] * slope;
                past ? store_past(to + i * V, result) : store(to + i * V, result);
            }
        }
    }
    if (past) finish_stores_past();
}

static void first(const Op& op, int part, float* lines) {
    const int y = op.first + part;
    for (int channel = 0; channel < op.channels; channel++)
        for (int dy = -1; dy <= 1; dy++) {
            float* line = lines + (channel * 3 + dy + 1) * line_floats(op.width);
            std::fill_n(line, line_floats(op.width), 0.0f);
            if (y + dy >= 0 && y + dy < op.height)
                std::copy_n(op.in[0] + (ptrdiff_t(channel) * op.height + y + dy) * op.width, op.width, line + 1);
        }
    for (int plane = 0; plane < op.out_planes;) {
        const int wide = std::min(WIDEST, op.out_planes - plane);
        const auto run = wide == 1 ? convolve_row<1> : wide == 2 ? convolve_row<2> : wide == 3 ? convolve_row<3> : convolve_row<4>;
        run(op, y, plane, lines);
        plane += wide;
    }
}
