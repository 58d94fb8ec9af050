// A 1x1 convolution of planes, one row at a time.

#pragma once

#include "cache_hints.h"

// Floats of scratch memory per thread: the pixels at the end of a row that do not fill the accumulators, and pointers to
// them.
static size_t pointwise_scratch_floats(int in_planes) {
    return size_t(in_planes) * (ACCUMULATORS * LANES * sizeof(float) + sizeof(float*)) / sizeof(float);
}

// Where a row's sums for the normalization lie: for each output channel the first result of the row, and the sums of the
// differences from it and of their squares, which loses no digits where the mean is large.
struct RowSums {
    float *first, *sum, *squares;
    RowSums(const Op& op, int row)
        : first(op.row_sums + ptrdiff_t(row) * 3 * op.out_planes * LANES),
          sum(first + op.out_planes * LANES),
          squares(sum + op.out_planes * LANES) {}
};

// PIXELS results of NUM_VECTORS planes. in: input planes at the first pixel. offset: of the results in their planes.
// count: results to keep.
template <int NUM_VECTORS, int PIXELS>
static void multiply_pixels(const Op& op, int row, int plane, const float* weights, const float* const* in,
                            ptrdiff_t in_offset, ptrdiff_t offset, int count, bool starts_row) {
    vec sum[PIXELS][NUM_VECTORS];
    for (int i = 0; i < PIXELS; i++)
        for (int j = 0; j < NUM_VECTORS; j++) sum[i][j] = load(op.bias + (plane + j) * LANES);
    for (int in_plane = 0; in_plane < op.in_planes; in_plane++) {
        const float* from = in[in_plane] + in_offset;
        for (int k = 0; k < LANES; k++, weights += NUM_VECTORS * LANES) {
            vec w[NUM_VECTORS];
            for (int j = 0; j < NUM_VECTORS; j++) w[j] = load(weights + j * LANES);
            for (int i = 0; i < PIXELS; i++) {
                const vec a = splat(from[i * LANES + k]);
                for (int j = 0; j < NUM_VECTORS; j++) sum[i][j] += a * w[j];
            }
        }
    }
    for (int j = 0; j < NUM_VECTORS; j++) {
        float* to = op.out[plane + j] + offset;
        for (int i = 0; i < PIXELS; i++) {
            if (i >= count) break;
            store(to + i * LANES, op.add1 ? sum[i][j] + load(op.add1[plane + j] + offset + i * LANES) : sum[i][j]);
        }
        if (!op.row_sums) continue;
        const RowSums sums(op, row);
        const int at = (plane + j) * LANES;
        vec first = load(sums.first + at), total = load(sums.sum + at), squares = load(sums.squares + at);
        if (starts_row) first = sum[0][j], total = squares = splat(0.0f);
        for (int i = 0; i < PIXELS; i++) {
            if (i >= count) break;
            const vec difference = sum[i][j] - first;
            total += difference;
            squares += difference * difference;
        }
        store(sums.first + at, first);
        store(sums.sum + at, total);
        store(sums.squares + at, squares);
    }
}

template <int NUM_VECTORS>
static void multiply_row(const Op& op, int row, int plane, const float* weights, float* scratch) {
    constexpr int PIXELS = ACCUMULATORS / NUM_VECTORS;
    const int y = op.top + row;
    const float** ends = reinterpret_cast<const float**>(scratch + ptrdiff_t(op.in_planes) * ACCUMULATORS * LANES);
    for (int x = op.left; x < op.right; x += PIXELS) {
        const int count = smaller(PIXELS, op.right - x);
        const ptrdiff_t in_offset = (ptrdiff_t(y - op.in_row) * op.width + x) * LANES;
        const ptrdiff_t offset = (ptrdiff_t(y - op.out_row) * op.width + x) * LANES;
        if (count == PIXELS) {
            multiply_pixels<NUM_VECTORS, PIXELS>(op, row, plane, weights, op.in, in_offset, offset, count, x == op.left);
            continue;
        }
        for (int i = 0; i < op.in_planes; i++) {  // the accumulators must not read beyond the row
            float* end = scratch + ptrdiff_t(i) * PIXELS * LANES;
            copy(op.in[i] + in_offset, count * LANES, end);
            fill(end + count * LANES, (PIXELS - count) * LANES, 0.0f);
            ends[i] = end;
        }
        multiply_pixels<NUM_VECTORS, PIXELS>(op, row, plane, weights, ends, 0, offset, count, x == op.left);
    }
}

static void convolve_pointwise(const Op& op, int row, float* scratch) {
    const float* weights = op.weights;
    for (int plane = 0; plane < op.out_planes;) {
        const int count = smaller(MAX_PLANES_PER_PASS, op.out_planes - plane);
        const auto multiply = count == 1   ? multiply_row<1>
                              : count == 2 ? multiply_row<2>
                              : count == 3 ? multiply_row<3>
                                           : multiply_row<4>;
        multiply(op, row, plane, weights, scratch);
        weights += ptrdiff_t(op.in_planes) * LANES * count * LANES;
        plane += count;
    }
}
