#include "storage/rocks_files.h"

#include "tests/support/matchers.h"
#include "tests/support/sim_files.h"

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "rocksdb/env.h"

#include <memory>
#include <string>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::SimFiles;

class RocksFiles : public ::testing::Test {
 protected:
  RocksFiles()
      : made_(MakeOrderedEnv(disk_.process().rocks_env(), "/rocks")),
        env_(rocksdb::NewCompositeEnv(made_->GetFileSystem())) {
    for (const std::string folder : {"/rocks", "/copy.tmp"}) {
      EXPECT_OK(disk_.process().MakeDir(folder));
      EXPECT_TRUE(Write(folder + "/1.sst").ok());
    }
  }

  rocksdb::Status Write(const std::string& path) {
    std::unique_ptr<rocksdb::WritableFile> file;
    rocksdb::Status status = env_->NewWritableFile(path, &file, rocksdb::EnvOptions());
    if (status.ok()) status = file->Append("something");
    if (status.ok()) status = file->Close();
    return status;
  }
  void FailManifest(const std::string& folder) {
    disk_.FailOnce("write", folder + "/MANIFEST", absl::UnavailableError("the disk says no"));
    EXPECT_FALSE(Write(folder + "/MANIFEST-000001").ok());
  }
  void FailSync(const std::string& folder) {
    std::unique_ptr<rocksdb::Directory> directory;
    ASSERT_TRUE(env_->NewDirectory(folder, &directory).ok());
    disk_.FailOnce("sync", folder, absl::UnavailableError("the disk says no"));
    EXPECT_FALSE(directory->Fsync().ok());
  }
  void NameManifest(const std::string& folder) {
    EXPECT_TRUE(Write(folder + "/1.tmp").ok());
    EXPECT_TRUE(env_->RenameFile(folder + "/1.tmp", folder + "/CURRENT").ok());
  }
  // Whether a table is gone once it was to be removed.
  bool Removes(const std::string& folder) {
    EXPECT_TRUE(env_->DeleteFile(folder + "/1.sst").ok());
    return !disk_.process().KindOf(folder + "/1.sst").ok();
  }

  SimFiles disk_{1};
  std::unique_ptr<rocksdb::Env> made_;
  std::unique_ptr<rocksdb::Env> env_;  // Of its file system, as RocksDB asks it.
};

TEST_F(RocksFiles, TablesOfTheDatabaseStayUntilThereIsAnotherManifest) {
  FailManifest("/rocks");
  EXPECT_FALSE(Removes("/rocks"));
  NameManifest("/rocks");
  EXPECT_TRUE(Removes("/rocks"));
}

TEST_F(RocksFiles, TheManifestOfACopySaysNothingOfTheDatabase) {
  FailManifest("/copy.tmp");
  FailSync("/copy.tmp");
  EXPECT_TRUE(Removes("/copy.tmp"));
  EXPECT_TRUE(Removes("/rocks"));
}

TEST_F(RocksFiles, ACopyThatFailsLeavesTheDoubtAboutTheDatabase) {
  FailManifest("/rocks");
  FailManifest("/copy.tmp");
  EXPECT_FALSE(Removes("/rocks"));
  FailSync("/copy.tmp");
  EXPECT_FALSE(Removes("/rocks"));
  NameManifest("/copy.tmp");
  EXPECT_FALSE(Removes("/rocks"));
  EXPECT_TRUE(Removes("/copy.tmp"));
}

TEST_F(RocksFiles, AFailedSyncOfTheDatabasesDirectoryKeepsItsTables) {
  FailSync("/rocks");
  EXPECT_FALSE(Removes("/rocks"));
  EXPECT_TRUE(Removes("/copy.tmp"));
}

}  // namespace
}  // namespace azimuth::storage
