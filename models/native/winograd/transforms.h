// Winograd's input and output transforms of one tile, for the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.

#pragma once

#include "vectors.h"

constexpr int OUTPUT_TILE = 6, INPUT_TILE = 8, TILE_POINTS = INPUT_TILE * INPUT_TILE;

// B^T d
static ALWAYS_INLINE void input_transform_1d(const vec d[INPUT_TILE], vec t[INPUT_TILE]) {
    t[0] = (d[0] - d[6]) + 5.25f * (d[4] - d[2]);
    t[7] = (d[7] - d[1]) + 5.25f * (d[3] - d[5]);
    vec even = (d[2] + d[6]) - 4.25f * d[4], odd = (d[1] + d[5]) - 4.25f * d[3];
    t[1] = even + odd;
    t[2] = even - odd;
    even = (d[6] + 0.25f * d[2]) - 1.25f * d[4];
    odd = 0.5f * d[1] - 2.5f * d[3] + 2.0f * d[5];
    t[3] = even + odd;
    t[4] = even - odd;
    even = (d[6] + 4.0f * d[2]) - 5.0f * d[4];
    odd = 2.0f * d[1] - 2.5f * d[3] + 0.5f * d[5];
    t[5] = even + odd;
    t[6] = even - odd;
}

// A^T m
static ALWAYS_INLINE void output_transform_1d(const vec m[INPUT_TILE], vec y[OUTPUT_TILE]) {
    const vec s1 = m[1] + m[2], d1 = m[1] - m[2];
    const vec s2 = m[3] + m[4], d2 = m[3] - m[4];
    const vec s3 = m[5] + m[6], d3 = m[5] - m[6];
    y[0] = (m[0] + s1) + (s2 + s3);
    y[1] = d1 + 2.0f * d2 + 0.5f * d3;
    y[2] = s1 + 4.0f * s2 + 0.25f * s3;
    y[3] = d1 + 8.0f * d2 + 0.125f * d3;
    y[4] = s1 + 16.0f * s2 + 0.0625f * s3;
    y[5] = (d1 + m[7]) + 32.0f * d2 + 0.03125f * d3;
}

// One input tile of one plane -> its 64 points, `stride` floats apart. A tile of a 2x nearest upsampled input has 5x5
// distinct pixels.
template <bool UPSAMPLE>
static ALWAYS_INLINE void transform_input_tile(const float* tile, ptrdiff_t row_stride, float* points, ptrdiff_t stride) {
    alignas(64) float half[INPUT_TILE][INPUT_TILE * LANES];
    vec d[INPUT_TILE], t[INPUT_TILE];
    constexpr int COLUMNS = UPSAMPLE ? 5 : INPUT_TILE;
    for (int x = 0; x < COLUMNS; x++) {
        for (int y = 0; y < INPUT_TILE; y++)
            d[y] = load_to_register(tile + (UPSAMPLE ? (y + 1) / 2 : y) * row_stride + x * LANES);
        input_transform_1d(d, t);
        for (int y = 0; y < INPUT_TILE; y++) store(half[y] + x * LANES, t[y]);
    }
    for (int y = 0; y < INPUT_TILE; y++) {
        for (int x = 0; x < INPUT_TILE; x++) d[x] = load_to_register(half[y] + (UPSAMPLE ? (x + 1) / 2 : x) * LANES);
        input_transform_1d(d, t);
        for (int x = 0; x < INPUT_TILE; x++) store(points + (y * INPUT_TILE + x) * stride, t[x]);
    }
}

// The 6x6 output of one tile of one plane, without bias: calls emit_row(row, its six vectors) for rows [top, bottom).
template <typename EmitRow>
static ALWAYS_INLINE void transform_output_tile(const float* points, ptrdiff_t stride, int top, int bottom,
                                                const EmitRow& emit_row) {
    alignas(64) float half[OUTPUT_TILE][INPUT_TILE * LANES];
    vec m[INPUT_TILE], y[OUTPUT_TILE];
    for (int j = 0; j < INPUT_TILE; j++) {
        for (int i = 0; i < INPUT_TILE; i++) m[i] = load_to_register(points + (i * INPUT_TILE + j) * stride);
        output_transform_1d(m, y);
        for (int i = 0; i < OUTPUT_TILE; i++) store(half[i] + j * LANES, y[i]);
    }
    for (int i = top; i < bottom; i++) {
        for (int j = 0; j < INPUT_TILE; j++) m[j] = load_to_register(half[i] + j * LANES);
        output_transform_1d(m, y);
        emit_row(i, y);
    }
}
