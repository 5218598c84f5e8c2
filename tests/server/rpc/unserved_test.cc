#include "server/rpc/unserved.h"

#include "tests/server/parse.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <string>
#include <utility>
#include <vector>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::StartsWith;

// Each text sets one field; the message must start with the field's place.
template <typename Request>
void ExpectUnserved(const std::vector<std::pair<std::string, std::string>>& cases) {
  EXPECT_OK(CheckServed(Request()));
  for (const auto& [text, place] : cases) {
    EXPECT_THAT(CheckServed(Parse<Request>(text)),
                StatusIs(absl::StatusCode::kUnimplemented, StartsWith(place + ": ")))
        << text;
  }
}

TEST(CheckServed, RefusesUnservedFieldsOfWrites) {
  ExpectUnserved<pb::InsertRequest>({{"partition: 'p'", "partition"}});
  ExpectUnserved<pb::UpsertRequest>({{"partition: 'p'", "partition"}});
  ExpectUnserved<pb::UpdateRequest>({{"partition: 'p'", "partition"}});
}

TEST(CheckServed, TakesIdsAndConditionsOfWrites) {
  EXPECT_OK(CheckServed(Parse<pb::InsertRequest>("request_id: 'r'")));
  EXPECT_OK(CheckServed(Parse<pb::UpsertRequest>("request_id: 'r' if_version: 0")));
  EXPECT_OK(CheckServed(Parse<pb::UpdateRequest>("request_id: 'r' if_version: 0")));
  EXPECT_OK(CheckServed(Parse<pb::DeleteRequest>("request_id: 'r' if_version: 0 dry_run: true")));
}

TEST(CheckServed, TakesBothDurabilitiesAndRefusesUnknownNumbers) {
  EXPECT_OK(CheckServed(Parse<pb::InsertRequest>("durability: DURABILITY_SYNCED")));
  EXPECT_OK(CheckServed(Parse<pb::InsertRequest>("durability: DURABILITY_RELAXED")));
  EXPECT_OK(CheckServed(Parse<pb::DeleteRequest>("durability: DURABILITY_RELAXED")));
  pb::InsertRequest request;
  request.set_durability(static_cast<pb::Durability>(9));
  EXPECT_THAT(CheckServed(request), StatusIs(absl::StatusCode::kInvalidArgument,
                                             "durability: 9 is unknown; synced or relaxed"));
}

TEST(CheckServed, RefusesUnservedFieldsOfReads) {
  ExpectUnserved<pb::QueryRequest>({{"order_by: 'a'", "order_by"},
                                    {"cursor: 'c'", "cursor"},
                                    {"partitions: 'p'", "partitions"}});
  ExpectUnserved<pb::CountRequest>({{"partitions: 'p'", "partitions"}});
}

TEST(CheckServed, RefusesUnservedFieldsOfSearches) {
  const std::vector<std::pair<std::string, std::string>> options = {
      {"options { params { budget_us: 0 } }", "options.params.budget_us"},
      {"options { params { max_visits: 0 } }", "options.params.max_visits"},
      {"options { params { oversampling: 0 } }", "options.params.oversampling"},
      {"options { offset: 1 }", "options.offset"},
      {"options { score_threshold: 0 }", "options.score_threshold"},
      {"options { range {} }", "options.range"},
      {"options { group_by: 'a' }", "options.group_by"},
      {"options { group_size: 1 }", "options.group_size"},
      {"options { partitions: 'p' }", "options.partitions"},
      {"options { explain: true }", "options.explain"}};
  ExpectUnserved<pb::SearchRequest>(options);
  ExpectUnserved<pb::SearchBatchRequest>(options);
  ExpectUnserved<pb::SearchRequest>(
      {{"query_key { int64_key: 1 }", "query_key"}, {"query_text: 't'", "query_text"}});
  EXPECT_THAT(CheckServed(Parse<pb::SearchRequest>("options { offset: 1 }")).message(),
              "options.offset: not served yet; ask for a larger limit and skip");
}

TEST(CheckServed, TakesWhatSaysHowHardToSearch) {
  for (const std::string params : {"recall: 0.9", "ef: 9", "exact: true"}) {
    const std::string options = "options { params { " + params + " } }";
    EXPECT_OK(CheckServed(Parse<pb::SearchRequest>(options)));
    EXPECT_OK(CheckServed(Parse<pb::SearchBatchRequest>(options)));
  }
}

}  // namespace
}  // namespace azimuth::server
