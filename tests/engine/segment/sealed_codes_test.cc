// Segments that are walked by codes, and those whose files are from before there were any.
#include "base/bytes.h"
#include "engine/segment/growing.h"
#include "engine/segment/sealed.h"
#include "engine/segment/segment_builder.h"
#include "tests/engine/open_database.h"
#include "tests/index/vectors.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using index::testing::Clustered;
using index::testing::OneThread;
using index::testing::Vectors;
using storage::SectionId;
using storage::SectionKind;
using testing::SmallSchema;

constexpr uint32_t kDim = 48;
constexpr uint32_t kRows = 1200;
constexpr size_t kQueries = 40;

// A file of kRows rows with a graph, and copies of it that have not all of its sections.
class SealedCodes : public ::testing::Test {
 protected:
  SealedCodes() : schema_(SmallSchema(kDim)), rows_(Clustered(kRows, kDim, 1)) {
    NumberFields(schema_);
    schema_.vectors[0].index.quantization = Quantization::kSq4;
  }

  void Build() {
    auto growing = std::make_shared<GrowingSegment>(schema_, RowId{0}, kRows);
    for (uint32_t i = 0; i < kRows; ++i) {
      storage::StoredRow row;
      row.insert_seq = Seq{i + 1};
      row.key = Key{int64_t{i}};
      const std::vector<std::span<const float>> fields = {{rows_.row(i), kDim}};
      growing->Append(RowId{i}, std::move(row), fields);
    }
    growing->Close(RowId{kRows});
    const std::vector<std::shared_ptr<Segment>> segments = {growing};
    const RetiredMap retired;
    const SegmentBuildInput input{.segments = segments,
                                  .retired = retired,
                                  .horizon = kSeqMax,
                                  .schema = schema_,
                                  .graph_rows_min = 32,
                                  .id = SegmentId{1},
                                  .row_store = RowStoreId{1},
                                  .incarnation = 1,
                                  .path = dir_.File("whole"),
                                  .files = storage::Files::Posix()};
    ASSERT_OK_AND_ASSIGN(const SegmentBuildOutput output,
                         BuildSegment(input, OneThread, CancelToken()));
    ASSERT_TRUE(output.entry.has_value());
    entry_ = *output.entry;
  }

  SectionId Id(SectionKind kind) const { return {kind, schema_.vectors[0].id, {}}; }

  // Copies "whole" to `name`; `change` may change the bytes of a section, or say no to it.
  using Change = std::function<bool(const SectionId&, std::string&)>;
  void Copy(const std::string& name, const Change& change) {
    ASSERT_OK_AND_ASSIGN(const auto from, storage::SegmentFile::Open(dir_.File("whole")));
    ASSERT_OK_AND_ASSIGN(const auto to,
                         storage::SegmentWriter::Create(dir_.File(name), from->header()));
    for (const SectionId& id : from->Sections()) {
      const auto section = *from->Find(id);
      std::string bytes(reinterpret_cast<const char*>(section.data()), section.size());
      if (!change(id, bytes)) continue;
      ASSERT_OK(to->BeginSection(id));
      ASSERT_OK(to->Append(std::as_bytes(std::span(bytes))));
    }
    ASSERT_OK(to->Finish());
  }
  absl::StatusOr<std::shared_ptr<SealedSegment>> Open(const std::string& name) {
    return SealedSegment::Open(dir_.File(name), schema_, entry_, 1, storage::Files::Posix());
  }

  // The share of the ten nearest that walks find; each at its very distance.
  double Recall(const Segment& segment, const WalkEffort& effort) {
    const Vectors queries = Clustered(kQueries, kDim, 2);
    index::GraphScratch scratch;
    index::TopK top;
    size_t hits = 0;
    for (size_t q = 0; q < kQueries; ++q) {
      top.Reset(10, nullptr);
      const auto walked =
          segment.Walk(0, queries.row(q), effort, UINT64_MAX, nullptr, top, scratch, CancelToken());
      EXPECT_OK(walked);
      const auto expected =
          index::testing::BruteForce(rows_, index::Metric::kL2, queries.row(q), 10);
      EXPECT_EQ(top.Sorted().size(), 10U);
      for (const index::Neighbor& neighbor : top.Sorted()) {
        const float exact = index::KernelsFor(index::Metric::kL2)
                                .pair(queries.row(q), rows_.row(neighbor.position), kDim);
        EXPECT_FLOAT_EQ(neighbor.distance, exact);
        hits += neighbor.distance <= expected.back().distance + 1e-3F ? 1 : 0;
      }
    }
    return static_cast<double>(hits) / (10 * kQueries);
  }

  TempDir dir_;
  Schema schema_;
  Vectors rows_;
  storage::SegmentEntry entry_;
};

TEST_F(SealedCodes, AreWalkedByAndMeasuredAgain) {
  for (const Quantization quantization :
       {Quantization::kAuto, Quantization::kSq8, Quantization::kSq4, Quantization::kRabitq4,
        Quantization::kPca4}) {
    schema_.vectors[0].index.quantization = quantization;
    Build();
    ASSERT_OK_AND_ASSIGN(const auto file, storage::SegmentFile::Open(dir_.File("whole")));
    EXPECT_TRUE(file->Find(Id(SectionKind::kCodes)).has_value());
    EXPECT_TRUE(file->Find(Id(SectionKind::kCalibration)).has_value());
    ASSERT_OK_AND_ASSIGN(const auto segment, Open("whole"));
    ASSERT_OK(segment->Verify(CancelToken()));
    for (const double recall : {0.8, 0.95}) {
      EXPECT_GE(Recall(*segment, segment->EffortFor(0, recall, 10)), recall - 0.05);
    }
    EXPECT_LT(segment->EffortFor(0, 0.8, 10).ef, segment->EffortFor(0, 0.99, 10).ef);
    EXPECT_GE(Recall(*segment, {.ef = 300}), 0.99);
  }
}

TEST_F(SealedCodes, WithoutQuantizationThereAreNone) {
  schema_.vectors[0].index.quantization = Quantization::kNone;
  Build();
  ASSERT_OK_AND_ASSIGN(const auto file, storage::SegmentFile::Open(dir_.File("whole")));
  EXPECT_FALSE(file->Find(Id(SectionKind::kCodes)).has_value());
  EXPECT_TRUE(file->Find(Id(SectionKind::kCalibration)).has_value());
  ASSERT_OK_AND_ASSIGN(const auto segment, Open("whole"));
  EXPECT_GE(Recall(*segment, segment->EffortFor(0, 0.95, 10)), 0.9);
}

TEST_F(SealedCodes, FilesFromBeforeThereWereAnyAreSearched) {
  Build();
  Copy("old", [&](const SectionId& id, std::string&) {
    return id.kind != SectionKind::kCodes && id.kind != SectionKind::kCalibration;
  });
  ASSERT_OK_AND_ASSIGN(const auto old, Open("old"));
  ASSERT_OK(old->Verify(CancelToken()));
  EXPECT_EQ(old->EffortFor(0, 0.95, 10).ef, 64U);
  EXPECT_EQ(old->EffortFor(0, 0.95, 100).ef, 200U);
  EXPECT_GE(Recall(*old, old->EffortFor(0, 0.95, 10)), 0.97);
}

// The last question is kept; its answer is for that question only.
TEST_F(SealedCodes, EffortIsThatOfTheCalibrationHoweverOftenItIsAsked) {
  Build();
  ASSERT_OK_AND_ASSIGN(const auto file, storage::SegmentFile::Open(dir_.File("whole")));
  ASSERT_OK_AND_ASSIGN(const index::Calibration calibration,
                       index::Calibration::Open(*file->Find(Id(SectionKind::kCalibration))));
  ASSERT_OK_AND_ASSIGN(const auto segment, Open("whole"));
  const double recalls[] = {0.0, 0.5, 0.8, 0.9499999, 0.95, 0.9500001, double{0.95F}, 0.99, 1.0};
  for (int round = 0; round < 2; ++round) {
    for (const double recall : recalls) {
      for (const uint32_t limit : {1U, 10U, 11U, 100U, 16384U, 1U << 20, (1U << 20) + 10}) {
        const index::Calibration::Effort expected =
            calibration.EffortFor(recall, limit, 64, kDim * sizeof(float));
        for (int again = 0; again < 3; ++again) {
          const WalkEffort effort = segment->EffortFor(0, recall, limit);
          EXPECT_EQ(effort.ef, expected.ef) << recall << " for " << limit;
          EXPECT_EQ(effort.error, expected.error) << recall << " for " << limit;
          EXPECT_TRUE(effort.may_widen);
        }
      }
    }
  }
}

// Queries from elsewhere: the walk of one that may goes on, that of one that may not does not.
TEST_F(SealedCodes, AWalkThatMayWidenDoesForQueriesThatAreUnlikeTheRows) {
  for (const Quantization quantization : {Quantization::kNone, Quantization::kSq4}) {
    schema_.vectors[0].index.quantization = quantization;
    Build();
    ASSERT_OK_AND_ASSIGN(const auto segment, Open("whole"));
    index::GraphScratch scratch;
    index::TopK top;
    const auto computed = [&](const float* query, bool may_widen) {
      top.Reset(10, nullptr);
      WalkEffort effort = segment->EffortFor(0, 0.95, 10);
      effort.may_widen = may_widen;
      const auto walked =
          segment->Walk(0, query, effort, UINT64_MAX, nullptr, top, scratch, CancelToken());
      EXPECT_OK(walked);
      return walked->distances_computed;
    };
    const Vectors queries = Clustered(kQueries, kDim, 2);
    size_t widened = 0;
    for (size_t q = 0; q < kQueries; ++q) {
      const uint64_t narrow = computed(queries.row(q), false);
      widened += computed(queries.row(q), true) > narrow + narrow / 2 ? 1 : 0;
      std::vector<float> away(queries.row(q), queries.row(q) + kDim);
      for (size_t i = 0; i < kDim; ++i) away[i] = -away[i] + (i % 2 == 0 ? 3.0F : -3.0F);
      EXPECT_GT(computed(away.data(), true), computed(away.data(), false)) << q;
    }
    // Of queries like the rows some, too: 32 rows say roughly what is far.
    EXPECT_LE(widened, kQueries / 2);
  }
}

TEST_F(SealedCodes, CalibrationsOfVersion1AreRead) {
  Build();
  Copy("old", [&](const SectionId& id, std::string& bytes) {
    if (id.kind != SectionKind::kCalibration) return true;
    bytes = "AZL1";
    PutLittle(bytes, uint16_t{1});
    PutLittle(bytes, uint16_t{0});
    PutLittle(bytes, uint32_t{2});
    for (const float number : {0.125F, 1.F, 2.F, 4.F, 1e6F, 2e6F, 3e6F}) PutLittle(bytes, number);
    PutLittle(bytes, uint32_t{14});
    for (const float number : {0.5F, 0.25F, 0.F, 321.5F, 12.F}) PutLittle(bytes, number);
    PutLittle(bytes, uint32_t{140});
    for (const float number : {1.F, 0.75F, 0.5F, 1321.5F, 40.F}) PutLittle(bytes, number);
    return true;
  });
  ASSERT_OK_AND_ASSIGN(const auto old, Open("old"));
  ASSERT_OK(old->Verify(CancelToken()));
  for (int again = 0; again < 2; ++again) {
    const WalkEffort effort = old->EffortFor(0, 0.75, 10);
    EXPECT_EQ(effort.ef, 140U);
    EXPECT_EQ(effort.error, 0.125F);
    EXPECT_GE(Recall(*old, effort), 0.97);
  }
}

TEST_F(SealedCodes, EitherSectionDoesWithoutTheOther) {
  Build();
  for (const SectionKind missing : {SectionKind::kCodes, SectionKind::kCalibration}) {
    Copy("part", [&](const SectionId& id, std::string&) { return id.kind != missing; });
    ASSERT_OK_AND_ASSIGN(const auto part, Open("part"));
    ASSERT_OK(part->Verify(CancelToken()));
    EXPECT_GE(Recall(*part, {.ef = 64}), 0.97);
  }
}

TEST_F(SealedCodes, SectionsThatDoNotFitAreDataLoss) {
  Build();
  const auto changed = [&](SectionKind kind, const std::function<void(std::string&)>& change) {
    Copy("bad", [&](const SectionId& id, std::string& bytes) {
      if (id.kind == kind) change(bytes);
      return true;
    });
    return Open("bad").status();
  };
  EXPECT_THAT(changed(SectionKind::kCodes, [](std::string& bytes) { bytes.resize(64); }),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(changed(SectionKind::kCodes, [](std::string& bytes) { bytes.clear(); }),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(changed(SectionKind::kCodes,
                      [](std::string& bytes) {
                        // As of one row less: as many bytes less.
                        const uint32_t count = kRows - 1;
                        std::memcpy(&bytes[8], &count, sizeof(count));
                        bytes.resize(bytes.size() - 64);
                      }),
              StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr("1199 for 1200 vectors")));
  EXPECT_THAT(changed(SectionKind::kCalibration, [](std::string& bytes) { bytes.pop_back(); }),
              StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr("calibration")));
  // Any codes with a right checksum give any order, but right distances.
  ASSERT_OK(changed(SectionKind::kCodes, [](std::string& bytes) {
    for (size_t i = 1024; i < bytes.size(); i += 3) bytes[i] = static_cast<char>(i * 37);
  }));
  ASSERT_OK_AND_ASSIGN(const auto segment, Open("bad"));
  Recall(*segment, {.ef = kRows});
}

// Vectors of whole numbers from 0 to 255 are measured again as bytes, which gives the same.
TEST_F(SealedCodes, VectorsOfBytesStandAsBytesToo) {
  for (float& x : rows_.data) x = std::round(std::clamp(128 + 12 * x, 0.0F, 255.0F));
  Build();
  ASSERT_OK_AND_ASSIGN(const auto file, storage::SegmentFile::Open(dir_.File("whole")));
  const auto bytes = file->Find(Id(SectionKind::kByteVectors));
  ASSERT_TRUE(bytes.has_value());
  const auto floats = *file->Find(Id(SectionKind::kVectors));
  ASSERT_EQ(bytes->size() * sizeof(float), floats.size());
  for (size_t i = 0; i < bytes->size(); ++i) {
    float x = 0;
    std::memcpy(&x, floats.data() + i * sizeof(float), sizeof(x));
    ASSERT_EQ(static_cast<float>((*bytes)[i]), x);
  }
  ASSERT_OK_AND_ASSIGN(const auto segment, Open("whole"));
  ASSERT_OK(segment->Verify(CancelToken()));
  EXPECT_EQ(segment->parts().vectors, 5 * bytes->size());
  Copy("floats",
       [&](const SectionId& id, std::string&) { return id.kind != SectionKind::kByteVectors; });
  ASSERT_OK_AND_ASSIGN(const auto by_floats, Open("floats"));
  index::GraphScratch scratch;
  index::TopK top;
  for (size_t q = 0; q < kQueries; ++q) {
    const auto found = [&](const Segment& of) {
      top.Reset(10, nullptr);
      EXPECT_OK(
          of.Walk(0, rows_.row(q), {.ef = 40}, UINT64_MAX, nullptr, top, scratch, CancelToken()));
      return top.Sorted();
    };
    const std::vector<index::Neighbor> by_bytes = found(*segment);
    const std::vector<index::Neighbor> expected = found(*by_floats);
    ASSERT_EQ(by_bytes.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(by_bytes[i].position, expected[i].position);
      EXPECT_EQ(by_bytes[i].distance, expected[i].distance);
    }
  }
  // Others than the vectors are found by Verify, and too few by Open.
  Copy("other", [&](const SectionId& id, std::string& section) {
    if (id.kind == SectionKind::kByteVectors) section[777] = static_cast<char>(section[777] ^ 1);
    return true;
  });
  ASSERT_OK_AND_ASSIGN(const auto other, Open("other"));
  EXPECT_THAT(other->Verify(CancelToken()),
              StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr("bytes of the vector")));
  Copy("short", [&](const SectionId& id, std::string& section) {
    if (id.kind == SectionKind::kByteVectors) section.pop_back();
    return true;
  });
  EXPECT_THAT(Open("short").status(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SealedCodes, OtherVectorsDoNotStandAsBytes) {
  for (float& x : rows_.data) x = std::round(std::clamp(128 + 12 * x, 0.0F, 255.0F));
  rows_.data[rows_.data.size() / 2] += 0.5F;
  Build();
  ASSERT_OK_AND_ASSIGN(const auto file, storage::SegmentFile::Open(dir_.File("whole")));
  EXPECT_FALSE(file->Find(Id(SectionKind::kByteVectors)).has_value());
}

// A byte of the codes that changed on disk.
TEST_F(SealedCodes, AreCheckedBeforeTheirFirstUse) {
  Build();
  std::string codes;
  {
    ASSERT_OK_AND_ASSIGN(const auto file, storage::SegmentFile::Open(dir_.File("whole")));
    const auto bytes = *file->Find(Id(SectionKind::kCodes));
    codes.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  std::string whole = ReadBytes(dir_.File("whole"));
  const size_t at = whole.find(codes) + codes.size() / 2;
  ASSERT_LT(at, whole.size());
  whole[at] = static_cast<char>(whole[at] ^ 1);
  WriteBytes(dir_.File("whole"), whole);
  ASSERT_OK_AND_ASSIGN(const auto segment, Open("whole"));
  index::GraphScratch scratch;
  index::TopK top;
  top.Reset(10, nullptr);
  EXPECT_THAT(
      segment->Walk(0, rows_.row(0), {.ef = 64}, UINT64_MAX, nullptr, top, scratch, CancelToken())
          .status(),
      StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(segment->suspicion(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(segment->Verify(CancelToken()), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace azimuth::engine
