#include "index/graph/calibration.h"

#include "base/status.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace azimuth::index {
namespace {

constexpr uint32_t kMagic = 0x314C5A41;  // "AZL1"
constexpr uint16_t kVersion = 1;
constexpr uint32_t kEfMax = 32768;

struct Header {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t reserved = 0;
  uint32_t points = 0;
  float error = 0;
  std::array<float, Calibration::kLimits.size()> usual = {};
  std::array<float, Calibration::kLimits.size()> far = {};
};
static_assert(sizeof(Header) == 40);

using Point = Calibration::Point;
static_assert(sizeof(Point) == 24);  // As on disk.
constexpr size_t kColumns = Calibration::kLimits.size();
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

// The width for one of kLimits.
double EfOfColumn(const std::vector<Point>& points, size_t column, double recall) {
  const uint32_t limit = Calibration::kLimits[column];
  const Point* before = nullptr;
  float reached = 0;  // A wider walk finds no less; what is measured may.
  for (const Point& point : points) {
    if (point.ef < limit) continue;
    const float got = std::max(reached, point.recall[column]);
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
double WidthOf(const std::vector<Point>& points, size_t column, double recall) {
  const double ef = EfOfColumn(points, column, recall);
  if (column >= kFirstSure) return ef;
  const double sure = EfOfColumn(points, kFirstSure, recall);
  return std::clamp(ef, sure / 2, sure);
}

}  // namespace

uint32_t Calibration::Ef(double recall, uint32_t limit) const {
  double ef = 0;
  if (limit <= kLimits.front()) {
    ef = WidthOf(points_, 0, recall);
  } else if (limit >= kLimits.back()) {
    ef = EfOfColumn(points_, kColumns - 1, recall) * limit / kLimits.back();
  } else {
    const size_t column = limit < kLimits[1] ? 0 : 1;
    ef = Between(std::log(kLimits[column]), WidthOf(points_, column, recall),
                 std::log(kLimits[column + 1]), EfOfColumn(points_, column + 1, recall),
                 std::log(limit));
  }
  return std::max(limit,
                  static_cast<uint32_t>(std::clamp<double>(std::ceil(ef - 1e-6), 1, kEfMax)));
}

double Calibration::Widening(std::span<const Neighbor> found, Metric metric,
                             float query_norm) const {
  // Measured with clusters of 24 dimensions whose centers are not those of the rows.
  constexpr double kLeast = 2;
  constexpr double kSlope = 3;
  constexpr double kMost = 8;
  for (size_t column = kColumns; column-- > 0;) {
    if (found.size() < kLimits[column]) continue;
    float distance = found[kLimits[column] - 1].distance;
    if (metric == Metric::kIp) distance /= query_norm;
    const float spread = far_[column] - usual_[column];
    if (!(spread > 0) || !(distance > far_[column])) return 1;
    const double farther = (double{distance} - far_[column]) / spread;
    return std::min(kMost, kLeast + kSlope * farther);
  }
  return 1;
}

bool Calibration::Reaches(double recall) const {
  for (size_t column = kFirstSure; column < kColumns; ++column) {
    const bool reached = std::any_of(points_.begin(), points_.end(), [&](const Point& point) {
      return point.recall[column] >= recall;
    });
    if (!reached) return false;
  }
  return true;
}

RescoreOptions Calibration::Rescore(uint32_t limit, float query_norm) const {
  RescoreOptions options;
  options.least = limit;
  if (!points_.empty()) options.slack = error_ * query_norm;
  return options;
}

double Calibration::Cost(size_t code_bytes, size_t vector_bytes) const {
  constexpr double kLine = 64;
  constexpr double kLinesOfRow = 2;  // What a row costs besides its lines.
  constexpr double kRecall = 0.95;
  constexpr uint32_t kLimit = 10;
  if (points_.empty()) return std::numeric_limits<double>::infinity();
  const double ef = Ef(kRecall, kLimit);
  const auto after = std::find_if(points_.begin(), points_.end(),
                                  [&](const Point& point) { return point.ef >= ef; });
  double walked = 0;
  double rescored = 0;
  if (after == points_.end() || after == points_.begin()) {
    const Point& point = after == points_.end() ? points_.back() : points_.front();
    walked = point.walked * ef / point.ef;
    rescored = point.rescored * ef / point.ef;
  } else {
    const Point& point = *(after - 1);
    const double share = (ef - point.ef) / (after->ef - point.ef);
    walked = point.walked + share * (after->walked - point.walked);
    rescored = point.rescored + share * (after->rescored - point.rescored);
  }
  const auto cost = [&](size_t bytes) {
    return std::ceil(static_cast<double>(bytes) / kLine) + kLinesOfRow;
  };
  return walked * cost(code_bytes) + rescored * cost(vector_bytes);
}

std::string Calibration::Save() const {
  Header header;
  header.points = static_cast<uint32_t>(points_.size());
  header.error = error_;
  header.usual = usual_;
  header.far = far_;
  std::string out(reinterpret_cast<const char*>(&header), sizeof(header));
  if (!points_.empty()) {
    out.append(reinterpret_cast<const char*>(points_.data()), points_.size() * sizeof(Point));
  }
  return out;
}

absl::StatusOr<Calibration> Calibration::Open(std::span<const std::byte> bytes) {
  Header header;
  if (bytes.size() < sizeof(header)) {
    return DataLoss("calibration: %d bytes are too few for the header of %d", bytes.size(),
                    sizeof(header));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic) {
    return DataLoss("calibration: magic is %08x, not %08x", header.magic, kMagic);
  }
  if (header.version != kVersion) {
    return FailedPrecondition("calibration: version is %d; this program reads %d", header.version,
                              kVersion);
  }
  if (bytes.size() - sizeof(header) != uint64_t{header.points} * sizeof(Point)) {
    return DataLoss("calibration: %d bytes for %d points", bytes.size(), header.points);
  }
  if (!(header.error >= 0) || std::isinf(header.error)) {
    return DataLoss("calibration: the error of codes is %g", header.error);
  }
  const auto finite = [](float distance) { return std::isfinite(distance); };
  if (!std::all_of(header.usual.begin(), header.usual.end(), finite) ||
      !std::all_of(header.far.begin(), header.far.end(), finite)) {
    return DataLoss("calibration: a distance of neighbours is not finite");
  }
  Calibration result;
  result.error_ = header.error;
  result.usual_ = header.usual;
  result.far_ = header.far;
  result.points_.resize(header.points);
  if (header.points > 0) {
    std::memcpy(result.points_.data(), bytes.data() + sizeof(header),
                header.points * sizeof(Point));
  }
  uint32_t last = 0;
  for (const Point& point : result.points_) {
    const bool good = point.ef > last && point.ef <= kEfMax &&
                      std::all_of(point.recall.begin(), point.recall.end(),
                                  [](float recall) { return recall >= 0 && recall <= 1; }) &&
                      point.walked >= 0 && std::isfinite(point.walked) && point.rescored >= 0 &&
                      std::isfinite(point.rescored);
    if (!good) return DataLoss("calibration: the point of width %d is not valid", point.ef);
    last = point.ef;
  }
  return result;
}
}  // namespace azimuth::index
