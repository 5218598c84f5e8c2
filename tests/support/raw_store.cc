#include "tests/support/raw_store.h"

#include "rocksdb/db.h"

#include <memory>
#include <vector>

namespace azimuth::testing {
namespace {

absl::Status ToStatus(const rocksdb::Status& status) {
  return status.ok() ? absl::OkStatus() : absl::InternalError(status.ToString());
}

}  // namespace

absl::Status PutRawEntry(const std::string& path, const std::string& family, const std::string& key,
                         const std::string& value) {
  std::vector<std::string> names;
  rocksdb::Status status = rocksdb::DB::ListColumnFamilies({}, path, &names);
  if (!status.ok()) return ToStatus(status);
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const std::string& name : names) families.emplace_back(name, rocksdb::ColumnFamilyOptions());
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* opened = nullptr;
  status = rocksdb::DB::Open({}, path, families, &handles, &opened);
  if (!status.ok()) return ToStatus(status);
  const std::unique_ptr<rocksdb::DB> db(opened);
  absl::Status put = absl::NotFoundError("no column family " + family);
  for (rocksdb::ColumnFamilyHandle* handle : handles) {
    if (handle->GetName() == family) {
      put = ToStatus(db->Put(rocksdb::WriteOptions(), handle, key, value));
    }
    put.Update(ToStatus(db->DestroyColumnFamilyHandle(handle)));
  }
  put.Update(ToStatus(db->Close()));
  return put;
}

}  // namespace azimuth::testing
