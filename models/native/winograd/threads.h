// The operations one after the other, each divided among threads.

#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "input_layer.h"
#include "convolution.h"

// All wait for all. A short spin catches the usual case; sleeping leaves the core to others when one thread is late.
class Barrier {
  public:
    explicit Barrier(int threads) : threads_(threads) {}
    void wait() {
        const int round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            std::lock_guard<std::mutex> lock(mutex_);
            round_.store(round + 1, std::memory_order_release);
            awake_.notify_all();
            return;
        }
        for (int spin = 0; spin < 2000; spin++)
            if (round_.load(std::memory_order_acquire) != round) return;
        std::unique_lock<std::mutex> lock(mutex_);
        awake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != round; });
    }

  private:
    const int threads_;
    std::atomic<int> arrived_{0}, round_{0};
    std::mutex mutex_;
    std::condition_variable awake_;
};

static int parts(const Op& op) {
    return op.kind == CONV || op.kind == LAST ? (Geometry(op).count + TILES - 1) / TILES : op.last - op.first;
}

static int run(const Op* ops, int count, int threads, float* scratch, size_t per_thread) {
    std::vector<std::atomic<int>> next(count);
    for (auto& counter : next) counter.store(0);
    std::mutex gate;
    std::vector<std::thread> others;
    gate.lock();  // held until the number of threads is known, which the barrier needs
    Barrier* barrier = nullptr;
    const auto work = [&](int me) {
        for (int i = 0; i < count; i++) {
            const Op& op = ops[i];
            float* own = scratch + per_thread * me;
            for (int part; (part = next[i].fetch_add(1, std::memory_order_relaxed)) < parts(op);)
                op.kind == PACK    ? pack(op, part)
                : op.kind == FIRST ? first(op, part, own)
                                   : convolve(op, part, threads, own);
            barrier->wait();
        }
    };
    try {
        others.reserve(threads);
        for (int me = 1; me < threads; me++)
            others.emplace_back([&, me] {
                { std::lock_guard<std::mutex> lock(gate); }
                work(me);
            });
    } catch (...) {
    }
    Barrier shared(int(others.size()) + 1);
    barrier = &shared;
    gate.unlock();
    work(0);
    for (auto& thread : others) thread.join();
    return int(others.size()) + 1;
}
