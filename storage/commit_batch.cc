#include "storage/commit_batch.h"

#include "storage/entry_codec.h"
#include "storage/key_codec.h"
#include "storage/rocks_options.h"

#include "rocksdb/comparator.h"
#include "rocksdb/db.h"

#include <array>
#include <string>
#include <utility>

namespace azimuth::storage {
namespace {

// Names a column family by its number alone, which is all that a WriteBatch records of it. So a
// batch can be filled before and apart from an open database; Store::Open checks the numbers.
class FamilyNumber final : public rocksdb::ColumnFamilyHandle {
 public:
  explicit FamilyNumber(Family family) : family_(family) {}
  const std::string& GetName() const override { return name_; }
  uint32_t GetID() const override { return static_cast<uint32_t>(family_); }
  rocksdb::Status GetDescriptor(rocksdb::ColumnFamilyDescriptor* /*descriptor*/) override {
    return rocksdb::Status::NotSupported("a number of a column family");
  }
  const rocksdb::Comparator* GetComparator() const override {
    return rocksdb::BytewiseComparator();
  }

 private:
  std::string name_;
  Family family_;
};

// RocksDB wants a pointer to non-const but changes nothing: the handles are shared by all threads.
rocksdb::ColumnFamilyHandle* HandleOf(Family family) {
  static std::array<FamilyNumber, kFamilyCount> handles{
      FamilyNumber(Family::kMeta),    FamilyNumber(Family::kCatalog),
      FamilyNumber(Family::kRows),    FamilyNumber(Family::kVectors),
      FamilyNumber(Family::kKeys),    FamilyNumber(Family::kRetired),
      FamilyNumber(Family::kRequests)};
  return &handles[static_cast<size_t>(family)];
}

rocksdb::Slice ToSlice(std::string_view bytes) {
  return {bytes.data(), bytes.size()};
}

}  // namespace

CommitBatch::CommitBatch() : rep_(std::make_unique<Rep>()) {}
CommitBatch::~CommitBatch() = default;
CommitBatch::CommitBatch(CommitBatch&&) noexcept = default;
CommitBatch& CommitBatch::operator=(CommitBatch&&) noexcept = default;

void CommitBatch::PutVectorsInto(std::unique_ptr<RowTables> tables) {
  rep_->tables = std::move(tables);
}

absl::Status CommitBatch::FinishTables() {
  return rep_->tables == nullptr ? absl::OkStatus() : rep_->tables->Finish();
}

void CommitBatch::PutRow(RowStoreId store, RowId row, const StoredRow& value) {
  PutEncodedRow(store, row, EncodeRow(value));
}

void CommitBatch::PutEncodedRow(RowStoreId store, RowId row, std::string_view encoded) {
  rep_->Note(rep_->batch.Put(HandleOf(Family::kRows), RowKey(store, row), ToSlice(encoded)));
}

void CommitBatch::PutVector(RowStoreId store, FieldId field, RowId row,
                            std::span<const float> vector) {
  if (rep_->tables != nullptr && rep_->tables->HasRoomFor(store, field)) {
    rep_->tables->PutVector(store, field, row, vector);
    return;
  }
  const rocksdb::Slice bytes(reinterpret_cast<const char*>(vector.data()), vector.size_bytes());
  rep_->Note(rep_->batch.Put(HandleOf(Family::kVectors), VectorKey(store, field, row), bytes));
}

void CommitBatch::PutKey(RowStoreId store, const Key& key, const KeyEntry& entry) {
  rep_->Note(rep_->batch.Put(HandleOf(Family::kKeys), KeyKey(store, key), EncodeKeyEntry(entry)));
}

void CommitBatch::DeleteKey(RowStoreId store, const Key& key) {
  rep_->Note(rep_->batch.Delete(HandleOf(Family::kKeys), KeyKey(store, key)));
}

void CommitBatch::PutRetired(RowStoreId store, RowId row, Seq retired_seq) {
  rep_->Note(
      rep_->batch.Put(HandleOf(Family::kRetired), RowKey(store, row), EncodeSeq(retired_seq)));
}

void CommitBatch::DeleteRowData(RowStoreId store, RowId row, std::span<const FieldId> fields) {
  rep_->Note(rep_->batch.Delete(HandleOf(Family::kRows), RowKey(store, row)));
  for (const FieldId field : fields) {
    rep_->Note(rep_->batch.Delete(HandleOf(Family::kVectors), VectorKey(store, field, row)));
  }
}

void CommitBatch::DeleteRetired(RowStoreId store, RowId row) {
  rep_->Note(rep_->batch.Delete(HandleOf(Family::kRetired), RowKey(store, row)));
}

void CommitBatch::PutCounters(RowStoreId store, const RowStoreCounters& counters) {
  rep_->Note(
      rep_->batch.Put(HandleOf(Family::kMeta), CountersKey(store), EncodeCounters(counters)));
}

void CommitBatch::PutCollection(const CollectionEntry& entry) {
  rep_->Note(rep_->batch.Put(HandleOf(Family::kCatalog), CollectionKey(entry.id),
                             EncodeCollectionEntry(entry)));
}

void CommitBatch::DeleteCollection(CollectionId id) {
  rep_->Note(rep_->batch.Delete(HandleOf(Family::kCatalog), CollectionKey(id)));
}

void CommitBatch::PutSegment(const SegmentEntry& entry) {
  rep_->Note(rep_->batch.Put(HandleOf(Family::kCatalog), SegmentKey(entry.row_store, entry.id),
                             EncodeSegmentEntry(entry)));
}

void CommitBatch::DeleteSegment(RowStoreId store, SegmentId id) {
  rep_->Note(rep_->batch.Delete(HandleOf(Family::kCatalog), SegmentKey(store, id)));
}

void CommitBatch::DeleteRowStore(RowStoreId store) {
  const KeyRange all = RowStoreRange(store);
  for (const Family family : {Family::kRows, Family::kVectors, Family::kKeys, Family::kRetired}) {
    rep_->Note(rep_->batch.DeleteRange(HandleOf(family), all.first, all.end));
  }
  const KeyRange segments = SegmentsRange(store);
  rep_->Note(rep_->batch.DeleteRange(HandleOf(Family::kCatalog), segments.first, segments.end));
  rep_->Note(rep_->batch.Delete(HandleOf(Family::kMeta), CountersKey(store)));
}

void CommitBatch::PutRequest(const RequestEntry& entry) {
  rep_->Note(rep_->batch.Put(HandleOf(Family::kRequests), RequestKey(entry.id),
                             EncodeRequestEntry(entry)));
}

void CommitBatch::DeleteRequest(std::string_view id) {
  rep_->Note(rep_->batch.Delete(HandleOf(Family::kRequests), RequestKey(id)));
}

void CommitBatch::PutNextIds(const NextIds& ids) {
  rep_->Note(rep_->batch.Put(HandleOf(Family::kMeta), NextIdsKey(), EncodeNextIds(ids)));
}

void CommitBatch::PutAppliedSeq(Seq seq) {
  rep_->Note(rep_->batch.Put(HandleOf(Family::kMeta), AppliedSeqKey(), EncodeSeq(seq)));
}

size_t CommitBatch::byte_size() const {
  return rep_->batch.GetDataSize();
}

void CommitBatch::SetSavePoint() {
  // Replaces the one before; that there was none is no error.
  rep_->batch.PopSavePoint().PermitUncheckedError();
  rep_->batch.SetSavePoint();
  rep_->error_at_save_point = rep_->error;
}

void CommitBatch::RollBackToSavePoint() {
  rep_->error = rep_->error_at_save_point;
  rep_->Note(rep_->batch.RollbackToSavePoint());
}

}  // namespace azimuth::storage
