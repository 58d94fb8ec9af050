// From the products' points to results: into planes for the next layer, or enlarged into a picture.

#pragma once

#include <algorithm>

#include "cache_hints.h"
#include "input_transform.h"

template <bool SLOPE, int SUMS>
static void transform_out(const Op& op, const Geometry& g, int begin, int end, const float* points) {
    const ptrdiff_t row = ptrdiff_t(op.width) * V;
    const bool past = goes_past(op);
    const vec scale1 = splat(op.scale1), scale2 = splat(op.scale2), zero = splat(0.0f);
    for (int plane = 0; plane < op.out_planes; plane++) {
        const vec bias = load(op.bias + plane * V), slope = SLOPE ? load(op.slope + plane * V) : zero;
        for (int t = begin; t < end; t++) {
            const Place place(op, g, t);
            const ptrdiff_t at = (place.y - op.out_row) * row + ptrdiff_t(place.x) * V;
            const float* from = points + (t - begin) * g.pitch + plane * V;
            transform_back(from, g.stride, place.top, place.bottom, [&](int i, const vec y[OUT]) {
                for (int j = 0; j < OUT; j++) {
                    if (j < place.start || j >= place.end) continue;
                    const ptrdiff_t here = at + i * row + j * V;
                    vec result = y[j] + bias;
                    if (SLOPE) result = result > zero ? result : result * slope;
                    if (SUMS > 0) result = result * scale1 + load(op.add1[plane] + here);
                    if (SUMS > 1) result = result * scale2 + load(op.add2[plane] + here);
                    past ? store_past(op.out[plane] + here, result) : store(op.out[plane] + here, result);
                }
            });
        }
    }
    if (past) finish_stores_past();  // Other threads read them after the barrier.
}

// What LAST writes: an enlarged part of the picture.
struct Picture {
    int shuffle, top, left;  // of the part, before it is enlarged
    ptrdiff_t row, colour;   // floats from row to row, and from colour to colour
    int count;               // of colours
    float* colours[4];       // the first few

    explicit Picture(const Op& op)
        : shuffle(op.shuffle),
          top(op.out_row),
          left(op.out_column),
          row(op.row),
          colour(op.colour),
          count(std::min(op.out_channels, 4)) {
        for (int i = 0; i < count; i++) colours[i] = op.out[0] + i * colour;
    }

    // From the start of a colour to the first of the pixels that (y, x) is enlarged to.
    ALWAYS ptrdiff_t at(int y, int x) const { return (ptrdiff_t(y - top) * row + x - left) * shuffle; }
};

// S: op.shuffle, or 0 for any. `tile`: room for a patch's results, all channels of a pixel together.
template <int S>
static void transform_last(const Op& op, const Geometry& g, int begin, int end, const float* points, float* tile) {
    typedef float few __attribute__((vector_size((S ? S : 1) * 4), aligned(4), may_alias));
    const Picture picture(op);
    const int s = S ? S : op.shuffle, pixel = op.out_planes * V;
    for (int t = begin; t < end; t++) {
        const Place place(op, g, t);
        for (int i = place.top; i < place.bottom; i++)
            for (int channel = 0; channel < op.out_channels; channel++) {
                const ptrdiff_t at = (ptrdiff_t(channel) * op.height + place.y + i) * op.width + place.x;
                float* to = tile + i * OUT * pixel + channel * s * s;
                for (int j = place.start; j < place.end; j++)
                    std::fill_n(to + j * pixel, s * s, op.add1 ? op.add1[0][at + j] : 0.0f);
            }
        for (int plane = 0; plane < op.out_planes; plane++) {
            const vec bias = load(op.bias + plane * V), zero = splat(0.0f), one = splat(1.0f);
            const float* from = points + (t - begin) * g.pitch + plane * V;
            transform_back(from, g.stride, place.top, place.bottom, [&](int i, const vec y[OUT]) {
                for (int j = 0; j < OUT; j++) {
                    float* to = tile + (i * OUT + j) * pixel + plane * V;
                    vec made = y[j] + bias + load(to);
                    if (op.clamped) {
                        made = made < zero ? zero : made;
                        made = made > one ? one : made;
                    }
                    store(to, made);
                }
            });
        }
        for (int i = place.top; i < place.bottom; i++)
            for (int channel = 0; channel < op.out_channels; channel++)
                for (int sub = 0; sub < s; sub++) {
                    const float* from = tile + i * OUT * pixel + (channel * s + sub) * s;
                    float* to = op.out[0] + channel * picture.colour + picture.at(place.y + i, place.x) + sub * picture.row;
                    for (int j = place.start; j < place.end; j++)
                        if (S)
                            *reinterpret_cast<few*>(to + j * s) = *reinterpret_cast<const few*>(from + j * pixel);
                        else
                            std::copy_n(from + j * pixel, s, to + j * s);
                }
    }
}
