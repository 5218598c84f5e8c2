#include "engine/segment/sealed.h"

#include "base/check.h"
#include "base/status.h"
#include "engine/limits.h"
#include "engine/segment/metric.h"
#include "index/bitset.h"
#include "index/flat/scan.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>

namespace azimuth::engine {

using storage::SectionId;
using storage::SectionKind;

namespace {

// ColumnReader::Open reads no more.
constexpr uint64_t kColumnHeaderBytesMax = 4096;
constexpr uint64_t kPageBytes = 4096;
// Copies of graphs and codes may take this part of the budget.
constexpr uint64_t kResidentShareInverse = 4;

template <typename T>
const T* Cast(std::span<const std::byte> bytes) {
  return reinterpret_cast<const T*>(bytes.data());  // Sections are 4 KiB-aligned.
}

}  // namespace

SealedSegment::SealedSegment(std::unique_ptr<storage::SegmentFile> file, const Schema& schema)
    : file_(std::move(file)),
      schema_(schema),
      size_(static_cast<uint32_t>(file_->header().row_count)),
      vectors_(schema.vectors.size()),
      retired_((file_->header().row_count + 63) / 64),
      vector_parts_(schema.vectors.size()),
      resident_owned_(schema.vectors.size()),
      resident_(schema.vectors.size()) {}

absl::StatusOr<std::shared_ptr<SealedSegment>> SealedSegment::Open(
    const std::string& path, const Schema& schema, const storage::SegmentEntry& entry,
    uint64_t incarnation, storage::Files& files) {
  AZ_ASSIGN_OR_RETURN(auto file, storage::SegmentFile::Open(path, files));
  const storage::SegmentHeader& header = file->header();
  if (header.id != entry.id || header.row_store != entry.row_store ||
      header.incarnation != incarnation) {
    return DataLoss("%s: belongs to segment %d of row store %d, incarnation %016x", path,
                    Raw(header.id), Raw(header.row_store), header.incarnation);
  }
  if (header.row_count != entry.row_count || header.first_row != entry.rows.first ||
      header.end_row != entry.rows.end || header.row_count > UINT32_MAX) {
    return DataLoss("%s: its rows are not those that the catalog names", path);
  }
  std::shared_ptr<SealedSegment> segment(new SealedSegment(std::move(file), schema));
  if (const absl::Status status = segment->CheckRows(); !status.ok()) return AtPlace(path, status);
  if (const absl::Status status = segment->OpenColumns(); !status.ok()) {
    return AtPlace(path, status);
  }
  for (size_t slot = 0; slot < schema.vectors.size(); ++slot) {
    if (const absl::Status status = segment->OpenVectors(slot); !status.ok()) {
      return AtPlace(path, status);
    }
  }
  return segment;
}

absl::Status SealedSegment::CheckRows() const {
  for (const SectionId& id : file_->Sections()) {
    switch (id.kind) {
      case SectionKind::kRowIds:
      case SectionKind::kInsertSeqs:
      case SectionKind::kKeys:
      case SectionKind::kPartitions:
      case SectionKind::kNodePositions:
      case SectionKind::kExpiries:
      case SectionKind::kCalibration:
        AZ_RETURN_IF_ERROR(file_->VerifySection(id));
        break;
      case SectionKind::kVectors:
      case SectionKind::kGraph:
      case SectionKind::kCodes:
      case SectionKind::kByteVectors:
      case SectionKind::kFieldColumn:
      case SectionKind::kDynamicColumn:
        break;
    }
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::CheckPart(Part& part, std::span<const SectionId> sections,
                                      const CancelToken& cancel) const {
  while (!part.checked.load(std::memory_order_acquire)) {
    AZ_RETURN_IF_ERROR(cancel.Check());
    MutexLock lock(part.mu);
    if (part.section == sections.size()) {
      part.checked.store(true, std::memory_order_release);
      break;
    }
    const absl::StatusOr<bool> done = file_->VerifyPart(sections[part.section], part.progress);
    if (!done.ok()) {
      // The next one looks anew.
      part.section = 0;
      part.progress = {};
      Suspect(done.status());
      return done.status();
    }
    if (*done) {
      ++part.section;
      part.progress = {};
    }
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::CheckColumns(const CancelToken& cancel) const {
  if (columns_part_.checked.load(std::memory_order_acquire)) return absl::OkStatus();
  std::vector<SectionId> columns;
  for (SectionId& id : file_->Sections()) {
    const bool is_column =
        id.kind == SectionKind::kFieldColumn || id.kind == SectionKind::kDynamicColumn;
    if (is_column) columns.push_back(std::move(id));
  }
  return CheckPart(columns_part_, columns, cancel);
}

absl::Status SealedSegment::CheckVectors(size_t slot, const CancelToken& cancel) const {
  Part& part = vector_parts_[slot];
  if (part.checked.load(std::memory_order_acquire)) return absl::OkStatus();
  const FieldId field = schema_.vectors[slot].id;
  const SectionId sections[] = {{SectionKind::kGraph, field, {}},
                                {SectionKind::kCodes, field, {}},
                                {SectionKind::kByteVectors, field, {}},
                                {SectionKind::kVectors, field, {}}};
  return CheckPart(part, sections, cancel);
}

void SealedSegment::Suspect(const absl::Status& why) const {
  if (!absl::IsDataLoss(why)) return;
  MutexLock lock(suspicion_mu_);
  suspicion_ = why;
}

absl::Status SealedSegment::suspicion() const {
  MutexLock lock(suspicion_mu_);
  return suspicion_;
}

absl::Status SealedSegment::OpenColumns() {
  AZ_ASSIGN_OR_RETURN(const auto row_ids,
                      file_->Require({SectionKind::kRowIds, {}, {}}, uint64_t{size_} * 8));
  AZ_ASSIGN_OR_RETURN(const auto seqs,
                      file_->Require({SectionKind::kInsertSeqs, {}, {}}, uint64_t{size_} * 8));
  row_ids_ = Cast<uint64_t>(row_ids);
  insert_seqs_ = Cast<uint64_t>(seqs);
  const SectionId expiries{SectionKind::kExpiries, {}, {}};
  if (file_->Find(expiries).has_value()) {
    AZ_ASSIGN_OR_RETURN(const auto bytes, file_->Require(expiries, (uint64_t{size_} + 1) * 8));
    expiries_ = Cast<int64_t>(bytes);
    earliest_expiry_ = expiries_[0];
  }
  AZ_ASSIGN_OR_RETURN(const auto keys, file_->Require({SectionKind::kKeys, {}, {}}, std::nullopt));
  AZ_ASSIGN_OR_RETURN(keys_, index::ColumnReader::Open(keys));
  for (const SectionId& id : file_->Sections()) {
    if (id.kind != SectionKind::kFieldColumn && id.kind != SectionKind::kDynamicColumn) continue;
    AZ_ASSIGN_OR_RETURN(const auto bytes, file_->Require(id, std::nullopt));
    AZ_RETURN_IF_ERROR(file_->Load(id, 0, kColumnHeaderBytesMax));
    AZ_ASSIGN_OR_RETURN(const auto column, index::ColumnReader::Open(bytes));
    if (id.kind == SectionKind::kFieldColumn) {
      fields_[Raw(id.field)] = column;
    } else {
      paths_[id.name] = column;
    }
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::OpenVectors(size_t slot) {
  const VectorFieldDef& field = schema_.vectors[slot];
  VectorSection& section = vectors_[slot];
  AZ_ASSIGN_OR_RETURN(const auto positions,
                      file_->Require({SectionKind::kNodePositions, field.id, {}}, std::nullopt));
  if (positions.size() % 4 != 0 || positions.size() / 4 > size_) {
    return DataLoss("vectors of field %d: %d bytes of node positions for %d rows", Raw(field.id),
                    positions.size(), size_);
  }
  section.node_count = static_cast<uint32_t>(positions.size() / 4);
  section.node_positions = Cast<uint32_t>(positions);
  AZ_ASSIGN_OR_RETURN(const auto values,
                      file_->Require({SectionKind::kVectors, field.id, {}},
                                     uint64_t{section.node_count} * field.dim * sizeof(float)));
  section.base = Cast<float>(values);
  const SectionId bytes_id{SectionKind::kByteVectors, field.id, {}};
  if (file_->Find(bytes_id).has_value()) {
    AZ_ASSIGN_OR_RETURN(const auto bytes,
                        file_->Require(bytes_id, uint64_t{section.node_count} * field.dim));
    section.bytes = Cast<uint8_t>(bytes);
  }
  const SectionId graph_id{SectionKind::kGraph, field.id, {}};
  if (const auto graph = file_->Find(graph_id)) {
    const auto load = [&](uint64_t offset, uint64_t count) {
      return file_->Load(graph_id, offset, count);
    };
    AZ_ASSIGN_OR_RETURN(section.graph, index::FrozenGraph::Open(*graph, load));
    if (section.graph.node_count() != section.node_count) {
      return DataLoss("graph of field %d: %d nodes for %d vectors", Raw(field.id),
                      section.graph.node_count(), section.node_count);
    }
    section.has_graph = true;
    AZ_RETURN_IF_ERROR(OpenCodes(slot));
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::OpenCodes(size_t slot) {
  const VectorFieldDef& field = schema_.vectors[slot];
  VectorSection& section = vectors_[slot];
  const SectionId codes_id{SectionKind::kCodes, field.id, {}};
  if (const auto codes = file_->Find(codes_id)) {
    const auto load = [&](uint64_t offset, uint64_t count) {
      return file_->Load(codes_id, offset, count);
    };
    AZ_ASSIGN_OR_RETURN(section.codes, index::CodedVectors::Open(ToIndexMetric(field.metric),
                                                                 field.dim, *codes, load));
    if (section.codes->count() != section.node_count) {
      return DataLoss("codes of field %d: %d for %d vectors", Raw(field.id), section.codes->count(),
                      section.node_count);
    }
  }
  const SectionId calibration_id{SectionKind::kCalibration, field.id, {}};
  if (const auto calibration = file_->Find(calibration_id)) {
    AZ_ASSIGN_OR_RETURN(section.calibration, index::Calibration::Open(*calibration));
  }
  return absl::OkStatus();
}

SegmentParts SealedSegment::parts() const {
  SegmentParts parts;
  for (const SectionId& id : file_->Sections()) {
    const uint64_t bytes = file_->Find(id)->size();
    switch (id.kind) {
      case SectionKind::kVectors:
      case SectionKind::kByteVectors:
        parts.vectors += bytes;
        break;
      case SectionKind::kCodes:
        parts.codes += bytes;
        break;
      case SectionKind::kGraph:
      case SectionKind::kCalibration:
        parts.graph += bytes;
        break;
      case SectionKind::kRowIds:
      case SectionKind::kInsertSeqs:
      case SectionKind::kKeys:
      case SectionKind::kPartitions:
      case SectionKind::kNodePositions:
      case SectionKind::kFieldColumn:
      case SectionKind::kDynamicColumn:
      case SectionKind::kExpiries:
        parts.columns += bytes;
        break;
    }
  }
  return parts;
}

std::optional<Quantization> SealedSegment::WalkedBy(size_t vector_slot) const {
  const VectorSection& section = vectors_[vector_slot];
  if (!section.has_graph) return std::nullopt;
  if (!section.codes.has_value()) return Quantization::kNone;
  const index::Quantizer& quantizer = section.codes->quantizer();
  if (quantizer.bits() == index::CodeBits::k8) return Quantization::kSq8;
  switch (quantizer.transform()) {
    case index::CodeTransform::kPerDimension:
      return Quantization::kSq4;
    case index::CodeTransform::kRotated:
      return Quantization::kRabitq4;
    case index::CodeTransform::kProjected:
      return Quantization::kPca4;
  }
  return std::nullopt;
}

KeyView SealedSegment::key(uint32_t position) const {
  index::ScalarView view;
  keys_.Read(position, 1, &view);
  if (view.kind == ValueKind::kString) return {true, 0, view.text};
  return {false, view.int64, {}};
}

const index::ColumnReader* SealedSegment::FindColumn(const FilterField& field) const {
  switch (field.source) {
    case FilterField::Source::kKey:
      return &keys_;
    case FilterField::Source::kDeclared: {
      const auto it = fields_.find(Raw(field.id));
      return it == fields_.end() ? nullptr : &it->second;
    }
    case FilterField::Source::kDynamic: {
      const auto it = paths_.find(std::string_view(field.path));
      return it == paths_.end() ? nullptr : &it->second;
    }
  }
  return nullptr;
}

void SealedSegment::ReadScalars(const FilterField& field, uint32_t first, uint32_t count,
                                index::ScalarView* out) const {
  if (const index::ColumnReader* column = FindColumn(field)) {
    column->Read(first, count, out);
  } else {
    std::fill_n(out, count, index::ScalarView{});
  }
}

void SealedSegment::ExportScalars(std::span<const uint32_t> positions, uint32_t base,
                                  ColumnSetWriter& out) const {
  const auto copy = [&](const index::ColumnReader& column, auto&& append) {
    index::ScalarView view;
    for (size_t i = 0; i < positions.size(); ++i) {
      column.Read(positions[i], 1, &view);
      if (view.kind != ValueKind::kMissing) append(base + static_cast<uint32_t>(i), view);
    }
  };
  for (const auto& [id, column] : fields_) {
    copy(column, [&, field = FieldId{id}](uint32_t at, const index::ScalarView& view) {
      out.AppendField(field, at, view);
    });
  }
  for (const auto& entry : paths_) {
    copy(entry.second, [&](uint32_t at, const index::ScalarView& view) {
      out.AppendPath(entry.first, at, view);
    });
  }
}

std::vector<const float*> SealedSegment::ExportVectors(size_t vector_slot,
                                                       std::span<const uint32_t> positions) const {
  const VectorSection& section = vectors_[vector_slot];
  const size_t dim = schema_.vectors[vector_slot].dim;
  std::vector<const float*> by_position(size_, nullptr);
  for (uint32_t node = 0; node < section.node_count; ++node) {
    const uint32_t position = section.node_positions[node];
    if (position < size_) by_position[position] = section.base + node * dim;
  }
  std::vector<const float*> result;
  result.reserve(positions.size());
  for (const uint32_t position : positions) result.push_back(by_position[position]);
  return result;
}

absl::StatusOr<uint64_t> SealedSegment::Scan(size_t vector_slot, const float* query,
                                             [[maybe_unused]] uint32_t limit,
                                             const index::Bitset* admitted, index::TopK& top,
                                             const CancelToken& cancel) const {
  AZ_RETURN_IF_ERROR(CheckVectors(vector_slot, cancel));
  const VectorSection& section = vectors_[vector_slot];
  const VectorFieldDef& field = schema_.vectors[vector_slot];
  AZ_DCHECK(admitted != nullptr || limit == size_);
  index::ScanOptions options;
  options.admitted = admitted;
  options.row_to_position = section.node_positions;
  return index::ScanRows(index::KernelsFor(ToIndexMetric(field.metric)), query, section.base,
                         field.dim, field.dim, section.node_count, options, top, cancel);
}

WalkEffort SealedSegment::EffortFor(size_t vector_slot, double recall, uint32_t limit) const {
  const VectorSection& section = vectors_[vector_slot];
  // One word: recall in millionths (20 bits), limit (20), width (16), which error and one (8).
  constexpr double kScale = 1e6;
  constexpr uint32_t kBits = 20;
  const auto whole = static_cast<uint64_t>(recall * kScale + 0.5);
  // A recall of clients is a float: it is taken for the number that it stands for.
  const double near = static_cast<double>(whole) / kScale;
  const bool packs = std::abs(recall - near) < 1e-7 && limit >> kBits == 0;
  if (packs) recall = near;
  const uint64_t question = (whole << kBits | limit) << 24;
  if (packs) {
    const uint64_t known = section.effort.load(std::memory_order_relaxed);
    if (known != 0 && known >> 24 << 24 == question) {
      return {.ef = known >> 8 & 0xFFFF,
              .error = section.calibration.errors()[(known & 0xFF) - 1],
              .may_widen = true};
    }
  }
  const index::Calibration::Effort effort = section.calibration.EffortFor(
      recall, limit, section.codes.has_value() ? section.codes->rows().stride : 0,
      schema_.vectors[vector_slot].dim * (section.bytes != nullptr ? 1 : sizeof(float)));
  const auto& errors = section.calibration.errors();
  const auto at = std::ranges::find(errors, effort.error) - errors.begin();
  if (packs && effort.ef <= 0xFFFF && static_cast<size_t>(at) < errors.size()) {
    section.effort.store(question | uint64_t{effort.ef} << 8 | static_cast<uint64_t>(at + 1),
                         std::memory_order_relaxed);
  }
  return {.ef = effort.ef, .error = effort.error, .may_widen = true};
}

absl::StatusOr<index::GraphSearchResult> SealedSegment::Walk(
    size_t vector_slot, const float* query, const WalkEffort& effort, uint64_t distances_max,
    const index::Bitset* admitted, index::TopK& top, index::GraphScratch& scratch,
    const CancelToken& cancel) const {
  AZ_RETURN_IF_ERROR(CheckVectors(vector_slot, cancel));
  const VectorSection& section = vectors_[vector_slot];
  const VectorFieldDef& field = schema_.vectors[vector_slot];
  const index::Metric metric = ToIndexMetric(field.metric);
  index::GraphSearchOptions options;
  options.ef = effort.ef;
  options.admitted = admitted;
  options.node_to_position = section.node_positions;
  options.distances_max = distances_max;
  const index::NodeVectors vectors{section.base, field.dim, field.dim};
  const index::DistanceKernels kernels = index::KernelsFor(metric);
  const Resident* const resident = resident_[vector_slot].load(std::memory_order_acquire);
  const index::FrozenGraph& graph = resident != nullptr ? resident->graph : section.graph;
  const std::optional<index::CodedVectors>& codes =
      resident != nullptr ? resident->codes : section.codes;
  // One pointer, so that the function below needs no memory.
  struct {
    const index::Calibration& calibration;
    index::Metric metric;
    float norm;
    size_t ef;
  } widening{section.calibration, metric, 1, effort.ef};
  const std::function<size_t(std::span<const index::GraphScratch::Candidate>)> widen =
      [&widening](std::span<const index::GraphScratch::Candidate> found) {
        const double wider = widening.calibration.Widening(found, widening.metric, widening.norm);
        return static_cast<size_t>(
            std::min<double>(std::ceil(static_cast<double>(widening.ef) * wider), kEfMax));
      };
  if (effort.may_widen) options.widen = &widen;
  if (!codes.has_value() || effort.by_vectors) {
    if (effort.may_widen && metric == index::Metric::kIp) {
      widening.norm = static_cast<float>(std::sqrt(index::SquaredNorm({query, field.dim})));
    }
    return index::SearchGraph(graph, vectors, kernels, query, options, top, scratch, cancel);
  }
  codes->EncodeQuery(query, scratch.query);
  widening.norm = scratch.query.norm();
  const auto limit = static_cast<uint32_t>(std::min<size_t>(top.k(), UINT32_MAX));
  const float error = effort.error.value_or(section.calibration.points().empty()
                                                ? std::numeric_limits<float>::infinity()
                                                : section.calibration.errors()[0]);
  const auto search = [&](const index::NodeDistances& exact) {
    return index::SearchGraphByCodes(
        graph, index::CodeDistances(codes->rows(), codes->kernels(), scratch.query.view()), exact,
        options, index::Calibration::Rescore(limit, error, scratch.query.norm()), top, scratch,
        cancel);
  };
  if (section.bytes != nullptr) {
    return search(
        index::ByteDistances(section.bytes, field.dim, index::ByteKernelsFor(metric), query));
  }
  return search(index::VectorDistances(vectors, kernels, query));
}

std::unique_ptr<SealedSegment::Resident> SealedSegment::CopyOf(size_t slot) const {
  const VectorFieldDef& field = schema_.vectors[slot];
  const auto graph = file_->Find({SectionKind::kGraph, field.id, {}});
  const auto codes = file_->Find({SectionKind::kCodes, field.id, {}});
  if (!graph.has_value()) return nullptr;
  const uint64_t codes_at = (graph->size() + kPageBytes - 1) / kPageBytes * kPageBytes;
  auto copy = std::make_unique<Resident>();
  copy->memory = HugeBytes(codes_at + (codes.has_value() ? codes->size() : 0));
  if (copy->memory.data() == nullptr) return nullptr;
  const std::span<const std::byte> bytes = copy->memory.span();
  std::memcpy(copy->memory.data(), graph->data(), graph->size());
  auto opened = index::FrozenGraph::Open(bytes.first(graph->size()));
  if (!opened.ok()) return nullptr;
  copy->graph = *opened;
  if (codes.has_value()) {
    std::memcpy(copy->memory.data() + codes_at, codes->data(), codes->size());
    auto opened_codes = index::CodedVectors::Open(ToIndexMetric(field.metric), field.dim,
                                                  bytes.subspan(codes_at, codes->size()));
    if (!opened_codes.ok()) return nullptr;
    copy->codes = *std::move(opened_codes);
  }
  return copy;
}

void SealedSegment::MakeResident(MemoryBudget& memory) {
  if (resident_bytes_ == nullptr) {
    resident_bytes_ = std::make_unique<CountedBytes>(memory, MemoryPart::kResident);
  }
  for (size_t slot = 0; slot < vectors_.size(); ++slot) {
    if (resident_owned_[slot] != nullptr || !vectors_[slot].has_graph) continue;
    const FieldId field = schema_.vectors[slot].id;
    uint64_t bytes = 0;
    for (const SectionKind kind : {SectionKind::kGraph, SectionKind::kCodes}) {
      if (const auto section = file_->Find({kind, field, {}})) bytes += section->size();
    }
    const uint64_t most = memory.total() / kResidentShareInverse;
    if (memory.used(MemoryPart::kResident) + bytes > most ||
        memory.used() + bytes > memory.total()) {
      continue;
    }
    std::unique_ptr<const Resident> copy = CopyOf(slot);
    if (copy == nullptr) continue;
    resident_bytes_->Set(resident_bytes_->bytes() + copy->memory.memory_bytes());
    resident_[slot].store(copy.get(), std::memory_order_release);
    resident_owned_[slot] = std::move(copy);
    for (const SectionKind kind : {SectionKind::kGraph, SectionKind::kCodes}) {
      file_->Release({kind, field, {}});
    }
  }
}

void SealedSegment::MarkRetired(uint32_t position) {
  const uint64_t bit = uint64_t{1} << (position % 64);
  if ((retired_[position / 64].fetch_or(bit, std::memory_order_acq_rel) & bit) == 0) {
    retired_count_.fetch_add(1, std::memory_order_acq_rel);
  }
}

}  // namespace azimuth::engine
