// All places of some token sequences, sorted by the text before them, read backwards.
//
// A place is one token of one sequence; its key is the text that ends there. Two places compare by
// their tokens and then by the order of the two places before them, which are sorted already. So
// appending a token costs O(log n) comparisons of constant time each, even for long repetitions.
// All places where a text w ends are neighbors. So the number of occurrences of w is a
// difference of ranks, the longest suffix of a context that occurs is found at the context's two
// neighbors, and removing a sequence leaves the same order as if it had never been added.
//
// The sorted places are in leaves of up to 64, the leaves in groups of up to 64, the groups in an
// array. Two places are compared by the numbers of their groups or, within a group, by labels of
// their leaves, which have gaps for new leaves (order maintenance, Dietz and Sleator 1987, with two
// levels, the upper one numbered without gaps). This file does not use Python, and is not thread-safe.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace suffix {

using Token = std::int32_t;
using Place = std::uint32_t;  // chunk * kChunk + offset

constexpr std::uint32_t kNone = 0xFFFFFFFFu;
constexpr Token kEmpty = -1;
constexpr std::uint32_t kChunk = 32;   // tokens per chunk of text
constexpr std::uint32_t kLeaf = 64;    // places per leaf
constexpr std::uint32_t kFan = 64;     // leaves per group
constexpr std::uint32_t kKey = 4;    // tokens by which leaves are compared without reading them
constexpr std::uint32_t kLook = 16;  // tokens compared before the order is used
constexpr std::uint64_t kOverhead = 32;  // tokens billed per sequence on top
constexpr std::uint64_t kTop = std::uint64_t{1} << 62;
constexpr int kClasses = 16;     // match lengths tried per draft
constexpr std::uint32_t kStroll = 3;  // neighbors compared one by one before a search

struct UnknownSequence : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct Finished : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct OverBudget : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Plain records by number in one array, which grows in place where the system supports it; freed
// numbers are reused.
template <class T>
class Pool {
    static_assert(std::is_trivially_copyable<T>::value, "records are moved by realloc");

public:
    Pool() = default;
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    ~Pool() { std::free(items_); }

    T& operator[](std::uint32_t number) { return items_[number]; }
    const T& operator[](std::uint32_t number) const { return items_[number]; }

    // Ensures that the next take() allocates no memory.
    void reserve(std::uint32_t most) {
        if (!free_.empty() || used_ < capacity_) return;
        if (used_ >= most) throw std::bad_alloc();
        const std::size_t wanted = std::size_t{capacity_} + capacity_ / 4 + 8;
        const std::size_t bounded = std::min<std::size_t>(wanted, most);
        free_.reserve(bounded);  // give() must not fail
        void* grown = std::realloc(static_cast<void*>(items_), bounded * sizeof(T));
        if (grown == nullptr) throw std::bad_alloc();
        items_ = static_cast<T*>(grown);
        capacity_ = static_cast<std::uint32_t>(bounded);
    }
    std::uint32_t take() {
        if (free_.empty()) return used_++;
        const std::uint32_t number = free_.back();
        free_.pop_back();
        return number;
    }
    void give(std::uint32_t number) { free_.push_back(number); }
    std::size_t bytes() const {
        return capacity_ * sizeof(T) + free_.capacity() * sizeof(std::uint32_t);
    }

private:
    T* items_ = nullptr;
    std::uint32_t used_ = 0, capacity_ = 0;
    std::vector<std::uint32_t> free_;
};

struct Chunk {
    Token token[kChunk];  // kEmpty beyond the last
    std::uint32_t leaf[kChunk];  // where each place is sorted
    std::uint64_t sequence;
    std::uint64_t base;  // number of tokens of the sequence before this chunk
    std::uint32_t prev, next;
    std::uint16_t used;
    bool live;  // the sequence may still grow
};

struct Leaf {
    std::uint64_t label;  // increases along the group
    std::uint32_t group;
    std::uint32_t count;
    Place place[kLeaf];
};

// A place's last tokens, the last one first; kEmpty before the sequence's start.
struct Key {
    Token token[kKey];
};

struct Group {
    std::uint32_t count;
    std::uint64_t places;
    std::uint32_t leaf[kFan];
    std::uint8_t size[kFan];  // each leaf's count, to skip leaves without reading them
    Key first[kFan];          // of each leaf's first place
};

struct Sequence {
    std::uint32_t first = kNone, last = kNone;
    std::uint64_t length = 0;
    bool finished = false;
    std::uint64_t older = 0, newer = 0;  // neighbors among the finished, 0 for none
};

// A place's position in the order.
struct Spot {
    std::uint32_t group, slot, index;
};

struct Draft {
    std::vector<Token> tokens;
    std::vector<std::int32_t> parents;
    std::vector<double> probabilities;
    double score = 0;
    std::uint64_t match = 0;
};

struct DraftOptions {
    std::uint64_t limit = 32;
    double factor = 1, offset = 0, min_probability = 0.1;
    bool tree = false;
    std::uint64_t sample = 32, min_match = 1, max_match = 1024;
};

class Order {
public:
    explicit Order(std::uint64_t budget) : budget_(budget) {}

    std::uint64_t budget() const { return budget_; }
    std::uint64_t tokens() const { return tokens_; }
    std::uint64_t billed() const { return tokens_ + kOverhead * sequences_.size(); }
    std::size_t sequences() const { return sequences_.size(); }
    std::size_t bytes() const {
        return chunks_.bytes() + leaves_.bytes() + groups_.bytes() +
               (top_.capacity() + at_.capacity()) * sizeof(std::uint32_t) +
               sequences_.size() * (sizeof(Sequence) + 4 * sizeof(void*)) +
               sequences_.bucket_count() * sizeof(void*);
    }

    std::uint64_t start() {
        make_room(kOverhead);
        const std::uint64_t id = next_id_;
        sequences_.emplace(id, Sequence{});
        ++next_id_;
        return id;
    }

    void append(std::uint64_t id, const Token* tokens, std::size_t count) {
        Sequence& sequence = find(id);
        if (sequence.finished) throw Finished("sequence is finished");
        make_room(count);
        for (std::size_t i = 0; i < count; ++i) push(id, sequence, tokens[i]);
    }

    // Adds a finished sequence; nothing is evicted for one that does not fit.
    std::uint64_t add(const Token* tokens, std::size_t count) {
        make_room(kOverhead + count);
        const std::uint64_t id = start();
        try {
            append(id, tokens, count);
        } catch (...) {
            remove(id);
            throw;
        }
        finish(id);
        return id;
    }

    // The sequence that is evicted next, 0 if none has ended.
    std::uint64_t oldest() const { return oldest_; }

    void finish(std::uint64_t id) {
        Sequence& sequence = find(id);
        if (sequence.finished) return;
        sequence.finished = true;
        if (sequence.last != kNone) chunks_[sequence.last].live = false;
        sequence.older = newest_;
        if (newest_ != 0) sequences_.at(newest_).newer = id;
        newest_ = id;
        if (oldest_ == 0) oldest_ = id;
        finished_bill_ += sequence.length + kOverhead;
    }

    void remove(std::uint64_t id) {
        Sequence& sequence = find(id);
        if (sequence.finished) {
            finished_bill_ -= sequence.length + kOverhead;
            (sequence.older != 0 ? sequences_.at(sequence.older).newer : oldest_) = sequence.newer;
            (sequence.newer != 0 ? sequences_.at(sequence.newer).older : newest_) = sequence.older;
        }
        // From the end, so that the places before one stay sorted until it is removed.
        for (std::uint32_t chunk = sequence.last; chunk != kNone;) {
            for (std::uint32_t i = chunks_[chunk].used; i-- > 0;) erase(chunk * kChunk + i);
            const std::uint32_t before = chunks_[chunk].prev;
            chunks_.give(chunk);
            chunk = before;
        }
        tokens_ -= sequence.length;
        sequences_.erase(id);
    }

    bool is_finished(std::uint64_t id) const { return find(id).finished; }

    std::vector<Token> text(std::uint64_t id) const {
        std::vector<Token> text;
        for (std::uint32_t c = find(id).first; c != kNone; c = chunks_[c].next)
            text.insert(text.end(), chunks_[c].token, chunks_[c].token + chunks_[c].used);
        return text;
    }

    std::vector<std::uint64_t> ids() const {
        std::vector<std::uint64_t> ids;
        for (const auto& entry : sequences_) ids.push_back(entry.first);
        std::sort(ids.begin(), ids.end());
        return ids;
    }

    // Number of the text's occurrences; the empty text occurs once at each token.
    std::uint64_t count(const Token* text, std::size_t length) const {
        if (length == 0 || top_.empty()) return tokens_;
        const Tail tail{text + length, length};
        return rank(bound(tail, length, true)) - rank(bound(tail, length, false));
    }

    // Length of the longest suffix of the context that occurs.
    std::uint64_t match(const Token* context, std::size_t length) const {
        if (length == 0 || top_.empty()) return 0;
        const Tail tail{context + length, length};
        Spot right = bound(tail, length, false), left = right;
        std::uint64_t best = 0;
        if (settle(right)) best = common(tail, at(right), length).length;
        if (back(left)) best = std::max(best, common(tail, at(left), length).length);
        return best;
    }

    Draft draft(const Token* context, std::size_t length, const DraftOptions& options) const {
        const std::size_t used = std::min<std::size_t>(length, options.max_match);
        if (used == 0 || top_.empty()) return Draft{};
        const Tail tail{context + length, used};
        const Spot gap = bound(tail, used, false);
        Window window{gap, gap, true};
        return best_draft(tail, window, options);
    }

    Draft draft_after(std::uint64_t id, const DraftOptions& options) const {
        const Sequence& sequence = find(id);
        if (sequence.length == 0) return Draft{};
        const std::size_t used = std::min<std::uint64_t>(sequence.length, options.max_match);
        std::vector<Token> context(used);
        std::uint32_t chunk = sequence.last;
        for (std::size_t left = used; left > 0;) {
            const Chunk& piece = chunks_[chunk];
            const std::size_t part = std::min<std::size_t>(left, piece.used);
            left -= part;
            std::memcpy(&context[left], piece.token + piece.used - part, part * sizeof(Token));
            chunk = piece.prev;
        }
        const Tail tail{context.data() + used, used};
        const Spot own = spot(sequence.last * kChunk + chunks_[sequence.last].used - 1);
        Window window{own, own, false};
        return best_draft(tail, window, options);
    }

    // Throws std::logic_error if an invariant is violated.
    void check() const;

private:
    // A context, read from its end; `end` is one past the last token.
    struct Tail {
        const Token* end;
        std::size_t length;
    };
    struct Common {
        std::uint64_t length;
        int sign;  // of the place's text against the context's beyond the common part, 0 if limited
    };
    // A run of the order: [first, last], or the gap before `first` while empty.
    struct Window {
        Spot first, last;
        bool empty;
    };

    Sequence& find(std::uint64_t id) {
        const auto found = sequences_.find(id);
        if (found == sequences_.end()) throw UnknownSequence("unknown sequence");
        return found->second;
    }
    const Sequence& find(std::uint64_t id) const { return const_cast<Order*>(this)->find(id); }

    Token token(Place place) const { return chunks_[place / kChunk].token[place % kChunk]; }
    Place before(Place place) const {
        if (place % kChunk != 0) return place - 1;
        const std::uint32_t chunk = chunks_[place / kChunk].prev;
        return chunk == kNone ? kNone : chunk * kChunk + kChunk - 1;
    }
    // The next place, or kNone at the sequence's end.
    Place after(Place place) const {
        const Chunk& chunk = chunks_[place / kChunk];
        const std::uint32_t next = place % kChunk + 1;
        if (next < kChunk) return chunk.token[next] == kEmpty ? kNone : place + 1;
        return chunk.next == kNone ? kNone : chunk.next * kChunk;
    }
    bool live(Place place) const { return chunks_[place / kChunk].live; }
    std::pair<std::uint64_t, std::uint64_t> age(Place place) const {
        const Chunk& chunk = chunks_[place / kChunk];
        return {chunk.sequence, chunk.base + place % kChunk};
    }
    std::uint32_t leaf_of(Place place) const { return chunks_[place / kChunk].leaf[place % kChunk]; }

    void prefetch(Place place) const {
#if defined(__GNUC__)
        __builtin_prefetch(&chunks_[place / kChunk].token[place % kChunk]);
#else
        static_cast<void>(place);
#endif
    }
    Key key(Place place) const {
        Key found;
        for (Token& value : found.token) {
            value = place == kNone ? kEmpty : token(place);
            if (place != kNone) place = before(place);
        }
        return found;
    }

    // --- the order -----------------------------------------------------------------------------

    static std::uint32_t index_of(const std::uint32_t* items, std::uint32_t item) {
        std::uint32_t i = 0;
        while (items[i] != item) ++i;
        return i;
    }
    Leaf& leaf(const Spot& spot) { return leaves_[groups_[spot.group].leaf[spot.slot]]; }
    const Leaf& leaf(const Spot& spot) const { return leaves_[groups_[spot.group].leaf[spot.slot]]; }
    Place at(const Spot& spot) const { return leaf(spot).place[spot.index]; }
    Spot spot(Place place) const {
        const std::uint32_t number = leaf_of(place);
        const Leaf& leaf = leaves_[number];
        return {leaf.group, index_of(groups_[leaf.group].leaf, number),
                index_of(leaf.place, place)};
    }
    // From a gap at a leaf's end to the place after it; false at the order's end.
    bool settle(Spot& spot) const {
        if (spot.index < leaf(spot).count) return true;
        return next_leaf(spot);
    }
    bool next_leaf(Spot& spot) const {
        const Group& group = groups_[spot.group];
        spot.index = 0;
        if (spot.slot + 1 < group.count) {
            ++spot.slot;
            return true;
        }
        const std::uint32_t at = at_[spot.group];
        if (at + 1 >= top_.size()) return false;
        spot.group = top_[at + 1];
        spot.slot = 0;
        return true;
    }
    bool forward(Spot& spot) const {
        if (spot.index + 1 < leaf(spot).count) {
            ++spot.index;
            return true;
        }
        return next_leaf(spot);
    }
    bool back(Spot& spot) const {
        if (spot.index > 0) {
            --spot.index;
            return true;
        }
        if (spot.slot > 0) {
            --spot.slot;
        } else {
            const std::uint32_t at = at_[spot.group];
            if (at == 0) return false;
            spot.group = top_[at - 1];
            spot.slot = groups_[spot.group].count - 1;
        }
        spot.index = leaf(spot).count - 1;
        return true;
    }
    // Number of places before the spot.
    std::uint64_t rank(const Spot& spot) const {
        std::uint64_t total = spot.index;
        const Group& group = groups_[spot.group];
        for (std::uint32_t i = 0; i < spot.slot; ++i) total += group.size[i];
        for (std::uint32_t i = 0; i < at_[spot.group]; ++i) total += groups_[top_[i]].places;
        return total;
    }
    // Number of places from `low` up to `high`, which is not before it.
    std::uint64_t distance(const Spot& low, const Spot& high) const {
        if (low.group != high.group) {
            std::uint64_t total = high.index;
            const Group &left = groups_[low.group], &right = groups_[high.group];
            for (std::uint32_t i = low.slot; i < left.count; ++i) total += left.size[i];
            for (std::uint32_t i = at_[low.group] + 1; i < at_[high.group]; ++i)
                total += groups_[top_[i]].places;
            for (std::uint32_t i = 0; i < high.slot; ++i) total += right.size[i];
            return total - low.index;
        }
        std::uint64_t total = high.index;
        for (std::uint32_t i = low.slot; i < high.slot; ++i)
            total += groups_[low.group].size[i];
        return total - low.index;
    }
    void step(Spot& spot, std::uint64_t count) const {
        count += spot.index;
        while (count >= groups_[spot.group].size[spot.slot]) {
            count -= groups_[spot.group].size[spot.slot];
            next_leaf(spot);
            while (spot.slot == 0 && count >= groups_[spot.group].places) {
                count -= groups_[spot.group].places;
                spot.group = top_[at_[spot.group] + 1];
            }
        }
        spot.index = static_cast<std::uint32_t>(count);
    }

    // The gap before the first place that is not less. `less(place)` holds for a beginning of the
    // order; `sign(key)` decides it from the last tokens, 0 if they are not enough.
    template <class Sign, class Less>
    Spot search(const Sign& sign, const Less& less) const {
        const auto leads = [&](const Group& group, std::uint32_t slot) {
            const int told = sign(group.first[slot]);
            return told != 0 ? told < 0 : less(leaves_[group.leaf[slot]].place[0]);
        };
        std::uint32_t low = 0, high = static_cast<std::uint32_t>(top_.size());
        while (high - low > 1) {
            const std::uint32_t middle = low + (high - low) / 2;
            (leads(groups_[top_[middle]], 0) ? low : high) = middle;
        }
        const std::uint32_t number = top_[low];
        const Group& group = groups_[number];
        low = 0, high = group.count;
        while (high - low > 1) {
            const std::uint32_t middle = low + (high - low) / 2;
            (leads(group, middle) ? low : high) = middle;
        }
        const std::uint32_t slot = low;
        const Leaf& found = leaves_[group.leaf[slot]];
        std::uint32_t index = 0, count = found.count;
        // The first three rounds read these, so they are fetched together.
        for (std::uint32_t i = 1; i < 8; ++i) prefetch(found.place[count * i / 8]);
        while (count > 0) {
            const std::uint32_t half = count / 2;
            if (less(found.place[index + half])) {
                index += half + 1;
                count -= half + 1;
            } else {
                count = half;
            }
        }
        return {number, slot, index};
    }

    void push(std::uint64_t id, Sequence& sequence, Token value) {
        chunks_.reserve(kNone / kChunk);
        leaves_.reserve(kNone);
        groups_.reserve(kNone);
        if (top_.size() == top_.capacity()) top_.reserve(2 * top_.capacity() + 1);
        if (at_.size() <= top_.size()) at_.resize(2 * top_.size() + 2);  // numbers of groups
        const Place previous =
            sequence.last == kNone ? kNone
                                   : sequence.last * kChunk + chunks_[sequence.last].used - 1;
        if (sequence.last == kNone || chunks_[sequence.last].used == kChunk) {
            const std::uint32_t number = chunks_.take();
            Chunk& chunk = chunks_[number];
            std::fill(chunk.token, chunk.token + kChunk, kEmpty);
            chunk.sequence = id;
            chunk.base = sequence.length;
            chunk.prev = sequence.last;
            chunk.next = kNone;
            chunk.used = 0;
            chunk.live = true;
            if (sequence.last == kNone) {
                sequence.first = number;
            } else {
                chunks_[sequence.last].next = number;
                chunks_[sequence.last].live = false;
            }
            sequence.last = number;
        }
        Chunk& chunk = chunks_[sequence.last];
        chunk.token[chunk.used] = value;
        insert(sequence.last * kChunk + chunk.used, previous, id);
        ++chunk.used;
        ++sequence.length;
        ++tokens_;
    }

    // The place's token must be in its chunk already.
    void insert(Place place, Place previous, std::uint64_t id) {
        if (top_.empty()) {
            const std::uint32_t number = leaves_.take(), group = groups_.take();
            leaves_[number] = Leaf{kTop / 2, group, 0, {}};
            groups_[group].count = 1;
            groups_[group].places = 0;
            groups_[group].leaf[0] = number;
            groups_[group].size[0] = 0;
            top_.push_back(group);
            renumber(0);
            ++leaf_count_;
            put({group, 0, 0}, place);
            return;
        }
        const std::uint32_t home = previous == kNone ? kNone : leaf_of(previous);
        const std::uint32_t group = previous == kNone ? kNone : leaves_[home].group;
        const std::uint32_t at = previous == kNone ? 0 : at_[group];
        const std::uint64_t label = previous == kNone ? 0 : leaves_[home].label;
        const std::uint32_t rank = previous == kNone ? 0 : index_of(leaves_[home].place, previous);
        Token tail[kLook];
        std::uint32_t known = 0;
        for (Place p = place; known < kLook && p != kNone; p = before(p)) tail[known++] = token(p);

        const auto sign = [&](const Key& other) {
            for (std::uint32_t i = 0; i < kKey; ++i) {
                const Token value = i < known ? tail[i] : kEmpty;
                if (other.token[i] != value) return other.token[i] < value ? -1 : 1;
                if (value == kEmpty) break;
            }
            return 0;
        };
        const auto less = [&](Place other) {
            // Texts that continue within the chunk often differ there: one cache miss.
            const Token* theirs = &chunks_[other / kChunk].token[other % kChunk];
            const std::uint32_t both = std::min(known, other % kChunk + 1);
            for (std::uint32_t i = 0; i < both; ++i)
                if (theirs[-static_cast<std::ptrdiff_t>(i)] != tail[i])
                    return theirs[-static_cast<std::ptrdiff_t>(i)] < tail[i];
            const Place left = before(other);
            if (left == kNone)
                return previous != kNone || chunks_[other / kChunk].sequence < id;
            if (previous == kNone) return false;
            const std::uint32_t number = leaf_of(left);
            const Leaf& other_leaf = leaves_[number];
            if (other_leaf.group != group) return at_[other_leaf.group] < at;
            if (number != home) return other_leaf.label < label;
            return index_of(other_leaf.place, left) < rank;
        };
        put(search(sign, less), place);
    }

    void put(Spot spot, Place place) {
        if (leaf(spot).count == kLeaf) split(spot);
        Leaf& home = leaf(spot);
        std::copy_backward(home.place + spot.index, home.place + home.count,
                           home.place + home.count + 1);
        home.place[spot.index] = place;
        ++home.count;
        Group& group = groups_[spot.group];
        ++group.places;
        ++group.size[spot.slot];
        chunks_[place / kChunk].leaf[place % kChunk] = group.leaf[spot.slot];
        if (spot.index == 0) group.first[spot.slot] = key(place);
    }

    // Halves the full leaf at the spot, and moves the spot along.
    void split(Spot& spot) {
        if (groups_[spot.group].count == kFan) split_group(spot);
        Group& group = groups_[spot.group];
        const std::uint32_t fresh = leaves_.take();
        const std::uint32_t old = group.leaf[spot.slot];
        const std::uint64_t ceiling =
            spot.slot + 1 < group.count ? leaves_[group.leaf[spot.slot + 1]].label : kTop;
        Leaf &left = leaves_[old], &right = leaves_[fresh];
        right.label = left.label + (ceiling - left.label) / 2;
        right.group = spot.group;
        right.count = kLeaf / 2;
        left.count = kLeaf - kLeaf / 2;
        std::copy(left.place + left.count, left.place + kLeaf, right.place);
        for (std::uint32_t i = 0; i < right.count; ++i)
            chunks_[right.place[i] / kChunk].leaf[right.place[i] % kChunk] = fresh;
        open(group, spot.slot + 1);
        group.leaf[spot.slot + 1] = fresh;
        group.size[spot.slot] = static_cast<std::uint8_t>(left.count);
        group.size[spot.slot + 1] = static_cast<std::uint8_t>(right.count);
        group.first[spot.slot + 1] = key(right.place[0]);
        ++leaf_count_;
        if (right.label == left.label) relabel(group);
        if (spot.index > left.count) {
            spot.index -= left.count;
            ++spot.slot;
        }
    }

    static void open(Group& group, std::uint32_t slot) {
        std::copy_backward(group.leaf + slot, group.leaf + group.count,
                           group.leaf + group.count + 1);
        std::copy_backward(group.size + slot, group.size + group.count,
                           group.size + group.count + 1);
        std::copy_backward(group.first + slot, group.first + group.count,
                           group.first + group.count + 1);
        ++group.count;
    }
    static void close(Group& group, std::uint32_t slot) {
        std::copy(group.leaf + slot + 1, group.leaf + group.count, group.leaf + slot);
        std::copy(group.size + slot + 1, group.size + group.count, group.size + slot);
        std::copy(group.first + slot + 1, group.first + group.count, group.first + slot);
        --group.count;
    }

    void split_group(Spot& spot) {
        const std::uint32_t fresh = groups_.take();
        Group &left = groups_[spot.group], &right = groups_[fresh];
        right.count = kFan / 2;
        left.count = kFan - kFan / 2;
        right.places = 0;
        std::copy(left.leaf + left.count, left.leaf + kFan, right.leaf);
        std::copy(left.size + left.count, left.size + kFan, right.size);
        std::copy(left.first + left.count, left.first + kFan, right.first);
        for (std::uint32_t i = 0; i < right.count; ++i) {
            leaves_[right.leaf[i]].group = fresh;
            right.places += right.size[i];
        }
        left.places -= right.places;
        const std::uint32_t at = at_[spot.group] + 1;
        top_.insert(top_.begin() + at, fresh);
        renumber(at);
        if (spot.slot >= left.count) {
            spot.slot -= left.count;
            spot.group = fresh;
        }
    }
    void renumber(std::uint32_t from) {
        for (std::uint32_t i = from; i < top_.size(); ++i) at_[top_[i]] = i;
    }
    void relabel(const Group& group) {
        const std::uint64_t gap = kTop / (group.count + 1);
        for (std::uint32_t i = 0; i < group.count; ++i)
            leaves_[group.leaf[i]].label = gap * (i + 1);
    }

    void erase(Place place) {
        const Spot spot = this->spot(place);
        Group& group = groups_[spot.group];
        Leaf& home = leaf(spot);
        std::copy(home.place + spot.index + 1, home.place + home.count, home.place + spot.index);
        --home.count;
        --group.places;
        --group.size[spot.slot];
        if (home.count > 0 && spot.index == 0) group.first[spot.slot] = key(home.place[0]);
        if (home.count == 0) {
            drop(spot.group, spot.slot);
        } else if (home.count < kLeaf / 4) {
            if (spot.slot + 1 < group.count) {
                merge(spot.group, spot.slot);
            } else if (spot.slot > 0) {
                merge(spot.group, spot.slot - 1);
            }
        }
        tidy(spot.group);
    }
    // Merges two small neighboring leaves.
    void merge(std::uint32_t number, std::uint32_t slot) {
        Group& group = groups_[number];
        const std::uint32_t into = group.leaf[slot], from = group.leaf[slot + 1];
        Leaf &left = leaves_[into], &right = leaves_[from];
        if (left.count + right.count > kLeaf * 3 / 4) return;
        for (std::uint32_t i = 0; i < right.count; ++i) {
            left.place[left.count++] = right.place[i];
            chunks_[right.place[i] / kChunk].leaf[right.place[i] % kChunk] = into;
        }
        group.size[slot] = static_cast<std::uint8_t>(left.count);
        drop(number, slot + 1);
    }
    void drop(std::uint32_t number, std::uint32_t slot) {
        Group& group = groups_[number];
        leaves_.give(group.leaf[slot]);
        close(group, slot);
        --leaf_count_;
    }
    // Removes an empty group; merges two small neighboring groups.
    void tidy(std::uint32_t number) {
        Group& group = groups_[number];
        if (group.count == 0) {
            top_.erase(top_.begin() + at_[number]);
            renumber(at_[number]);
            groups_.give(number);
        } else if (group.count < kFan / 4 && top_.size() > 1) {
            const std::uint32_t at = at_[number] > 0 ? at_[number] - 1 : 0;
            Group &left = groups_[top_[at]], &right = groups_[top_[at + 1]];
            if (left.count + right.count > kFan * 3 / 4) return;
            for (std::uint32_t i = 0; i < right.count; ++i) {
                leaves_[right.leaf[i]].group = top_[at];
                left.leaf[left.count] = right.leaf[i];
                left.size[left.count] = right.size[i];
                left.first[left.count++] = right.first[i];
            }
            left.places += right.places;
            relabel(left);
            groups_.give(top_[at + 1]);
            top_.erase(top_.begin() + at + 1);
            renumber(at + 1);
        }
    }

    // Throws before anything changes if finished sequences do not make enough room.
    void make_room(std::uint64_t count) {
        if (budget_ == 0 || billed() + count <= budget_) return;
        if (billed() + count - budget_ > finished_bill_) throw OverBudget("over the budget");
        while (billed() + count > budget_) remove(oldest_);
    }

    // --- matching ------------------------------------------------------------------------------

    // Number of tokens before and at the place that equal the context's last ones, at most `limit`.
    Common common(const Tail& tail, Place place, std::uint64_t limit) const {
        std::uint64_t length = 0;
        std::uint32_t chunk = place / kChunk;
        std::uint32_t available = place % kChunk + 1;
        for (;;) {
            const Chunk& piece = chunks_[chunk];
            const auto part =
                static_cast<std::uint32_t>(std::min<std::uint64_t>(available, limit - length));
            const Token* ours = piece.token + available;
            const Token* theirs = tail.end - length;
            if (part < 8 || std::memcmp(ours - part, theirs - part, part * sizeof(Token)) != 0) {
                for (std::uint32_t i = 1; i <= part; ++i)
                    if (ours[-static_cast<std::ptrdiff_t>(i)] !=
                        theirs[-static_cast<std::ptrdiff_t>(i)])
                        return {length + i - 1, ours[-static_cast<std::ptrdiff_t>(i)] <
                                                        theirs[-static_cast<std::ptrdiff_t>(i)]
                                                    ? -1
                                                    : 1};
            }
            length += part;
            if (length == limit) return {length, 0};
            chunk = piece.prev;
            if (chunk == kNone) return {length, -1};
            available = kChunk;
        }
    }
    // The gap before (or, `behind`, after) the places where the context's last `length` tokens end.
    Spot bound(const Tail& tail, std::uint64_t length, bool behind) const {
        const auto sign = [&](const Key& other) {
            for (std::uint32_t i = 0; i < kKey; ++i) {
                if (i == length) return behind ? -1 : 1;
                const Token value = tail.end[-1 - static_cast<std::ptrdiff_t>(i)];
                if (other.token[i] != value) return other.token[i] < value ? -1 : 1;
            }
            return length == kKey ? (behind ? -1 : 1) : 0;
        };
        const auto less = [&](Place place) {
            const int found = common(tail, place, length).sign;
            return found < 0 || (behind && found == 0);
        };
        return search(sign, less);
    }

    Draft best_draft(const Tail& tail, Window& window, const DraftOptions& options) const {
        Spot left = window.first, right = window.last;
        bool more_left = back(left), more_right = window.empty ? settle(right) : forward(right);
        std::uint64_t left_match = more_left ? common(tail, at(left), tail.length).length : 0;
        std::uint64_t right_match = more_right ? common(tail, at(right), tail.length).length : 0;
        Draft best;
        std::vector<Place> places;
        for (int tried = 0; tried < kClasses; ++tried) {
            const std::uint64_t match = std::max(left_match, right_match);
            if (match < std::max<std::uint64_t>(options.min_match, 1)) break;
            if (match == 1 && tried > 0) break;  // the widest run, for at most a token or two
            const double allowed =
                std::floor(options.factor * static_cast<double>(match) + options.offset + 1e-6);
            if (!(allowed > best.score) || allowed < 1) break;
            const std::uint64_t size = allowed < static_cast<double>(options.limit)
                                           ? static_cast<std::uint64_t>(allowed)
                                           : options.limit;
            if (!(static_cast<double>(size) > best.score)) break;
            if (window.empty) {
                window.empty = false;
                if (left_match == match) {
                    window.first = window.last = left;
                } else {
                    window.first = window.last = right;
                }
            }
            if (left_match == match) {
                extend_left(tail, match, left, window);
                left = window.first;
                more_left = back(left);
                left_match = more_left ? common(tail, at(left), tail.length).length : 0;
            }
            if (right_match == match) {
                extend_right(tail, match, right, window);
                right = window.last;
                more_right = forward(right);
                right_match = more_right ? common(tail, at(right), tail.length).length : 0;
            }
            gather(window, options.sample, places);
            Draft found;
            found.match = match;
            if (options.tree) {
                grow_tree(places, size, options.min_probability, found);
            } else {
                follow(places, size, options.min_probability, found);
            }
            if (found.score > best.score) best = std::move(found);
        }
        return best;
    }
    void extend_left(const Tail& tail, std::uint64_t match, Spot spot, Window& window) const {
        for (std::uint32_t i = 0; i < kStroll; ++i) {
            window.first = spot;
            if (!back(spot) || common(tail, at(spot), match).length < match) return;
        }
        window.first = bound(tail, match, false);
        settle(window.first);
    }
    void extend_right(const Tail& tail, std::uint64_t match, Spot spot, Window& window) const {
        for (std::uint32_t i = 0; i < kStroll; ++i) {
            window.last = spot;
            if (!forward(spot) || common(tail, at(spot), match).length < match) return;
        }
        window.last = bound(tail, match, true);
        back(window.last);
    }
    // The window's places, or `sample` of them that are evenly spaced.
    void gather(const Window& window, std::uint64_t sample, std::vector<Place>& places) const {
        places.clear();
        const std::uint64_t count = distance(window.first, window.last) + 1;
        Spot spot = window.first;
        if (count <= sample) {
            for (std::uint64_t i = 0; i < count; ++i) {
                take(at(spot), places);
                if (i + 1 < count) forward(spot);
            }
            return;
        }
        // Each round prefetches the next one's data.
        std::vector<Spot> spots;
        spots.reserve(sample);
        std::uint64_t now = 0;
        for (std::uint64_t i = 0; i < sample; ++i) {
            const std::uint64_t wanted = (2 * i + 1) * count / (2 * sample);
            step(spot, wanted - now);
            now = wanted;
#if defined(__GNUC__)
            __builtin_prefetch(&leaf(spot).place[spot.index]);
#endif
            spots.push_back(spot);
        }
        for (const Spot& each : spots) take(at(each), places);
    }
    void take(Place place, std::vector<Place>& places) const {
        prefetch(place);
        places.push_back(place);
    }

    // --- drafting ------------------------------------------------------------------------------

    // Moves places forward by one token; returns the number of continuations and ends. The end of a
    // sequence that may still grow is not counted.
    std::uint64_t advance(std::vector<Place>& places) const {
        std::uint64_t seen = 0;
        std::size_t kept = 0;
        for (const Place place : places) {
            const Place next = after(place);
            if (next != kNone) {
                places[kept++] = next;
                ++seen;
            } else if (!live(place)) {
                ++seen;
            }
        }
        places.resize(kept);
        return seen;
    }

    struct Tally {
        Token token;
        std::uint32_t count;
    };
    struct Branch {
        Token token;
        std::uint32_t count;
        Place latest;  // the most recent of them
    };
    // The different tokens at the places, the most frequent first, then the most recent.
    void branches(const std::vector<Place>& places, std::vector<Branch>& found) const {
        found.clear();
        for (const Place place : places) {
            const Token value = token(place);
            auto same = std::find_if(found.begin(), found.end(),
                                     [value](const Branch& b) { return b.token == value; });
            if (same == found.end()) {
                found.push_back({value, 1, place});
            } else {
                ++same->count;
                if (age(same->latest) < age(place)) same->latest = place;
            }
        }
        std::sort(found.begin(), found.end(), [this](const Branch& a, const Branch& b) {
            return a.count != b.count ? a.count > b.count : age(b.latest) < age(a.latest);
        });
    }

    // The first of the branches; reads ages only if counts are equal.
    std::pair<Token, std::uint64_t> favourite(const std::vector<Place>& places,
                                              std::vector<Tally>& found) const {
        found.clear();
        std::uint32_t most = 0, equals = 0;
        for (const Place place : places) {
            const Token value = token(place);
            std::size_t i = 0;
            while (i < found.size() && found[i].token != value) ++i;
            if (i == found.size()) found.push_back({value, 0});
            const std::uint32_t count = ++found[i].count;
            equals = count > most ? 1 : equals + (count == most);
            most = std::max(most, count);
        }
        if (equals == 1) {
            for (const Tally& tally : found)
                if (tally.count == most) return {tally.token, most};
        }
        Place latest = kNone;
        for (const Place place : places) {
            const auto same = std::find_if(found.begin(), found.end(), [&](const Tally& tally) {
                return tally.token == token(place);
            });
            if (same->count == most && (latest == kNone || age(latest) < age(place)))
                latest = place;
        }
        return {token(latest), most};
    }

    void follow(std::vector<Place>& places, std::uint64_t size, double least, Draft& draft) const {
        double probability = 1;
        std::vector<Tally> found;
        while (draft.tokens.size() < size) {
            const std::uint64_t seen = advance(places);
            if (places.empty()) return;
            Token value = token(places[0]);
            std::uint64_t count = 1;
            while (count < places.size() && token(places[count]) == value) ++count;
            if (count < places.size()) std::tie(value, count) = favourite(places, found);
            probability *= static_cast<double>(count) / static_cast<double>(seen);
            if (probability < least) return;
            emit(draft, value, static_cast<std::int32_t>(draft.tokens.size()) - 1, probability);
            if (count < places.size())
                places.erase(std::remove_if(places.begin(), places.end(),
                                            [&](Place p) { return token(p) != value; }),
                             places.end());
        }
    }

    void grow_tree(std::vector<Place>& places, std::uint64_t size, double least,
                   Draft& draft) const {
        struct Twig {
            double probability;
            std::uint64_t order;
            Token token;
            std::int32_t parent;
            std::vector<Place> places;
        };
        const auto worse = [](const Twig& a, const Twig& b) {
            return a.probability != b.probability ? a.probability < b.probability
                                                  : a.order > b.order;
        };
        std::vector<Twig> heap;
        std::vector<Branch> found;
        std::uint64_t order = 0;
        const auto sprout = [&](std::vector<Place>& ends, double probability, std::int32_t parent) {
            const std::uint64_t seen = advance(ends);
            branches(ends, found);
            for (const Branch& branch : found) {
                const double share =
                    probability * (static_cast<double>(branch.count) / static_cast<double>(seen));
                if (share < least) return;
                Twig twig{share, order++, branch.token, parent, {}};
                for (const Place place : ends)
                    if (token(place) == branch.token) twig.places.push_back(place);
                heap.push_back(std::move(twig));
                std::push_heap(heap.begin(), heap.end(), worse);
            }
        };
        sprout(places, 1, -1);
        while (!heap.empty() && draft.tokens.size() < size) {
            std::pop_heap(heap.begin(), heap.end(), worse);
            Twig twig = std::move(heap.back());
            heap.pop_back();
            const auto self = static_cast<std::int32_t>(draft.tokens.size());
            emit(draft, twig.token, twig.parent, twig.probability);
            sprout(twig.places, twig.probability, self);
        }
    }
    static void emit(Draft& draft, Token token, std::int32_t parent, double probability) {
        draft.tokens.push_back(token);
        draft.parents.push_back(parent);
        draft.probabilities.push_back(probability);
        draft.score += probability;
    }

    std::uint64_t budget_;
    std::uint64_t tokens_ = 0, finished_bill_ = 0, leaf_count_ = 0;
    std::uint64_t next_id_ = 1, oldest_ = 0, newest_ = 0;
    Pool<Chunk> chunks_;
    Pool<Leaf> leaves_;
    Pool<Group> groups_;
    std::vector<std::uint32_t> top_;  // groups in order
    std::vector<std::uint32_t> at_;   // the index there of each group
    std::unordered_map<std::uint64_t, Sequence> sequences_;
};

inline void Order::check() const {
    const auto expect = [](bool holds, const char* what) {
        if (!holds) throw std::logic_error(what);
    };
    std::uint64_t places = 0, leaves = 0;
    Place last = kNone;
    for (std::uint32_t i = 0; i < top_.size(); ++i) {
        const Group& group = groups_[top_[i]];
        expect(at_[top_[i]] == i && group.count > 0 && group.count <= kFan, "a group's place");
        std::uint64_t inside = 0, label = 0;
        for (std::uint32_t j = 0; j < group.count; ++j) {
            const Leaf& leaf = leaves_[group.leaf[j]];
            expect(leaf.group == top_[i] && leaf.count > 0 && leaf.count <= kLeaf, "a leaf's place");
            expect(group.size[j] == leaf.count, "a leaf's size");
            expect(leaf.label > label, "labels increase");
            label = leaf.label;
            const Key first = key(leaf.place[0]);
            expect(std::equal(first.token, first.token + kKey, group.first[j].token),
                   "a leaf's first tokens");
            inside += leaf.count;
            ++leaves;
            for (std::uint32_t k = 0; k < leaf.count; ++k) {
                const Place place = leaf.place[k];
                expect(leaf_of(place) == group.leaf[j], "a place's leaf");
                if (last != kNone) {
                    const Place a = before(last), b = before(place);
                    bool sorted = token(last) < token(place);
                    if (token(last) == token(place)) {
                        if (a == kNone || b == kNone) {
                            sorted = a == kNone && (b != kNone || age(last) < age(place));
                        } else {
                            const Spot x = spot(a), y = spot(b);
                            sorted = rank(x) < rank(y);
                        }
                    }
                    expect(sorted, "places are sorted");
                }
                last = place;
            }
        }
        expect(inside == group.places, "a group's number of places");
        places += inside;
    }
    expect(places == tokens_ && leaves == leaf_count_, "totals");
    std::uint64_t total = 0, finished = 0, listed = 0;
    for (const auto& entry : sequences_) {
        const Sequence& sequence = entry.second;
        std::uint64_t length = 0;
        std::uint32_t chunk_before = kNone;
        for (std::uint32_t c = sequence.first; c != kNone; c = chunks_[c].next) {
            expect(chunks_[c].prev == chunk_before && chunks_[c].base == length, "a chunk's links");
            expect(chunks_[c].live == (c == sequence.last && !sequence.finished), "a chunk is live");
            length += chunks_[c].used;
            chunk_before = c;
        }
        expect(length == sequence.length && chunk_before == sequence.last, "a sequence's length");
        total += length;
        if (sequence.finished) finished += length + kOverhead;
    }
    for (std::uint64_t id = oldest_; id != 0; id = sequences_.at(id).newer)
        listed += sequences_.at(id).length + kOverhead;
    expect(total == tokens_ && finished == finished_bill_ && listed == finished, "bills");
}

}  // namespace suffix
