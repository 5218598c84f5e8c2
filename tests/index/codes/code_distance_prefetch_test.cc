// The functions that say they prefetch do, as far as objdump sees.
#include "index/codes/code_distance.h"
#include "tests/index/disassembly.h"

#include "gtest/gtest.h"

#include <string>

namespace azimuth::index {
namespace {

using testing::CountOf;
using testing::Disassembly;
using testing::HasObjdump;

// Before the loop and in it, each time of codes and of factors.
constexpr size_t kPrefetchesMin = 4;

TEST(CodeDistancePrefetch, IsInTheCodeOfEveryTarget) {
  if (!HasObjdump()) GTEST_SKIP() << "PREFETCHES ARE NOT CHECKED: objdump is not installed";
  for (const CodeBits bits : {CodeBits::k4, CodeBits::k8}) {
    for (const NamedCodeDistanceKernels& named : AllCodeKernelsFor(bits)) {
      // What runs the scalar loops does not prefetch.
      if (named.kernels.gather == ScalarCodeKernelsFor(bits).gather) continue;
      const std::string text = Disassembly(named.kernels.gather);
      ASSERT_NE(text, "") << named.target;
      EXPECT_GE(CountOf("prefetcht0", text), kPrefetchesMin) << named.target << "\n" << text;
    }
  }
}

// That the test above can fail.
TEST(CodeDistancePrefetch, IsNotInTheScalarCode) {
  if (!HasObjdump()) GTEST_SKIP() << "PREFETCHES ARE NOT CHECKED: objdump is not installed";
  const std::string text = Disassembly(ScalarCodeKernelsFor(CodeBits::k8).gather);
  ASSERT_NE(text, "");
  EXPECT_EQ(CountOf("prefetch", text), 0U) << text;
}

}  // namespace
}  // namespace azimuth::index
