// Mutex, SharedMutex, CondVar and their guards: thin wrappers of the standard ones that carry
// clang's thread-safety attributes.
//
// Not absl::Mutex: Debian's abseil is not instrumented, and ThreadSanitizer would report every
// access that it guards. Checked by the lint preset (clang -Wthread-safety).
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>

#if defined(__clang__)
#define AZ_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define AZ_THREAD_ATTRIBUTE(x)
#endif

// The field may only be touched while the mutex is held.
#define AZ_GUARDED_BY(x) AZ_THREAD_ATTRIBUTE(guarded_by(x))
#define AZ_PT_GUARDED_BY(x) AZ_THREAD_ATTRIBUTE(pt_guarded_by(x))
// The function may only be called while the mutex is held / is not held.
#define AZ_REQUIRES(...) AZ_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define AZ_EXCLUDES(...) AZ_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define AZ_ACQUIRED_AFTER(...) AZ_THREAD_ATTRIBUTE(acquired_after(__VA_ARGS__))
#define AZ_ACQUIRED_BEFORE(...) AZ_THREAD_ATTRIBUTE(acquired_before(__VA_ARGS__))
#define AZ_NO_THREAD_SAFETY_ANALYSIS AZ_THREAD_ATTRIBUTE(no_thread_safety_analysis)

namespace azimuth {

class AZ_THREAD_ATTRIBUTE(capability("mutex")) Mutex final {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  void Lock() AZ_THREAD_ATTRIBUTE(acquire_capability()) { mu_.lock(); }
  void Unlock() AZ_THREAD_ATTRIBUTE(release_capability()) { mu_.unlock(); }
  // False if another thread has it.
  bool TryLock() AZ_THREAD_ATTRIBUTE(try_acquire_capability(true)) { return mu_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mu_;
};

class AZ_THREAD_ATTRIBUTE(scoped_lockable) MutexLock final {
 public:
  explicit MutexLock(Mutex& mu) AZ_THREAD_ATTRIBUTE(acquire_capability(mu)) : mu_(mu) {
    mu_.Lock();
  }
  ~MutexLock() AZ_THREAD_ATTRIBUTE(release_capability()) { mu_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

class AZ_THREAD_ATTRIBUTE(capability("mutex")) SharedMutex final {
 public:
  SharedMutex() = default;
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;
  void Lock() AZ_THREAD_ATTRIBUTE(acquire_capability()) { mu_.lock(); }
  void Unlock() AZ_THREAD_ATTRIBUTE(release_capability()) { mu_.unlock(); }
  void LockShared() AZ_THREAD_ATTRIBUTE(acquire_shared_capability()) { mu_.lock_shared(); }
  void UnlockShared() AZ_THREAD_ATTRIBUTE(release_shared_capability()) { mu_.unlock_shared(); }

 private:
  std::shared_mutex mu_;
};

class AZ_THREAD_ATTRIBUTE(scoped_lockable) SharedMutexLock final {
 public:
  explicit SharedMutexLock(SharedMutex& mu) AZ_THREAD_ATTRIBUTE(acquire_capability(mu)) : mu_(mu) {
    mu_.Lock();
  }
  ~SharedMutexLock() AZ_THREAD_ATTRIBUTE(release_capability()) { mu_.Unlock(); }
  SharedMutexLock(const SharedMutexLock&) = delete;
  SharedMutexLock& operator=(const SharedMutexLock&) = delete;

 private:
  SharedMutex& mu_;
};

class AZ_THREAD_ATTRIBUTE(scoped_lockable) ReaderLock final {
 public:
  explicit ReaderLock(SharedMutex& mu) AZ_THREAD_ATTRIBUTE(acquire_shared_capability(mu))
      : mu_(mu) {
    mu_.LockShared();
  }
  ~ReaderLock() AZ_THREAD_ATTRIBUTE(release_capability()) { mu_.UnlockShared(); }
  ReaderLock(const ReaderLock&) = delete;
  ReaderLock& operator=(const ReaderLock&) = delete;

 private:
  SharedMutex& mu_;
};

// Waits with a Mutex. Call from a loop over the condition: wake-ups may be spurious.
class CondVar final {
 public:
  void Wait(Mutex& mu) AZ_REQUIRES(mu) {
    std::unique_lock<std::mutex> lock(mu.mu_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // False if `deadline` passed first.
  bool WaitUntil(Mutex& mu, std::chrono::steady_clock::time_point deadline) AZ_REQUIRES(mu) {
    std::unique_lock<std::mutex> lock(mu.mu_, std::adopt_lock);
    const bool notified = cv_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return notified;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace azimuth
