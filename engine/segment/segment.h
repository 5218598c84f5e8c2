// Segment: a run of rows of one row store, in one of two forms: growing (memory, takes rows) or
// sealed (a mapped file). Rows are numbered by *position* from 0.
//
// Thread safety: every const function from any number of threads while one thread (the commit
// leader) appends and retires. Positions below size() never change, their retirement excepted.
// Invariants: (1) insert_seq and row id ascend with position; (2) a retired bit is set after the
// row's number is in the RetiredMap, so who sees the bit finds the number.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "base/value.h"
#include "engine/database.h"
#include "engine/filter/filter.h"
#include "engine/memory_budget.h"
#include "index/column/column.h"
#include "index/graph/search.h"
#include "index/topk.h"
#include "storage/row.h"

#include "absl/status/statusor.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// True if a record that ends at `expires_at_unix_us` (0: never) is absent at `now_unix_us`.
inline bool HasExpired(int64_t expires_at_unix_us, int64_t now_unix_us) {
  return expires_at_unix_us != 0 && expires_at_unix_us <= now_unix_us;
}

// What decides on the rows that a reader sees: its sequence number and its one time.
struct ReadPoint {
  Seq seq{};
  int64_t now_unix_us = 0;
};

// A key without ownership; the view lives as long as its segment.
struct KeyView {
  bool is_string = false;
  int64_t number = 0;
  std::string_view text;

  Key ToKey() const { return is_string ? Key(std::string(text)) : Key(number); }
  friend bool operator<(const KeyView& a, const KeyView& b) {
    return a.is_string ? a.text < b.text : a.number < b.number;
  }
  friend bool operator==(const KeyView& a, const KeyView& b) {
    return a.is_string ? a.text == b.text : a.number == b.number;
  }
};

// The scalar columns of a segment to be: fed row by row or column by column.
class ColumnSetWriter final {
 public:
  // REQUIRES: positions of one field ascend. A second value at one position is ignored.
  void AppendField(FieldId field, uint32_t position, const index::ScalarView& value);
  void AppendPath(std::string_view path, uint32_t position, const index::ScalarView& value);
  // A dynamic field with everything inside it, by dotted paths.
  void AppendDynamic(const ValueMap& dynamic, uint32_t position);

  struct Column {
    index::ColumnWriter writer;
    int64_t last_position = -1;
    void Append(uint32_t position, const index::ScalarView& value);
  };
  const std::map<FieldId, Column>& fields() const { return fields_; }
  const std::map<std::string, Column, std::less<>>& paths() const { return paths_; }

 private:
  Column& PathColumn(std::string_view path);
  void AppendNested(std::string& path, const ValueMap& map, uint32_t position);
  std::map<FieldId, Column> fields_;
  std::map<std::string, Column, std::less<>> paths_;
};

// The graph of a vector field and which position each of its nodes is; borrowed from its segment.
struct SegmentGraph {
  const index::FrozenGraph* graph = nullptr;  // Null: there is none.
  std::span<const uint32_t> node_positions;
};

// How wide a segment's graph is walked, and how much of what was found by codes is measured again.
struct WalkEffort {
  size_t ef = 0;
  // How far codes may err, as a share of the query's norm; infinite: all is measured again; without
  // a value as far as they mostly do.
  std::optional<float> error = std::nullopt;
  // Whether to go on with a larger width where the neighbours found show that the query is unlike
  // the rows.
  bool may_widen = false;
  // By the vectors even where there are codes: to look at the graph itself.
  bool by_vectors = false;
};

class Segment : public index::TieOrder {
 public:
  ~Segment() override = default;

  virtual SegmentState state() const = 0;
  virtual SegmentId id() const = 0;  // Zero without a file.
  virtual uint64_t file_bytes() const = 0;
  virtual uint64_t memory_bytes() const = 0;
  virtual SegmentParts parts() const { return {}; }  // Of the file; O(sections).
  // The row ids that this segment answers for; a growing one's end moves.
  virtual storage::RowRange rows() const = 0;
  virtual uint32_t size() const = 0;
  virtual RowId row_id(uint32_t position) const = 0;
  virtual Seq insert_seq(uint32_t position) const = 0;
  virtual KeyView key(uint32_t position) const = 0;
  virtual int64_t expires_at_unix_us(uint32_t position) const = 0;
  // No row ends before this; INT64_MAX if none ever does.
  virtual int64_t earliest_expiry() const = 0;
  // All rows that end before `bound` are retired, and no reader is left that sees one of them.
  // Ignored by segments that still take rows.
  virtual void RaiseEarliestExpiry(int64_t) {}

  // The number of positions whose insert_seq <= seq: [0, n).
  uint32_t InsertedBy(Seq seq) const;
  // nullopt if the row is not in this segment.
  std::optional<uint32_t> Find(RowId row) const;

  // The field's values at [first, first + count) into out. REQUIRES: first + count <= size().
  virtual void ReadScalars(const FilterField& field, uint32_t first, uint32_t count,
                           index::ScalarView* out) const = 0;
  // Adds the values of `positions` (ascending) to `out`, as positions `base`, base + 1, ...
  virtual void ExportScalars(std::span<const uint32_t> positions, uint32_t base,
                             ColumnSetWriter& out) const = 0;
  // Pointers to the vectors of `positions` in the order given, null where a row has none; of unit
  // length for cosine. Valid while the segment lives.
  virtual std::vector<const float*> ExportVectors(size_t vector_slot,
                                                  std::span<const uint32_t> positions) const = 0;

  // True if the vector field (by its place in the schema) has a graph here.
  virtual bool HasGraph(size_t vector_slot) const = 0;
  virtual SegmentGraph Graph(size_t vector_slot) const = 0;
  // The codes that the graph is walked by, kNone for the vectors; nullopt if there is no graph.
  virtual std::optional<Quantization> WalkedBy(size_t /*vector_slot*/) const {
    return std::nullopt;
  }
  // Rows that have a vector in this field.
  virtual uint32_t VectorCount(size_t vector_slot) const = 0;
  // Pushes the admitted rows below `limit` into `top`. Null admits all; for a sealed segment the
  // limit is then all of it. `query` is of unit length for cosine. Returns the distances computed,
  // bounds by codes included.
  virtual absl::StatusOr<uint64_t> Scan(size_t vector_slot, const float* query, uint32_t limit,
                                        const index::Bitset* admitted, index::TopK& top,
                                        const CancelToken& cancel) const = 0;
  // REQUIRES: HasGraph. The cheapest walk that finds the share `recall` of the `limit` nearest, as
  // far as is known; its width is at least `limit`.
  virtual WalkEffort EffortFor(size_t vector_slot, double recall, uint32_t limit) const = 0;
  // REQUIRES: HasGraph. Pushes what a walk finds, measured in full precision: all of it or, where
  // codes say that the rest is too far, as many as `top` takes at least. `admitted` is over all of
  // size().
  virtual absl::StatusOr<index::GraphSearchResult> Walk(
      size_t vector_slot, const float* query, const WalkEffort& effort, uint64_t distances_max,
      const index::Bitset* admitted, index::TopK& top, index::GraphScratch& scratch,
      const CancelToken& cancel) const = 0;

  // Before columns are read (ReadScalars): compares them with their checksums, the first time.
  // DataLoss, those of `cancel`. Scan and Walk do the same with what they read.
  virtual absl::Status CheckColumns(const CancelToken& /*cancel*/) const {
    return absl::OkStatus();
  }
  // Checks what can be checked of the segment's bytes, O(bytes). DataLoss, those of `cancel`.
  virtual absl::Status Verify(const CancelToken& cancel) const = 0;
  // The DataLoss of a check that has failed since the last Verify that did not; OK if none has.
  virtual absl::Status suspicion() const { return absl::OkStatus(); }

  // Copies what walks read of it into memory of huge pages, where the budget has room for it.
  // Searches go on meanwhile. After a Verify; from any one thread at a time.
  virtual void MakeResident(MemoryBudget& /*memory*/) {}

  // Retirement. MarkRetired by the commit leader only, after RetiredMap::Retire.
  virtual void MarkRetired(uint32_t position) = 0;
  // Bits of positions [64 i, 64 i + 64) that are retired at some sequence number.
  virtual uint64_t RetiredWord(size_t i) const = 0;
  uint32_t retired_count() const { return retired_count_.load(std::memory_order_acquire); }

  // index::TieOrder: by key.
  bool Before(uint32_t a, uint32_t b) const final { return key(a) < key(b); }

 protected:
  std::atomic<uint32_t> retired_count_{0};
};

// The rows of those that have no file.
uint64_t RowsInMemory(std::span<const std::shared_ptr<Segment>> segments);

// An immutable list of segments, ascending by row range, without overlaps. Ranges that no segment
// covers have no rows that any reader can see. The last may be the growing one.
struct SegmentSet {
  std::vector<std::shared_ptr<Segment>> segments;

  // The segment that answers for `row`; null if none does.
  Segment* Find(RowId row) const;
};

}  // namespace azimuth::engine
