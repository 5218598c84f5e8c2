#include "base/mutex.h"

#include "gtest/gtest.h"

#include <chrono>
#include <thread>
#include <vector>

namespace azimuth {
namespace {

constexpr int kThreads = 4;
constexpr int kSteps = 2000;

struct Counter {
  Mutex mu;
  int value AZ_GUARDED_BY(mu) = 0;
};

// Without the lock, additions of several threads would be lost (and ThreadSanitizer would say so).
TEST(Mutex, LosesNoAdditionOfSeveralThreads) {
  Counter counter;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < kSteps; ++i) {
          MutexLock lock(counter.mu);
          ++counter.value;
        }
      });
    }
  }
  MutexLock lock(counter.mu);
  EXPECT_EQ(counter.value, kThreads * kSteps);
}

struct Pair {
  SharedMutex mu;
  int first AZ_GUARDED_BY(mu) = 0;
  int second AZ_GUARDED_BY(mu) = 0;
};

// A writer changes two fields under one lock: no reader may see one without the other.
TEST(SharedMutex, ShowsReadersNoHalfWrittenPair) {
  Pair pair;
  int torn = 0;
  {
    std::jthread writer([&] {
      for (int i = 1; i <= kSteps; ++i) {
        SharedMutexLock lock(pair.mu);
        pair.first = i;
        pair.second = i;
      }
    });
    for (int i = 0; i < kSteps; ++i) {
      ReaderLock lock(pair.mu);
      torn += pair.first == pair.second ? 0 : 1;
    }
  }
  EXPECT_EQ(torn, 0);
}

TEST(SharedMutex, LetsTwoReadersInAtOnce) {
  SharedMutex mu;
  Mutex inside_mu;
  CondVar changed;
  int inside = 0;
  const auto read = [&] {
    ReaderLock reader(mu);
    MutexLock lock(inside_mu);
    ++inside;
    changed.NotifyAll();
    // Ends only when both hold the lock at the same time.
    while (inside < 2) changed.Wait(inside_mu);
  };
  {
    std::jthread a(read);
    std::jthread b(read);
  }
  EXPECT_EQ(inside, 2);
}

struct Turn {
  Mutex mu;
  CondVar changed;
  int turn AZ_GUARDED_BY(mu) = 0;
};

TEST(CondVar, PassesATurnBetweenTwoThreads) {
  Turn state;
  const auto play = [&](int me) {
    for (int i = 0; i < 100; ++i) {
      MutexLock lock(state.mu);
      while (state.turn % 2 != me) state.changed.Wait(state.mu);
      ++state.turn;
      state.changed.NotifyOne();
    }
  };
  {
    std::jthread a([&] { play(0); });
    std::jthread b([&] { play(1); });
  }
  MutexLock lock(state.mu);
  EXPECT_EQ(state.turn, 200);
}

TEST(CondVar, GivesUpWaitingAtTheDeadlineAndHoldsTheLock) {
  Turn state;
  MutexLock lock(state.mu);
  EXPECT_FALSE(state.changed.WaitUntil(state.mu, std::chrono::steady_clock::now()));
  ++state.turn;
  EXPECT_EQ(state.turn, 1);
}

}  // namespace
}  // namespace azimuth
