// Normalization of planes: over groups of channels of the whole frame, or over the channels of each pixel.

#pragma once

#include "pointwise.h"

static float square_root(float x) {
#if defined(__SSE__)
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
#else
    return __builtin_sqrtf(x);
#endif
}

// The sums of all rows -> a factor and a summand for each channel, in out[0] and out[1]. One thread adds them in order of
// the rows, so that results do not depend on the number of threads.
static void reduce_groups(const Op& op) {
    const double pixels = op.right - op.left, rows = op.bottom - op.top;
    const int group_channels = op.channels / op.groups;
    for (int group = 0; group < op.groups; group++) {
        const int begin = group * group_channels, end = begin + group_channels;
        double total = 0, deviation = 0;
        for (int row = 0; row < rows; row++) {
            const RowSums sums(op, row);
            for (int c = begin; c < end; c++) total += sums.first[c] * pixels + sums.sum[c];
        }
        const double count = rows * pixels * group_channels, mean = total / count;
        for (int row = 0; row < rows; row++) {
            const RowSums sums(op, row);
            for (int c = begin; c < end; c++) {
                const double shift = sums.first[c] - mean;  // the squares are relative to the first result
                deviation += sums.squares[c] + 2 * shift * sums.sum[c] + shift * shift * pixels;
            }
        }
        const float inverse = 1.0f / square_root(float(deviation / count) + op.epsilon);
        for (int c = begin; c < end; c++) {
            op.out[0][c] = inverse * op.weights[c];
            op.out[1][c] = op.bias[c] - float(mean) * op.out[0][c];
        }
    }
}

// One row of in * factor + summand + add1.
static void scale_row(const Op& op, int row) {
    const ptrdiff_t offset = ptrdiff_t(op.top + row - op.out_row) * op.width * LANES;
    for (int plane = 0; plane < op.out_planes; plane++) {
        const vec factor = load(op.weights + plane * LANES), summand = load(op.bias + plane * LANES);
        for (ptrdiff_t at = offset + op.left * LANES; at < offset + op.right * LANES; at += LANES)
            store(op.out[plane] + at, load(op.in[plane] + at) * factor + summand + load(op.add1[plane] + at));
    }
}

static ALWAYS_INLINE float sum_of_lanes(vec v) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

// One row, each pixel normalized over its channels. Lanes without a channel are zero, before and after.
static void normalize_pixels(const Op& op, int row) {
    const ptrdiff_t offset = ptrdiff_t(op.top + row - op.out_row) * op.width * LANES;
    const float unused = op.in_planes * LANES - op.channels, inverse_channels = 1.0f / op.channels;
    for (ptrdiff_t at = offset + op.left * LANES; at < offset + op.right * LANES; at += LANES) {
        vec total = splat(0.0f), squares = splat(0.0f);
        for (int plane = 0; plane < op.in_planes; plane++) total += load(op.in[plane] + at);
        const float mean = sum_of_lanes(total) * inverse_channels;
        for (int plane = 0; plane < op.in_planes; plane++) {
            const vec difference = load(op.in[plane] + at) - mean;
            squares += difference * difference;
        }
        const float variance = (sum_of_lanes(squares) - unused * mean * mean) * inverse_channels;
        const float inverse = 1.0f / square_root((variance > 0 ? variance : 0) + op.epsilon);
        for (int plane = 0; plane < op.in_planes; plane++)
            store(op.out[plane] + at, (load(op.in[plane] + at) - mean) * (inverse * load(op.weights + plane * LANES)) +
                                          load(op.bias + plane * LANES));
    }
}
