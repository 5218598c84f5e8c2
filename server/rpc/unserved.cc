#include "server/rpc/unserved.h"

#include "base/status.h"

#include <string_view>

namespace azimuth::server {
namespace {

absl::Status Refuse(bool is_set, std::string_view field, std::string_view instead = "") {
  if (!is_set) return absl::OkStatus();
  return Unimplemented("%s: not served yet%s%s", field, instead.empty() ? "" : "; ", instead);
}

absl::Status CheckDurability(pb::Durability durability) {
  switch (durability) {
    case pb::DURABILITY_UNSPECIFIED:
    case pb::DURABILITY_SYNCED:
    case pb::DURABILITY_RELAXED:
      return absl::OkStatus();
    default:
      return UnknownEnum("durability", durability, "synced or relaxed");
  }
}

// What Insert, Upsert and Update share.
template <typename Request>
absl::Status CheckWrite(const Request& request) {
  AZ_RETURN_IF_ERROR(Refuse(!request.partition().empty(), "partition"));
  return CheckDurability(request.durability());
}

}  // namespace

absl::Status CheckServed(const pb::InsertRequest& request) {
  return CheckWrite(request);
}

absl::Status CheckServed(const pb::UpsertRequest& request) {
  return CheckWrite(request);
}

absl::Status CheckServed(const pb::UpdateRequest& request) {
  return CheckWrite(request);
}

absl::Status CheckServed(const pb::DeleteRequest& request) {
  return CheckDurability(request.durability());
}

absl::Status CheckServed(const pb::IngestStart& start) {
  switch (start.mode()) {
    case pb::INGEST_MODE_UNSPECIFIED:
    case pb::INGEST_MODE_UPSERT:
    case pb::INGEST_MODE_INSERT:
      break;
    default:
      return UnknownEnum("start.mode", start.mode(), "upsert or insert");
  }
  if (absl::Status status = CheckWrite(start); !status.ok()) return AtPlace("start", status);
  return absl::OkStatus();
}

absl::Status CheckServed(const pb::QueryRequest& request) {
  AZ_RETURN_IF_ERROR(Refuse(!request.order_by().empty(), "order_by",
                            "leave it empty: records come in order of key"));
  AZ_RETURN_IF_ERROR(Refuse(!request.cursor().empty(), "cursor"));
  return Refuse(!request.partitions().empty(), "partitions");
}

absl::Status CheckServed(const pb::CountRequest& request) {
  return Refuse(!request.partitions().empty(), "partitions");
}

absl::Status CheckServed(const pb::SearchOptions& options) {
  const pb::SearchParams& params = options.params();
  AZ_RETURN_IF_ERROR(Refuse(params.has_budget_us(), "options.params.budget_us"));
  AZ_RETURN_IF_ERROR(Refuse(params.has_max_visits(), "options.params.max_visits"));
  AZ_RETURN_IF_ERROR(Refuse(params.has_oversampling(), "options.params.oversampling"));
  AZ_RETURN_IF_ERROR(
      Refuse(options.offset() != 0, "options.offset", "ask for a larger limit and skip"));
  AZ_RETURN_IF_ERROR(Refuse(options.has_score_threshold(), "options.score_threshold"));
  AZ_RETURN_IF_ERROR(Refuse(options.has_range(), "options.range"));
  AZ_RETURN_IF_ERROR(Refuse(!options.group_by().empty(), "options.group_by"));
  AZ_RETURN_IF_ERROR(Refuse(options.group_size() != 0, "options.group_size"));
  AZ_RETURN_IF_ERROR(Refuse(!options.partitions().empty(), "options.partitions"));
  return Refuse(options.explain(), "options.explain");
}

absl::Status CheckServed(const pb::SearchRequest& request) {
  AZ_RETURN_IF_ERROR(Refuse(request.has_query_key(), "query_key", "send the vector as query"));
  AZ_RETURN_IF_ERROR(
      Refuse(!request.query_text().empty(), "query_text", "send the vector as query"));
  return CheckServed(request.options());
}

absl::Status CheckServed(const pb::SearchBatchRequest& request) {
  return CheckServed(request.options());
}

}  // namespace azimuth::server
