// Our searches without a network, beside those of hnswlib (bench/peers/hnswlib_search_bench.cc).
//
//   azimuth_inprocess_search_bench build METRIC VECTORS DATA_DIR
//   azimuth_inprocess_search_bench serve DATA_DIR QUERIES
//
// `build` makes the collection "rows" with default settings (METRIC: l2 or cosine), inserts row i
// under key i, optimizes, and prints what that took. `serve` opens that, prints one line about it
// and then answers the lines of bench/lib/search_session.h. Efforts: default, exact, ef and recall.
// An empty DATA_DIR can be served as well, for what a process takes that holds nothing.

#include "base/status.h"
#include "bench/lib/search_session.h"
#include "bench/lib/vector_file.h"
#include "engine/database.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace azimuth::bench {
namespace {

using engine::Database;
using engine::SearchSpec;
using Clock = std::chrono::steady_clock;

constexpr char kCollection[] = "rows";
constexpr char kField[] = "v";
constexpr size_t kBatchRows = 5000;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Whether searches can be asked for a recall.
template <typename Spec>
constexpr bool kServesRecall = requires(Spec spec) {
  spec.recall = 0.95F;
};

// Asks for `recall`; an engine that cannot be asked so gets a width that is guessed from it.
template <typename Spec>
void AskForRecall(Spec& spec, double recall) {
  if constexpr (kServesRecall<Spec>) {
    spec.recall = static_cast<float>(recall);
  } else {
    const double width = static_cast<double>(spec.limit) / (1.0 - std::clamp(recall, 0.0, 0.999));
    spec.ef = static_cast<uint32_t>(std::clamp(std::ceil(width / 2), 1.0, 32768.0));
  }
}

class OurSearcher final : public Searcher {
 public:
  OurSearcher(const Database& database, uint32_t dim) : database_(database), dim_(dim) {}

  absl::Status SetEffort(const Effort& effort, uint32_t limit) override {
    spec_ = SearchSpec{};
    spec_.vector_field = kField;
    spec_.limit = limit;
    spec_.projection.fields = std::vector<std::string>{};
    if (effort.name == "default") return absl::OkStatus();
    if (effort.name == "ef") {
      spec_.ef = static_cast<uint32_t>(effort.value);
      return absl::OkStatus();
    }
    if (effort.name == "exact") {
      spec_.exact = true;
      return absl::OkStatus();
    }
    if (effort.name != "recall") {
      return InvalidArgument("effort %s; expected default, exact, ef or recall", effort.name);
    }
    AskForRecall(spec_, effort.value);
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Search(const float* query, std::vector<int64_t>& ids) const override {
    const auto found = database_.Search(kCollection, {query, dim_}, spec_, CancelToken());
    if (!found.ok()) return found.status();
    const engine::QueryHits& answer = found->queries.front();
    ids.clear();
    for (const engine::SearchHit& hit : answer.hits) {
      ids.push_back(std::get<int64_t>(hit.record.key));
    }
    return answer.work.distances_computed;
  }

 private:
  const Database& database_;
  uint32_t dim_;
  SearchSpec spec_;
};

absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& data_dir) {
  engine::DatabaseOptions options;
  options.data_dir = data_dir;
  return Database::Open(options);
}

// Rows that are in no segment file.
absl::StatusOr<uint64_t> UnsealedRows(const Database& database) {
  AZ_ASSIGN_OR_RETURN(const engine::CollectionStats stats, database.GetStats(kCollection));
  uint64_t rows = 0;
  for (const engine::SegmentStats& segment : stats.segments) {
    if (segment.state != engine::SegmentState::kSealed) rows += segment.rows;
  }
  return rows;
}

absl::Status InsertAll(Database& database, const Vectors& vectors) {
  for (size_t first = 0; first < vectors.rows; first += kBatchRows) {
    std::vector<engine::RecordInput> records;
    for (size_t i = first; i < std::min(first + kBatchRows, vectors.rows); ++i) {
      engine::RecordInput record;
      record.key = static_cast<int64_t>(i);
      record.vectors.push_back({kField, {vectors.row(i), vectors.dim}});
      records.push_back(std::move(record));
    }
    AZ_RETURN_IF_ERROR(database.Insert(kCollection, std::move(records), CancelToken()).status());
  }
  return absl::OkStatus();
}

absl::Status Build(const std::string& metric, const std::string& path,
                   const std::string& data_dir) {
  if (metric != "l2" && metric != "cosine") {
    return InvalidArgument("metric %s; expected l2 or cosine", metric);
  }
  AZ_ASSIGN_OR_RETURN(const Vectors vectors, ReadVectors(path));
  AZ_ASSIGN_OR_RETURN(const auto database, Open(data_dir));
  engine::Schema schema;
  engine::VectorFieldDef& field = schema.vectors.emplace_back();
  field.name = kField;
  field.dim = vectors.dim;
  field.metric = metric == "l2" ? engine::Metric::kL2 : engine::Metric::kCosine;
  AZ_RETURN_IF_ERROR(
      database->CreateCollection(kCollection, schema, false, CancelToken()).status());
  const Clock::time_point start = Clock::now();
  AZ_RETURN_IF_ERROR(InsertAll(*database, vectors));
  const double inserted = SecondsSince(start);
  AZ_ASSIGN_OR_RETURN(const uint64_t unsealed, UnsealedRows(*database));
  AZ_RETURN_IF_ERROR(database->Optimize(
      kCollection, [](const engine::OptimizeProgress&) { return absl::OkStatus(); },
      CancelToken()));
  const double optimized = SecondsSince(start);
  AZ_RETURN_IF_ERROR(database->Close());
  std::printf(
      "{\"rows\": %zu, \"insert_s\": %.3f, \"optimize_s\": %.3f, \"unsealed_after_insert\": %zu}\n",
      vectors.rows, inserted, optimized - inserted, static_cast<size_t>(unsealed));
  return absl::OkStatus();
}

absl::Status Serve(const std::string& data_dir, const std::string& query_path) {
  AZ_ASSIGN_OR_RETURN(const Vectors queries, ReadVectors(query_path));
  const Clock::time_point start = Clock::now();
  AZ_ASSIGN_OR_RETURN(const auto database, Open(data_dir));
  const double opened = SecondsSince(start);
  uint64_t rows = 0;
  size_t segments = 0;
  if (!database->ListCollections().empty()) {
    AZ_ASSIGN_OR_RETURN(const engine::CollectionStats stats, database->GetStats(kCollection));
    rows = stats.row_count;
    segments = stats.segments.size();
  }
  std::printf(
      "{\"rows\": %zu, \"segments\": %zu, \"open_s\": %.4f, \"serves_recall\": %s, "
      "\"compiler\": \"%s\"}\n",
      static_cast<size_t>(rows), segments, opened, kServesRecall<SearchSpec> ? "true" : "false",
      __VERSION__);
  std::fflush(stdout);
  OurSearcher searcher(*database, queries.dim);
  RunSearchSession(searcher, queries, std::cin, stdout);
  return database->Close();
}

int Main(int argc, char** argv) {
  absl::Status status;
  if (argc == 5 && std::strcmp(argv[1], "build") == 0) {
    status = Build(argv[2], argv[3], argv[4]);
  } else if (argc == 4 && std::strcmp(argv[1], "serve") == 0) {
    status = Serve(argv[2], argv[3]);
  } else {
    std::fprintf(stderr, "usage: %s build METRIC VECTORS DATA_DIR | serve DATA_DIR QUERIES\n",
                 argv[0]);
    return 2;
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace azimuth::bench

int main(int argc, char** argv) {
  return azimuth::bench::Main(argc, argv);
}
