// The commit queue when memory runs out: in a program of its own, since it replaces operator new.

#include "engine/write/commit_queue.h"
#include "storage/store.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gtest/gtest.h"

#include <chrono>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>

namespace {

// Allocations of this thread until one fails; negative: none fails.
thread_local int g_left = -1;

void* Allocate(size_t size) {
  if (g_left == 0) throw std::bad_alloc();
  if (g_left > 0) --g_left;
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Never inlined: gcc would see that free() is given what operator new returned, and warn.
[[gnu::noinline]] void Release(void* memory) {
  std::free(memory);
}

}  // namespace

void* operator new(size_t size) {
  return Allocate(size);
}
void* operator new[](size_t size) {
  return Allocate(size);
}
void operator delete(void* memory) noexcept {
  Release(memory);
}
void operator delete[](void* memory) noexcept {
  Release(memory);
}
void operator delete(void* memory, size_t) noexcept {
  Release(memory);
}
void operator delete[](void* memory, size_t) noexcept {
  Release(memory);
}

namespace azimuth::engine {
namespace {

using ::azimuth::testing::TempDir;

// Changes nothing. Allows all allocations from its turn on: for want of them the process ends.
class EmptyCommit final : public Commit {
 public:
  size_t byte_size() const override {
    g_left = -1;
    return 0;
  }
  absl::StatusOr<bool> Resolve(ResolveContext& /*context*/) override { return false; }
  void Apply(Seq) override {}
};

TEST(CommitQueueMemory, AWriteThatGetsNoneLeavesTheQueueAsItWas) {
  TempDir dir;
  auto store = storage::Store::Open(dir.File("rocks"), storage::StoreOptions{});
  ASSERT_OK(store);
  DiskGuard disk(dir.path(), dir.path() + "/BALLAST", storage::Files::Posix(), {});
  Durability durability(disk);
  ViewRegistry views(Seq{0}, (*store)->TakeSnapshot());
  CommitQueue queue(**store, views, durability, Clock::System(), Seq{0}, /*bulk_bytes=*/0);
  int failed = 0;
  for (int allocations = 0; allocations < 8; ++allocations) {
    EmptyCommit commit;
    try {
      g_left = allocations;
      // Into a new block of the queue, too.
      for (int i = 0; i < 100; ++i) {
        g_left = allocations;
        EXPECT_OK(queue.Run(commit, CancelToken()).status());
      }
    } catch (const std::bad_alloc&) {
      ++failed;
    }
    g_left = -1;
    EXPECT_EQ(queue.depth(), 0U);
    // In time: nothing holds it.
    const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    EXPECT_OK(queue.Run(commit, CancelToken(soon, {})).status());
  }
  EXPECT_GE(failed, 1);
  EXPECT_LT(failed, 8);
}

}  // namespace
}  // namespace azimuth::engine
