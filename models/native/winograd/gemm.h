// The matrix product over channels that is made at each of a block's points.

#pragma once

#include "vectors.h"

constexpr int WIDEST = ACCUMULATORS == 24 ? 4 : 2;  // vectors of output channels in one pass of the product
constexpr int TILES = 24;                           // patches in a block; every height of the product divides it

// m[0..H)[NV * V] = v[0..H)[depth] x u[depth][NV * V]. Asks for the weights and the patches of the next product, a little
// with each step: `ahead`, and what is `stride` behind v.
template <int NV, int H, int SUMS>
static ALWAYS void product(const float* v, ptrdiff_t pitch, const float* u, int depth, float* m, const float* ahead,
                           ptrdiff_t stride) {
    const ptrdiff_t share = H * pitch / depth;
    vec sum[SUMS][H][NV];
    for (int s = 0; s < SUMS; s++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < NV; j++) sum[s][i][j] = splat(0.0f);
    const auto step = [&](int k, vec sums[H][NV]) ALWAYS_LAMBDA {
        vec w[NV];
        for (int j = 0; j < NV; j++) w[j] = load(u + (ptrdiff_t(k) * NV + j) * V);
        __builtin_prefetch(ahead + ptrdiff_t(k) * LINE);
        __builtin_prefetch(v + stride + k * share);
        for (int i = 0; i < H; i++) {
            const vec a = splat(v[i * pitch + k]);
            for (int j = 0; j < NV; j++) sums[i][j] += a * w[j];
        }
    };
    int k = 0;
    for (; k + SUMS <= depth; k += SUMS)
        for (int s = 0; s < SUMS; s++) step(k + s, sum[s]);
    if (SUMS > 1)
        for (; k < depth; k++) step(k, sum[0]);
    for (int i = 0; i < H; i++)
        for (int j = 0; j < NV; j++) {
            for (int s = 1; s < SUMS; s++) sum[0][i][j] += sum[s][i][j];
            store(m + i * pitch + j * V, sum[0][i][j]);
        }
}

// One vector of output channels: with all accumulators in one column there are more rows than registers to find them by,
// so half of them take every second channel.
template <int NV>
static __attribute__((noinline)) void products(const float* v, ptrdiff_t pitch, const float* u, int depth, float* m,
                                               int tiles, ptrdiff_t stride) {
    constexpr int SUMS = NV == 1 ? 2 : 1, H = ACCUMULATORS / NV / SUMS;
    const float* ahead = u + ptrdiff_t(depth) * NV * V;  // the next weights follow these
    for (int t = 0; t < tiles; t += H, ahead += ptrdiff_t(depth) * LINE)
        product<NV, H, SUMS>(v + t * pitch, pitch, u, depth, m + t * pitch, ahead, stride);
}
