// Threads that help with a loop of independent rounds; the caller never waits for them to start.
//
// The caller and its helpers take rounds from one counter, so a helper without a core takes none and
// costs nothing. Between two loops a helper spins for some microseconds, then sleeps. If helping did
// not pay, because the cores are busy, the caller continues alone for a while.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cpu {

inline void pause() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

class Team {
public:
    // One per process, also after a fork; never destroyed, as its threads run.
    static Team& shared() {
        static std::mutex mutex;
        static Team* team = nullptr;
        static pid_t process = 0;
        const std::lock_guard<std::mutex> lock(mutex);
        if (process != getpid()) {
            team = new Team;
            process = getpid();
        }
        return *team;
    }

    // Begins a pass with up to `helpers` threads; `run` uses them until `end`. False if another
    // caller has the team, or if it should not be used now.
    bool begin(long helpers) {
        if (helpers < 1 || busy_.exchange(true)) return false;
        if (rest_ > 0) {
            --rest_;
            busy_ = false;
            return false;
        }
        try {
            for (; started_ < helpers; ++started_) std::thread([this] { help(); }).detach();
        } catch (...) {  // no thread can be started
            if (!started_) {
                busy_ = false;
                return false;
            }
        }
        rounds_ = 0;
        helped_ = 0;
        waited_ = {};
        began_ = Clock::now();
        return true;
    }

    void end() {
        const auto whole = Clock::now() - began_;
        const bool paid = helped_ * 8 >= rounds_ && waited_ * 4 <= whole;
        pauses_ = paid ? 8 : pauses_ < 512 ? 2 * pauses_ : pauses_;
        rest_ = paid ? 0 : pauses_;
        busy_ = false;
    }

    // Calls what(0) .. what(count - 1), each once, in any order and in several threads.
    template <class What>
    void run(long count, const What& what) {
        call_ = [](const void* at, long round) { (*static_cast<const What*>(at))(round); };
        what_ = &what;
        done_.store(0, std::memory_order_relaxed);
        generation_ = (generation_ + 1) & 0xFFFFFF;
        ticket_.store(generation_ << 40 | uint64_t(count) << 20, std::memory_order_seq_cst);
        if (sleeping_.load(std::memory_order_seq_cst)) {
            const std::lock_guard<std::mutex> lock(mutex_);
            wake_.notify_all();
        }
        long own = 0;
        uint64_t loop = 0;
        for (long round; (round = take(loop)) >= 0; ++own) what(round);
        rounds_ += count;
        helped_ += count - own;
        if (done_.load(std::memory_order_acquire) == count - own) return;
        const auto since = Clock::now();
        for (long spins = 0; done_.load(std::memory_order_acquire) != count - own; ++spins) {
            if (spins < 4096) pause();
            else std::this_thread::yield();
        }
        waited_ += Clock::now() - since;
    }

private:
    using Clock = std::chrono::steady_clock;

    // The next round of the running loop, -1 if none, and the loop's number. A ticket contains
    // that number (24 bits), the number of rounds (20) and of taken rounds (20), so that a late
    // thread never mistakes one loop's round for another's.
    long take(uint64_t& loop) {
        const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
        const long count = ticket >> 20 & 0xFFFFF, taken = ticket & 0xFFFFF;
        loop = ticket >> 40;
        return taken < count ? taken : -1;
    }

    void help() {
        uint64_t seen = 0;
        for (;;) {
            for (long round; (round = take(seen)) >= 0;) {
                call_(what_, round);
                done_.fetch_add(1, std::memory_order_release);
            }
            long spins = 0;
            const auto next = [&] { return ticket_.load(std::memory_order_seq_cst) >> 40 != seen; };
            while (!next() && ++spins < 2048) pause();
            if (next()) continue;
            std::unique_lock<std::mutex> lock(mutex_);
            sleeping_.fetch_add(1, std::memory_order_seq_cst);
            wake_.wait(lock, next);
            sleeping_.fetch_sub(1, std::memory_order_seq_cst);
        }
    }

    std::atomic<uint64_t> ticket_{0};
    std::atomic<long> done_{0}, sleeping_{0};
    std::atomic<bool> busy_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    void (*call_)(const void*, long) = nullptr;
    const void* what_ = nullptr;
    uint64_t generation_ = 0;
    long started_ = 0, rounds_ = 0, helped_ = 0, rest_ = 0, pauses_ = 8;
    Clock::duration waited_{};
    Clock::time_point began_{};
};

}  // namespace cpu
