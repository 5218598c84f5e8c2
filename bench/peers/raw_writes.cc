// What the write path of a bulk load is measured against: the same keys and values as an insert of
// records without fields writes, put straight into RocksDB with the same options, one synced batch
// after the other, by one thread.
//
//   azimuth_raw_writes FOLDER ROWS DIMENSION BATCH_ROWS FIRST
//
// FOLDER must not exist and stays. Prints one line of JSON: rows a second of the first FIRST rows,
// and of those after them: {"first_rows_per_s", "rows_per_s"}.

#include "base/ids.h"
#include "storage/entry_codec.h"
#include "storage/key_codec.h"
#include "storage/rocks_options.h"
#include "storage/row.h"

#include "rocksdb/db.h"
#include "rocksdb/write_batch.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace azimuth::storage {
namespace {

using Clock = std::chrono::steady_clock;

constexpr RowStoreId kRowStore{1};
constexpr FieldId kField{1};

void ExitOnError(const rocksdb::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

struct Sizes {
  uint64_t rows = 0;
  size_t dimension = 0;
  uint64_t batch_rows = 0;
  uint64_t first = 0;
};

class RawWrites final {
 public:
  explicit RawWrites(const std::string& folder) {
    const StoreOptions options;
    const auto cache = MakeCache(options);
    rocksdb::DB* db = nullptr;
    ExitOnError(rocksdb::DB::Open(MakeDbOptions(options, cache), folder,
                                  MakeFamilies(options, cache), &handles_, &db));
    db_.reset(db);
  }
  ~RawWrites() {
    for (rocksdb::ColumnFamilyHandle* handle : handles_) {
      db_->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
    }
  }
  RawWrites(const RawWrites&) = delete;
  RawWrites& operator=(const RawWrites&) = delete;

  // `vectors` has batch_rows of them.
  void Write(uint64_t first, const Sizes& sizes, const std::vector<float>& vectors) {
    rocksdb::WriteBatch batch;
    for (uint64_t i = 0; i < sizes.batch_rows; ++i) {
      const RowId row{first + i};
      const Key key = static_cast<int64_t>(first + i);
      const char* const vector =
          reinterpret_cast<const char*>(vectors.data() + i * sizes.dimension);
      const rocksdb::Slice bytes(vector, sizes.dimension * sizeof(float));
      ExitOnError(batch.Put(Handle(Family::kRows), RowKey(kRowStore, row),
                            EncodeRow({.insert_seq = Seq{1}, .key = key})));
      ExitOnError(batch.Put(Handle(Family::kVectors), VectorKey(kRowStore, kField, row), bytes));
      ExitOnError(batch.Put(Handle(Family::kKeys), KeyKey(kRowStore, key),
                            EncodeKeyEntry({.row = row, .insert_seq = Seq{1}})));
    }
    rocksdb::WriteOptions options;
    options.sync = true;
    ExitOnError(db_->Write(options, &batch));
  }

 private:
  rocksdb::ColumnFamilyHandle* Handle(Family family) {
    return handles_[static_cast<size_t>(family)];
  }

  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
};

int Run(const std::string& folder, const Sizes& sizes) {
  RawWrites writes(folder);
  std::mt19937 random(1);
  std::vector<float> vectors(sizes.batch_rows * sizes.dimension);
  for (float& value : vectors) value = static_cast<float>(random() % 256);
  const Clock::time_point start = Clock::now();
  Clock::time_point middle = start;
  for (uint64_t row = 0; row < sizes.rows; row += sizes.batch_rows) {
    writes.Write(row, sizes, vectors);
    if (row < sizes.first) middle = Clock::now();
  }
  const std::chrono::duration<double> first = middle - start;
  const std::chrono::duration<double> rest = Clock::now() - middle;
  std::printf("{\"first_rows_per_s\": %.1f, \"rows_per_s\": %.1f}\n",
              static_cast<double>(sizes.first) / first.count(),
              static_cast<double>(sizes.rows - sizes.first) / rest.count());
  return 0;
}

}  // namespace
}  // namespace azimuth::storage

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: %s FOLDER ROWS DIMENSION BATCH_ROWS FIRST\n", argv[0]);
    return 2;
  }
  const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  const azimuth::storage::Sizes sizes{number(2), number(3), number(4), number(5)};
  if (sizes.batch_rows == 0 || sizes.rows % sizes.batch_rows != 0 ||
      sizes.first % sizes.batch_rows != 0 || sizes.first == 0 || sizes.first >= sizes.rows) {
    std::fprintf(stderr, "ROWS and FIRST are multiples of BATCH_ROWS, 0 < FIRST < ROWS\n");
    return 2;
  }
  return azimuth::storage::Run(argv[1], sizes);
}
