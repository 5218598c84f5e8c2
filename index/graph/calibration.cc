#include "index/graph/calibration.h"

#include "base/status.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace azimuth::index {
namespace {

constexpr uint32_t kMagic = 0x314C5A41;  // "AZL1"
constexpr uint16_t kVersion = 2;
// One error, and recall and rows measured again for it: what stands for all errors.
constexpr uint16_t kVersionOfOneError = 1;
constexpr uint32_t kEfMax = 32768;

struct Header {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t reserved = 0;
  uint32_t points = 0;
  Calibration::ByLimit usual = {};
  Calibration::ByLimit far = {};
  Calibration::Errors errors = {};
};
static_assert(sizeof(Header) == 48);

struct HeaderOfOneError {
  uint32_t magic = 0;
  uint16_t version = 0;
  uint16_t reserved = 0;
  uint32_t points = 0;
  float error = 0;
  Calibration::ByLimit usual = {};
  Calibration::ByLimit far = {};
};
static_assert(sizeof(HeaderOfOneError) == 40);

using Point = Calibration::Point;
static_assert(sizeof(Point) == 80);  // As on disk.

struct PointOfOneError {
  uint32_t ef = 0;
  Calibration::ByLimit recall = {};
  float walked = 0;
  float rescored = 0;
};
static_assert(sizeof(PointOfOneError) == 24);

constexpr size_t kColumns = Calibration::kLimits.size();
constexpr size_t kErrors = Calibration::kErrorShares.size();
// The first of kLimits of whose recall a few dozens of queries say enough.
constexpr size_t kFirstSure = 1;

// Between two points, on a line through their logarithms of x and y.
double Between(double x0, double y0, double x1, double y1, double x) {
  if (x1 == x0) return y1;
  const double share = std::clamp((x - x0) / (x1 - x0), 0.0, 1.0);
  return std::exp(std::log(y0) + share * (std::log(y1) - std::log(y0)));
}

double Miss(double recall) {
  return std::log(std::max(1 - recall, 1e-6));
}

// The width for one of kLimits, with one of the errors.
double EfOfColumn(const std::vector<Point>& points, size_t error, size_t column, double recall) {
  const uint32_t limit = Calibration::kLimits[column];
  const Point* before = nullptr;
  float reached = 0;  // A wider walk finds no less; what is measured may.
  for (const Point& point : points) {
    if (point.ef < limit) continue;
    const float got = std::max(reached, point.recall[error][column]);
    if (got >= recall) {
      if (before == nullptr) return point.ef;
      return Between(Miss(reached), before->ef, Miss(got), point.ef, Miss(recall));
    }
    reached = got;
    before = &point;
  }
  if (before == nullptr) return std::max<double>(64, 2.0 * limit);  // Nothing was measured.
  const double more = (1 - double{reached}) / std::max(1 - recall, 1e-4);
  return before->ef * std::clamp(more, 2.0, 16.0);
}

// The width for limits of one column. A few queries say little of how often the nearest is missed:
// no more often than the nearest ten are, and half of that width is not too much.
double WidthOf(const std::vector<Point>& points, size_t error, size_t column, double recall) {
  const double ef = EfOfColumn(points, error, column, recall);
  if (column == kFirstSure) return ef;
  const double sure = EfOfColumn(points, error, kFirstSure, recall);
  // And no more neighbours by a narrower walk.
  return column > kFirstSure ? std::max(ef, sure) : std::clamp(ef, sure / 2, sure);
}

// The least of kLimits that `limit` does not exceed, or the last.
size_t ColumnOf(uint32_t limit) {
  size_t column = 0;
  while (column + 1 < kColumns && limit > Calibration::kLimits[column]) ++column;
  return column;
}

}  // namespace

uint32_t Calibration::EfAt(size_t error, double recall, uint32_t limit) const {
  double ef = 0;
  if (limit <= kLimits.front()) {
    ef = WidthOf(points_, error, 0, recall);
  } else if (limit >= kLimits.back()) {
    ef = WidthOf(points_, error, kColumns - 1, recall) * limit / kLimits.back();
  } else {
    const size_t column = limit < kLimits[1] ? 0 : 1;
    ef = Between(std::log(kLimits[column]), WidthOf(points_, error, column, recall),
                 std::log(kLimits[column + 1]), WidthOf(points_, error, column + 1, recall),
                 std::log(limit));
  }
  return std::max(limit,
                  static_cast<uint32_t>(std::clamp<double>(std::ceil(ef - 1e-6), 1, kEfMax)));
}

// Whether `recall` was reached for the limits around `limit`: beyond it less is known of a smaller
// error than of a larger one.
bool Calibration::ReachesAt(size_t error, double recall, uint32_t limit) const {
  const size_t column = std::max(ColumnOf(limit), kFirstSure);
  const size_t first = column > kFirstSure && limit < kLimits[column] ? column - 1 : column;
  for (size_t at = first; at <= column; ++at) {
    const bool reached = std::any_of(points_.begin(), points_.end(), [&](const Point& point) {
      return point.recall[error][at] >= recall;
    });
    if (!reached) return false;
  }
  return true;
}

Calibration::Effort Calibration::EffortFor(double recall, uint32_t limit, size_t code_bytes,
                                           size_t vector_bytes) const {
  Effort best{.ef = Ef(recall, limit)};
  if (points_.empty()) return best;
  best.error = errors_[0];
  double least = CostAt(0, best.ef, limit, code_bytes, vector_bytes);
  for (size_t error = 1; error < kErrors; ++error) {
    if (!ReachesAt(error, recall, limit)) break;
    const uint32_t ef = EfAt(error, recall, limit);
    const double cost = CostAt(error, ef, limit, code_bytes, vector_bytes);
    if (cost >= least) continue;
    least = cost;
    best = {.ef = ef, .error = errors_[error]};
  }
  return best;
}

double Calibration::Widening(std::span<const GraphScratch::Candidate> found, Metric metric,
                             float query_norm) const {
  // Measured with clusters of 24 and 64 dimensions whose centers are not those of the rows. With
  // the inner product such queries differ less from others by their distances, and miss more.
  constexpr double kLeast = 1.5;
  const double slope = metric == Metric::kIp ? 12 : 6;
  const double most = metric == Metric::kIp ? 16 : 8;
  for (size_t column = kColumns; column-- > 0;) {
    if (found.size() < kLimits[column]) continue;
    float distance = found[kLimits[column] - 1].distance;
    if (metric == Metric::kIp) distance /= query_norm;
    const float spread = far_[column] - usual_[column];
    if (!(spread > 0) || !(distance > far_[column])) return 1;
    const double farther = (double{distance} - far_[column]) / spread;
    return std::min(most, kLeast + slope * farther);
  }
  return 1;
}

bool Calibration::Reaches(double recall) const {
  for (size_t column = kFirstSure; column < kColumns; ++column) {
    const bool reached = std::any_of(points_.begin(), points_.end(), [&](const Point& point) {
      return point.recall[0][column] >= recall;
    });
    if (!reached) return false;
  }
  return true;
}

RescoreOptions Calibration::Rescore(uint32_t limit, float error, float query_norm) {
  RescoreOptions options;
  options.least = limit;
  if (std::isfinite(error)) options.slack = error * query_norm;
  return options;
}

double Calibration::CostAt(size_t error, double ef, uint32_t limit, size_t code_bytes,
                           size_t vector_bytes) const {
  constexpr double kLine = 64;
  constexpr double kLinesOfRow = 2;  // What a row costs besides its lines.
  const size_t column = ColumnOf(limit);
  const auto after = std::find_if(points_.begin(), points_.end(),
                                  [&](const Point& point) { return point.ef >= ef; });
  const auto rescored_at = [&](const Point& point) {
    // Where the width is less than the limit of the column, all that is found.
    return point.ef < kLimits[column] ? static_cast<float>(point.ef)
                                      : point.rescored[error][column];
  };
  double walked = 0;
  double rescored = 0;
  if (after == points_.end() || after == points_.begin()) {
    const Point& point = after == points_.end() ? points_.back() : points_.front();
    walked = point.walked * ef / point.ef;
    rescored = rescored_at(point) * ef / point.ef;
  } else {
    const Point& point = *(after - 1);
    const double share = (ef - point.ef) / (after->ef - point.ef);
    walked = point.walked + share * (after->walked - point.walked);
    rescored = rescored_at(point) + share * (rescored_at(*after) - rescored_at(point));
  }
  const auto cost = [&](size_t bytes) {
    return std::ceil(static_cast<double>(bytes) / kLine) + kLinesOfRow;
  };
  return walked * cost(code_bytes) + rescored * cost(vector_bytes);
}

double Calibration::Cost(size_t code_bytes, size_t vector_bytes) const {
  struct Asked {
    double recall;
    double weight;
  };
  // The default counts twice, a high recall once: codes that are cheapest for one are often not for
  // the other.
  constexpr Asked kAsked[] = {{0.95, 2.0 / 3}, {0.99, 1.0 / 3}};
  constexpr uint32_t kLimit = 10;
  if (points_.empty()) return std::numeric_limits<double>::infinity();
  double sum = 0;
  for (const Asked& asked : kAsked) {
    double least = CostAt(0, Ef(asked.recall, kLimit), kLimit, code_bytes, vector_bytes);
    for (size_t error = 1; error < kErrors && ReachesAt(error, asked.recall, kLimit); ++error) {
      const double ef = EfAt(error, asked.recall, kLimit);
      least = std::min(least, CostAt(error, ef, kLimit, code_bytes, vector_bytes));
    }
    sum += asked.weight * std::log(least);
  }
  return std::exp(sum);
}

std::string Calibration::Save() const {
  Header header;
  header.points = static_cast<uint32_t>(points_.size());
  header.errors = errors_;
  header.usual = usual_;
  header.far = far_;
  std::string out(reinterpret_cast<const char*>(&header), sizeof(header));
  if (!points_.empty()) {
    out.append(reinterpret_cast<const char*>(points_.data()), points_.size() * sizeof(Point));
  }
  return out;
}

namespace {

template <typename T>
absl::StatusOr<T> HeaderOf(std::span<const std::byte> bytes) {
  T header;
  if (bytes.size() < sizeof(header)) {
    return DataLoss("calibration: %d bytes are too few for the header of %d", bytes.size(),
                    sizeof(header));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

template <typename T>
absl::StatusOr<std::vector<T>> PointsOf(std::span<const std::byte> bytes, size_t header_bytes,
                                        uint32_t count) {
  if (bytes.size() - header_bytes != uint64_t{count} * sizeof(T)) {
    return DataLoss("calibration: %d bytes for %d points", bytes.size(), count);
  }
  std::vector<T> points(count);
  if (count > 0) std::memcpy(points.data(), bytes.data() + header_bytes, count * sizeof(T));
  return points;
}

bool IsShare(float recall) {
  return recall >= 0 && recall <= 1;
}

bool IsCount(float count) {
  return count >= 0 && std::isfinite(count);
}

absl::Status CheckPoints(std::span<const Point> points) {
  uint32_t last = 0;
  for (const Point& point : points) {
    bool good = point.ef > last && point.ef <= kEfMax && IsCount(point.walked);
    for (size_t error = 0; error < kErrors; ++error) {
      good = good && std::ranges::all_of(point.recall[error], IsShare) &&
             std::ranges::all_of(point.rescored[error], IsCount);
    }
    if (!good) return DataLoss("calibration: the point of width %d is not valid", point.ef);
    last = point.ef;
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const Calibration::Errors& errors, const Calibration::ByLimit& usual,
                          const Calibration::ByLimit& far) {
  for (size_t i = 0; i < errors.size(); ++i) {
    const float most = i == 0 ? std::numeric_limits<float>::max() : errors[i - 1];
    if (!(errors[i] >= 0) || errors[i] > most) {
      return DataLoss("calibration: the error of codes is %g", errors[i]);
    }
  }
  const auto finite = [](float distance) { return std::isfinite(distance); };
  if (!std::ranges::all_of(usual, finite) || !std::ranges::all_of(far, finite)) {
    return DataLoss("calibration: a distance of neighbours is not finite");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Calibration> Calibration::Open(std::span<const std::byte> bytes) {
  Calibration result;
  struct Start {
    uint32_t magic = 0;
    uint16_t version = 0;
    uint16_t reserved = 0;
  };
  AZ_ASSIGN_OR_RETURN(const Start start, HeaderOf<Start>(bytes));
  if (start.magic != kMagic) {
    return DataLoss("calibration: magic is %08x, not %08x", start.magic, kMagic);
  }
  if (start.version == kVersionOfOneError) {
    AZ_ASSIGN_OR_RETURN(const HeaderOfOneError header, HeaderOf<HeaderOfOneError>(bytes));
    result.errors_.fill(header.error);
    result.usual_ = header.usual;
    result.far_ = header.far;
    AZ_ASSIGN_OR_RETURN(const std::vector<PointOfOneError> points,
                        PointsOf<PointOfOneError>(bytes, sizeof(header), header.points));
    for (const PointOfOneError& from : points) {
      Point point{.ef = from.ef, .walked = from.walked};
      point.recall.fill(from.recall);
      for (ByLimit& rescored : point.rescored) rescored.fill(from.rescored);
      result.points_.push_back(point);
    }
  } else if (start.version == kVersion) {
    AZ_ASSIGN_OR_RETURN(const Header header, HeaderOf<Header>(bytes));
    result.errors_ = header.errors;
    result.usual_ = header.usual;
    result.far_ = header.far;
    AZ_ASSIGN_OR_RETURN(result.points_, PointsOf<Point>(bytes, sizeof(header), header.points));
  } else {
    return FailedPrecondition("calibration: version is %d; this program reads %d and %d",
                              start.version, kVersionOfOneError, kVersion);
  }
  AZ_RETURN_IF_ERROR(CheckNumbers(result.errors_, result.usual_, result.far_));
  AZ_RETURN_IF_ERROR(CheckPoints(result.points_));
  return result;
}
}  // namespace azimuth::index
