// Runs the operations in order, each divided among threads, with a barrier after each.

#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "convolution.h"
#include "input_layer.h"

// A reusable barrier. A short spin covers the usual case; after that a waiting thread sleeps, which frees its core while
// another thread is late.
class Barrier {
  public:
    explicit Barrier(int threads) : threads_(threads) {}
    void wait() {
        const int generation = generation_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            std::lock_guard<std::mutex> lock(mutex_);
            generation_.store(generation + 1, std::memory_order_release);
            released_.notify_all();
            return;
        }
        for (int spin = 0; spin < 2000; spin++)
            if (generation_.load(std::memory_order_acquire) != generation) return;
        std::unique_lock<std::mutex> lock(mutex_);
        released_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != generation; });
    }

  private:
    const int threads_;
    std::atomic<int> arrived_{0}, generation_{0};
    std::mutex mutex_;
    std::condition_variable released_;
};

// Number of tasks of an operation: blocks of a Winograd convolution, rows of the others.
static int task_count(const Op& op) {
    return op.kind == CONV || op.kind == OUTPUT_CONV ? (TileGrid(op).tile_count + TILES_PER_BLOCK - 1) / TILES_PER_BLOCK
                                                     : op.bottom - op.top;
}

// Returns the number of threads that ran, which is lower than asked for if the system does not start more.
static int run_ops(const Op* ops, int count, int threads, float* scratch, size_t scratch_per_thread) {
    std::vector<std::atomic<int>> next_task(count);
    for (auto& counter : next_task) counter.store(0);
    std::mutex gate;
    std::vector<std::thread> workers;
    gate.lock();  // held until the number of threads is known, which the barrier needs
    Barrier* barrier = nullptr;
    const auto work = [&](int thread_index) {
        for (int i = 0; i < count; i++) {
            const Op& op = ops[i];
            float* own_scratch = scratch + scratch_per_thread * thread_index;
            for (int task; (task = next_task[i].fetch_add(1, std::memory_order_relaxed)) < task_count(op);)
                op.kind == PACK         ? pack_row(op, task)
                : op.kind == INPUT_CONV ? convolve_input(op, task, own_scratch)
                                        : convolve_block(op, task, threads, own_scratch);
            barrier->wait();
        }
    };
    try {
        workers.reserve(threads);
        for (int thread_index = 1; thread_index < threads; thread_index++)
            workers.emplace_back([&, thread_index] {
                { std::lock_guard<std::mutex> lock(gate); }
                work(thread_index);
            });
    } catch (...) {
        // The system starts no more threads: those that run share the work.
    }
    Barrier shared(int(workers.size()) + 1);
    barrier = &shared;
    gate.unlock();
    work(0);
    for (auto& thread : workers) thread.join();
    return int(workers.size()) + 1;
}
