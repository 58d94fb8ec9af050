// One block of a convolution, from patches to results.

#pragma once

#include "output_layer.h"

// `after` blocks further is the one that this thread will probably make next.
static void convolve(const Op& op, int block, int after, float* scratch) {
    const Geometry g(op);
    const int begin = block * TILES, end = std::min(begin + TILES, g.count);
    float* made = g.in_place ? scratch : scratch + g.stride * POINTS;
    (op.up ? transform_in<true> : transform_in<false>)(op, g, begin, end, scratch);

    const ptrdiff_t row = ptrdiff_t(op.width) * V;
    // The first two rows of a patch were the last two of the one above, which is not long ago.
    Ahead<false> reads(op.in, op.up || !is_far(op) ? 0 : op.in_planes, row, OUT, OUT * V);
    for (int t = begin + after * TILES; t < std::min(begin + (after + 1) * TILES, g.count); t++)
        reads.add((op.first + t / g.across * OUT + 1 - op.in_row) * row + (op.left + t % g.across * OUT + 1) * V);
    const Picture picture(op);
    Ahead<true> writes = op.kind == LAST ? Ahead<true>(picture.colours, picture.count, picture.row, OUT * op.shuffle, OUT * op.shuffle)
                                         : Ahead<true>(op.out, goes_past(op) || !is_far(op) ? 0 : op.out_planes, row, OUT, OUT * V);
    for (int t = begin; t < end; t++) {
        const int y = op.first + t / g.across * OUT, x = op.left + t % g.across * OUT;
        writes.add(op.kind == LAST ? picture.at(y, x) : (y - op.out_row) * row + x * V);
    }

    const float* u = op.weights;
    for (int point = 0; point < POINTS; point++) {
        const float* v = scratch + point * g.stride;
        float* m = made + point * g.stride;
        reads.fetch(point);
        writes.fetch(point);
        for (int plane = 0; plane < op.out_planes;) {
            const int wide = std::min(WIDEST, op.out_planes - plane);
            const auto run = wide == 1 ? products<1> : wide == 2 ? products<2> : wide == 3 ? products<3> : products<4>;
            run(v, g.pitch, u, op.channels, m + plane * V, end - begin, g.stride);
            u += ptrdiff_t(op.channels) * wide * V;
            plane += wide;
        }
    }
    if (op.kind == LAST) {
        const auto finish = op.shuffle == 2 ? transform_last<2> : op.shuffle == 4 ? transform_last<4> : transform_last<0>;
        finish(op, g, begin, end, made, made + g.stride * POINTS);
        return;
    }
    const int sums = op.add1 ? op.add2 ? 2 : 1 : 0;
    const auto finish = op.slope ? transform_out<true, 0>
                        : sums == 0 ? transform_out<false, 0>
                        : sums == 1 ? transform_out<false, 1>
                                    : transform_out<false, 2>;
    finish(op, g, begin, end, made);
}
