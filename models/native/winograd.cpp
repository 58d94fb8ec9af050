// Runs a list of 3x3 convolutions (stride 1, zero padding 1) on a CPU in float32: fused Winograd F(6x6, 3x3).
//
// Winograd's minimal filtering (Lavin and Gray 2015, arXiv:1509.09308) makes a 6x6 piece of output from an 8x8 patch of
// input with 64 multiplications per pair of channels instead of 324. Three steps: every patch is transformed (B^T d B),
// each of the 64 points is a matrix product over channels, and the result is transformed back (A^T m A). They are fused
// over a block of TILES patches, so that what lies between them never leaves the second-level cache, and bias,
// activation and residual sums are applied while the result is still in registers.
//
// Pictures are stored as planes of V channels: plane[row][column][V], V being the width of a vector register. Edges need
// no margin, for patches that reach over them are gathered with zeros. A block is always computed in the same order by
// whichever thread takes it, so results are equal to the last bit for any number of threads.
//
// Vector types are the compiler's own (GCC, Clang), so the same text serves AVX-512, AVX2, SSE and NEON.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#include <sys/mman.h>

#if defined(__AVX512F__)
constexpr int V = 16, ACCUMULATORS = 24;  // of 32 registers
#elif defined(__AVX__)
constexpr int V = 8, ACCUMULATORS = 12;  // of 16
#elif defined(__aarch64__)
constexpr int V = 4, ACCUMULATORS = 24;
#else
constexpr int V = 4, ACCUMULATORS = 12;
#endif
constexpr int WIDEST = ACCUMULATORS == 24 ? 4 : 2;  // vectors of output channels in one pass of the product
constexpr int TILES = 24;                           // patches in a block; every height of the product divides it
constexpr int LINE = 16;                             // floats in a line of the caches
constexpr int OUT = 6, IN = 8, POINTS = IN * IN;
constexpr int ABI = 6;
constexpr size_t HUGE_PAGE = size_t(2) << 20;
constexpr size_t NEAR = size_t(3) << 20;         // bytes of a convolution's planes that come quickly without being asked for
constexpr size_t PAST_CACHES = size_t(4) << 20;  // bytes of a convolution's result

typedef float vec __attribute__((vector_size(V * 4)));

#define ALWAYS_LAMBDA __attribute__((always_inline))
#define ALWAYS inline __attribute__((always_inline))

static ALWAYS vec load(const float* p) { return *reinterpret_cast<const vec*>(p); }
// A load into a register. Compilers would rather read memory again for each use, and transforms use everything often.
// With 16 registers they are right.
static ALWAYS vec fetch(const float* p) {
    vec v = load(p);
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
    return v;
}
static ALWAYS void store(float* p, vec v) { *reinterpret_cast<vec*>(p) = v; }
// Past the caches, for results that are too large to be still there when they are read: nothing is fetched first.
static ALWAYS void store_past(float* p, vec v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(p, v);
#elif defined(__AVX__)
    _mm256_stream_ps(p, v);
#else
    store(p, v);
#endif
}
static ALWAYS void finish_stores_past() {
#if defined(__AVX__)
    _mm_sfence();
#endif
}
static ALWAYS vec splat(float x) {
#if defined(__AVX512F__)
    return _mm512_set1_ps(x);
#elif defined(__AVX__)
    return _mm256_set1_ps(x);
#else
    vec v;
    for (int i = 0; i < V; i++) v[i] = x;
    return v;
#endif
}

// ---- what the caller describes; engine.py has the same structure field by field ----

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

// ---- transforms along one axis, for the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity ----

static ALWAYS void forward(const vec d[IN], vec t[IN]) {
    t[0] = (d[0] - d[6]) + 5.25f * (d[4] - d[2]);
    t[7] = (d[7] - d[1]) + 5.25f * (d[3] - d[5]);
    vec even = (d[2] + d[6]) - 4.25f * d[4], odd = (d[1] + d[5]) - 4.25f * d[3];
    t[1] = even + odd;
    t[2] = even - odd;
    even = (d[6] + 0.25f * d[2]) - 1.25f * d[4];
    odd = 0.5f * d[1] - 2.5f * d[3] + 2.0f * d[5];
    t[3] = even + odd;
    t[4] = even - odd;
    even = (d[6] + 4.0f * d[2]) - 5.0f * d[4];
    odd = 2.0f * d[1] - 2.5f * d[3] + 0.5f * d[5];
    t[5] = even + odd;
    t[6] = even - odd;
}

static ALWAYS void backward(const vec m[IN], vec y[OUT]) {
    const vec s1 = m[1] + m[2], d1 = m[1] - m[2];
    const vec s2 = m[3] + m[4], d2 = m[3] - m[4];
    const vec s3 = m[5] + m[6], d3 = m[5] - m[6];
    y[0] = (m[0] + s1) + (s2 + s3);
    y[1] = d1 + 2.0f * d2 + 0.5f * d3;
    y[2] = s1 + 4.0f * s2 + 0.25f * s3;
    y[3] = d1 + 8.0f * d2 + 0.125f * d3;
    y[4] = s1 + 16.0f * s2 + 0.0625f * s3;
    y[5] = (d1 + m[7]) + 32.0f * d2 + 0.03125f * d3;
}

// One patch of one plane -> its 64 points, `stride` floats apart. A doubled patch has 5x5 different pixels.
template <bool UP>
static ALWAYS void transform_patch(const float* patch, ptrdiff_t row, float* points, ptrdiff_t stride) {
    alignas(64) float half[IN][IN * V];
    vec d[IN], t[IN];
    constexpr int WIDE = UP ? 5 : IN;
    for (int x = 0; x < WIDE; x++) {
        for (int y = 0; y < IN; y++) d[y] = fetch(patch + (UP ? (y + 1) / 2 : y) * row + x * V);
        forward(d, t);
        for (int y = 0; y < IN; y++) store(half[y] + x * V, t[y]);
    }
    for (int y = 0; y < IN; y++) {
        for (int x = 0; x < IN; x++) d[x] = fetch(half[y] + (UP ? (x + 1) / 2 : x) * V);
        forward(d, t);
        for (int x = 0; x < IN; x++) store(points + (y * IN + x) * stride, t[x]);
    }
}

// m[0..H)[NV * V] = v[0..H)[depth] x u[depth][NV * V]. Asks for the weights and the patches of the next product, a little
// with each step: `ahead`, and what is `stride` behind v.
template <int NV, int H, int SUMS>
static ALWAYS void product(const float* v, ptrdiff_t pitch, const float* u, int depth, float* m, const float* ahead,
                           ptrdiff_t stride) {
    const ptrdiff_t share = H * pitch / depth;
    vec sum[SUMS][H][NV];
    for (int s = 0; s < SUMS; s++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < NV; j++) sum[s][i][j] = splat(0.0f);
    const auto step = [&](int k, vec sums[H][NV]) ALWAYS_LAMBDA {
        vec w[NV];
        for (int j = 0; j < NV; j++) w[j] = load(u + (ptrdiff_t(k) * NV + j) * V);
        __builtin_prefetch(ahead + ptrdiff_t(k) * LINE);
        __builtin_prefetch(v + stride + k * share);
        for (int i = 0; i < H; i++) {
            const vec a = splat(v[i * pitch + k]);
            for (int j = 0; j < NV; j++) sums[i][j] += a * w[j];
        }
    };
    int k = 0;
    for (; k + SUMS <= depth; k += SUMS)
        for (int s = 0; s < SUMS; s++) step(k + s, sum[s]);
    if (SUMS > 1)
        for (; k < depth; k++) step(k, sum[0]);
    for (int i = 0; i < H; i++)
        for (int j = 0; j < NV; j++) {
            for (int s = 1; s < SUMS; s++) sum[0][i][j] += sum[s][i][j];
            store(m + i * pitch + j * V, sum[0][i][j]);
        }
}

// One vector of output channels: with all accumulators in one column there are more rows than registers to find them by,
// so half of them take every second channel.
template <int NV>
static __attribute__((noinline)) void products(const float* v, ptrdiff_t pitch, const float* u, int depth, float* m,
                                               int tiles, ptrdiff_t stride) {
    constexpr int SUMS = NV == 1 ? 2 : 1, H = ACCUMULATORS / NV / SUMS;
    const float* ahead = u + ptrdiff_t(depth) * NV * V;  // the next weights follow these
    for (int t = 0; t < tiles; t += H, ahead += ptrdiff_t(depth) * LINE)
        product<NV, H, SUMS>(v + t * pitch, pitch, u, depth, m + t * pitch, ahead, stride);
}

// ---- one block of a convolution ----

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

// The 6x6 results of a patch of one plane, without bias: take(row, its six vectors) for rows [top, bottom).
template <typename Take>
static ALWAYS void transform_back(const float* points, ptrdiff_t stride, int top, int bottom, const Take& take) {
    alignas(64) float half[OUT][IN * V];
    vec m[IN], y[OUT];
    for (int j = 0; j < IN; j++) {
        for (int i = 0; i < IN; i++) m[i] = fetch(points + (i * IN + j) * stride);
        backward(m, y);
        for (int i = 0; i < OUT; i++) store(half[i] + j * V, y[i]);
    }
    for (int i = top; i < bottom; i++) {
        for (int j = 0; j < IN; j++) m[j] = fetch(half[i] + j * V);
        backward(m, y);
        take(i, y);
    }
}

// Bytes of so many planes, as far as they are made.
static size_t made_bytes(const Op& op, int planes) {
    return size_t(planes) * (op.last - op.first) * (op.right - op.left) * V * sizeof(float);
}

// Results larger than the caches go past them.
static bool goes_past(const Op& op) { return op.kind != LAST && made_bytes(op, op.out_planes) >= PAST_CACHES; }

// Whether a convolution's planes are too large to be near, so that it pays to ask for them early.
static bool is_far(const Op& op) { return made_bytes(op, std::max(op.in_planes, op.out_planes)) >= NEAR; }

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

// ---- between plain pictures and planes, a row at a time ----

static void pack(const Op& op, int row) {
    const float* plain = op.in[0];
    const int y = op.first + row;
    for (int plane = 0; plane < op.out_planes; plane++) {
        float* to = op.out[plane] + ptrdiff_t(y - op.out_row) * op.width * V;
        for (int c = 0; c < V; c++) {
            const int channel = plane * V + c;
            const float* from = plain + (ptrdiff_t(channel) * op.height + y) * op.width;
            for (int x = op.left; x < op.right; x++) to[ptrdiff_t(x) * V + c] = channel < op.channels ? from[x] : 0.0f;
        }
    }
}

// ---- few channels in: a picture's colours, convolved directly, a row at a time ----

// Rows of the picture with a zero before each and zeros behind it.
static ptrdiff_t line_floats(int width) { return ptrdiff_t(width + ACCUMULATORS + 2) / LINE * LINE + LINE; }
static size_t lines_floats(int channels, int width) { return size_t(channels) * 3 * line_floats(width); }

template <int NV>
static void convolve_row(const Op& op, int y, int plane, const float* lines) {
    constexpr int H = ACCUMULATORS / NV;
    const ptrdiff_t line = line_floats(op.width);
    const ptrdiff_t at = ptrdiff_t(y - op.out_row) * op.width * V;
    const bool past = goes_past(op);
    for (int x = op.left; x < op.right; x += H) {
        vec sum[H][NV];
        for (int i = 0; i < H; i++)
            for (int j = 0; j < NV; j++) sum[i][j] = load(op.bias + (plane + j) * V);
        const float* weights = op.weights + ptrdiff_t(plane) * V;
        for (int row = 0; row < op.channels * 3; row++)
            for (int dx = 0; dx < 3; dx++, weights += ptrdiff_t(op.out_planes) * V) {
                const float* from = lines + row * line + x + dx;
                vec w[NV];
                for (int j = 0; j < NV; j++) w[j] = load(weights + j * V);
                for (int i = 0; i < H; i++) {
                    const vec a = splat(from[i]);
                    for (int j = 0; j < NV; j++) sum[i][j] += a * w[j];
                }
            }
        for (int j = 0; j < NV; j++) {
            const vec slope = op.slope ? load(op.slope + (plane + j) * V) : splat(1.0f), zero = splat(0.0f);
            float* to = op.out[plane + j] + at + ptrdiff_t(x) * V;
            for (int i = 0; i < H; i++) {
                if (x + i >= op.right) break;
                const vec result = sum[i][j] > zero ? sum[i][j] : sum[i][j] * slope;
                past ? store_past(to + i * V, result) : store(to + i * V, result);
            }
        }
    }
    if (past) finish_stores_past();
}

static void first(const Op& op, int part, float* lines) {
    const int y = op.first + part;
    for (int channel = 0; channel < op.channels; channel++)
        for (int dy = -1; dy <= 1; dy++) {
            float* line = lines + (channel * 3 + dy + 1) * line_floats(op.width);
            std::fill_n(line, line_floats(op.width), 0.0f);
            if (y + dy >= 0 && y + dy < op.height)
                std::copy_n(op.in[0] + (ptrdiff_t(channel) * op.height + y + dy) * op.width, op.width, line + 1);
        }
    for (int plane = 0; plane < op.out_planes;) {
        const int wide = std::min(WIDEST, op.out_planes - plane);
        const auto run = wide == 1 ? convolve_row<1> : wide == 2 ? convolve_row<2> : wide == 3 ? convolve_row<3> : convolve_row<4>;
        run(op, y, plane, lines);
        plane += wide;
    }
}

// ---- threads ----

// All wait for all. A short spin catches the usual case; sleeping leaves the core to others when one thread is late.
class Barrier {
  public:
    explicit Barrier(int threads) : threads_(threads) {}
    void wait() {
        const int round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            std::lock_guard<std::mutex> lock(mutex_);
            round_.store(round + 1, std::memory_order_release);
            awake_.notify_all();
            return;
        }
        for (int spin = 0; spin < 2000; spin++)
            if (round_.load(std::memory_order_acquire) != round) return;
        std::unique_lock<std::mutex> lock(mutex_);
        awake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != round; });
    }

  private:
    const int threads_;
    std::atomic<int> arrived_{0}, round_{0};
    std::mutex mutex_;
    std::condition_variable awake_;
};

static int parts(const Op& op) {
    return op.kind == CONV || op.kind == LAST ? (Geometry(op).count + TILES - 1) / TILES : op.last - op.first;
}

extern "C" {

int steadyscale_abi() { return ABI; }
int steadyscale_vector() { return V; }
int steadyscale_widest() { return WIDEST; }
int steadyscale_op_bytes() { return int(sizeof(Op)); }

// Floats of scratch memory that one thread needs for a convolution of planes, and for one of `channels` of a picture.
size_t steadyscale_scratch(int in_planes, int out_planes) { return scratch_floats(in_planes, out_planes); }
size_t steadyscale_scratch_first(int channels, int width) { return lines_floats(channels, width); }

// Zeroed memory straight from the system, so that what is freed goes back and leaves no holes. It starts at a huge page,
// and those are asked for: patches touch many pages at once. `bytes` is a multiple of 4096. Null if there is none.
void* steadyscale_allocate(size_t bytes) {
    void* mapped = mmap(nullptr, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    char* const begin = static_cast<char*>(mapped);
    const size_t before = (HUGE_PAGE - reinterpret_cast<uintptr_t>(begin) % HUGE_PAGE) % HUGE_PAGE;
    // Where pages are larger than 4096 bytes some of these fail, which leaves address space unused and nothing else.
    if (before > 0) munmap(begin, before);
    munmap(begin + before + bytes, HUGE_PAGE - before);
#ifdef MADV_HUGEPAGE
    madvise(begin + before, bytes, MADV_HUGEPAGE);
#endif
    return begin + before;
}

void steadyscale_free(void* memory, size_t bytes) { munmap(memory, bytes); }

// Transform filters once: weight (out_channels, in_channels, 3, 3) -> to[point][pass][depth][vectors of the pass], which
// is zero beforehand. A pass makes up to WIDEST planes of output. `places`: where in the depth an input channel lies.
void steadyscale_filters(const float* weight, int out_channels, int in_channels, const int32_t* places, int depth,
                         int out_planes, float* to) {
    // A row evaluates a filter at its point and carries the point's factor of the Lagrange interpolation.
    static const double G[IN][3] = {{1, 0, 0},
                                    {-2. / 9, -2. / 9, -2. / 9},
                                    {-2. / 9, 2. / 9, -2. / 9},
                                    {1. / 90, 2. / 90, 4. / 90},
                                    {1. / 90, -2. / 90, 4. / 90},
                                    {32. / 45, 16. / 45, 8. / 45},
                                    {32. / 45, -16. / 45, 8. / 45},
                                    {0, 0, 1}};
    const ptrdiff_t point = ptrdiff_t(depth) * out_planes * V;
    for (int i = 0; i < in_channels; i++)
        for (int o = 0; o < out_channels; o++) {
            const float* w = weight + (ptrdiff_t(o) * in_channels + i) * 9;
            const int first = o / V / WIDEST * WIDEST, wide = std::min(WIDEST, out_planes - first);
            float* place = to + (ptrdiff_t(first) * depth + ptrdiff_t(places[i]) * wide) * V + (o - first * V);
            for (int y = 0; y < IN; y++) {
                double row[3];
                for (int x = 0; x < 3; x++) row[x] = G[y][0] * w[x] + G[y][1] * w[3 + x] + G[y][2] * w[6 + x];
                for (int x = 0; x < IN; x++, place += point)
                    *place = float(row[0] * G[x][0] + row[1] * G[x][1] + row[2] * G[x][2]);
            }
        }
}

// Run the operations one after the other, each divided among the threads. `scratch`: `per_thread` floats for each.
// Fewer threads serve if the system gives no more. Returns how many there were.
int steadyscale_run(const Op* ops, int count, int threads, float* scratch, size_t per_thread) {
    std::vector<std::atomic<int>> next(count);
    for (auto& counter : next) counter.store(0);
    std::mutex gate;
    std::vector<std::thread> others;
    gate.lock();  // held until the number of threads is known, which the barrier needs
    Barrier* barrier = nullptr;
    const auto work = [&](int me) {
        for (int i = 0; i < count; i++) {
            const Op& op = ops[i];
            float* own = scratch + per_thread * me;
            for (int part; (part = next[i].fetch_add(1, std::memory_order_relaxed)) < parts(op);)
                op.kind == PACK    ? pack(op, part)
                : op.kind == FIRST ? first(op, part, own)
                                   : convolve(op, part, threads, own);
            barrier->wait();
        }
    };
    try {
        others.reserve(threads);
        for (int me = 1; me < threads; me++)
            others.emplace_back([&, me] {
                { std::lock_guard<std::mutex> lock(gate); }
                work(me);
            });
    } catch (...) {
    }
    Barrier shared(int(others.size()) + 1);
    barrier = &shared;
    gate.unlock();
    work(0);
    for (auto& thread : others) thread.join();
    return int(others.size()) + 1;
}
}
