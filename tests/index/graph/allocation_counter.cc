#include "tests/index/graph/allocation_counter.h"

#include <cstdlib>
#include <new>

namespace {
// Of this thread: others, of RocksDB for one, allocate when they like.
thread_local uint64_t g_allocations = 0;
}  // namespace

void* operator new(size_t size) {
  ++g_allocations;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace azimuth::index::testing {

uint64_t AllocationCount() {
  return g_allocations;
}

}  // namespace azimuth::index::testing
