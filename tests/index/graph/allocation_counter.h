// Counts the calls of operator new in a binary that links allocation_counter.cc.
//
// Thread safety: any number of threads.
#pragma once

#include <cstdint>

namespace azimuth::index::testing {

// Those of the calling thread.
uint64_t AllocationCount();

}  // namespace azimuth::index::testing
