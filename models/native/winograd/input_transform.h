// The tiles of a block: where they lie in the frame, and their transform into the points of the matrix products.

#pragma once

#include "gemm.h"
#include "op.h"
#include "transforms.h"

struct TileGrid {
    int tiles_per_row, tile_count;
    ptrdiff_t tile_pitch;    // floats from tile to tile within a point
    ptrdiff_t point_stride;  // floats from point to point; one cache line more than needed, because a power of two would
                             // map all points to the same cache sets
    bool in_place;           // products may overwrite their input, because one pass computes all output channels

    explicit TileGrid(const Op& op)
        : tiles_per_row((op.right - op.left + OUTPUT_TILE - 1) / OUTPUT_TILE),
          tile_count(tiles_per_row * ((op.bottom - op.top + OUTPUT_TILE - 1) / OUTPUT_TILE)),
          tile_pitch(ptrdiff_t(larger(op.in_planes, op.out_planes)) * LANES),
          point_stride(TILES_PER_BLOCK * tile_pitch + 16),
          in_place(op.out_planes <= MAX_PLANES_PER_PASS) {}
};

// Position (y, x) of a tile's output in the frame, and the rows and columns of its 6x6 that are kept.
struct TileBounds {
    int y, x, top, bottom, left, right;

    ALWAYS_INLINE TileBounds(const Op& op, const TileGrid& grid, int t)
        : y(op.top + t / grid.tiles_per_row * OUTPUT_TILE),
          x(op.left + t % grid.tiles_per_row * OUTPUT_TILE),
          top(larger(0, op.out_row - y)),
          bottom(smaller(OUTPUT_TILE, op.bottom - y)),
          left(larger(0, op.out_column - x)),
          right(smaller(OUTPUT_TILE, op.right - x)) {}
};

// Floats of scratch memory per thread: the points of a block, twice if products are not in place, and the output of one
// tile, which OUTPUT_CONV needs.
static size_t scratch_floats(int in_planes, int out_planes) {
    const size_t pitch = size_t(larger(in_planes, out_planes)) * LANES;
    return (TILES_PER_BLOCK * pitch + 16) * TILE_POINTS * (out_planes <= MAX_PLANES_PER_PASS ? 1 : 2) +
           size_t(out_planes) * LANES * OUTPUT_TILE * OUTPUT_TILE;
}

// Copy an input tile that reaches outside of the frame, with zeros there.
static void gather_padded_tile(const Op& op, const float* plane, int y0, int x0, float* tile) {
    const int pixels = op.upsample ? op.width / 2 : op.width;
    const int begin = larger(0, -x0), end = smaller(INPUT_TILE, op.width - x0);
    for (int y = 0; y < INPUT_TILE; y++, tile += INPUT_TILE * LANES) {
        const int row = y0 + y;
        const bool row_inside = row >= 0 && row < op.in_end_row;
        const float* from =
            row_inside ? plane + ptrdiff_t((op.upsample ? row >> 1 : row) - op.in_row) * pixels * LANES : plane;
        for (int x = 0; x < INPUT_TILE; x++) {
            const int column = x0 + x;
            const bool inside = row_inside && x >= begin && x < end;
            store(tile + x * LANES, inside ? load(from + ptrdiff_t(op.upsample ? column >> 1 : column) * LANES) : splat(0.0f));
        }
    }
}

// Transform the input tiles [begin, end) of all planes.
template <bool UPSAMPLE>
static void transform_input(const Op& op, const TileGrid& grid, int begin, int end, float* points) {
    alignas(64) float tile[TILE_POINTS * LANES];
    const ptrdiff_t row_stride = ptrdiff_t(UPSAMPLE ? op.width / 2 : op.width) * LANES;
    for (int plane = 0; plane < op.in_planes; plane++)
        for (int t = begin; t < end; t++) {
            const int y0 = op.top + t / grid.tiles_per_row * OUTPUT_TILE - 1;
            const int x0 = op.left + t % grid.tiles_per_row * OUTPUT_TILE - 1;
            float* to = points + (t - begin) * grid.tile_pitch + plane * LANES;
            const float* from = op.in[plane] + ((UPSAMPLE ? y0 >> 1 : y0) - op.in_row) * row_stride +
                                (UPSAMPLE ? x0 >> 1 : x0) * LANES;
            const bool edge = y0 < 0 || x0 < 0 || y0 + INPUT_TILE > op.in_end_row || x0 + INPUT_TILE > op.width;
            if (edge) gather_padded_tile(op, op.in[plane], y0, x0, tile);
            if (UPSAMPLE && !edge)
                transform_input_tile<true>(from, row_stride, to, grid.point_stride);
            else
                transform_input_tile<false>(edge ? tile : from, edge ? INPUT_TILE * LANES : row_stride, to,
                                            grid.point_stride);
        }
}
