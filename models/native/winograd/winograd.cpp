// Runs a list of convolutions (stride 1, padded with zeros) and normalizations on a CPU in float32. Convolutions of 3x3 are
// fused Winograd F(6x6, 3x3), larger ones sums of it (large_convolution.h), 1x1 ones matrix products (pointwise.h).
//
// Winograd's minimal filtering (Lavin and Gray 2015, arXiv:1509.09308) computes a 6x6 output tile from an 8x8 input tile
// with 64 multiplications per pair of channels instead of 324. Three steps: every tile is transformed (B^T d B), each of
// the 64 points is a matrix product over channels, and the result is transformed back (A^T m A). They are fused over a
// block of TILES_PER_BLOCK tiles, so that intermediate values stay in the second-level cache, and bias, activation and
// residuals are applied while the result is still in registers.
//
// Frames are stored as planes of LANES channels: plane[row][column][LANES], where LANES is the width of a vector register.
// Planes have no margin: tiles that reach over an edge are copied and padded with zeros. A block is computed in the same
// order whichever thread takes it, so results are bit-identical for any number of threads.
//
// vectors.h, transforms.h and gemm.h are the arithmetic, op.h the interface, input_transform.h, cache_hints.h,
// output_layer.h and convolution.h the steps of a block, activations.h what is applied to results, input_layer.h the first
// layer, normalization.h group and layer norm, threads.h the scheduler, system.h what differs between operating systems.

#include "threads.h"

extern "C" {

EXPORT int steadyscale_abi() { return ABI_VERSION; }
EXPORT int steadyscale_vector() { return LANES; }
EXPORT int steadyscale_widest() { return MAX_PLANES_PER_PASS; }
EXPORT int steadyscale_op_bytes() { return int(sizeof(Op)); }

// Floats of scratch memory per thread for a convolution of planes, and for one of an image with `channels` channels.
EXPORT size_t steadyscale_scratch(int in_planes, int out_planes) { return scratch_floats(in_planes, out_planes); }
EXPORT size_t steadyscale_scratch_first(int channels, int width) { return input_scratch_floats(channels, width); }
EXPORT size_t steadyscale_scratch_large(int kernel, int in_planes, int out_planes) {
    return large_scratch_floats(kernel, in_planes, out_planes);
}
EXPORT size_t steadyscale_scratch_pointwise(int in_planes) { return pointwise_scratch_floats(in_planes); }

// Zeroed memory; see system.h.
EXPORT void* steadyscale_allocate(size_t bytes) { return allocate_pages(bytes); }
EXPORT void steadyscale_free(void* memory, size_t bytes) { free_pages(memory, bytes); }

// Transform filters once: weight (out_channels, in_channels, 3, 3) -> to[point][pass][depth][vectors of the pass], which
// must be zeroed. A pass computes up to MAX_PLANES_PER_PASS planes. channel_positions: index of each input channel in
// the depth.
EXPORT void steadyscale_filters(const float* weight, int out_channels, int in_channels, const int32_t* channel_positions,
                         int depth, int out_planes, float* to) {
    // Each row evaluates a filter at its point and includes the point's factor of the Lagrange interpolation.
    static const double G[INPUT_TILE][3] = {{1, 0, 0},
                                            {-2. / 9, -2. / 9, -2. / 9},
                                            {-2. / 9, 2. / 9, -2. / 9},
                                            {1. / 90, 2. / 90, 4. / 90},
                                            {1. / 90, -2. / 90, 4. / 90},
                                            {32. / 45, 16. / 45, 8. / 45},
                                            {32. / 45, -16. / 45, 8. / 45},
                                            {0, 0, 1}};
    const ptrdiff_t point_stride = ptrdiff_t(depth) * out_planes * LANES;
    for (int i = 0; i < in_channels; i++)
        for (int o = 0; o < out_channels; o++) {
            const float* w = weight + (ptrdiff_t(o) * in_channels + i) * 9;
            const int first_plane = o / LANES / MAX_PLANES_PER_PASS * MAX_PLANES_PER_PASS;
            const int pass_planes = smaller(MAX_PLANES_PER_PASS, out_planes - first_plane);
            float* target = to +
                            (ptrdiff_t(first_plane) * depth + ptrdiff_t(channel_positions[i]) * pass_planes) * LANES +
                            (o - first_plane * LANES);
            for (int y = 0; y < INPUT_TILE; y++) {
                double row[3];
                for (int x = 0; x < 3; x++) row[x] = G[y][0] * w[x] + G[y][1] * w[3 + x] + G[y][2] * w[6 + x];
                for (int x = 0; x < INPUT_TILE; x++, target += point_stride)
                    *target = float(row[0] * G[x][0] + row[1] * G[x][1] + row[2] * G[x][2]);
            }
        }
}

// Run the operations in order on `threads` threads, or fewer if the system starts no more; returns how many.
// `scratch`: `scratch_per_thread` floats for each.
EXPORT int steadyscale_run(const Op* ops, int count, int threads, float* scratch, size_t scratch_per_thread) {
    return run_ops(ops, count, threads, scratch, scratch_per_thread);
}
}
