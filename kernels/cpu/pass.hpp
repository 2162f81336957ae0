// A forward pass of some rows through a model built like Llama, with narrow weights and states in
// cells. Rows of several sequences share one reading of the weights.
//
// `Set` are the kernels of one instruction set (_core.cpp). What a row gets does not depend on the
// other rows, to the last bit: each of its sums runs in the same order whatever is beside it.
#pragma once

#include <memory>

#include "common.hpp"

namespace cpu {

struct Layer {
    const void* before_attention;  // weights of the norm, [H]
    Product states;                // queries, keys and values
    Product out;
    const void* before_feed_forward;
    Product gate_and_up;
    Product down;
};

struct Model {
    const Layer* layers;
    const void* norm;
    Product head;
    long count, hidden, feed_forward;
    Heads heads;
    float epsilon;
};

// Memory that grows and is kept.
class Room {
public:
    void* bytes(long size) {
        if (size > size_) {
            memory_.reset(new char[size_t(size) + 64]);
            size_ = size;
        }
        const auto at = reinterpret_cast<uintptr_t>(memory_.get());
        return reinterpret_cast<void*>((at + 63) / 64 * 64);
    }

private:
    std::unique_ptr<char[]> memory_;
    long size_ = 0;
};

// y [rows, O] = x [rows, I] times the transpose of the weights, plus the bias.
template <class Set>
void multiply(const Product& product, const typename Set::Number* x, typename Set::Number* y,
              long rows, Room& room) {
    const long outputs = product.outputs, inputs = product.inputs, blocks = outputs / lanes;
    if (product.bits == 4) {
        void* scratch = room.bytes(Set::scratch4(rows, inputs));
        Set::prepare4(x, rows, inputs, scratch);
        Set::blocks4(x, scratch, static_cast<const uint8_t*>(product.weights), y, rows, outputs,
                     inputs, 0, blocks);
    } else {
        void* scratch = room.bytes(Set::scratch8(rows, inputs));
        Set::prepare8(x, rows, inputs, scratch);
        Set::blocks8(x, scratch, static_cast<const int8_t*>(product.weights), product.scales, y,
                     rows, outputs, inputs, 0, blocks);
    }
    if (product.bias != nullptr)
        for (long r = 0; r < rows; ++r)
            Set::add(y + r * outputs, static_cast<const typename Set::Number*>(product.bias),
                     outputs);
}

// Writes the parts' new states into their cells, then attends. `states` [rows, heads + 2 kv_heads,
// D] are rotated; out [rows, heads, D].
template <class Set>
void attend(const typename Set::Number* states, const Part* parts, const Cells* cells, long count,
            const Heads& size, typename Set::Number* out, Room& room) {
    const long stride = (size.heads + 2 * size.kv_heads) * size.dim;
    const auto* keys = states + size.heads * size.dim;
    const auto* values = keys + size.kv_heads * size.dim;
    long row = 0;
    for (long p = 0; p < count; row += parts[p++].count) {
        const Part& part = parts[p];
        Set::write_states(keys + row * stride, values + row * stride, stride, part, cells[p], size);
        void* scratch =
            room.bytes(Set::attention_scratch(part.places[part.count - 1] + 1, size));
        const long most = Set::most_queries(size);
        for (long head = 0; head < size.kv_heads; ++head)
            for (long start = 0; start < part.count; start += most)
                Set::attend(states + row * stride, stride, part, cells[p], size,
                            out + row * size.heads * size.dim, head, start,
                            part.count - start < most ? part.count - start : most, scratch);
    }
}

// Runs all layers over x [rows, H], in place; cosines and sines [rows, D]; cells [layers][parts].
// Logits [kept, V] are those of the rows `kept`.
template <class Set>
void run(const Model& model, typename Set::Number* x, const typename Set::Number* cosines,
         const typename Set::Number* sines, const Part* parts, const Cells* cells, long count,
         const int64_t* kept, long number, typename Set::Number* logits) {
    using Number = typename Set::Number;
    thread_local Room between, products;
    const Heads& size = model.heads;
    const long hidden = model.hidden, both = 2 * model.feed_forward;
    const long stride = (size.heads + 2 * size.kv_heads) * size.dim;
    long rows = 0;
    for (long p = 0; p < count; ++p) rows += parts[p].count;
    const long wide = both > stride ? both : stride;
    const long narrow = model.feed_forward > size.heads * size.dim ? model.feed_forward
                                                                  : size.heads * size.dim;
    auto* normed = static_cast<Number*>(
        between.bytes(long(sizeof(Number)) * rows * (2 * hidden + wide + narrow)));
    Number* change = normed + rows * hidden;
    Number* first = change + rows * hidden;  // states, or gate and up
    Number* second = first + rows * wide;    // what attention or the gate makes of them
    for (long l = 0; l < model.count; ++l) {
        const Layer& layer = model.layers[l];
        Set::norm(x, static_cast<const Number*>(layer.before_attention), normed, rows, hidden,
                  model.epsilon);
        multiply<Set>(layer.states, normed, first, rows, products);
        Set::rotate(first, cosines, sines, rows, size.heads + 2 * size.kv_heads,
                    size.heads + size.kv_heads, size.dim);
        attend<Set>(first, parts, cells + l * count, count, size, second, products);
        multiply<Set>(layer.out, second, change, rows, products);
        Set::add(x, change, rows * hidden);
        Set::norm(x, static_cast<const Number*>(layer.before_feed_forward), normed, rows, hidden,
                  model.epsilon);
        multiply<Set>(layer.gate_and_up, normed, first, rows, products);
        Set::gate(first, second, rows, model.feed_forward);
        multiply<Set>(layer.down, second, change, rows, products);
        Set::add(x, change, rows * hidden);
    }
    for (long i = 0; i < number; ++i)
        __builtin_memcpy(change + i * hidden, x + kept[i] * hidden, sizeof(Number) * hidden);
    Set::norm(change, static_cast<const Number*>(model.norm), normed, number, hidden,
              model.epsilon);
    multiply<Set>(model.head, normed, logits, number, products);
}

}  // namespace cpu
