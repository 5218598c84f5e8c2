#include "engine/query/matches.h"

#include "base/status.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr uint32_t kWordRows = 64;

// A segment's values for the fields of a filter; notes which fields were ever there.
class SegmentSource final : public ScalarSource {
 public:
  SegmentSource(const Segment& segment, const BoundFilter& filter, uint32_t row_count,
                std::vector<bool>& read, std::vector<bool>& present)
      : segment_(segment), filter_(filter), row_count_(row_count), read_(read), present_(present) {}

  uint32_t row_count() const override { return row_count_; }
  void Read(size_t slot, uint32_t first, uint32_t count, index::ScalarView* out) const override {
    segment_.ReadScalars(filter_.fields()[slot], first, count, out);
    read_[slot] = true;
    if (present_[slot]) return;
    present_[slot] = std::any_of(out, out + count, [](const index::ScalarView& view) {
      return view.kind != ValueKind::kMissing;
    });
  }

 private:
  const Segment& segment_;
  const BoundFilter& filter_;
  const uint32_t row_count_;
  std::vector<bool>& read_;
  std::vector<bool>& present_;
};

// Takes the rows out of `bits` that are retired at `seq`.
void RemoveRetired(const Segment& segment, uint32_t limit, Seq seq, const RetiredMap& retired,
                   index::Bitset& bits) {
  for (uint32_t first = 0; first < limit; first += kWordRows) {
    uint64_t word = segment.RetiredWord(first / kWordRows) & bits.words()[first / kWordRows];
    for (; word != 0; word &= word - 1) {
      const uint32_t position = first + static_cast<uint32_t>(std::countr_zero(word));
      if (position < limit && retired.RetiredAt(segment.row_id(position)) <= seq) {
        bits.Clear(position);
      }
    }
  }
}

// Takes the rows out of `bits` whose time has passed.
void RemoveExpired(const Segment& segment, int64_t now_unix_us, index::Bitset& bits) {
  for (size_t i = 0; i < bits.words().size(); ++i) {
    for (uint64_t word = bits.words()[i]; word != 0; word &= word - 1) {
      const auto position =
          static_cast<uint32_t>(i * kWordRows + static_cast<size_t>(std::countr_zero(word)));
      if (HasExpired(segment.expires_at_unix_us(position), now_unix_us)) bits.Clear(position);
    }
  }
}

void SetBelow(uint32_t limit, index::Bitset& bits) {
  std::fill_n(bits.words().begin(), limit / kWordRows, ~uint64_t{0});
  if (limit % kWordRows != 0) {
    bits.words()[limit / kWordRows] = (uint64_t{1} << (limit % kWordRows)) - 1;
  }
}

}  // namespace

absl::StatusOr<RequestFilter> RequestFilter::Compile(const Schema& schema, std::string_view text,
                                                     const FilterParameters& parameters) {
  if (text.empty() && parameters.empty()) return RequestFilter(BoundFilter());
  AZ_ASSIGN_OR_RETURN(const Expr expr, ParseFilter(text, parameters));
  AZ_ASSIGN_OR_RETURN(BoundFilter bound, BoundFilter::Bind(expr, schema, text));
  return RequestFilter(std::move(bound));
}

absl::StatusOr<Matches> RequestFilter::Match(const Segment& segment, const ReadPoint& at,
                                             const RetiredMap& retired, const CancelToken& cancel) {
  Matches matches;
  AZ_RETURN_IF_ERROR(MatchInto(segment, at, retired, cancel, matches));
  return matches;
}

absl::Status RequestFilter::MatchInto(const Segment& segment, const ReadPoint& at,
                                      const RetiredMap& retired, const CancelToken& cancel,
                                      Matches& matches) {
  // The size first: a growing segment may gain rows, none of which this reader sees.
  const uint32_t size = segment.size();
  matches.limit = std::min(size, segment.InsertedBy(at.seq));
  const bool any_retired = segment.retired_count() > 0;
  const bool any_expired = segment.earliest_expiry() <= at.now_unix_us;
  // A graph walk without a set of admitted rows admits all that the file has.
  const bool limit_holds = matches.limit == size || segment.state() != SegmentState::kSealed;
  matches.all = always_true() && !any_retired && !any_expired && limit_holds;
  if (matches.all) {
    matches.count = matches.limit;
    return absl::OkStatus();
  }
  if (always_true()) {
    matches.bits.Reset(size, false);
    SetBelow(matches.limit, matches.bits);
  } else {
    AZ_RETURN_IF_ERROR(segment.CheckColumns(cancel));
    const SegmentSource source(segment, bound_, matches.limit, read_, present_);
    if (matches.limit == size) {
      AZ_RETURN_IF_ERROR(EvaluateFilter(bound_, source, matches.bits, cancel));
    } else {
      index::Bitset found;
      AZ_RETURN_IF_ERROR(EvaluateFilter(bound_, source, found, cancel));
      matches.bits.Reset(size, false);
      std::copy(found.words().begin(), found.words().end(), matches.bits.words().begin());
    }
  }
  if (any_retired) RemoveRetired(segment, matches.limit, at.seq, retired, matches.bits);
  if (any_expired) RemoveExpired(segment, at.now_unix_us, matches.bits);
  matches.count = matches.bits.Count();
  return absl::OkStatus();
}

std::vector<std::string> RequestFilter::Warnings(const Schema& schema) const {
  std::vector<std::string> warnings;
  for (size_t slot = 0; slot < bound_.fields().size(); ++slot) {
    const FilterField& field = bound_.fields()[slot];
    if (field.source != FilterField::Source::kDynamic || !read_[slot] || present_[slot]) continue;
    const auto closest = ClosestFieldName(schema, field.path);
    warnings.push_back(absl::StrFormat(
        "filter: %s is not a declared field, and no record that was looked at has it%s",
        Quoted(field.path),
        closest ? absl::StrFormat(" (did you mean %s?)", Quoted(*closest)) : std::string()));
  }
  return warnings;
}

}  // namespace azimuth::engine
