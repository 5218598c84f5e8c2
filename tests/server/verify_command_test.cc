#include "server/verify_command.h"

#include "engine/database.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace azimuth::server {
namespace {

using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::HasSubstr;

class VerifyCommand : public ::testing::Test {
 protected:
  VerifyCommand() { config_.database.data_dir = dir_.File("data"); }

  // A collection with one segment file.
  void MakeData() {
    const CancelToken no_cancel;
    engine::DatabaseOptions options = config_.database;
    options.graph_rows_min = 8;
    const auto db = engine::Database::Open(options);
    ASSERT_OK(db);
    engine::Schema schema;
    schema.vectors.push_back({.name = "v", .dim = 2});
    ASSERT_OK((*db)->CreateCollection("c", schema, false, no_cancel));
    const std::vector<float> vector = {1, 2};
    std::vector<engine::RecordInput> records(20);
    for (size_t i = 0; i < records.size(); ++i) {
      records[i].key = static_cast<int64_t>(i);
      records[i].vectors.push_back({"v", vector});
    }
    ASSERT_OK((*db)->Insert("c", std::move(records), no_cancel));
    ASSERT_OK((*db)->Optimize(
        "c", [](const engine::OptimizeProgress&) { return absl::OkStatus(); }, no_cancel));
    ASSERT_OK((*db)->Close());
  }
  int Run(std::string& output) {
    ::testing::internal::CaptureStdout();
    const int code = RunVerify(config_);
    output = ::testing::internal::GetCapturedStdout();
    return code;
  }

  TempDir dir_;
  Config config_;
};

TEST_F(VerifyCommand, SaysSoundOrNotAndRepairs) {
  MakeData();
  std::string output;
  EXPECT_EQ(Run(output), 0);
  EXPECT_THAT(output, HasSubstr(R"("sound":true)"));
  EXPECT_THAT(output, HasSubstr(R"("keys":"20")"));
  for (const auto& entry : std::filesystem::directory_iterator(dir_.File("data/segments"))) {
    WriteBytes(entry.path().string(), "not a segment");
  }
  EXPECT_EQ(Run(output), 1);
  EXPECT_THAT(output, HasSubstr(R"("severity":"derived","kind":"segment.format")"));
  config_.verify.repair = true;
  EXPECT_EQ(Run(output), 0);
  EXPECT_THAT(output, HasSubstr(R"("repair":true,"sound":true)"));
  EXPECT_THAT(output, HasSubstr("was taken out of the catalog"));
}

TEST_F(VerifyCommand, SaysThatItCouldNotCheck) {
  std::string output;
  EXPECT_EQ(Run(output), 2);
  EXPECT_EQ(output, "");
}

}  // namespace
}  // namespace azimuth::server
