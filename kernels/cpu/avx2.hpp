// Products of rows with quantized weights, and the attention of queries over slots, on a CPU with AVX2,
// FMA and F16C (Intel since Haswell, AMD since Zen). Numbers are float32.
//
// Rows are converted to 8-bit integers with a scale for each group of 32 inputs, as VPMADDUBSW
// multiplies four times as many of them as FMA multiplies float32. The sums over a group are exact;
// only the row is rounded, to 1/254 of the largest number of its group. Slots hold float16 or, for
// the passes of an unquantized model, float32.
//
// With AVX-VNNI (Intel's client processors since Alder Lake, AMD since Zen 5) a product is `Fused`:
// VPDPBUSD multiplies and adds to the sum, with the same result.
//
// Only functions after the pragmas below use the instructions; callers check supported() or fuses()
// first.
#pragma once

#include "common.hpp"

#if defined(__x86_64__)
#define CPU_AVX2 1
#include <cpuid.h>
#include <immintrin.h>
#if defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 11
#define CPU_AVX2_VNNI 1  // older assemblers do not know it
#endif
#endif

namespace avx2 {

using cpu::group;
using cpu::group_bytes;
using cpu::lanes;

#ifdef CPU_AVX2

inline bool supported() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

inline bool fuses() {
    unsigned features, b, c, d;
    return supported() && __get_cpuid_count(7, 1, &features, &b, &c, &d) && (features >> 4 & 1);
}

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

constexpr long width = 8;  // numbers per register
constexpr long line = 64;  // bytes that are loaded at a time

inline float sum_of(__m256 x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

inline float largest_of(__m256 x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// sum += products of four-bit weights and inputs, four for each output: `Fused` in 32 bits, else in
// two sums of 16 bits, which fit a group's sums (16 * 15 * 127 < 2^15). The assembly keeps the
// program's order: else compilers load all rows' inputs first, run out of registers, and spill the
// sums.
template <bool Fused>
inline void add_products(__m256i& sum, __m256i weights, __m256i inputs) {
#ifdef CPU_AVX2_VNNI
    if (Fused) {
        __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(weights), "x"(inputs));
        return;
    }
#endif
    const __m256i products = _mm256_maddubs_epi16(weights, inputs);
    __asm__ volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(products));
}

// The sums of `add_products` in 32 bits.
template <bool Fused>
inline __m256i in_full(__m256i sum) {
    return Fused ? sum : _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

// The instructions multiply unsigned weights. For `Fused` they are w + 128, so a sum begins at -128
// times the sum of the inputs; else |w|, and the inputs take the sign (127 * 127 * 2 < 2^15).
template <bool Fused>
inline __m256i as_unsigned(__m256i weights) {
    return Fused ? _mm256_xor_si256(weights, _mm256_set1_epi8(-128)) : _mm256_abs_epi8(weights);
}

template <bool Fused>
inline __m256i signed_begin(const float* inputs) {
    if (!Fused) return _mm256_setzero_si256();
    return _mm256_cvtps_epi32(
        _mm256_mul_ps(_mm256_broadcast_ss(inputs), _mm256_set1_ps(-128.0f)));
}

// sum += products of eight-bit weights, also given as `as_unsigned`, and inputs, in 32 bits.
template <bool Fused>
inline void add_signed(__m256i& sum, __m256i magnitudes, __m256i weights, __m256i inputs) {
    if (Fused) return add_products<true>(sum, magnitudes, inputs);
    const __m256i products =
        _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(inputs, weights));
    const __m256i wide = _mm256_madd_epi16(products, _mm256_set1_epi16(1));
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(wide));
}

inline __m256 halves(const uint16_t* values) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
}

inline __m256 absolute(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

// e^x for x <= 0, to 2 units in the last place; 0 below -87.
inline __m256 exponential(__m256 x) {
    const __m256 large = _mm256_cmp_ps(x, _mm256_set1_ps(-87.0f), _CMP_GE_OQ);
    x = _mm256_max_ps(x, _mm256_set1_ps(-88.0f));
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.0f / 720);
    constexpr float series[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (float c : series) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
    const __m256i power = _mm256_slli_epi32(
        _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(large, _mm256_mul_ps(p, _mm256_castsi256_ps(power)));
}

// ------------------------------------------------------------------------------ between products

// y = x / sqrt(mean(x^2) + epsilon) * weight; [rows, size], size a multiple of 16.
inline void norm(const float* x, const float* weight, float* y, long rows, long size,
                 float epsilon) {
    for (long r = 0; r < rows; ++r, x += size, y += size) {
        __m256 squares[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (long i = 0; i < size; i += 2 * width)
            for (int k = 0; k < 2; ++k) {
                const __m256 value = _mm256_loadu_ps(x + i + k * width);
                squares[k] = _mm256_fmadd_ps(value, value, squares[k]);
            }
        const float mean = sum_of(_mm256_add_ps(squares[0], squares[1])) / float(size);
        const __m256 by = _mm256_set1_ps(1.0f / __builtin_sqrtf(mean + epsilon));
        for (long i = 0; i < size; i += width)
            _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), by),
                                                  _mm256_loadu_ps(weight + i)));
    }
}

// y = silu(gate) * up; x [rows, 2 size] holds gate and up; size a multiple of 16.
inline void gate(const float* x, float* y, long rows, long size) {
    const __m256 one = _mm256_set1_ps(1.0f);
    for (long r = 0; r < rows; ++r, x += 2 * size, y += size)
        for (long i = 0; i < size; i += width) {
            const __m256 value = _mm256_loadu_ps(x + i);
            // With e = exp(-|g|), silu is g / (1 + e) or g e / (1 + e).
            const __m256 e = exponential(_mm256_sub_ps(_mm256_setzero_ps(), absolute(value)));
            const __m256 top = _mm256_blendv_ps(value, _mm256_mul_ps(value, e), value);
            const __m256 silu = _mm256_div_ps(top, _mm256_add_ps(one, e));
            _mm256_storeu_ps(y + i, _mm256_mul_ps(silu, _mm256_loadu_ps(x + size + i)));
        }
}

// The first `turned` of `heads` heads in [rows, heads, dim], in place: x cos + (-x2, x1) sin for
// the halves x1 and x2; cosines and sines [rows, dim]; dim a multiple of 32.
inline void rotate(float* x, const float* cosines, const float* sines, long rows, long heads,
                   long turned, long dim) {
    const long half = dim / 2;
    for (long r = 0; r < rows; ++r, cosines += dim, sines += dim)
        for (long h = 0; h < turned; ++h) {
            float* head = x + (r * heads + h) * dim;
            for (long i = 0; i < half; i += width) {
                const __m256 one = _mm256_loadu_ps(head + i);
                const __m256 other = _mm256_loadu_ps(head + half + i);
                const __m256 first = _mm256_mul_ps(one, _mm256_loadu_ps(cosines + i));
                const __m256 second = _mm256_mul_ps(other, _mm256_loadu_ps(cosines + half + i));
                _mm256_storeu_ps(head + i,
                                 _mm256_fnmadd_ps(other, _mm256_loadu_ps(sines + i), first));
                _mm256_storeu_ps(head + half + i,
                                 _mm256_fmadd_ps(one, _mm256_loadu_ps(sines + half + i), second));
            }
        }
}

// y += x, a multiple of 16 numbers.
inline void add(float* y, const float* x, long size) {
    for (long i = 0; i < size; i += width)
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
}

// ------------------------------------------------------------------------------ whole numbers

// Rows as whole numbers from -127 to 127, with a scale for each group of 32 inputs.
struct Whole {
    float* scales;   // [rows, I / 32]
    float* sums;     // of a group's whole numbers, [rows, I / 32]
    int8_t* values;  // [rows, I]
};

inline Whole whole_in(void* scratch, long rows, long inputs) {
    const long groups = rows * (inputs / group);
    auto* scales = static_cast<float*>(scratch);
    return {scales, scales + groups, reinterpret_cast<int8_t*>(scales + 2 * groups)};
}

// Bytes for whole numbers.
inline long scratch4(long rows, long inputs) { return rows * (inputs + inputs / group * 8); }

inline __m256 eight_at(const float* values) { return _mm256_loadu_ps(values); }

inline __m256 eight_at(const uint16_t* values) {  // bfloat16
    const __m256i wide =
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

// Of x [rows, I], I a multiple of 32. `order` has the place of each of 16 inputs.
template <class Number>
void make_whole(const Number* x, long rows, long inputs, void* scratch, __m128i order) {
    constexpr float least = 1e-30f;  // the inverse of less is not finite; such groups become zero
    const Whole out = whole_in(scratch, rows, inputs);
    const __m256i in_order = _mm256_broadcastsi128_si256(order);
    const __m256i unpacked = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (long g = 0; g < rows * (inputs / group); ++g, x += group) {
        __m256 value[4], most = _mm256_setzero_ps();
        for (int k = 0; k < 4; ++k) {
            value[k] = eight_at(x + k * width);
            most = _mm256_max_ps(most, absolute(value[k]));
        }
        const float largest = largest_of(most);
        const __m256 by = _mm256_set1_ps(largest > least ? 127.0f / largest : 0.0f);
        __m256i whole[4];
        for (int k = 0; k < 4; ++k) whole[k] = _mm256_cvtps_epi32(_mm256_mul_ps(value[k], by));
        const __m256i bytes = _mm256_permutevar8x32_epi32(
            _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]),
                               _mm256_packs_epi32(whole[2], whole[3])), unpacked);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.values + g * group),
                            _mm256_shuffle_epi8(bytes, in_order));
        const __m256 both = _mm256_cvtepi32_ps(_mm256_add_epi32(
            _mm256_add_epi32(whole[0], whole[1]), _mm256_add_epi32(whole[2], whole[3])));
        out.scales[g] = largest / 127.0f;
        out.sums[g] = sum_of(both);
    }
}

inline __m256i four_at(const int8_t* values, long number) {  // 4 numbers in all lanes
    int32_t four;
    __builtin_memcpy(&four, values + 4 * number, sizeof four);
    return _mm256_set1_epi32(four);
}

// ------------------------------------------------------------------------------ four bits

// Weights [O / 16][I / 32] blocks of `group_bytes`. Four times 16 words of 32 bits (z = 0 .. 3) hold
// the values q = 0 .. 15 of input 8 z + 2 j + e for each output at bits 16 e + 4 j; then 16 scales s
// and 16 offsets t, float16. A weight is (q - 8) s + t.
//
// Few rows times a block of 16 outputs, which is unpacked in registers. A byte's two values are two
// inputs apart. As q s + (t - 8 s), the second part is multiplied by the sum of the row's inputs. The next block is
// prefetched, as CPUs do not look so far ahead while they compute. Not inlined, as compilers have
// run out of registers in callers.
template <int Rows, bool Fused>
__attribute__((noinline)) void tile4(const Whole& x, long row, const uint8_t* block, float* y,
                                     long outputs, long inputs) {
    const long groups = inputs / group;
    const __m256i values_of = _mm256_set1_epi8(0x0F);
    __m256 out[Rows][2];
    for (int r = 0; r < Rows; ++r) out[r][0] = out[r][1] = _mm256_setzero_ps();
    for (long g = 0; g < groups; ++g, block += group_bytes) {
        const int8_t* in = x.values + row * inputs + g * group;
        __m256i sum[Rows][2];
        for (int r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        for (long at = 0; at < group_bytes; at += line)
            _mm_prefetch(block + groups * group_bytes + at, _MM_HINT_T0);
        for (int z = 0; z < 4; ++z) {
            const auto* packed = reinterpret_cast<const __m256i*>(block + 64 * z);
            __m256i low = _mm256_loadu_si256(packed), high = _mm256_loadu_si256(packed + 1);
            for (int half = 0; half < 2; ++half) {
                const __m256i one = _mm256_and_si256(low, values_of);
                const __m256i other = _mm256_and_si256(high, values_of);
                low = _mm256_srli_epi32(low, 4);
                high = _mm256_srli_epi32(high, 4);
                for (int r = 0; r < Rows; ++r) {
                    const __m256i input = four_at(in + r * inputs, 2 * z + half);
                    add_products<Fused>(sum[r][0], one, input);
                    add_products<Fused>(sum[r][1], other, input);
                }
            }
        }
        const auto* numbers = reinterpret_cast<const uint16_t*>(block + 256);
        const long at = row * groups + g;
        for (int v = 0; v < 2; ++v) {
            const __m256 scale = halves(numbers + v * width);
            const __m256 offset =
                _mm256_fmadd_ps(scale, _mm256_set1_ps(-8.0f), halves(numbers + lanes + v * width));
            for (int r = 0; r < Rows; ++r) {
                const __m256 rest =
                    _mm256_mul_ps(offset, _mm256_broadcast_ss(x.sums + at + r * groups));
                const __m256 whole = _mm256_cvtepi32_ps(in_full<Fused>(sum[r][v]));
                out[r][v] = _mm256_fmadd_ps(_mm256_fmadd_ps(scale, whole, rest),
                                            _mm256_broadcast_ss(x.scales + at + r * groups),
                                            out[r][v]);
            }
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < 2; ++v) _mm256_storeu_ps(y + r * outputs + v * width, out[r][v]);
}

template <class Number>
void prepare4(const Number* x, long rows, long inputs, void* scratch) {
    const __m128i order = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    make_whole(x, rows, inputs, scratch, order);
}

// Blocks of 16 outputs from `from` to `to`. x [rows, I], y [rows, O]; O and I multiples of 32.
template <bool Fused>
void blocks4(const float*, void* scratch, const uint8_t* weights, float* y, long rows,
             long outputs, long inputs, long from, long to) {
    constexpr long most = 5;
    constexpr decltype(&tile4<1, Fused>) tile_of[] = {tile4<1, Fused>, tile4<2, Fused>,
                                                      tile4<3, Fused>, tile4<4, Fused>,
                                                      tile4<most, Fused>};
    const Whole whole = whole_in(scratch, rows, inputs);
    const long bytes = inputs / group * group_bytes, tiles = (rows + most - 1) / most;
    for (long block = from; block < to; ++block)
        for (long tile = 0, r = 0; tile < tiles; ++tile) {  // the block stays in the first cache
            const long size = (rows - r) / (tiles - tile);
            tile_of[size - 1](whole, r, weights + block * bytes, y + r * outputs + block * lanes,
                              outputs, inputs);
            r += size;
        }
}

// ------------------------------------------------------------------------------ eight bits

// Weights int8 [O / 16][I / 4][16][4] with a scale for each output, float32 [O].
template <int Rows, bool Fused>
__attribute__((noinline)) void tile8(const Whole& x, long row, const int8_t* weights,
                                     const float* scales, float* y, long outputs, long inputs) {
    constexpr long fours = group / 4;
    const long groups = inputs / group;
    __m256 out[Rows][2];
    for (int r = 0; r < Rows; ++r) out[r][0] = out[r][1] = _mm256_setzero_ps();
    for (long g = 0; g < groups; ++g, weights += group * lanes) {
        const int8_t* in = x.values + row * inputs + g * group;
        const long at = row * groups + g;
        __m256i sum[Rows][2];
        for (int r = 0; r < Rows; ++r)
            sum[r][0] = sum[r][1] = signed_begin<Fused>(x.sums + at + r * groups);
        for (long n = 0; n < fours; ++n) {
            const auto* packed = reinterpret_cast<const __m256i*>(weights + n * line);
            const __m256i low = _mm256_loadu_si256(packed), high = _mm256_loadu_si256(packed + 1);
            const __m256i one = as_unsigned<Fused>(low), other = as_unsigned<Fused>(high);
            _mm_prefetch(weights + inputs * lanes + n * line, _MM_HINT_T0);  // the next block
            for (int r = 0; r < Rows; ++r) {
                const __m256i input = four_at(in + r * inputs, n);
                add_signed<Fused>(sum[r][0], one, low, input);
                add_signed<Fused>(sum[r][1], other, high, input);
            }
        }
        for (int r = 0; r < Rows; ++r)
            for (int k = 0; k < 2; ++k)
                out[r][k] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][k]),
                                            _mm256_broadcast_ss(x.scales + at + r * groups),
                                            out[r][k]);
    }
    for (int r = 0; r < Rows; ++r)
        for (int k = 0; k < 2; ++k)
            _mm256_storeu_ps(y + r * outputs + k * width,
                             _mm256_mul_ps(out[r][k], _mm256_loadu_ps(scales + k * width)));
}

inline long scratch8(long rows, long inputs) { return scratch4(rows, inputs); }

template <class Number>
void prepare8(const Number* x, long rows, long inputs, void* scratch) {
    const __m128i order = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    make_whole(x, rows, inputs, scratch, order);
}

// Blocks of 16 outputs from `from` to `to`. x [rows, I], y [rows, O]; O a multiple of 16, I of 32.
template <bool Fused>
void blocks8(const float*, void* scratch, const int8_t* weights, const float* scales, float* y,
             long rows, long outputs, long inputs, long from, long to) {
    constexpr long most = 6;
    constexpr decltype(&tile8<1, Fused>) tile_of[] = {
        tile8<1, Fused>, tile8<2, Fused>, tile8<3, Fused>,
        tile8<4, Fused>, tile8<5, Fused>, tile8<most, Fused>};
    const Whole whole = whole_in(scratch, rows, inputs);
    const long tiles = (rows + most - 1) / most;
    for (long block = from; block < to; ++block)
        for (long tile = 0, r = 0; tile < tiles; ++tile) {
            const long size = (rows - r) / (tiles - tile);
            tile_of[size - 1](whole, r, weights + block * inputs * lanes, scales + block * lanes,
                              y + r * outputs + block * lanes, outputs, inputs);
            r += size;
        }
}

// ------------------------------------------------------------------------------ unquantized

inline float added(__m256 values) {
    const __m128 four =
        _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Weights float32 [16, I] in blocks of 16 outputs, each at its own address.
template <int Rows>
void tile_own(const float* x, const float* weights, float* y, long outputs, long inputs) {
    constexpr int Outputs = Rows <= 3 ? 4 : 2;
    for (long o = 0; o < lanes; o += Outputs, weights += Outputs * inputs) {
        __m256 sum[Rows][Outputs];
        for (int r = 0; r < Rows; ++r)
            for (int k = 0; k < Outputs; ++k) sum[r][k] = _mm256_setzero_ps();
        for (long i = 0; i < inputs; i += width)
            for (int k = 0; k < Outputs; ++k) {
                const __m256 w = _mm256_loadu_ps(weights + k * inputs + i);
                // The next weights in order: CPUs detect no stream in alternating rows.
                _mm_prefetch(weights + Outputs * (inputs + i) + k * width, _MM_HINT_T0);
                for (int r = 0; r < Rows; ++r)
                    sum[r][k] =
                        _mm256_fmadd_ps(_mm256_loadu_ps(x + r * inputs + i), w, sum[r][k]);
            }
        for (int r = 0; r < Rows; ++r)
            for (int k = 0; k < Outputs; ++k) y[r * outputs + o + k] = added(sum[r][k]);
    }
}

// Blocks of 16 outputs from `from` to `to`. y [rows, O]; O a multiple of 16, I of 32.
inline void blocks_own(const float* x, const float* const* weights, float* y, long rows,
                       long outputs, long inputs, long from, long to) {
    constexpr long most = 6;
    constexpr decltype(&tile_own<1>) tile_of[] = {tile_own<1>, tile_own<2>, tile_own<3>,
                                                  tile_own<4>, tile_own<5>, tile_own<most>};
    const long tiles = (rows + most - 1) / most;
    for (long block = from; block < to; ++block)
        for (long tile = 0, r = 0; tile < tiles; ++tile) {
            const long size = (rows - r) / (tiles - tile);
            tile_of[size - 1](x + r * inputs, weights[block], y + r * outputs + block * lanes,
                              outputs, inputs);
            r += size;
        }
}

// ------------------------------------------------------------------------------ attention

// States are prefetched this many positions ahead, as they are in order, but in short runs.
constexpr long ahead = 24;

inline void write(const float* from, uint16_t* to, long size) {
    const __m256 most = _mm256_set1_ps(65504.0f), least = _mm256_set1_ps(-65504.0f);
    for (long d = 0; d < size; d += width) {
        const __m256 value = _mm256_max_ps(_mm256_min_ps(_mm256_loadu_ps(from + d), most), least);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + d),
                         _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
    }
}
inline void write(const float* from, float* to, long size) {
    __builtin_memcpy(to, from, sizeof *to * size_t(size));
}

// Writes the keys and values of a part's rows, each `stride` numbers apart, into its slots.
template <class State>
void write_states(const float* keys, const float* values, long stride,
                         const cpu::Part& part, const cpu::Slots& slots, const cpu::Heads& size) {
    const auto put = [&](const float* from, void* slots, long at) {
        write(from, static_cast<State*>(slots) + at, size.dim);
    };
    for (long r = 0; r < part.count; ++r)
        for (long h = 0; h < size.kv_heads; ++h) {
            const long at = (h * part.capacity + part.order[part.places[r]]) * size.dim;
            put(keys + r * stride + h * size.dim, slots.keys, at);
            put(values + r * stride + h * size.dim, slots.values, at);
            if (slots.base != nullptr) put(keys + r * stride + h * size.dim, slots.base, at);
        }
}

inline __m256 numbers(const uint16_t* values) { return halves(values); }
inline __m256 numbers(const float* values) { return _mm256_loadu_ps(values); }

// Scores of rows with 16 keys, float16 or float32 [D] each.
template <int Rows, class Key>
inline void score(const float* const* queries, const Key* const* keys, long dim, __m256 scale,
                  float* const* out) {
    constexpr int together = 4;  // keys
    for (long k = 0; k < lanes; k += together) {
        __m256 sum[Rows][together];
        for (int r = 0; r < Rows; ++r)
            for (int i = 0; i < together; ++i) sum[r][i] = _mm256_setzero_ps();
        for (long d = 0; d < dim; d += width) {
            __m256 query[Rows];
            for (int r = 0; r < Rows; ++r) query[r] = _mm256_loadu_ps(queries[r] + d);
            for (int i = 0; i < together; ++i) {
                const __m256 key = numbers(keys[k + i] + d);
                for (int r = 0; r < Rows; ++r)
                    sum[r][i] = _mm256_fmadd_ps(query[r], key, sum[r][i]);
            }
        }
        for (int r = 0; r < Rows; ++r) {
            const __m256 four = _mm256_hadd_ps(_mm256_hadd_ps(sum[r][0], sum[r][1]),
                                               _mm256_hadd_ps(sum[r][2], sum[r][3]));
            const __m128 whole =
                _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1));
            _mm_storeu_ps(out[r] + k, _mm_mul_ps(whole, _mm256_castps256_ps128(scale)));
        }
    }
}

// Turns the scores of a row into weights e^(score - largest) in place, zero after `length` up to
// `padded`; returns the inverse of their sum.
inline float soften(float* scores, long length, long padded) {
    for (long s = length; s < padded; ++s) scores[s] = -3e38f;
    __m256 largest = _mm256_set1_ps(-3e38f);
    for (long s = 0; s < padded; s += width)
        largest = _mm256_max_ps(largest, _mm256_loadu_ps(scores + s));
    const __m256 most = _mm256_set1_ps(largest_of(largest));
    __m256 total = _mm256_setzero_ps();
    for (long s = 0; s < padded; s += width) {
        const __m256 weight = exponential(_mm256_sub_ps(_mm256_loadu_ps(scores + s), most));
        total = _mm256_add_ps(total, weight);
        _mm256_storeu_ps(scores + s, weight);
    }
    for (long s = length; s < padded; ++s) scores[s] = 0.0f;
    return 1.0f / sum_of(total);
}

constexpr int channels = 32;  // of a line of 64 bytes, in float16

// The weighted sums of the values' next channels for rows. Prefetches the same slots at `next`, if
// set.
template <int Rows, class State>
inline void gather(const float* const* weights, const float* inverse, const State* values,
                   const int64_t* slots, long length, long dim, float* const* out,
                   const State* next) {
    constexpr int wide = channels / width;
    __m256 sum[Rows][wide];
    for (int r = 0; r < Rows; ++r)
        for (int k = 0; k < wide; ++k) sum[r][k] = _mm256_setzero_ps();
    for (long s = 0; s < length; ++s) {
        const State* value = values + slots[s] * dim;
        if (s + ahead < length) _mm_prefetch(values + slots[s + ahead] * dim, _MM_HINT_T0);
        if (next != nullptr) _mm_prefetch(next + slots[s] * dim, _MM_HINT_T1);
        __m256 weight[Rows];
        for (int r = 0; r < Rows; ++r) weight[r] = _mm256_broadcast_ss(weights[r] + s);
        for (int k = 0; k < wide; ++k) {
            const __m256 these = numbers(value + k * width);
            for (int r = 0; r < Rows; ++r)
                sum[r][k] = _mm256_fmadd_ps(weight[r], these, sum[r][k]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int k = 0; k < wide; ++k)
            _mm256_storeu_ps(out[r] + k * width,
                             _mm256_mul_ps(sum[r][k], _mm256_set1_ps(inverse[r])));
}

// Queries processed together, whose scores fit into the second-level cache.
inline long most_queries(const cpu::Heads& size) {
    const long shared = size.heads / size.kv_heads;
    return shared < 48 ? 48 / shared : 1;
}

inline long attention_scratch(long length, const cpu::Heads& size) {
    const long rows = most_queries(size) * (size.heads / size.kv_heads);
    return 4 * (rows * (cpu::padded(length) + 1) + size.dim * lanes);
}

// Attention of `count` of a part's queries [.., heads, D] from `start` on, `stride` numbers apart,
// with one key head. Out [.., heads, D]; D a multiple of 32.
template <class State>
void attend(const float* queries, long stride, const cpu::Part& part,
                   const cpu::Slots& slots, const cpu::Heads& size, float* out, long head,
                   long start, long count, void* scratch) {
    constexpr int most = 3;  // rows of a tile
    const long dim = size.dim, shared = size.heads / size.kv_heads, rows = count * shared;
    const int64_t* places = part.places + start;
    const long length = places[count - 1] + 1, room = cpu::padded(length);
    const __m256 scale = _mm256_set1_ps(size.scale);
    float* wide = static_cast<float*>(scratch);
    float* inverse = wide + dim * lanes;
    float* scores = inverse + rows;
    const State* keys = static_cast<State*>(slots.keys) + head * part.capacity * dim;
    const State* values = static_cast<State*>(slots.values) + head * part.capacity * dim;
    // Row r is query r / shared and its head r % shared, so that later rows have more keys.
    const auto at = [&](long r) { return (head * shared + r % shared) * dim; };
    const auto tile_of = [&](long r) { return rows - r >= most ? most : 1; };
    long first = 0;  // the first row that attends to the keys
    for (long s = 0; s < length; s += lanes) {
        while (places[first / shared] < s) ++first;
        const State* these[lanes];
        const float* as_wide[lanes];
        for (long i = 0; i < lanes; ++i) {
            these[i] = keys + part.order[s + i < length ? s + i : length - 1] * dim;
            if (s + i + ahead < length)
                for (long d = 0; d < dim; d += channels) {
                    _mm_prefetch(keys + part.order[s + i + ahead] * dim + d, _MM_HINT_T0);
                    _mm_prefetch(values + part.order[s + i + ahead] * dim + d, _MM_HINT_T1);
                }
        }
        const bool several = rows - first > most;  // tiles, so that keys are widened once
        for (long i = 0; several && i < lanes; ++i) {
            as_wide[i] = wide + i * dim;
            for (long d = 0; d < dim; d += width)
                _mm256_storeu_ps(wide + i * dim + d, numbers(these[i] + d));
        }
        for (long r = first, tile; r < rows; r += tile) {
            const float* in[most];
            float* to[most];
            tile = tile_of(r);
            for (long i = 0; i < tile; ++i) {
                in[i] = queries + (start + (r + i) / shared) * stride + at(r + i);
                to[i] = scores + (r + i) * room + s;
            }
            if (several) {
                if (tile == 1) score<1>(in, as_wide, dim, scale, to);
                else score<most>(in, as_wide, dim, scale, to);
            } else if (tile == 1) {
                score<1>(in, these, dim, scale, to);
            } else {
                score<most>(in, these, dim, scale, to);
            }
        }
    }
    for (long r = 0; r < rows; ++r)
        inverse[r] = soften(scores + r * room, places[r / shared] + 1, room);
    for (long d = 0; d < dim; d += channels)
        for (long r = 0, tile; r < rows; r += tile) {
            const float* weights[most];
            float* to[most];
            tile = tile_of(r);
            for (long i = 0; i < tile; ++i) {
                weights[i] = scores + (r + i) * room;
                to[i] = out + (start + (r + i) / shared) * size.heads * dim + at(r + i) + d;
            }
            const long seen = places[(r + tile - 1) / shared] + 1;
            const float* by = inverse + r;
            const State* from = values + d;
            // The next head's keys.
            const bool more = r == 0 && head + 1 < size.kv_heads;
            const State* next = more ? keys + part.capacity * dim + d : nullptr;
            if (tile == 1) gather<1>(weights, by, from, part.order, seen, dim, to, next);
            else gather<most>(weights, by, from, part.order, seen, dim, to, next);
        }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // CPU_AVX2

}  // namespace avx2
