// Threads and memory of the operating system. The C++ standard library is not used anywhere: zig, the compiler that can
// be installed from PyPI, would have to compile it first, which takes minutes.

#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#define EXPORT __declspec(dllexport)
#else
#include <pthread.h>
#include <sys/mman.h>
#define EXPORT __attribute__((visibility("default")))
#endif

class Mutex {
  public:
#if defined(_WIN32)
    void lock() { AcquireSRWLockExclusive(&lock_); }
    void unlock() { ReleaseSRWLockExclusive(&lock_); }
#else
    void lock() { pthread_mutex_lock(&lock_); }
    void unlock() { pthread_mutex_unlock(&lock_); }
#endif

  private:
    friend class Condition;
#if defined(_WIN32)
    SRWLOCK lock_ = SRWLOCK_INIT;
#else
    pthread_mutex_t lock_ = PTHREAD_MUTEX_INITIALIZER;
#endif
};

class Condition {
  public:
#if defined(_WIN32)
    void wait(Mutex& mutex) { SleepConditionVariableSRW(&condition_, &mutex.lock_, INFINITE, 0); }
    void notify_all() { WakeAllConditionVariable(&condition_); }

  private:
    CONDITION_VARIABLE condition_ = CONDITION_VARIABLE_INIT;
#else
    void wait(Mutex& mutex) { pthread_cond_wait(&condition_, &mutex.lock_); }
    void notify_all() { pthread_cond_broadcast(&condition_); }

  private:
    pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
#endif
};

// A thread that calls work(argument). `start` is false if the system starts no more threads.
class Thread {
  public:
    using Work = void (*)(void*);
    bool start(Work work, void* argument) {
        work_ = work;
        argument_ = argument;
#if defined(_WIN32)
        thread_ = CreateThread(nullptr, 0, run, this, 0, nullptr);
        return thread_ != nullptr;
#else
        return pthread_create(&thread_, nullptr, run, this) == 0;
#endif
    }
    void join() {
#if defined(_WIN32)
        WaitForSingleObject(thread_, INFINITE);
        CloseHandle(thread_);
#else
        pthread_join(thread_, nullptr);
#endif
    }

  private:
    Work work_;
    void* argument_;
#if defined(_WIN32)
    HANDLE thread_;
    static DWORD WINAPI run(void* self) {
        static_cast<Thread*>(self)->work_(static_cast<Thread*>(self)->argument_);
        return 0;
    }
#else
    pthread_t thread_;
    static void* run(void* self) {
        static_cast<Thread*>(self)->work_(static_cast<Thread*>(self)->argument_);
        return nullptr;
    }
#endif
};

// Zeroed memory straight from the system, so that freed memory returns to it and does not fragment the heap; null on
// failure. `bytes` is a multiple of 4096. Where there are huge pages, it starts at one and requests them, because tiles
// touch many pages at once.
static void* allocate_pages(size_t bytes) {
#if defined(_WIN32)
    return VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
#else
    constexpr size_t HUGE_PAGE_BYTES = size_t(2) << 20;
    void* mapped = mmap(nullptr, bytes + HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    char* const start = static_cast<char*>(mapped);
    const size_t before = (HUGE_PAGE_BYTES - reinterpret_cast<uintptr_t>(start) % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    // With pages larger than 4096 bytes some of these calls fail, which only leaves address space unused.
    if (before > 0) munmap(start, before);
    munmap(start + before + bytes, HUGE_PAGE_BYTES - before);
#ifdef MADV_HUGEPAGE
    madvise(start + before, bytes, MADV_HUGEPAGE);
#endif
    return start + before;
#endif
}

static void free_pages(void* memory, size_t bytes) {
#if defined(_WIN32)
    (void)bytes;  // VirtualFree releases what was allocated as a whole
    VirtualFree(memory, 0, MEM_RELEASE);
#else
    munmap(memory, bytes);
#endif
}
