// Entries of the store whose bytes mean nothing, in each of its column families: what the check
// says of them.

#include "base/status.h"
#include "tests/engine/admin/verify_fixture.h"
#include "tests/support/raw_store.h"

#include <string>

namespace azimuth::engine {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): zero bytes in keys.

class VerifyBytes : public testing::VerifyTest {
 protected:
  void SetUp() override { MakeContent(); }

  // Puts bytes as they are; docs/FORMATS.md has the keys.
  void PutRaw(const std::string& family, const std::string& key, const std::string& value) {
    ASSERT_OK(::azimuth::testing::PutRawEntry(dir_.File("rocks"), family, key, value));
  }
};

TEST_F(VerifyBytes, FindsARowThatCannotBeDecoded) {
  PutRaw("rows", "\0\0\0\1\0\0\0\0\0\0\0\7"s, "?");
  ExpectSource("store.unreadable", "collection 'items', rows");
}

TEST_F(VerifyBytes, FindsAVectorThatCannotBeDecoded) {
  PutRaw("vectors", "\0\0\0\1\0\0\0\3\0\0\0\0\0\0\0\7"s, "?");
  ExpectSource("store.unreadable", "collection 'items', vectors of field 'v'");
}

TEST_F(VerifyBytes, FindsAKeyThatCannotBeDecoded) {
  PutRaw("keys", "\0\0\0\1\7"s, "?");
  ExpectSource("store.unreadable", "collection 'items', keys");
}

TEST_F(VerifyBytes, FindsARetirementThatCannotBeDecoded) {
  PutRaw("retired", "\0\0\0\1\0\0\0\0\0\0\0\7"s, "?");
  ExpectSource("store.unreadable", "collection 'items', retirements");
}

TEST_F(VerifyBytes, FindsCountersThatCannotBeDecoded) {
  PutRaw("default", "\3\0\0\0\1"s, "?");
  ExpectSource("store.unreadable", "collection 'items', counters");
}

TEST_F(VerifyBytes, FindsAnAppliedPositionThatCannotBeDecoded) {
  PutRaw("default", "\1", "?");
  ExpectSource("store.unreadable", "applied position");
}

TEST_F(VerifyBytes, FindsNextIdsThatCannotBeDecoded) {
  PutRaw("default", "\2", "?");
  ExpectSource("store.unreadable", "next ids");
}

TEST_F(VerifyBytes, FindsARequestThatCannotBeDecoded) {
  PutRaw("requests", "r", "?");
  ExpectSource("store.unreadable", "remembered requests");
}

TEST_F(VerifyBytes, FindsCatalogEntriesThatCannotBeDecodedAndRepairsNothing) {
  PutRaw("catalog", "\1\0\0\0\1"s, "?");
  ExpectSource("catalog.unreadable", "collections");
  PutRaw("catalog", "\2\0\0\0\1\0\0\0\0\0\0\0\1"s, "?");
  ExpectSource("catalog.unreadable", "segments");
  const auto before = AllFiles();
  EXPECT_TRUE(Repair().repairs.empty());
  EXPECT_TRUE(AllFiles() == before);
}

}  // namespace
}  // namespace azimuth::engine
