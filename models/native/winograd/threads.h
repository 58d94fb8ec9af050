// Runs the operations in order, each divided among threads, with a barrier after each.

#pragma once

#include "convolution.h"
#include "input_layer.h"
#include "large_convolution.h"
#include "normalization.h"
#include "system.h"

constexpr int MAX_THREADS = 1024;  // of one run; more do not pay for any frame

// A reusable barrier. A short spin covers the usual case; after that a waiting thread sleeps, which frees its core while
// another thread is late.
class Barrier {
  public:
    void set_threads(int threads) { threads_ = threads; }

    // The last thread to arrive sets `counter` to 0, before any other goes on.
    void wait(int& counter) {
        const int generation = __atomic_load_n(&generation_, __ATOMIC_ACQUIRE);
        if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == threads_) {
            __atomic_store_n(&counter, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
            mutex_.lock();
            __atomic_store_n(&generation_, generation + 1, __ATOMIC_RELEASE);
            released_.notify_all();
            mutex_.unlock();
            return;
        }
        for (int spin = 0; spin < 2000; spin++)
            if (__atomic_load_n(&generation_, __ATOMIC_ACQUIRE) != generation) return;
        mutex_.lock();
        while (__atomic_load_n(&generation_, __ATOMIC_ACQUIRE) == generation) released_.wait(mutex_);
        mutex_.unlock();
    }

  private:
    int threads_ = 1, arrived_ = 0, generation_ = 0;
    Mutex mutex_;
    Condition released_;
};

// Number of tasks of an operation: blocks of a Winograd convolution, rows of the others.
static int task_count(const Op& op) {
    switch (op.kind) {
        case CONV:
        case OUTPUT_CONV: return (TileGrid(op).tile_count + TILES_PER_BLOCK - 1) / TILES_PER_BLOCK;
        case LARGE_CONV: return (op.bottom - op.top + OUTPUT_TILE - 1) / OUTPUT_TILE * large_blocks_per_row(op);
        case REDUCE: return 1;
        default: return op.bottom - op.top;
    }
}

static void run_task(const Op& op, int task, int threads, float* scratch) {
    switch (op.kind) {
        case PACK: return pack_row(op, task);
        case INPUT_CONV: return convolve_input(op, task, scratch);
        case LARGE_CONV: return convolve_large_block(op, task, scratch);
        case POINTWISE: return convolve_pointwise(op, task, scratch);
        case REDUCE: return reduce_groups(op);
        case SCALE: return scale_row(op, task);
        case LAYER_NORM: return normalize_pixels(op, task);
        default: return convolve_block(op, task, threads, scratch);
    }
}

// The operations of one run, and what its threads share.
struct Run {
    const Op* ops;
    int count, threads;  // threads: asked for
    float* scratch;
    size_t scratch_per_thread;
    Mutex gate;          // held until the number of threads is known, which the barrier needs
    Barrier barrier;
    int next_task = 0;   // of the operation in work

    Run(const Op* ops, int count, int threads, float* scratch, size_t scratch_per_thread)
        : ops(ops), count(count), threads(threads), scratch(scratch), scratch_per_thread(scratch_per_thread) {}

    // The share of one thread.
    void work(int thread_index) {
        float* own_scratch = scratch + scratch_per_thread * thread_index;
        for (int i = 0; i < count; i++) {
            const Op& op = ops[i];
            for (int task; (task = __atomic_fetch_add(&next_task, 1, __ATOMIC_RELAXED)) < task_count(op);)
                run_task(op, task, threads, own_scratch);
            barrier.wait(next_task);
        }
    }
};

struct Worker {
    Run* run;
    int index;
    Thread thread;

    static void work(void* self) {
        Worker* worker = static_cast<Worker*>(self);
        worker->run->gate.lock();
        worker->run->gate.unlock();
        worker->run->work(worker->index);
    }
};

// Returns the number of threads that ran, which is lower than asked for if the system does not start more: those that run
// share the work.
static int run_ops(const Op* ops, int count, int threads, float* scratch, size_t scratch_per_thread) {
    Run run(ops, count, threads, scratch, scratch_per_thread);
    Worker workers[MAX_THREADS];
    int running = 1;  // this one
    run.gate.lock();
    for (; running < threads && running < MAX_THREADS; running++) {
        workers[running].run = &run;
        workers[running].index = running;
        if (!workers[running].thread.start(Worker::work, &workers[running])) break;
    }
    run.barrier.set_threads(running);
    run.gate.unlock();
    run.work(0);
    for (int i = 1; i < running; i++) workers[i].thread.join();
    return running;
}
