// Entries of the store whose bytes mean nothing, in each of its column families: what the check
// says of them.

#include "base/status.h"
#include "tests/engine/admin/verify_fixture.h"

#include "rocksdb/db.h"

#include <memory>
#include <string>
#include <vector>

namespace azimuth::engine {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): zero bytes in keys.

class VerifyBytes : public testing::VerifyTest {
 protected:
  void SetUp() override { MakeContent(); }

  // Puts bytes as they are; docs/FORMATS.md has the keys.
  void PutRaw(const std::string& family, const std::string& key, const std::string& value) {
    const std::string path = dir_.File("rocks");
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, path, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names)
      families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* opened = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open({}, path, families, &handles, &opened).ok());
    const std::unique_ptr<rocksdb::DB> db(opened);
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      if (handle->GetName() == family) {
        ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), handle, key, value).ok());
      }
      ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    }
    ASSERT_TRUE(db->Close().ok());
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
