// What a Simulation reads and compares with its map.

#include "base/status.h"
#include "tests/engine/simulation.h"

#include <algorithm>
#include <set>
#include <utility>

namespace azimuth::engine::testing {
namespace {

const CancelToken kNoCancel;

float SquaredDistance(const std::vector<float>& a, const std::vector<float>& b) {
  float sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

}  // namespace

Simulation::Model Simulation::Visible(const Model& model) const {
  Model visible = model;
  const int64_t now = clock_.NowUnixMicros();
  std::erase_if(visible, [&](const auto& entry) { return Expired(entry.second.expires, now); });
  return visible;
}

bool Simulation::SameAs(const Model& visible, const std::vector<RecordOutput>& records,
                        bool with_vectors) const {
  if (records.size() != visible.size()) return false;
  auto expected = visible.begin();
  for (const RecordOutput& record : records) {
    const auto& [key, value] = *expected++;
    if (record.key != Key{key} || record.fields.at("n") != Value{value.n} ||
        record.expires_at_unix_us != value.expires ||
        (value.version != kSeqMax && record.version != value.version)) {
      return false;
    }
    if (with_vectors && record.vectors.at("v") != value.vector) return false;
  }
  return true;
}

void Simulation::DoRead() {
  const Model visible = Visible(model_);
  switch (Random(4)) {
    case 0:
      return CheckGet(visible);
    case 1:
      return CheckQuery(visible);
    case 2:
      return CheckSearch(visible);
    default: {
      const auto count = db_->Count("c", {}, kNoCancel);
      if (!count.ok()) {
        if (!crashed()) Fail(absl::StrCat("count: ", count.status().ToString()));
      } else if (count->count != visible.size()) {
        Fail(absl::StrFormat("count: %d instead of %d", count->count, visible.size()));
      }
    }
  }
}

void Simulation::CheckGet(const Model& visible) {
  std::vector<Key> keys;
  Model expected;
  for (int i = 0; i < 8; ++i) {
    const auto key = static_cast<int64_t>(Random(kKeys));
    if (std::find(keys.begin(), keys.end(), Key{key}) != keys.end()) continue;
    keys.emplace_back(key);
  }
  std::sort(keys.begin(), keys.end());
  for (const Key& key : keys) {
    const auto it = visible.find(std::get<int64_t>(key));
    if (it != visible.end()) expected.insert(*it);
  }
  const auto got =
      db_->Get("c", keys, {.vectors = {"v"}}, kNoCancel, ReadOptions{.min_seq = Seq{1}});
  if (!got.ok()) {
    if (!crashed()) Fail(absl::StrCat("get: ", got.status().ToString()));
  } else if (!SameAs(expected, got->records, true)) {
    Fail("get: not what was written");
  }
}

void Simulation::CheckQuery(const Model& visible) {
  const auto low = static_cast<int64_t>(Random(kValues));
  Model expected = visible;
  std::erase_if(expected, [&](const auto& entry) { return entry.second.n < low; });
  const auto found =
      db_->Query("c", {"n >= $low", {{"low", Value{low}}}}, 1000, {.vectors = {"v"}}, kNoCancel);
  if (!found.ok()) {
    if (!crashed()) Fail(absl::StrCat("query: ", found.status().ToString()));
  } else if (!SameAs(expected, found->records, true)) {
    Fail(absl::StrFormat("query: %d records instead of %d, or other ones", found->records.size(),
                         expected.size()));
  }
}

void Simulation::CheckSearch(const Model& visible) {
  std::vector<float> query(kDim);
  for (float& x : query) x = static_cast<float>(Random(6));
  const auto low = static_cast<int64_t>(Random(kValues));
  const size_t limit = 1 + Random(20);
  SearchSpec spec{.limit = static_cast<uint32_t>(limit), .exact = Random(2) == 0};
  if (low > 0) spec.filter = {"n >= $n", {{"n", Value{low}}}};
  std::vector<std::pair<float, int64_t>> expected;
  for (const auto& [key, record] : visible) {
    if (record.n >= low) expected.emplace_back(SquaredDistance(record.vector, query), key);
  }
  std::sort(expected.begin(), expected.end());
  expected.resize(std::min(limit, expected.size()));
  const auto result = db_->Search("c", query, spec, kNoCancel);
  if (!result.ok()) {
    if (!crashed()) Fail(absl::StrCat("search: ", result.status().ToString()));
    return;
  }
  const auto& hits = result->queries[0].hits;
  if (hits.size() != expected.size()) {
    return Fail(absl::StrFormat("search: %d hits instead of %d", hits.size(), expected.size()));
  }
  std::set<int64_t> seen;
  for (size_t i = 0; i < hits.size(); ++i) {
    const auto key = std::get<int64_t>(hits[i].record.key);
    const auto record = visible.find(key);
    if (record == visible.end() || !seen.insert(key).second ||
        hits[i].record.version != record->second.version ||
        hits[i].distance != SquaredDistance(record->second.vector, query)) {
      return Fail(
          absl::StrFormat("search: hit %d is not there, comes twice, or is another version", key));
    }
    if (spec.exact && (hits[i].distance != expected[i].first || key != expected[i].second)) {
      return Fail("search: the exact answer is wrong");
    }
  }
}

void Simulation::CheckAll() {
  const bool was_nested = std::exchange(nested_, true);
  const Model visible = Visible(model_);
  const auto found = db_->Query("c", {}, 1000, {.vectors = {"v"}}, kNoCancel);
  if (!found.ok()) {
    if (!crashed()) Fail(absl::StrCat("check: ", found.status().ToString()));
  } else if (!SameAs(visible, found->records, true)) {
    Fail(absl::StrFormat("check: %d records instead of %d, or other ones", found->records.size(),
                         visible.size()));
  }
  if (const auto stats = db_->GetStats("c"); stats.ok() && stats->row_count != visible.size()) {
    Fail(absl::StrFormat("check: stats count %d rows instead of %d", stats->row_count,
                         visible.size()));
  }
  for (int i = 0; i < 3 && !violation_.has_value(); ++i) CheckSearch(visible);
  nested_ = was_nested;
}

}  // namespace azimuth::engine::testing
