// One block of a convolution: input transform, matrix products, output transform.

#pragma once

#include "output_layer.h"

// `blocks_ahead`: distance to the block that this thread will probably compute next, whose input is prefetched.
static void convolve_block(const Op& op, int block, int blocks_ahead, float* scratch) {
    const TileGrid grid(op);
    const int begin = block * TILES_PER_BLOCK, end = smaller(begin + TILES_PER_BLOCK, grid.tile_count);
    float* products = grid.in_place ? scratch : scratch + grid.point_stride * TILE_POINTS;
    (op.upsample ? transform_input<true> : transform_input<false>)(op, grid, begin, end, scratch);

    const ptrdiff_t row_stride = ptrdiff_t(op.width) * LANES;
    // The first two rows of an input tile are the last two of the tile above, which are still in the caches.
    Prefetcher<false> reads(op.in, op.upsample || !needs_prefetch(op) ? 0 : op.in_planes, row_stride, OUTPUT_TILE,
                            OUTPUT_TILE * LANES);
    for (int t = begin + blocks_ahead * TILES_PER_BLOCK;
         t < smaller(begin + (blocks_ahead + 1) * TILES_PER_BLOCK, grid.tile_count); t++)
        reads.add((op.top + t / grid.tiles_per_row * OUTPUT_TILE + 1 - op.in_row) * row_stride +
                  (op.left + t % grid.tiles_per_row * OUTPUT_TILE + 1) * LANES);
    const OutputImage image(op);
    Prefetcher<true> writes =
        op.kind == OUTPUT_CONV
            ? Prefetcher<true>(image.channels, image.channel_count, image.row_stride, OUTPUT_TILE * op.shuffle,
                               OUTPUT_TILE * op.shuffle)
            : Prefetcher<true>(op.out, uses_streaming_stores(op) || !needs_prefetch(op) ? 0 : op.out_planes, row_stride,
                               OUTPUT_TILE, OUTPUT_TILE * LANES);
    for (int t = begin; t < end; t++) {
        const int y = op.top + t / grid.tiles_per_row * OUTPUT_TILE, x = op.left + t % grid.tiles_per_row * OUTPUT_TILE;
        writes.add(op.kind == OUTPUT_CONV ? image.offset_of(y, x) : (y - op.out_row) * row_stride + x * LANES);
    }

    const float* u = op.weights;
    for (int point = 0; point < TILE_POINTS; point++) {
        const float* v = scratch + point * grid.point_stride;
        float* m = products + point * grid.point_stride;
        reads.prefetch(point);
        writes.prefetch(point);
        for (int plane = 0; plane < op.out_planes;) {
            const int count = smaller(MAX_PLANES_PER_PASS, op.out_planes - plane);
            const auto gemm = count == 1   ? gemm_tiles<1>
                              : count == 2 ? gemm_tiles<2>
                              : count == 3 ? gemm_tiles<3>
                                           : gemm_tiles<4>;
            gemm(v, grid.tile_pitch, u, op.channels, m + plane * LANES, end - begin, grid.point_stride);
            u += ptrdiff_t(op.channels) * count * LANES;
            plane += count;
        }
    }
    if (op.kind == OUTPUT_CONV) {
        const auto finish = op.shuffle == 2   ? transform_pixel_shuffle<2>
                            : op.shuffle == 4 ? transform_pixel_shuffle<4>
                                              : transform_pixel_shuffle<0>;
        finish(op, grid, begin, end, products, products + grid.point_stride * TILE_POINTS);
        return;
    }
    const int residuals = op.add1 ? op.add2 ? 2 : 1 : 0;
    const auto finish = op.activation == SILU        ? transform_output<false, 0, SILU>
                        : op.activation == MISH      ? transform_output<false, 0, MISH>
                        : op.activation == GATE      ? transform_output<false, 0, GATE>
                        : op.activation == ATTENTION ? transform_output<false, 0, ATTENTION>
                        : op.slope       ? transform_output<true, 0>
                        : residuals == 0 ? transform_output<false, 0>
                        : residuals == 1 ? transform_output<false, 1>
                                         : transform_output<false, 2>;
    finish(op, grid, begin, end, products);
}
