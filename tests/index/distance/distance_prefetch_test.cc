// The functions that say they prefetch do, as far as objdump sees.
#include "index/distance/distance.h"
#include "index/distance/half.h"
#include "tests/index/disassembly.h"

#include "gtest/gtest.h"

#include <string>

namespace azimuth::index {
namespace {

using testing::CountOf;
using testing::Disassembly;
using testing::HasObjdump;

// Before the loop and in it.
constexpr size_t kPrefetchesMin = 2;

template <typename Named, typename Kernels>
void ExpectPrefetches(const Named& named, const Kernels& scalar) {
  // What runs the scalar loops does not prefetch.
  if (named.kernels.gather == scalar.gather) return;
  const std::string text = Disassembly(named.kernels.gather);
  ASSERT_NE(text, "") << named.target;
  EXPECT_GE(CountOf("prefetcht0", text), kPrefetchesMin) << named.target << "\n" << text;
}

TEST(DistancePrefetch, IsInTheCodeOfEveryTarget) {
  if (!HasObjdump()) GTEST_SKIP() << "PREFETCHES ARE NOT CHECKED: objdump is not installed";
  for (const Metric metric : {Metric::kL2, Metric::kIp, Metric::kCosine}) {
    for (const NamedKernels& named : AllKernelsFor(metric)) {
      ExpectPrefetches(named, ScalarKernelsFor(metric));
    }
    for (const NamedHalfKernels& named : AllHalfKernelsFor(metric)) {
      ExpectPrefetches(named, ScalarHalfKernelsFor(metric));
    }
  }
}

}  // namespace
}  // namespace azimuth::index
