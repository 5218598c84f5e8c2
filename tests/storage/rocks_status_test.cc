#include "storage/rocks_status.h"

#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace azimuth::storage {
namespace {

using ::azimuth::testing::StatusIs;
using rocksdb::Status;

TEST(RocksStatus, GivesReadErrorsTheCodeThatTheCallerCanActOn) {
  EXPECT_OK(FromRocks("read", Status::OK()));
  EXPECT_THAT(FromRocks("read row 7", Status::Corruption("block checksum mismatch")),
              StatusIs(absl::StatusCode::kDataLoss,
                       "cannot read row 7: Corruption: block checksum mismatch"));
  EXPECT_THAT(FromRocks("read", Status::NotFound()), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(FromRocks("read", Status::IOError("bad sector")),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(FromRocks("read", Status::NoSpace()), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(FromRocks("read", Status::MemoryLimit()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(FromRocks("open", Status::InvalidArgument("Column families not opened")),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(FromRocks("read", Status::MergeInProgress()), StatusIs(absl::StatusCode::kInternal));
}

TEST(RocksStatus, CallsAFailedWriteUnknownUnlessTheDiskIsFull) {
  EXPECT_OK(FromRocksWrite("commit", Status::OK()));
  EXPECT_THAT(FromRocksWrite("commit", Status::NoSpace()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(FromRocksWrite("commit", Status::IOError("fsync")),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(FromRocksWrite("commit", Status::Corruption("earlier error")),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST(RocksStatus, SaysOfANewFileWhetherItIsWorthAnotherTry) {
  EXPECT_OK(FromRocksNewFile("write", Status::OK()));
  for (const char* text : {"Too many open files", "Too many open files in system",
                           "Disk quota exceeded", "Cannot allocate memory"}) {
    EXPECT_THAT(FromRocksNewFile("write", Status::IOError("While open a file", text)),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
  EXPECT_THAT(FromRocksNewFile("write", Status::NoSpace()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(FromRocksNewFile("write", Status::IOError("Input/output error")),
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace azimuth::storage
