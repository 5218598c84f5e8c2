#include "engine/admin/findings.h"

#include "base/status.h"

#include <algorithm>

namespace azimuth::engine {

void Findings::Add(FindingSeverity severity, std::string_view kind, std::string place,
                   std::string message) {
  auto it = kinds_.find(kind);
  if (it == kinds_.end()) it = kinds_.emplace(std::string(kind), Kind{}).first;
  if (++it->second.count > kOfAKindMax) return;
  it->second.last = findings_.size();
  findings_.push_back({.severity = severity,
                       .kind = std::string(kind),
                       .place = std::move(place),
                       .message = std::move(message)});
}

std::vector<Finding> Findings::Take() {
  for (const auto& [name, kind] : kinds_) {
    if (kind.count <= kOfAKindMax) continue;
    absl::StrAppend(&findings_[kind.last].message, "; and ", kind.count - kOfAKindMax,
                    " more of this kind");
  }
  kinds_.clear();
  return std::exchange(findings_, {});
}

void RepairPlan::TakeOut(const storage::SegmentEntry& entry) {
  const bool known = std::any_of(segments.begin(), segments.end(), [&](const auto& other) {
    return other.row_store == entry.row_store && other.id == entry.id;
  });
  if (!known) segments.push_back(entry);
}

std::string CheckedCollection::Place() const {
  return absl::StrCat("collection ", Quoted(name));
}

std::string CheckedCollection::RowPlace(RowId row) const {
  return absl::StrFormat("%s, row %d", Place(), Raw(row));
}

std::string CheckedCollection::SegmentPlace(SegmentId id) const {
  if (id == SegmentId{}) return absl::StrCat(Place(), ", a segment without a file");
  return absl::StrFormat("%s, segment %d", Place(), Raw(id));
}

bool VerifyReport::sound() const {
  return std::all_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.severity == FindingSeverity::kNotice;
  });
}

}  // namespace azimuth::engine
