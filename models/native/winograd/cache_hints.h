// Cache hints for large frames: streaming stores for results, and prefetching of what a block reads and writes next.

#pragma once

#include "input_transform.h"
#include "op.h"

constexpr size_t PREFETCH_MIN_BYTES = size_t(3) << 20;   // a convolution's planes, below which prefetching does not pay
constexpr size_t STREAMING_MIN_BYTES = size_t(4) << 20;  // a convolution's result, from which it does not fit the caches

// Bytes of the rectangle that an operation computes, in so many planes.
static size_t planes_bytes(const Op& op, int planes) {
    return size_t(planes) * (op.bottom - op.top) * (op.right - op.left) * LANES * sizeof(float);
}

// Whether results are larger than the caches and bypass them.
static bool uses_streaming_stores(const Op& op) {
    return op.kind != OUTPUT_CONV && planes_bytes(op, op.out_planes) >= STREAMING_MIN_BYTES;
}

// Whether a convolution's planes are too large for the caches, so that prefetching them pays.
static bool needs_prefetch(const Op& op) {
    return planes_bytes(op, larger(op.in_planes, op.out_planes)) >= PREFETCH_MIN_BYTES;
}

// Prefetches `rows` rows of `width` floats in each of `count` planes for every tile that was added. The work is spread
// over the 64 points of a block, because memory is idle during the matrix products.
template <bool FOR_WRITE>
class Prefetcher {
  public:
    Prefetcher(const float* const* planes, int count, ptrdiff_t row_stride, int rows, int width)
        : planes_(planes), count_(count), rows_(rows), width_(width), row_stride_(row_stride) {}

    void add(ptrdiff_t offset) { offsets_[tiles_++] = offset; }

    // Issue the share of one point; after the last point everything has been requested.
    ALWAYS_INLINE void prefetch(int point) const {
        if (count_ == 0) return;
        constexpr int STEP = TILES_PER_BLOCK / INPUT_TILE;
        const int begin = point / INPUT_TILE * rows_ / INPUT_TILE, end = (point / INPUT_TILE + 1) * rows_ / INPUT_TILE;
        for (int t = point % INPUT_TILE * STEP, last = smaller(t + STEP, tiles_); t < last; t++)
            for (int plane = 0; plane < count_; plane++)
                for (int y = begin; y < end; y++) {
                    const float* from = planes_[plane] + offsets_[t] + y * row_stride_;
                    for (int x = 0; x < width_; x += CACHE_LINE_FLOATS) __builtin_prefetch(from + x, FOR_WRITE, 2);
                }
    }

  private:
    const float* const* planes_;
    int count_, rows_, width_, tiles_ = 0;
    ptrdiff_t row_stride_, offsets_[TILES_PER_BLOCK];
};
