// Winograd's transforms of a patch and back, for the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.

#pragma once

#include "vectors.h"

constexpr int OUT = 6, IN = 8, POINTS = IN * IN;

static ALWAYS void forward(const vec d[IN], vec t[IN]) {
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

static ALWAYS void backward(const vec m[IN], vec y[OUT]) {
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

// One patch of one plane -> its 64 points, `stride` floats apart. A doubled patch has 5x5 different pixels.
template <bool UP>
static ALWAYS void transform_patch(const float* patch, ptrdiff_t row, float* points, ptrdiff_t stride) {
    alignas(64) float half[IN][IN * V];
    vec d[IN], t[IN];
    constexpr int WIDE = UP ? 5 : IN;
    for (int x = 0; x < WIDE; x++) {
        for (int y = 0; y < IN; y++) d[y] = fetch(patch + (UP ? (y + 1) / 2 : y) * row + x * V);
        forward(d, t);
        for (int y = 0; y < IN; y++) store(half[y] + x * V, t[y]);
    }
    for (int y = 0; y < IN; y++) {
        for (int x = 0; x < IN; x++) d[x] = fetch(half[y] + (UP ? (x + 1) / 2 : x) * V);
        forward(d, t);
        for (int x = 0; x < IN; x++) store(points + (y * IN + x) * stride, t[x]);
    }
}

// The 6x6 results of a patch of one plane, without bias: take(row, its six vectors) for rows [top, bottom).
template <typename Take>
static ALWAYS void transform_back(const float* points, ptrdiff_t stride, int top, int bottom, const Take& take) {
    alignas(64) float half[OUT][IN * V];
    vec m[IN], y[OUT];
    for (int j = 0; j < IN; j++) {
        for (int i = 0; i < IN; i++) m[i] = fetch(points + (i * IN + j) * stride);
        backward(m, y);
        for (int i = 0; i < OUT; i++) store(half[i] + j * V, y[i]);
    }
    for (int i = top; i < bottom; i++) {
        for (int j = 0; j < IN; j++) m[j] = fetch(half[i] + j * V);
        backward(m, y);
        take(i, y);
    }
}
