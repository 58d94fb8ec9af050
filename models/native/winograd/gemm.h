// The matrix product over channels that is computed at each Winograd point of a block of tiles.

#pragma once

#include "vectors.h"

constexpr int MAX_PLANES_PER_PASS = ACCUMULATORS == 24 ? 4 : 2;  // vectors of output channels in one pass of the product
constexpr int TILES_PER_BLOCK = 24;                              // a multiple of the microkernel's ROWS in every variant

// m[0..ROWS)[NUM_VECTORS * LANES] = v[0..ROWS)[depth] x u[depth][NUM_VECTORS * LANES]. Each step also prefetches a share
// of the next product's operands: its weights at `next_weights`, its tiles `stride` floats behind v. ADD: to what m holds.
template <int NUM_VECTORS, int ROWS, int PARTIAL_SUMS, bool ADD>
static ALWAYS_INLINE void gemm_microkernel(const float* v, ptrdiff_t pitch, const float* u, int depth, float* m,
                                           ptrdiff_t m_pitch, const float* next_weights, ptrdiff_t stride) {
    const ptrdiff_t share = ROWS * pitch / depth;
    vec sum[PARTIAL_SUMS][ROWS][NUM_VECTORS];
    for (int s = 0; s < PARTIAL_SUMS; s++)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < NUM_VECTORS; j++) sum[s][i][j] = splat(0.0f);
    const auto step = [&](int k, vec sums[ROWS][NUM_VECTORS]) ALWAYS_INLINE_LAMBDA {
        vec w[NUM_VECTORS];
        for (int j = 0; j < NUM_VECTORS; j++) w[j] = load(u + (ptrdiff_t(k) * NUM_VECTORS + j) * LANES);
        __builtin_prefetch(next_weights + ptrdiff_t(k) * CACHE_LINE_FLOATS);
        __builtin_prefetch(v + stride + k * share);
        for (int i = 0; i < ROWS; i++) {
            const vec a = splat(v[i * pitch + k]);
            for (int j = 0; j < NUM_VECTORS; j++) sums[i][j] += a * w[j];
        }
    };
    int k = 0;
    for (; k + PARTIAL_SUMS <= depth; k += PARTIAL_SUMS)
        for (int s = 0; s < PARTIAL_SUMS; s++) step(k + s, sum[s]);
    if (PARTIAL_SUMS > 1)
        for (; k < depth; k++) step(k, sum[0]);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < NUM_VECTORS; j++) {
            for (int s = 1; s < PARTIAL_SUMS; s++) sum[0][i][j] += sum[s][i][j];
            float* to = m + i * m_pitch + j * LANES;
            store(to, ADD ? sum[0][i][j] + load(to) : sum[0][i][j]);
        }
}

// The product for all tiles of a block. With a single vector of output channels, all accumulators in one column would
// need more row pointers than there are registers, so half of them take every second channel.
template <int NUM_VECTORS>
static __attribute__((noinline)) void gemm_tiles(const float* v, ptrdiff_t pitch, const float* u, int depth, float* m,
                                                 int tiles, ptrdiff_t stride) {
    constexpr int PARTIAL_SUMS = NUM_VECTORS == 1 ? 2 : 1, ROWS = ACCUMULATORS / NUM_VECTORS / PARTIAL_SUMS;
    const float* next_weights = u + ptrdiff_t(depth) * NUM_VECTORS * LANES;  // the next pass's weights follow these
    for (int t = 0; t < tiles; t += ROWS, next_weights += ptrdiff_t(depth) * CACHE_LINE_FLOATS)
        gemm_microkernel<NUM_VECTORS, ROWS, PARTIAL_SUMS, false>(v + t * pitch, pitch, u, depth, m + t * pitch, pitch,
                                                                next_weights, stride);
}
