// Activations of a vector: sigmoid, SiLU and Mish, from one approximation of exp.

#pragma once

#include "vectors.h"

typedef uint32_t uvec __attribute__((vector_size(LANES * 4)));

static ALWAYS_INLINE vec clamped(vec x, float low, float high) {  // NaN stays NaN
    x = x < splat(low) ? splat(low) : x;
    return x > splat(high) ? splat(high) : x;
}

// e^x for |x| <= 87, with a relative error of 2e-7 for small x and 1e-5 for the largest: 2^n * 2^f, where n is an integer
// and |f| <= 1/2. The polynomial is the minimax one for 2^f.
static ALWAYS_INLINE vec exponential(vec x) {
    const vec to_integer = splat(12582912.0f);  // 1.5 * 2^23: a sum with it has the integer in its last bits
    const vec t = x * 1.44269504f, shifted = t + to_integer, f = t - (shifted - to_integer);
    vec power = f * 0.00132764719f + 0.00967554133f;
    power = power * f + 0.0555071327f;
    power = power * f + 0.240221197f;
    power = power * f + 0.693146967f;
    power = power * f + 1.00000007f;
    return power * vec((uvec(shifted) << 23) + 0x3F800000u);
}

// 1 / x for positive x, exact but for a bit or two: division takes as long as the whole exponential.
static ALWAYS_INLINE vec reciprocal(vec x) {
#if defined(__AVX512F__)
    const vec guess = _mm512_rcp14_ps(x);
#elif defined(__AVX__)
    const vec guess = _mm256_rcp_ps(x);
#else
    return 1.0f / x;
#endif
#if defined(__AVX__)
    return guess * (2.0f - x * guess);
#endif
}

static ALWAYS_INLINE vec sigmoid(vec x) { return reciprocal(1.0f + exponential(clamped(-x, -80.0f, 80.0f))); }
static ALWAYS_INLINE vec silu(vec x) { return x * sigmoid(x); }
// x tanh(ln(1 + e^x)); the fraction is 1 in float32 from 20 on.
static ALWAYS_INLINE vec mish(vec x) {
    const vec e = exponential(clamped(x, -80.0f, 20.0f)), n = e * (e + 2.0f);
    return x * (n * reciprocal(n + 2.0f));
}
