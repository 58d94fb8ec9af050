// The patches of a block: where they lie, and on into the points of the products.

#pragma once

#include <algorithm>

#include "op.h"
#include "gemm.h"
#include "transforms.h"

struct Geometry {
    int across, count;  // patches in a row, and in all
    ptrdiff_t pitch;    // floats from patch to patch within a point
    ptrdiff_t stride;   // from point to point; a line more than needed, for powers of two would share cache sets
    bool in_place;      // products may overwrite their input, for all output channels are made in one pass

    explicit Geometry(const Op& op)
        : across((op.right - op.left + OUT - 1) / OUT),
          count(across * ((op.last - op.first + OUT - 1) / OUT)),
          pitch(ptrdiff_t(std::max(op.in_planes, op.out_planes)) * V),
          stride(TILES * pitch + 16),
          in_place(op.out_planes <= WIDEST) {}
};

// Where the results of a patch lie in the picture, and which are wanted: [top, bottom) x [start, end) of its 6x6.
struct Place {
    int y, x, top, bottom, start, end;

    ALWAYS Place(const Op& op, const Geometry& g, int t)
        : y(op.first + t / g.across * OUT),
          x(op.left + t % g.across * OUT),
          top(std::max(0, op.out_row - y)),
          bottom(std::min(OUT, op.last - y)),
          start(std::max(0, op.out_column - x)),
          end(std::min(OUT, op.right - x)) {}
};

static size_t scratch_floats(int in_planes, int out_planes) {
    const size_t pitch = size_t(std::max(in_planes, out_planes)) * V;
    return (TILES * pitch + 16) * POINTS * (out_planes <= WIDEST ? 1 : 2) + size_t(out_planes) * V * OUT * OUT;
}

// A patch of which some lies outside, where there are zeros.
static void gather(const Op& op, const float* plane, int y0, int x0, float* patch) {
    const int pixels = op.up ? op.width / 2 : op.width;
    const int begin = std::max(0, -x0), end = std::min(IN, op.width - x0);
    for (int y = 0; y < IN; y++, patch += IN * V) {
        const int row = y0 + y;
        const bool inside = row >= 0 && row < op.held;
        const float* from = inside ? plane + ptrdiff_t((op.up ? row >> 1 : row) - op.in_row) * pixels * V : plane;
        for (int x = 0; x < IN; x++) {
            const int column = x0 + x;
            const bool held = inside && x >= begin && x < end;
            store(patch + x * V, held ? load(from + ptrdiff_t(op.up ? column >> 1 : column) * V) : splat(0.0f));
        }
    }
}

template <bool UP>
static void transform_in(const Op& op, const Geometry& g, int begin, int end, float* points) {
    alignas(64) float patch[POINTS * V];
    const ptrdiff_t row = ptrdiff_t(UP ? op.width / 2 : op.width) * V;
    for (int plane = 0; plane < op.in_planes; plane++)
        for (int t = begin; t < end; t++) {
            const int y0 = op.first + t / g.across * OUT - 1, x0 = op.left + t % g.across * OUT - 1;
            float* to = points + (t - begin) * g.pitch + plane * V;
            const float* from = op.in[plane] + ((UP ? y0 >> 1 : y0) - op.in_row) * row + (UP ? x0 >> 1 : x0) * V;
            const bool edge = y0 < 0 || x0 < 0 || y0 + IN > op.held || x0 + IN > op.width;
            if (edge) gather(op, op.in[plane], y0, x0, patch);
            if (UP && !edge)
                transform_patch<true>(from, row, to, g.stride);
            else
                transform_patch<false>(edge ? patch : from, edge ? IN * V : row, to, g.stride);
        }
}
