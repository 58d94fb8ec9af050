// What the caller describes, one layer of a network; library.py has the same structure field by field.

#pragma once

#include <cstdint>

constexpr int ABI = 6;

enum Kind : int32_t { PACK = 0, CONV = 1, FIRST = 2, LAST = 3 };

struct Op {
    const float* const* in;    // CONV, LAST: planes. PACK, FIRST: one pointer to (channels, height, width)
    float* const* out;         // planes. LAST: one pointer to a part of the picture, enlarged, see out_row
    const float* const* add1;  // CONV: planes like out, or null. LAST: the picture to add, enlarged by repetition, or null
    const float* const* add2;  // CONV: a second sum, after the first
    const float* weights;      // CONV, LAST: transformed by steadyscale_filters. FIRST: [channels][3][3][out_planes * V]
    const float* bias;         // one per output channel
    const float* slope;        // CONV, FIRST: factor of negative results, one per output channel, or null
    int64_t row, colour;       // LAST: floats from row to row and from colour to colour of what it writes to
    float scale1, scale2;      // CONV: the result is multiplied before add1, and before add2
    int32_t kind;
    int32_t channels;          // of the input
    int32_t in_planes, out_planes;
    int32_t height, width;     // of the whole picture, for LAST before it is enlarged; beyond it are zeros
    int32_t held;              // CONV, LAST: rows from this one on read as zero, at the height that is made
    int32_t in_row, out_row;   // the whole picture's row that row 0 of the planes holds, or of what LAST writes to
    int32_t out_column;        // LAST: the same for columns
    int32_t first, last;       // rows to make, for LAST before they are enlarged
    int32_t left, right;       // columns to make
    // CONV, LAST: patches start at `first` and `left`; results before out_row and out_column, often 0, are dropped.
    int32_t up;                // CONV: the input is half as large and every pixel stands for 2x2
    int32_t shuffle;           // LAST: pixels a side that were folded into channels
    int32_t out_channels;      // LAST: of the picture
    int32_t clamped;           // LAST: to [0, 1]; what is no number stays none
};
