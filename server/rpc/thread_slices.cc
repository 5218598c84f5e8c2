#include "server/rpc/thread_slices.h"

#include <cstdint>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace azimuth::server {

#if defined(__linux__)
namespace {

// As sched_setattr(2) has it: the header of the kernel does not go together with that of the
// library.
struct SchedulingAttributes {
  uint32_t size = 0;
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;  // Of a thread of the usual policy: its slice, in nanoseconds.
  uint64_t deadline = 0;
  uint64_t period = 0;
  uint32_t util_min = 0;
  uint32_t util_max = 0;
};

}  // namespace

void AskForShortSlices() {
  constexpr uint64_t kSliceNanos = 100'000;  // The least that the kernel takes.
  SchedulingAttributes attributes;
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0U) != 0) return;
  attributes.runtime = kSliceNanos;
  static_cast<void>(::syscall(SYS_sched_setattr, 0, &attributes, 0U));
}
#else
void AskForShortSlices() {}
#endif

}  // namespace azimuth::server
