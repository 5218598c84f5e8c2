// RowSource: rows kept as plain maps, given to filters as a ScalarSource. The plain way to read
// them serves the tests' own evaluator too.
#pragma once

#include "engine/filter/filter.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::engine {

struct TestRow {
  Value key;
  ValueMap fields;

  // The value at a name or dotted path; null pointer if missing.
  const Value* Find(std::string_view path) const {
    if (path == kKeyFieldName) return &key;
    const ValueMap* map = &fields;
    while (true) {
      const size_t dot = path.find('.');
      const auto it = map->find(path.substr(0, dot));
      if (it == map->end()) return nullptr;
      if (dot == std::string_view::npos) return &it->second;
      map = std::get_if<ValueMap>(&it->second.data);
      if (map == nullptr) return nullptr;
      path.remove_prefix(dot + 1);
    }
  }
};

class RowSource final : public ScalarSource {
 public:
  // Borrows both.
  RowSource(const BoundFilter& filter, const std::vector<TestRow>& rows)
      : filter_(filter), rows_(rows) {}

  uint32_t row_count() const override { return static_cast<uint32_t>(rows_.size()); }

  void Read(size_t slot, uint32_t first, uint32_t count, index::ScalarView* out) const override {
    ++reads_;
    for (uint32_t i = 0; i < count; ++i) {
      const Value* value = rows_[first + i].Find(filter_.fields()[slot].path);
      out[i] = value == nullptr ? index::ScalarView{} : index::ViewOf(*value);
    }
  }

  // Calls of Read so far. Not for use from several threads.
  int reads() const { return reads_; }

 private:
  const BoundFilter& filter_;
  const std::vector<TestRow>& rows_;
  mutable int reads_ = 0;
};

}  // namespace azimuth::engine
