// Vectors of floats, as wide as this CPU has them. Their type is the compiler's own (GCC, Clang), so the same text serves
// AVX-512, AVX2, SSE and NEON.

#pragma once

#include <cstddef>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int V = 16, ACCUMULATORS = 24;  // of 32 registers
#elif defined(__AVX__)
constexpr int V = 8, ACCUMULATORS = 12;  // of 16
#elif defined(__aarch64__)
constexpr int V = 4, ACCUMULATORS = 24;
#else
constexpr int V = 4, ACCUMULATORS = 12;
#endif
constexpr int LINE = 16;  // floats in a line of the caches

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
