// What can be asked of the engine, and what it answers.
//
// Thread safety: plain values. Views in requests belong to the caller.
#pragma once

#include "base/ids.h"
#include "base/strings.h"
#include "base/value.h"
#include "engine/record.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// A filter in text form with its $parameters. An empty text matches every record.
struct FilterText {
  std::string text;
  StringMap<Value> parameters;
};

// Which fields of a record come back.
struct Projection {
  std::optional<std::vector<std::string>> fields = {};  // nullopt: all scalar fields; empty: none.
  std::vector<std::string> vectors = {};                // Only by name.
};

struct SearchSpec {
  std::string vector_field = {};  // May be empty if the collection has one.
  uint32_t limit = 0;             // 1 to kLimitMax.
  FilterText filter = {};
  // At most one of the three; the default is a recall of kRecallDefault.
  std::optional<double> recall = {};  // Share of the nearest to be found, in (0, 1]; 1: all.
  std::optional<uint32_t> ef = {};    // Width of walks, 1 to kEfMax; raised to limit.
  bool exact = false;                 // Scan.
  Projection projection = {};
};

enum class SearchPath : uint8_t { kNothing, kScan, kGraph, kMixed };

// What was done for one query.
struct SearchWork {
  SearchPath path = SearchPath::kNothing;
  uint64_t distances_computed = 0;
  uint32_t segments_by_graph = 0;
  uint32_t segments_by_scan = 0;
  uint64_t rows_matching = 0;  // With a filter: the rows that it admits.
};

struct SearchHit {
  float distance = 0;  // The metric's own number; less is nearer.
  float score = 0;     // More is better.
  RecordOutput record;
};

struct QueryHits {
  std::vector<SearchHit> hits;  // Nearest first; ties in order of key.
  SearchWork work;
};

struct SearchResult {
  std::vector<QueryHits> queries;  // One for each query, in order.
  Seq as_of{};
  std::vector<std::string> warnings;
};

struct GetResult {
  std::vector<RecordOutput> records;  // Those found, in the order asked.
  std::vector<Key> missing;           // Those not found, likewise.
  Seq as_of{};
};

struct QueryResult {
  std::vector<RecordOutput> records;  // In order of key.
  Seq as_of{};
  std::vector<std::string> warnings;
};

struct CountResult {
  uint64_t count = 0;
  Seq as_of{};
  std::vector<std::string> warnings;
};

// Keys that the server made, one after the other: first, first + 1 and so on.
struct MadeKeys {
  int64_t first = 0;
  uint64_t count = 0;
  friend bool operator==(const MadeKeys&, const MadeKeys&) = default;
};

struct WriteResult {
  uint64_t inserted = 0;
  uint64_t replaced = 0;
  uint64_t deleted = 0;
  uint64_t updated = 0;
  uint64_t missing = 0;   // Of an update that skips keys without a record.
  uint32_t commits = 1;   // More than one only for a delete by filter of very many rows.
  bool repeated = false;  // A request_id was seen before: this is the reply of that time.
  bool synced = true;     // The log is on disk; else it will be within a second.
  Seq as_of{};  // The sequence number of this batch; if nothing changed, that of the last one seen.
  MadeKeys made = {};  // Of the records that came without a key, in their order.
};

}  // namespace azimuth::engine
