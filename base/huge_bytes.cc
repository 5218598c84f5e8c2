#include "base/huge_bytes.h"

#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace azimuth {
namespace {

constexpr size_t kPageBytes = size_t{2} << 20;

}  // namespace

HugeBytes::HugeBytes(size_t size) {
  if (size == 0) return;
  const size_t memory = (size + kPageBytes - 1) / kPageBytes * kPageBytes;
  bytes_.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, memory)));
  if (bytes_ == nullptr) return;
  size_ = size;
  memory_bytes_ = memory;
#if defined(__linux__)
  // A wish only: without it the pages are small.
  ::madvise(bytes_.get(), memory, MADV_HUGEPAGE);
#endif
}

void HugeBytes::Free::operator()(std::byte* bytes) const {
  std::free(bytes);
}

}  // namespace azimuth
