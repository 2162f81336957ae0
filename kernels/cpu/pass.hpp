// A forward pass of some rows through a model built like Llama, with states in slots. Rows of several sequences share one reading of the weights.
//
// `Set` has the kernels of one instruction set (_core.cpp). A row's result does not depend on the
// other rows, to the last bit: its sums are always computed in the same order.
#pragma once

#include <memory>
#include <vector>

#include "common.hpp"
#include "team.hpp"

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

// Memory that grows and is reused.
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

// Calls what(0) .. what(count - 1), with the team's helpers if there is a team.
template <class What>
void each(Team* team, long count, const What& what) {
    if (team != nullptr && count > 1) return team->run(count, what);
    for (long i = 0; i < count; ++i) what(i);
}

// y [rows, O] = x [rows, I] times the transpose of the weights, plus the bias.
template <class Set>
void multiply(const Product& product, const typename Set::Number* x, typename Set::Number* y,
              long rows, Room& room, Team* team) {
    using Number = typename Set::Number;
    const long outputs = product.outputs, inputs = product.inputs, blocks = outputs / lanes;
    const bool four = product.bits == 4, own = product.bits == 8 * sizeof(Number);
    void* scratch = room.bytes(four ? Set::scratch4(rows, inputs) : Set::scratch8(rows, inputs));
    if (four) Set::prepare4(x, rows, inputs, scratch);
    else if (!own) Set::prepare8(x, rows, inputs, scratch);
    // A round reads about 100 KB, or everything.
    const long several = team == nullptr ? blocks : 1 + 200'000 / (inputs * (rows + 8));
    each(team, (blocks + several - 1) / several, [&](long round) {
        const long from = round * several, to = from + several < blocks ? from + several : blocks;
        if (own)
            Set::blocks_own(x, static_cast<const Number* const*>(product.weights), y, rows,
                            outputs, inputs, from, to);
        else if (four)
            Set::blocks4(x, scratch, static_cast<const uint8_t*>(product.weights), y, rows,
                         outputs, inputs, from, to);
        else
            Set::blocks8(x, scratch, static_cast<const int8_t*>(product.weights), product.scales,
                         y, rows, outputs, inputs, from, to);
    });
    if (product.bias != nullptr)
        for (long r = 0; r < rows; ++r)
            Set::add(y + r * outputs, static_cast<const Number*>(product.bias), outputs);
}

// Writes the parts' new states into their slots, then attends. `states` [rows, heads + 2 kv_heads,
// D] are rotated; out [rows, heads, D].
template <class Set>
void attend(const typename Set::Number* states, const Part* parts, const Slots* slots, long count,
            const Heads& size, typename Set::Number* out, Team* team) {
    struct Task {
        long part, row, head, start, count;
    };
    const long stride = (size.heads + 2 * size.kv_heads) * size.dim;
    const auto* keys = states + size.heads * size.dim;
    const auto* values = keys + size.kv_heads * size.dim;
    std::vector<Task> tasks;
    for (long p = 0, row = 0; p < count; row += parts[p++].count) {
        const long most = Set::most_queries(size), rows = parts[p].count;
        Set::write_states(keys + row * stride, values + row * stride, stride, parts[p], slots[p],
                          size);
        for (long head = 0; head < size.kv_heads; ++head)
            for (long start = 0; start < rows; start += most)
                tasks.push_back({p, row, head, start, rows - start < most ? rows - start : most});
    }
    each(team, long(tasks.size()), [&](long round) {
        thread_local Room room;
        const Task& task = tasks[round];
        const Part& part = parts[task.part];
        const long length = part.places[task.start + task.count - 1] + 1;
        void* scratch = room.bytes(Set::attention_scratch(length, size));
        Set::attend(states + task.row * stride, stride, part, slots[task.part], size,
                    out + task.row * size.heads * size.dim, task.head, task.start, task.count,
                    scratch);
    });
}

// Ends a team's pass, also after an exception.
struct Together {
    explicit Together(long helpers) {
        Team& shared = Team::shared();
        if (shared.begin(helpers)) team = &shared;
    }
    ~Together() {
        if (team != nullptr) team->end();
    }
    Together(const Together&) = delete;
    Together& operator=(const Together&) = delete;
    Team* team = nullptr;
};

// Runs all layers over x [rows, H], in place; cosines and sines [rows, D]; slots [layers][parts].
// Logits [kept, V] of the rows `kept`. Up to `helpers` more threads take part.
template <class Set>
void run(const Model& model, typename Set::Number* x, const typename Set::Number* cosines,
         const typename Set::Number* sines, const Part* parts, const Slots* slots, long count,
         const int64_t* kept, long number, typename Set::Number* logits, long helpers) {
    using Number = typename Set::Number;
    thread_local Room between, products;
    const Heads& size = model.heads;
    const long hidden = model.hidden, both = 2 * model.feed_forward;
    const long stride = (size.heads + 2 * size.kv_heads) * size.dim;
    long rows = 0;
    for (long p = 0; p < count; ++p) rows += parts[p].count;
    const Together together(helpers);
    Team* team = together.team;
    const long wide = both > stride ? both : stride;
    const long narrow = model.feed_forward > size.heads * size.dim ? model.feed_forward
                                                                  : size.heads * size.dim;
    auto* normed = static_cast<Number*>(
        between.bytes(long(sizeof(Number)) * rows * (2 * hidden + wide + narrow)));
    Number* change = normed + rows * hidden;
    Number* first = change + rows * hidden;  // states, or gate and up
    Number* second = first + rows * wide;    // the result of attention or of the gate
    for (long l = 0; l < model.count; ++l) {
        const Layer& layer = model.layers[l];
        Set::norm(x, static_cast<const Number*>(layer.before_attention), normed, rows, hidden,
                  model.epsilon);
        multiply<Set>(layer.states, normed, first, rows, products, team);
        Set::rotate(first, cosines, sines, rows, size.heads + 2 * size.kv_heads,
                    size.heads + size.kv_heads, size.dim);
        attend<Set>(first, parts, slots + l * count, count, size, second, team);
        multiply<Set>(layer.out, second, change, rows, products, team);
        Set::add(x, change, rows * hidden);
        Set::norm(x, static_cast<const Number*>(layer.before_feed_forward), normed, rows, hidden,
                  model.epsilon);
        multiply<Set>(layer.gate_and_up, normed, first, rows, products, team);
        each(team, rows, [&](long r) {
            Set::gate(first + r * both, second + r * model.feed_forward, 1, model.feed_forward);
        });
        multiply<Set>(layer.down, second, change, rows, products, team);
        Set::add(x, change, rows * hidden);
    }
    for (long i = 0; i < number; ++i)
        __builtin_memcpy(change + i * hidden, x + kept[i] * hidden, sizeof(Number) * hidden);
    Set::norm(change, static_cast<const Number*>(model.norm), normed, number, hidden,
              model.epsilon);
    multiply<Set>(model.head, normed, logits, number, products, team);
}

}  // namespace cpu
