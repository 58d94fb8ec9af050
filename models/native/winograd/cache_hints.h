// What large pictures do to the caches: results that go past them, and memory that is asked for before it is needed.

#pragma once

#include <algorithm>

#include "op.h"
#include "input_transform.h"

constexpr size_t NEAR = size_t(3) << 20;         // bytes of a convolution's planes that come quickly without being asked for
constexpr size_t PAST_CACHES = size_t(4) << 20;  // bytes of a convolution's result

// Bytes of so many planes, as far as they are made.
static size_t made_bytes(const Op& op, int planes) {
    return size_t(planes) * (op.last - op.first) * (op.right - op.left) * V * sizeof(float);
}

// Results larger than the caches go past them.
static bool goes_past(const Op& op) { return op.kind != LAST && made_bytes(op, op.out_planes) >= PAST_CACHES; }

// Whether a convolution's planes are too large to be near, so that it pays to ask for them early.
static bool is_far(const Op& op) { return made_bytes(op, std::max(op.in_planes, op.out_planes)) >= NEAR; }

// What will be read or written soon, fetched a little with each point, for the products leave the memory idle: `rows`
// rows of `width` floats for each tile that was added, in each of `count` planes.
template <bool WRITE>
class Ahead {
  public:
    Ahead(const float* const* planes, int count, ptrdiff_t row, int rows, int width)
        : planes_(planes), count_(count), rows_(rows), width_(width), row_(row) {}

    void add(ptrdiff_t at) { at_[tiles_++] = at; }

    // All of it has been asked for after the last point.
    ALWAYS void fetch(int point) const {
        if (count_ == 0) return;
        constexpr int STEP = TILES / IN;
        const int begin = point / IN * rows_ / IN, end = (point / IN + 1) * rows_ / IN;
        for (int t = point % IN * STEP, last = std::min(t + STEP, tiles_); t < last; t++)
            for (int plane = 0; plane < count_; plane++)
                for (int y = begin; y < end; y++) {
                    const float* from = planes_[plane] + at_[t] + y * row_;
                    for (int x = 0; x < width_; x += LINE) __builtin_prefetch(from + x, WRITE, 2);
                }
    }

  private:
    const float* const* planes_;
    int count_, rows_, width_, tiles_ = 0;
    ptrdiff_t row_, at_[TILES];
};
