// One operation of an execution plan. bindings.py declares the same structure, field by field.

#pragma once

#include <stdint.h>

constexpr int ABI_VERSION = 7;

enum OpKind : int32_t {
    PACK = 0,
    CONV = 1,
    INPUT_CONV = 2,
    OUTPUT_CONV = 3,
    LARGE_CONV = 4,    // kernel x kernel, from planes to planes
    POINTWISE = 5,     // 1x1, from planes to planes
    REDUCE = 6,        // row_sums of a POINTWISE -> factor and summand of each channel, which normalize groups of channels
    SCALE = 7,         // planes * factor (weights) + summand (bias) + add1
    LAYER_NORM = 8,    // each pixel over its channels
};

// What a CONV does with its result v.
enum Activation : int32_t {
    LINEAR = 0,     // or `slope`, and residuals
    SILU = 1,
    MISH = 2,
    GATE = 3,       // add1 * sigmoid(v)
    ATTENTION = 4,  // (v + add1) * (sigmoid(v) - 1/2)
};

struct Op {
    const float* const* in;    // CONV, OUTPUT_CONV: planes. PACK, INPUT_CONV: one pointer to (channels, height, width)
    float* const* out;         // planes. OUTPUT_CONV: one pointer to a window of the upscaled image, see out_row
    const float* const* add1;  // CONV, POINTWISE: planes like out, or null. SCALE: planes like out. OUTPUT_CONV: image to add
                               // after nearest upscaling, or null
    const float* const* add2;  // CONV: a second residual, added after the first
    const float* weights;      // transformed by steadyscale_filters. INPUT_CONV: [channels][3][3][out_planes * LANES].
                               // LARGE_CONV: for each row of parts what steadyscale_filters returns for parts side by side.
                               // POINTWISE: [pass][in_planes * LANES][vectors of the pass]. Others: one per channel
    const float* bias;         // one per output channel
    const float* slope;        // CONV, INPUT_CONV: factor of negative results, one per output channel, or null
    float* row_sums;           // POINTWISE: where to write sums for REDUCE, [rows][3][out_planes * LANES], or null
    int64_t row_stride;        // OUTPUT_CONV: floats from row to row of the target
    int64_t channel_stride;    // OUTPUT_CONV: floats from channel to channel of the target
    float scale1, scale2;      // CONV: the result is multiplied before add1, and before add2
    float epsilon;             // REDUCE, LAYER_NORM: added to the variance
    int32_t kind;
    int32_t channels;          // of the input
    int32_t in_planes, out_planes;
    int32_t height, width;     // of the full frame, for OUTPUT_CONV before upscaling; zeros lie outside of it
    int32_t in_end_row;        // CONV, OUTPUT_CONV: input rows from this one on read as zero, at the height of the output
    int32_t in_row, out_row;   // the frame's row that lies in row 0 of the planes, or of the target of OUTPUT_CONV
    int32_t out_column;        // OUTPUT_CONV: the same for columns
    int32_t top, bottom;       // rows to compute, for OUTPUT_CONV before upscaling
    int32_t left, right;       // columns to compute
    // CONV, OUTPUT_CONV: tiles start at `top` and `left`; results before out_row and out_column, often 0, are dropped.
    int32_t upsample;          // CONV: the input has half the size, and each of its pixels stands for 2x2
    int32_t shuffle;           // OUTPUT_CONV: factor of the pixel shuffle
    int32_t out_channels;      // OUTPUT_CONV: of the target image
    int32_t clamp;             // OUTPUT_CONV: to [0, 1]; NaN stays NaN
    int32_t activation;        // CONV: an Activation
    int32_t kernel;            // LARGE_CONV: side of the kernel, odd
    int32_t groups;            // REDUCE: of channels
};
