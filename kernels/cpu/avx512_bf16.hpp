// Products of few rows, and the attention of few queries over slots, on a CPU with AVX-512 BF16 (Intel
// since Cooper Lake, AMD since Zen 4). Numbers and slots are bfloat16.
//
// A pass of few tokens is bound by reading its weights and cached states, so both are read once, in
// memory order, and the other factors stay in registers and the first-level cache. Products with a
// model's own weights and attention multiply bfloat16, with sums in float32 (VDPBF16PS); those with
// quantized weights are of avx512_vnni.hpp.
//
// Only functions after the pragmas below use the instructions; callers check supported() first.
#pragma once

#include "avx512_vnni.hpp"

#ifdef CPU_AVX512_VNNI
#define CPU_AVX512_BF16 1
#endif

namespace avx512_bf16 {

using cpu::group;
using cpu::lanes;

#ifdef CPU_AVX512_BF16

inline bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bf16") && avx512_vnni::supported();
}

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
#endif

inline __m512 multiply_pairs(__m512 sum, __m512i one, __m512i other) {
    return _mm512_dpbf16_ps(sum, (__m512bh)one, (__m512bh)other);
}

inline float widened(uint16_t value) {
    const uint32_t bits = uint32_t(value) << 16;
    float result;
    __builtin_memcpy(&result, &bits, sizeof result);
    return result;
}

inline uint16_t narrowed(float value) {  // to the nearest, ties to even
    return uint16_t(_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0));
}

inline __m512i pair_at(const uint16_t* pairs, long number) {  // 2 bfloat16 in all lanes
    int32_t two;
    __builtin_memcpy(&two, pairs + 2 * number, sizeof two);
    return _mm512_set1_epi32(two);
}

inline __m512 widened(__m256i values) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

inline __m512 load(const uint16_t* values) {
    return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
}

inline void store(uint16_t* values, __m512 numbers) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), (__m256i)_mm512_cvtneps_pbh(numbers));
}

inline __m512 rounded(__m512 numbers) { return widened((__m256i)_mm512_cvtneps_pbh(numbers)); }

// e^x for x <= 0, to 2 units in the last place; 0 below -87.
inline __m512 exponential(__m512 x) {
    const __mmask16 tiny = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_LT_OQ);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.0f / 720);
    constexpr float series[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (float c : series) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    return _mm512_maskz_scalef_ps(_knot_mask16(tiny), p, n);
}

// ------------------------------------------------------------------------------ between products

// Each of these rounds to bfloat16 where a model of bfloat16 does.

// y = bfloat16(x / sqrt(mean(x^2) + epsilon)) * weight; [rows, width], width a multiple of 16.
inline void norm(const uint16_t* x, const uint16_t* weight, uint16_t* y, long rows, long width,
                 float epsilon) {
    for (long r = 0; r < rows; ++r, x += width, y += width) {
        __m512 squares = _mm512_setzero_ps();
        for (long i = 0; i < width; i += lanes) {
            const __m512 value = load(x + i);
            squares = _mm512_fmadd_ps(value, value, squares);
        }
        const float mean = _mm512_reduce_add_ps(squares) / float(width);
        const __m512 by = _mm512_set1_ps(1.0f / __builtin_sqrtf(mean + epsilon));
        for (long i = 0; i < width; i += lanes)
            store(y + i, _mm512_mul_ps(rounded(_mm512_mul_ps(load(x + i), by)), load(weight + i)));
    }
}

// y = bfloat16(silu(gate)) * up; x [rows, 2 width] holds gate and up; width a multiple of 16.
inline void gate(const uint16_t* x, uint16_t* y, long rows, long width) {
    const __m512 one = _mm512_set1_ps(1.0f);
    for (long r = 0; r < rows; ++r, x += 2 * width, y += width)
        for (long i = 0; i < width; i += lanes) {
            const __m512 value = load(x + i);
            // With e = exp(-|g|), silu is g / (1 + e) or g e / (1 + e).
            const __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(value)));
            const __mmask16 below = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_LT_OQ);
            const __m512 top = _mm512_mask_mul_ps(value, below, value, e);
            const __m512 silu = _mm512_div_ps(top, _mm512_add_ps(one, e));
            store(y + i, _mm512_mul_ps(rounded(silu), load(x + width + i)));
        }
}

inline __m512 rounded_sum(__m512 one, __m512 other) {
    return _mm512_add_ps(rounded(one), rounded(other));
}

// The first `turned` of `heads` heads in [rows, heads, dim], in place: x cos + (-x2, x1) sin for
// the halves x1 and x2; cosines and sines [rows, dim]; dim a multiple of 32.
inline void rotate(uint16_t* x, const uint16_t* cosines, const uint16_t* sines, long rows,
                   long heads, long turned, long dim) {
    const long half = dim / 2;
    for (long r = 0; r < rows; ++r, cosines += dim, sines += dim)
        for (long h = 0; h < turned; ++h) {
            uint16_t* head = x + (r * heads + h) * dim;
            for (long i = 0; i < half; i += lanes) {
                const __m512 one = load(head + i), other = load(head + half + i);
                const __m512 minus = _mm512_sub_ps(_mm512_setzero_ps(), other);
                store(head + i, rounded_sum(_mm512_mul_ps(one, load(cosines + i)),
                                    _mm512_mul_ps(minus, load(sines + i))));
                store(head + half + i, rounded_sum(_mm512_mul_ps(other, load(cosines + half + i)),
                                           _mm512_mul_ps(one, load(sines + half + i))));
            }
        }
}

// y += x, a multiple of 16 numbers.
inline void add(uint16_t* y, const uint16_t* x, long size) {
    for (long i = 0; i < size; i += lanes) store(y + i, _mm512_add_ps(load(y + i), load(x + i)));
}

// ------------------------------------------------------------------------------ four and eight bits

using avx2::prepare4;
using avx2::prepare8;
using avx2::scratch4;
using avx2::scratch8;
using avx512_vnni::blocks4;
using avx512_vnni::blocks8;

// ------------------------------------------------------------------------------ sixteen bits

// Weights bfloat16 [16, I] in blocks of 16 outputs, each at its own address.
template <int Rows>
inline void tile_own(const uint16_t* x, const uint16_t* weights, uint16_t* y, long outputs,
                   long inputs) {
    constexpr int Outputs = Rows <= 4 ? 4 : 2;
    for (long o = 0; o < lanes; o += Outputs, weights += Outputs * inputs) {
        __m512 sum[Rows][Outputs];
        for (int r = 0; r < Rows; ++r)
            for (int k = 0; k < Outputs; ++k) sum[r][k] = _mm512_setzero_ps();
        for (long i = 0; i < inputs; i += group) {
            __m512i w[Outputs];
            for (int k = 0; k < Outputs; ++k) {
                w[k] = _mm512_loadu_si512(weights + k * inputs + i);
                // The next weights in order: CPUs detect no stream in alternating rows.
                _mm_prefetch(weights + Outputs * (inputs + i) + k * group, _MM_HINT_T0);
            }
            for (int r = 0; r < Rows; ++r) {
                const __m512i input = _mm512_loadu_si512(x + r * inputs + i);
                for (int k = 0; k < Outputs; ++k)
                    sum[r][k] = multiply_pairs(sum[r][k], input, w[k]);
            }
        }
        for (int r = 0; r < Rows; ++r)
            for (int k = 0; k < Outputs; ++k)
                y[r * outputs + o + k] = narrowed(_mm512_reduce_add_ps(sum[r][k]));
    }
}

// Blocks of 16 outputs from `from` to `to`. y bfloat16 [rows, O]; O a multiple of 16, I of 32.
inline void blocks_own(const uint16_t* x, const uint16_t* const* weights, uint16_t* y, long rows,
                     long outputs, long inputs, long from, long to) {
    constexpr long most = 4;
    constexpr decltype(&tile_own<1>) tile_of[] = {tile_own<1>, tile_own<2>, tile_own<3>,
                                                  tile_own<most>};
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
constexpr long ahead = 48;

// 16 registers as a matrix of 32-bit numbers, transposed.
inline void transpose(__m512i m[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; ++h) {
            m[i + 2 * h] = _mm512_unpacklo_epi64(t[i + h], t[i + h + 2]);
            m[i + 2 * h + 1] = _mm512_unpackhi_epi64(t[i + h], t[i + h + 2]);
        }
    for (int i = 0; i < 4; ++i)
        for (int half = 0; half < 2; ++half) {
            const int at = 8 * half;
            t[at + i] = _mm512_shuffle_i32x4(m[at + i], m[at + i + 4], 0x88);
            t[at + i + 4] = _mm512_shuffle_i32x4(m[at + i], m[at + i + 4], 0xDD);
        }
    for (int i = 0; i < 8; ++i) {
        m[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        m[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
    }
}

// Scores of `Rows` rows with 16 keys, stored as pairs of numbers [D / 2][16].
template <int Rows>
inline void score(const uint16_t* const* queries, const __m512i* keys, long pairs, __m512 scale,
                  float* const* out) {
    __m512 sum[Rows];
    for (int r = 0; r < Rows; ++r) sum[r] = _mm512_setzero_ps();
    for (long p = 0; p < pairs; ++p)
        for (int r = 0; r < Rows; ++r)
            sum[r] = multiply_pairs(sum[r], pair_at(queries[r], p), keys[p]);
    for (int r = 0; r < Rows; ++r) _mm512_storeu_ps(out[r], _mm512_mul_ps(sum[r], scale));
}

// Turns the scores of a row into weights e^(score - largest) in place, bfloat16, zero after
// `length` up to `padded`; returns the inverse of their sum.
inline float soften(float* scores, long length, long padded) {
    __m512 largest = _mm512_set1_ps(-3e38f);
    for (long s = 0; s < length; s += lanes) {
        const __mmask16 here = length - s >= lanes ? 0xFFFF : (1 << (length - s)) - 1;
        largest = _mm512_mask_max_ps(largest, here, largest, _mm512_loadu_ps(scores + s));
    }
    const __m512 most = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    auto* weights = reinterpret_cast<uint16_t*>(scores);  // they need half the space
    __m512 total = _mm512_setzero_ps();
    for (long s = 0; s < padded; s += lanes) {
        const long left = length - s;
        const __mmask16 here = left >= lanes ? 0xFFFF : left <= 0 ? 0 : (1 << left) - 1;
        const __m512 weight = _mm512_maskz_mov_ps(
            here, exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + s), most)));
        total = _mm512_add_ps(total, weight);
        store(weights + s, weight);
    }
    return 1.0f / _mm512_reduce_add_ps(total);
}

// The weighted sums of 32 channels of the values for `Rows` rows.
template <int Rows>
inline void gather(const float* const* weights, const float* inverse, const uint16_t* values,
                   const int64_t* slots, long length, long dim, uint16_t* const* out) {
    __m512 low[Rows], high[Rows];
    for (int r = 0; r < Rows; ++r) low[r] = high[r] = _mm512_setzero_ps();
    for (long s = 0; s < length; s += 2) {
        const long second = s + 1 < length ? s + 1 : s;  // its weight is zero
        const __m512i one = _mm512_loadu_si512(values + slots[s] * dim);
        const __m512i other = _mm512_loadu_si512(values + slots[second] * dim);
        if (s + ahead < length) {
            _mm_prefetch(values + slots[s + ahead - 1] * dim, _MM_HINT_T0);
            _mm_prefetch(values + slots[s + ahead] * dim, _MM_HINT_T0);
        }
        const __m512i lower = _mm512_unpacklo_epi16(one, other);
        const __m512i upper = _mm512_unpackhi_epi16(one, other);
        for (int r = 0; r < Rows; ++r) {
            const __m512i pair = pair_at(reinterpret_cast<const uint16_t*>(weights[r]), s / 2);
            low[r] = multiply_pairs(low[r], pair, lower);
            high[r] = multiply_pairs(high[r], pair, upper);
        }
    }
    // Unpacking took channels 0-3, 8-11, ... of the 128-bit lanes apart from 4-7, 12-15, ...
    const __m512i order = _mm512_setr_epi32(0x00010000, 0x00030002, 0x00110010, 0x00130012,
                                            0x00050004, 0x00070006, 0x00150014, 0x00170016,
                                            0x00090008, 0x000B000A, 0x00190018, 0x001B001A,
                                            0x000D000C, 0x000F000E, 0x001D001C, 0x001F001E);
    for (int r = 0; r < Rows; ++r) {
        const __m512 by = _mm512_set1_ps(inverse[r]);
        const __m512bh both =
            _mm512_cvtne2ps_pbh(_mm512_mul_ps(high[r], by), _mm512_mul_ps(low[r], by));
        _mm512_storeu_si512(out[r], _mm512_permutexvar_epi16(order, (__m512i)both));
    }
}

// Rows processed together, of the remaining ones; in many models 3 or 6 heads share keys.
inline long tile_of(long left) { return left >= 8 ? 8 : left >= 6 ? 6 : left >= 3 ? 3 : 1; }

// Writes the keys and values of a part's rows, each `stride` numbers apart, into its slots.
inline void write_states(const uint16_t* keys, const uint16_t* values, long stride,
                         const cpu::Part& part, const cpu::Slots& slots, const cpu::Heads& size) {
    const size_t bytes = size_t(size.dim) * 2;
    for (long r = 0; r < part.count; ++r)
        for (long h = 0; h < size.kv_heads; ++h) {
            const long at = (h * part.capacity + part.order[part.places[r]]) * size.dim;
            const uint16_t* key = keys + r * stride + h * size.dim;
            const auto write = [&](void* slot, const uint16_t* from) {
                __builtin_memcpy(static_cast<uint16_t*>(slot) + at, from, bytes);
            };
            write(slots.keys, key);
            write(slots.values, values + r * stride + h * size.dim);
            if (slots.base != nullptr) write(slots.base, key);
        }
}

inline long most_queries(const cpu::Heads&) { return 64; }

inline long attention_scratch(long length, const cpu::Heads& size) {
    return 4 * most_queries(size) * (size.heads / size.kv_heads) * (cpu::padded(length) + 1);
}

// Attention of `count` of a part's queries [.., heads, D] from `start` on, `stride` numbers apart,
// with one key head. Out [.., heads, D]; D a multiple of 32 up to 256.
inline void attend(const uint16_t* queries, long stride, const cpu::Part& part,
                   const cpu::Slots& slots, const cpu::Heads& sizes, uint16_t* result, long head,
                   long start, long count, void* scratch) {
    constexpr int Tile = 8;
    struct {
        const uint16_t* queries;
        const int64_t *slots, *places;
        uint16_t* out;
        long dim, heads, query_stride;
    } const a{queries + start * stride, part.order, part.places + start,
              result + start * sizes.heads * sizes.dim, sizes.dim, sizes.heads, stride};
    const long shared = sizes.heads / sizes.kv_heads, rows = count * shared;
    const long length = a.places[count - 1] + 1, width = cpu::padded(length);
    const __m512 scale = _mm512_set1_ps(sizes.scale);
    auto* scores = static_cast<float*>(scratch);
    float* inverse = scores + rows * width;
    const long before = head * part.capacity * a.dim;
    const uint16_t* keys = static_cast<uint16_t*>(slots.keys) + before;
    const uint16_t* values = static_cast<uint16_t*>(slots.values) + before;
    // Row r is query r / shared and its head r % shared, so that later rows have more keys.
    const auto query = [&](long r) {
        return a.queries + (r / shared) * a.query_stride + (head * shared + r % shared) * a.dim;
    };
    long first = 0;  // the first row that attends to the block
    for (long s = 0; s < length; s += lanes) {
        while (a.places[first / shared] < s) ++first;
        __m512i block[128];
        for (long d = 0; d < a.dim / 2; d += 16) {
            for (long i = 0; i < lanes; ++i) {
                const long at = s + i < length ? s + i : length - 1;
                block[d + i] = _mm512_loadu_si512(keys + a.slots[at] * a.dim + 2 * d);
                if (at + ahead < length)
                    _mm_prefetch(keys + a.slots[at + ahead] * a.dim + 2 * d, _MM_HINT_T0);
            }
            transpose(block + d);
        }
        const uint16_t* in[Tile];
        float* out[Tile];
        for (long r = first; r < rows;) {
            const long size = tile_of(rows - r);
            for (long i = 0; i < size; ++i) {
                in[i] = query(r + i);
                out[i] = scores + (r + i) * width + s;
            }
            switch (size) {
                case 8: score<8>(in, block, a.dim / 2, scale, out); break;
                case 6: score<6>(in, block, a.dim / 2, scale, out); break;
                case 3: score<3>(in, block, a.dim / 2, scale, out); break;
                default: score<1>(in, block, a.dim / 2, scale, out);
            }
            r += size;
        }
    }
    for (long r = 0; r < rows; ++r)
        inverse[r] = soften(scores + r * width, a.places[r / shared] + 1, width);
    for (long d = 0; d < a.dim; d += 32)
        for (long r = 0; r < rows;) {
            const long size = tile_of(rows - r);
            const float* weights[Tile];
            uint16_t* out[Tile];
            for (long i = 0; i < size; ++i) {
                const long row = r + i;
                weights[i] = scores + row * width;
                out[i] = a.out + (row / shared) * a.heads * a.dim +
                         (head * shared + row % shared) * a.dim + d;
            }
            const long seen = a.places[(r + size - 1) / shared] + 1;
            const float* by = inverse + r;
            switch (size) {
                case 8: gather<8>(weights, by, values + d, a.slots, seen, a.dim, out); break;
                case 6: gather<6>(weights, by, values + d, a.slots, seen, a.dim, out); break;
                case 3: gather<3>(weights, by, values + d, a.slots, seen, a.dim, out); break;
                default: gather<1>(weights, by, values + d, a.slots, seen, a.dim, out);
            }
            r += size;
        }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // CPU_AVX512_BF16

}  // namespace avx512_bf16
