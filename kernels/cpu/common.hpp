// Shared by the instruction sets: the layouts of weights, slots and models.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cpu {

constexpr long lanes = 16;         // outputs per block of weights
constexpr long group = 32;         // inputs that share a scale and an offset
constexpr long group_bytes = 320;  // of a block: 256 of values, 32 of scales, 32 of offsets

// Consecutive rows of a pass that belong to one sequence.
struct Part {
    int64_t count;          // rows
    int64_t capacity;       // slots
    const int64_t* order;   // slot of each position of the sequence
    const int64_t* places;  // positions of the rows, ascending
};

// The states of one sequence in one layer, [kv_heads, capacity, D], of a set's `State`.
struct Slots {
    void* keys;
    void* values;
    void* base;  // keys as they were encoded; null until one moves
};

struct Heads {
    long heads, kv_heads, dim;  // dim numbers per head
    float scale;  // factor of the scores
};

// A linear layer with quantized weights, or with a model's own.
struct Product {
    int64_t bits;         // 4, 8, or those of a set's `Number`
    const void* weights;  // unquantized: the addresses of [O / 16] blocks of rows [16, I]
    const float* scales;  // of the outputs, for 8 bits
    const void* bias;     // null for none
    int64_t outputs, inputs;
};

inline long padded(long length) { return (length + lanes - 1) / lanes * lanes; }

}  // namespace cpu
