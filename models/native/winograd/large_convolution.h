// A convolution with a large kernel, as the sum of 3x3 ones at Winograd's points.
//
// The kernel, filled up with zeros, is cut into 3x3 parts. A part reads the input 3 pixels further than the one before it,
// so a tile of 6x6 results needs the transforms of input tiles that start 3 pixels apart, and neighbouring tiles share
// them. The products of all parts are added before the one transform back. A 17x17 kernel has 36 parts and takes less
// than a quarter of the multiplications of the sum by definition.

#pragma once

#include "output_layer.h"

constexpr int KERNEL_PART = 3;  // side of a part; a tile is two of them wide, which the layout below relies on

struct LargeKernel {
    int parts, positions, depth;  // parts of a side; input tiles of a block in a row; floats that a product adds up
    ptrdiff_t input_stride, product_stride;  // floats from point to point

    LargeKernel(int kernel, int in_planes, int out_planes)
        : parts((kernel + KERNEL_PART - 1) / KERNEL_PART),
          positions(OUTPUT_TILE / KERNEL_PART * (TILES_PER_BLOCK - 1) + parts),
          depth(parts * in_planes * LANES),
          input_stride(ptrdiff_t(positions) * in_planes * LANES + 16),
          product_stride(ptrdiff_t(TILES_PER_BLOCK) * out_planes * LANES + 16) {}
};

static size_t large_scratch_floats(int kernel, int in_planes, int out_planes) {
    const LargeKernel large(kernel, in_planes, out_planes);
    return size_t(large.input_stride + large.product_stride) * TILE_POINTS;
}

// Blocks of one row of tiles; a block does not continue in the next row.
static int large_blocks_per_row(const Op& op) {
    return (TileGrid(op).tiles_per_row + TILES_PER_BLOCK - 1) / TILES_PER_BLOCK;
}

// The transforms of one row of input tiles, `KERNEL_PART` pixels apart.
static void transform_large_input(const Op& op, const LargeKernel& large, int y0, int x0, int positions, float* points) {
    alignas(64) float tile[TILE_POINTS * LANES];
    const ptrdiff_t row_stride = ptrdiff_t(op.width) * LANES;
    for (int plane = 0; plane < op.in_planes; plane++)
        for (int p = 0; p < positions; p++) {
            const int x = x0 + p * KERNEL_PART;
            float* to = points + (ptrdiff_t(p) * op.in_planes + plane) * LANES;
            const bool edge = y0 < 0 || x < 0 || y0 + INPUT_TILE > op.in_end_row || x + INPUT_TILE > op.width;
            if (edge) gather_padded_tile(op, op.in[plane], y0, x, tile);
            transform_input_tile<false>(edge ? tile : op.in[plane] + (y0 - op.in_row) * row_stride + x * LANES,
                                        edge ? INPUT_TILE * LANES : row_stride, to, large.input_stride);
        }
}

template <int NUM_VECTORS>
static __attribute__((noinline)) void gemm_large(const Op& op, const LargeKernel& large, const float* v, const float* u,
                                                 float* m, int tiles, bool first) {
    constexpr int PARTIAL_SUMS = NUM_VECTORS == 1 ? 2 : 1, ROWS = ACCUMULATORS / NUM_VECTORS / PARTIAL_SUMS;
    const ptrdiff_t pitch = OUTPUT_TILE / KERNEL_PART * op.in_planes * LANES, m_pitch = ptrdiff_t(op.out_planes) * LANES;
    const float* next_weights = u + ptrdiff_t(large.depth) * NUM_VECTORS * LANES;
    for (int t = 0; t < tiles; t += ROWS, next_weights += ptrdiff_t(large.depth) * CACHE_LINE_FLOATS) {
        const float* rows = v + t * pitch;
        float* to = m + t * m_pitch;
        first ? gemm_microkernel<NUM_VECTORS, ROWS, PARTIAL_SUMS, false>(rows, pitch, u, large.depth, to, m_pitch,
                                                                        next_weights, large.input_stride)
              : gemm_microkernel<NUM_VECTORS, ROWS, PARTIAL_SUMS, true>(rows, pitch, u, large.depth, to, m_pitch,
                                                                       next_weights, large.input_stride);
    }
}

static void convolve_large_block(const Op& op, int block, float* scratch) {
    const LargeKernel large(op.kernel, op.in_planes, op.out_planes);
    const TileGrid grid(op);
    const int blocks_per_row = large_blocks_per_row(op), first_tile = block % blocks_per_row * TILES_PER_BLOCK;
    const int tiles = smaller(TILES_PER_BLOCK, grid.tiles_per_row - first_tile);
    const int y = op.top + block / blocks_per_row * OUTPUT_TILE, x = op.left + first_tile * OUTPUT_TILE;
    const int positions = OUTPUT_TILE / KERNEL_PART * (tiles - 1) + large.parts;
    float* products = scratch + large.input_stride * TILE_POINTS;
    const float* u = op.weights;
    for (int part = 0; part < large.parts; part++) {
        transform_large_input(op, large, y + part * KERNEL_PART - op.kernel / 2, x - op.kernel / 2, positions, scratch);
        for (int point = 0; point < TILE_POINTS; point++)
            for (int plane = 0; plane < op.out_planes;) {
                const int count = smaller(MAX_PLANES_PER_PASS, op.out_planes - plane);
                const auto gemm = count == 1   ? gemm_large<1>
                                  : count == 2 ? gemm_large<2>
                                  : count == 3 ? gemm_large<3>
                                               : gemm_large<4>;
                gemm(op, large, scratch + point * large.input_stride, u,
                     products + point * large.product_stride + plane * LANES, tiles, part == 0);
                u += ptrdiff_t(large.depth) * count * LANES;
                plane += count;
            }
    }
    const ptrdiff_t row_stride = ptrdiff_t(op.width) * LANES;
    for (int plane = 0; plane < op.out_planes; plane++) {
        const vec bias = load(op.bias + plane * LANES);
        for (int t = 0; t < tiles; t++) {
            const int left = x + t * OUTPUT_TILE, right = smaller(OUTPUT_TILE, op.right - left);
            float* to = op.out[plane] + (y - op.out_row) * row_stride + ptrdiff_t(left) * LANES;
            const float* from = products + (ptrdiff_t(t) * op.out_planes + plane) * LANES;
            transform_output_tile(from, large.product_stride, 0, smaller(OUTPUT_TILE, op.bottom - y),
                                  [&](int i, const vec result[OUTPUT_TILE]) {
                                      for (int j = 0; j < right; j++)
                                          store(to + i * row_stride + j * LANES, result[j] + bias);
                                  });
        }
    }
}
