// The products of avx2.hpp with registers of 512 bits, on a CPU with AVX-512 VNNI (Intel since Cascade
// Lake, AMD since Zen 4): VPDPBUSD multiplies four weights of each of a block's 16 outputs at once.
// The results for float32 are those of avx2.hpp, to the last bit; everything else is its code. Those
// for bfloat16 are rounded to it.
#pragma once

#include "avx2.hpp"

#if defined(CPU_AVX2_VNNI)
#define CPU_AVX512_VNNI 1
#endif

namespace avx512_vnni {

#ifdef CPU_AVX512_VNNI

using namespace avx2;

inline bool supported() {
    return avx2::supported() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vnni")
#endif

constexpr long most = 12;                  // rows per tile
constexpr long steps = cpu::group / 4;     // products per group
constexpr int chains(int rows) { return rows <= 4 ? 2 : 1; }  // sums that do not wait for each other

inline __m512i four_at(const int8_t* values, long number) {  // 4 numbers in all lanes
    int32_t four;
    __builtin_memcpy(&four, values + 4 * number, sizeof four);
    return _mm512_set1_epi32(four);
}

inline void store(float* values, __m512 numbers) { _mm512_storeu_ps(values, numbers); }

inline void store(uint16_t* values, __m512 numbers) {  // to the nearest bfloat16, ties to even
    const __m512i bits = _mm512_castps_si512(numbers);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7FFF));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(nearest, 16)));
}

inline __m512 half_precision(const uint16_t* values) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
}

// As avx2::tile4.
template <int Rows, class Number>
__attribute__((noinline)) void tile4(const Whole& x, long row, const uint8_t* block, Number* y,
                                     long outputs, long inputs) {
    const long groups = inputs / group;
    const __m512i values_of = _mm512_set1_epi8(0x0F);
    __m512 out[Rows];
    for (int r = 0; r < Rows; ++r) out[r] = _mm512_setzero_ps();
    for (long g = 0; g < groups; ++g, block += group_bytes) {
        const int8_t* in = x.values + row * inputs + g * group;
        __m512i sum[Rows][chains(Rows)];
        for (int r = 0; r < Rows; ++r)
            for (int k = 0; k < chains(Rows); ++k) sum[r][k] = _mm512_setzero_si512();
        for (long at = 0; at < group_bytes; at += line)
            _mm_prefetch(block + groups * group_bytes + at, _MM_HINT_T0);
        for (int z = 0; z < 4; ++z) {
            const __m512i packed = _mm512_loadu_si512(block + 64 * z);
            for (int half = 0; half < 2; ++half) {
                const __m512i weights =
                    _mm512_and_si512(half ? _mm512_srli_epi32(packed, 4) : packed, values_of);
                for (int r = 0; r < Rows; ++r) {
                    __m512i& its = sum[r][half % chains(Rows)];
                    its = _mm512_dpbusd_epi32(its, weights, four_at(in + r * inputs, 2 * z + half));
                }
            }
        }
        const auto* numbers = reinterpret_cast<const uint16_t*>(block + 256);
        const long at = row * groups + g;
        const __m512 scale = half_precision(numbers);
        const __m512 offset =
            _mm512_fmadd_ps(scale, _mm512_set1_ps(-8.0f), half_precision(numbers + lanes));
        for (int r = 0; r < Rows; ++r) {
            for (int k = 1; k < chains(Rows); ++k) sum[r][0] = _mm512_add_epi32(sum[r][0], sum[r][k]);
            const __m512 rest = _mm512_mul_ps(offset, _mm512_set1_ps(x.sums[at + r * groups]));
            const __m512 whole = _mm512_cvtepi32_ps(sum[r][0]);
            out[r] = _mm512_fmadd_ps(_mm512_fmadd_ps(scale, whole, rest),
                                     _mm512_set1_ps(x.scales[at + r * groups]), out[r]);
        }
    }
    for (int r = 0; r < Rows; ++r) store(y + r * outputs, out[r]);
}

// As avx2::tile8. Weights are w + 128 for the instruction, so a sum begins at -128 times the sum of
// the inputs.
template <int Rows, class Number>
__attribute__((noinline)) void tile8(const Whole& x, long row, const int8_t* weights,
                                     const float* scales, Number* y, long outputs, long inputs) {
    const long groups = inputs / group;
    const __m512i sign = _mm512_set1_epi8(-128);
    __m512 out[Rows];
    for (int r = 0; r < Rows; ++r) out[r] = _mm512_setzero_ps();
    for (long g = 0; g < groups; ++g, weights += group * lanes) {
        const int8_t* in = x.values + row * inputs + g * group;
        const long at = row * groups + g;
        __m512i sum[Rows][chains(Rows)];
        for (int r = 0; r < Rows; ++r) {
            sum[r][0] = _mm512_cvtps_epi32(
                _mm512_mul_ps(_mm512_set1_ps(x.sums[at + r * groups]), _mm512_set1_ps(-128.0f)));
            for (int k = 1; k < chains(Rows); ++k) sum[r][k] = _mm512_setzero_si512();
        }
        for (long n = 0; n < steps; ++n) {
            const __m512i four = _mm512_xor_si512(_mm512_loadu_si512(weights + n * line), sign);
            _mm_prefetch(weights + inputs * lanes + n * line, _MM_HINT_T0);  // the next block
            for (int r = 0; r < Rows; ++r) {
                __m512i& its = sum[r][n % chains(Rows)];
                its = _mm512_dpbusd_epi32(its, four, four_at(in + r * inputs, n));
            }
        }
        for (int r = 0; r < Rows; ++r) {
            for (int k = 1; k < chains(Rows); ++k) sum[r][0] = _mm512_add_epi32(sum[r][0], sum[r][k]);
            out[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0]),
                                     _mm512_set1_ps(x.scales[at + r * groups]), out[r]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        store(y + r * outputs, _mm512_mul_ps(out[r], _mm512_loadu_ps(scales)));
}

// Calls tile(size, row, block) for tiles of at most `most` rows; a block stays in the first cache.
template <class Tile>
void tiled(long rows, long from, long to, const Tile& tile) {
    const long tiles = (rows + most - 1) / most;
    for (long block = from; block < to; ++block)
        for (long number = 0, row = 0; number < tiles; ++number) {
            const long size = (rows - row) / (tiles - number);
            tile(size, row, block);
            row += size;
        }
}

// As in avx2.hpp.
template <class Number>
void blocks4(const Number*, void* scratch, const uint8_t* weights, Number* y, long rows,
             long outputs, long inputs, long from, long to) {
    constexpr decltype(&tile4<1, Number>) tile_of[] = {
        tile4<1, Number>, tile4<2, Number>, tile4<3, Number>, tile4<4, Number>,
        tile4<5, Number>, tile4<6, Number>, tile4<7, Number>, tile4<8, Number>,
        tile4<9, Number>, tile4<10, Number>, tile4<11, Number>, tile4<12, Number>};
    const Whole whole = whole_in(scratch, rows, inputs);
    tiled(rows, from, to, [&](long size, long row, long block) {
        tile_of[size - 1](whole, row, weights + block * (inputs / group * group_bytes),
                          y + row * outputs + block * lanes, outputs, inputs);
    });
}

template <class Number>
void blocks8(const Number*, void* scratch, const int8_t* weights, const float* scales, Number* y,
             long rows, long outputs, long inputs, long from, long to) {
    constexpr decltype(&tile8<1, Number>) tile_of[] = {
        tile8<1, Number>, tile8<2, Number>, tile8<3, Number>, tile8<4, Number>,
        tile8<5, Number>, tile8<6, Number>, tile8<7, Number>, tile8<8, Number>,
        tile8<9, Number>, tile8<10, Number>, tile8<11, Number>, tile8<12, Number>};
    const Whole whole = whole_in(scratch, rows, inputs);
    tiled(rows, from, to, [&](long size, long row, long block) {
        tile_of[size - 1](whole, row, weights + block * inputs * lanes, scales + block * lanes,
                          y + row * outputs + block * lanes, outputs, inputs);
    });
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // CPU_AVX512_VNNI

}  // namespace avx512_vnni
