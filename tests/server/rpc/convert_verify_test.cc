#include "server/rpc/convert_verify.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace azimuth::server {
namespace {

using ::testing::HasSubstr;

engine::VerifyReport ReportWith(engine::FindingSeverity severity) {
  engine::VerifyReport report;
  report.deep = true;
  report.applied = Seq{5};
  report.rows = 3;
  report.findings.push_back({severity, "segment.checksum", "segment 4", "its bytes differ"});
  report.repairs.emplace_back("segment 4 was taken out");
  return report;
}

TEST(ConvertVerify, TellsEverySeverityByItsName) {
  using engine::FindingSeverity;
  const std::pair<FindingSeverity, const char*> names[] = {{FindingSeverity::kNotice, "notice"},
                                                           {FindingSeverity::kDerived, "derived"},
                                                           {FindingSeverity::kSource, "source"}};
  for (const auto& [severity, name] : names) {
    pb::VerifyResponse out;
    ToWire(ReportWith(severity), out);
    ASSERT_EQ(out.findings_size(), 1);
    EXPECT_EQ(out.findings(0).severity(), name);
    EXPECT_EQ(out.findings(0).kind(), "segment.checksum");
    EXPECT_EQ(out.findings(0).place(), "segment 4");
    EXPECT_EQ(out.findings(0).message(), "its bytes differ");
    EXPECT_EQ(out.sound(), severity == FindingSeverity::kNotice);
    EXPECT_EQ(out.applied_seq(), 5U);
    EXPECT_EQ(out.rows(), 3U);
    EXPECT_EQ(out.repairs(0), "segment 4 was taken out");
  }
}

TEST(ConvertVerify, PrintsAllFieldsByTheirNamesInTheContract) {
  pb::VerifyResponse out;
  out.set_directory("/data");
  ToWire(ReportWith(engine::FindingSeverity::kSource), out);
  const std::string json = ToJson(out);
  for (const char* part :
       {R"("directory":"/data")", R"("deep":true)", R"("repair":false)", R"("sound":false)",
        R"("applied_seq":"5")", R"("watermark_seq":"0")", R"("segment_rows_compared":"0")",
        R"("findings":[{"severity":"source","kind":"segment.checksum","place":"segment 4",)",
        R"("repairs":["segment 4 was taken out"])"}) {
    EXPECT_THAT(json, HasSubstr(part));
  }
}

TEST(ConvertVerify, EscapesWhatIsNoText) {
  engine::VerifyReport report = ReportWith(engine::FindingSeverity::kSource);
  report.findings[0].place = "key '\xff'";
  pb::VerifyResponse out;
  ToWire(report, out);
  EXPECT_EQ(out.findings(0).place(), "key '\\xff'");
}

}  // namespace
}  // namespace azimuth::server
