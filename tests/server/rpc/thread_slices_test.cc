// What the scheduler knows of a thread that asked for short slices.
#include "server/rpc/thread_slices.h"

#include "gtest/gtest.h"

#if defined(__linux__)
#include <array>
#include <cstdint>
#include <cstdio>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <thread>
#include <unistd.h>

namespace azimuth::server {
namespace {

struct Attributes {
  uint32_t policy = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t slice = 0;
};

// By the places that sched_getattr(2) names.
Attributes AttributesOfThis() {
  std::array<uint32_t, 14> words = {};
  EXPECT_EQ(::syscall(SYS_sched_getattr, 0, words.data(), sizeof(words), 0U), 0);
  return {words[1], static_cast<int32_t>(words[4]), words[5], uint64_t{words[7]} << 32 | words[6]};
}

// From 6.12 on the kernel takes slices of threads of the usual policy.
bool KernelTakesSlices() {
  utsname names = {};
  EXPECT_EQ(::uname(&names), 0);
  int major = 0;
  int minor = 0;
  EXPECT_EQ(std::sscanf(names.release, "%d.%d", &major, &minor), 2);
  return major > 6 || (major == 6 && minor >= 12);
}

TEST(ThreadSlices, AreShortOfTheThreadThatAskedAndAllElseStays) {
  std::thread([] {
    const Attributes before = AttributesOfThis();
    AskForShortSlices();
    const Attributes after = AttributesOfThis();
    EXPECT_EQ(after.policy, before.policy);
    EXPECT_EQ(after.nice, before.nice);
    EXPECT_EQ(after.priority, before.priority);
    if (KernelTakesSlices()) {
      EXPECT_EQ(after.slice, 100'000U);
    }
  }).join();
}

}  // namespace
}  // namespace azimuth::server
#endif
