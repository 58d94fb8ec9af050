// SIMD vectors of floats at the width of this CPU.
//
// Their type is the vector extension of GCC and Clang, so one source serves AVX-512, AVX2, SSE and NEON.

#pragma once

#include <stddef.h>
#include <stdint.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16, ACCUMULATORS = 24;  // of 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, ACCUMULATORS = 12;  // of 16
#elif defined(__aarch64__)
constexpr int LANES = 4, ACCUMULATORS = 24;
#else
constexpr int LANES = 4, ACCUMULATORS = 12;
#endif
constexpr int CACHE_LINE_FLOATS = 16;

typedef float vec __attribute__((vector_size(LANES * 4)));

#define ALWAYS_INLINE_LAMBDA __attribute__((always_inline))
#define ALWAYS_INLINE inline __attribute__((always_inline))

static ALWAYS_INLINE int smaller(int a, int b) { return a < b ? a : b; }
static ALWAYS_INLINE int larger(int a, int b) { return a > b ? a : b; }
static ALWAYS_INLINE void fill(float* to, ptrdiff_t count, float value) {
    for (ptrdiff_t i = 0; i < count; i++) to[i] = value;
}
static ALWAYS_INLINE void copy(const float* from, ptrdiff_t count, float* to) {
    for (ptrdiff_t i = 0; i < count; i++) to[i] = from[i];
}

static ALWAYS_INLINE vec load(const float* p) { return *reinterpret_cast<const vec*>(p); }
// A load that stays in a register. Compilers prefer to read memory again for each use, which is slower here because the
// transforms use every value several times. With 16 registers the compiler's choice is the better one.
static ALWAYS_INLINE vec load_to_register(const float* p) {
    vec v = load(p);
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
    return v;
}
static ALWAYS_INLINE void store(float* p, vec v) { *reinterpret_cast<vec*>(p) = v; }
// A non-temporal store, for results too large to stay in the caches until they are read: it does not load the line first.
static ALWAYS_INLINE void store_streaming(float* p, vec v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(p, v);
#elif defined(__AVX__)
    _mm256_stream_ps(p, v);
#else
    store(p, v);
#endif
}
static ALWAYS_INLINE void fence_streaming_stores() {
#if defined(__AVX__)
    _mm_sfence();
#endif
}
static ALWAYS_INLINE vec splat(float x) {
#if defined(__AVX512F__)
    return _mm512_set1_ps(x);
#elif defined(__AVX__)
    return _mm256_set1_ps(x);
#else
    vec v;
    for (int i = 0; i < LANES; i++) v[i] = x;
    return v;
#endif
}
