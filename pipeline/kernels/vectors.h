// Vectors as wide as the machine's registers, functions of them, and the product of a few rows with
// a matrix.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define UNROLL _Pragma("GCC unroll 8")

#if defined(__AVX512F__)
constexpr int BYTES = 64, REGISTERS = 24;  // per vector; vector registers for accumulators
#elif defined(__AVX__)
constexpr int BYTES = 32, REGISTERS = 12;
#elif defined(__aarch64__)
constexpr int BYTES = 16, REGISTERS = 24;
#else
constexpr int BYTES = 16, REGISTERS = 12;
#endif

struct bf16 {
    uint16_t bits;
};

// The type in which values of a stored type are computed.
template <class S> struct wide { using type = S; };
template <> struct wide<bf16> { using type = float; };
template <class S> using Wide = typename wide<S>::type;

template <class A> struct Vector { typedef A type __attribute__((vector_size(BYTES))); };
template <class S> using Vec = typename Vector<Wide<S>>::type;
template <class S> constexpr int LANES = BYTES / sizeof(Wide<S>);

template <class S> inline Vec<S> load(const S* from) {
    Vec<S> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}
template <class S> inline void store(S* to, Vec<S> v) { std::memcpy(to, &v, sizeof v); }

typedef uint32_t Words __attribute__((vector_size(BYTES)));
typedef uint16_t Halves __attribute__((vector_size(BYTES / 2)));

template <> inline Vec<bf16> load<bf16>(const bf16* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return (Vec<bf16>)(__builtin_convertvector(halves, Words) << 16);
}
template <> inline void store<bf16>(bf16* to, Vec<bf16> v) {
#ifdef __AVX512BF16__
    auto halves = _mm512_cvtneps_pbh((__m512)v);
#else
    Words words = (Words)v;
    auto halves = __builtin_convertvector((words + 0x7fff + ((words >> 16) & 1)) >> 16, Halves);
#endif
    std::memcpy(to, &halves, sizeof halves);
}

// acc[r][n] += sum over k of rows[r][k] * packed[k][n], where packed is [K, N, lanes], or for bf16,
// which is multiplied in pairs, [K / 2, N, lanes, 2]. The sums are in a local array, because a
// compiler keeps in registers only arrays that no pointer refers to.
template <class S, int R, int N>
inline void add_product(const S* const* rows, const S* packed, long K, Vec<S> (&acc)[R][N]) {
    Vec<S> sum[R][N];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int n = 0; n < N; n++) sum[r][n] = acc[r][n];
    if constexpr (std::is_same_v<S, bf16>) {
#ifdef __AVX512BF16__
        for (long k = 0; k < K; k += 2) {
            __m512bh w[N];
            UNROLL for (int n = 0; n < N; n++)
                w[n] = (__m512bh)_mm512_loadu_si512(packed + (k * N + 2 * n) * LANES<S>);
            UNROLL for (int r = 0; r < R; r++) {
                int pair;
                std::memcpy(&pair, rows[r] + k, sizeof pair);
                auto a = (__m512bh)_mm512_set1_epi32(pair);
                UNROLL for (int n = 0; n < N; n++)
                    sum[r][n] = (Vec<S>)_mm512_dpbf16_ps((__m512)sum[r][n], a, w[n]);
            }
        }
#endif
    } else {
        for (long k = 0; k < K; k++) {
            Vec<S> w[N];
            UNROLL for (int n = 0; n < N; n++) w[n] = load(packed + (k * N + n) * LANES<S>);
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int n = 0; n < N; n++) sum[r][n] += rows[r][k] * w[n];
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int n = 0; n < N; n++) acc[r][n] = sum[r][n];
}

typedef float Floats __attribute__((vector_size(BYTES)));
typedef double Doubles __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));

// 2^x with a relative error of 2e-7, for |x| < 126: the integer part is added to the exponent, a
// polynomial approximates the fraction.
inline Floats power_of_two(Floats x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    Floats integer = (x + magic) - magic, r = x - integer;
    Floats p = r * 1.3276470e-3f + 9.6755410e-3f;  // a minimax fit on [-1/2, 1/2]
    p = p * r + 5.5507131e-2f;
    p = p * r + 2.4022120e-1f;
    p = p * r + 6.9314694e-1f;
    p = p * r + 1.0000001f;
    return (Floats)((Ints)p + (__builtin_convertvector(integer, Ints) << 23));
}
inline Doubles power_of_two(Doubles x) {  // for tests, where speed does not matter
    for (int i = 0; i < BYTES / 8; i++) x[i] = std::exp2(x[i]);
    return x;
}

inline Doubles reciprocal(Doubles x) { return 1 / x; }
inline Floats reciprocal(Floats x) {
#ifdef __AVX512F__
    Floats r = (Floats)_mm512_rcp14_ps((__m512)x);  // several times faster than a division
    return r * (2 - x * r);
#else
    return 1 / x;
#endif
}

// sigmoid(x) = 1 / (1 + exp(-x)) and tanh(x) = 2 / (1 + exp(-2x)) - 1, with an error of 3e-7 in
// float; NaN gives NaN.
template <class V> inline V logistic(V x, double rate) {
    V exponent = x * (decltype(x[0] + 0))(-1.4426950408889634 * rate);
    V limit = V{} + 80;
    exponent = exponent > limit ? limit : exponent;
    exponent = exponent < -limit ? -limit : exponent;
    return reciprocal(1 + power_of_two(exponent));
}
template <class V> inline V sigmoid(V x) { return logistic(x, 1); }
template <class V> inline V tangent(V x) { return 2 * logistic(x, 2) - 1; }
