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
// vectors.h, transforms.h and product.h are the arithmetic, op.h what the caller asks for, patches.h, caches.h, results.h
// and convolution.h a block on its way through, input_layer.h the first layer, threads.h the whole.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <sys/mman.h>

#include "threads.h"

constexpr size_t HUGE_PAGE = size_t(2) << 20;

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

// Run the operations one after the other on so many threads, or fewer if the system gives no more; returns how many.
// `scratch`: `per_thread` floats for each.
int steadyscale_run(const Op* ops, int count, int threads, float* scratch, size_t per_thread) {
    return run(ops, count, threads, scratch, per_thread);
}
}
