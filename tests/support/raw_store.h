// Entries of a database that no code of ours would write.
#pragma once

#include "absl/status/status.h"

#include <string>

namespace azimuth::testing {

// Puts one entry into the column family `family` of the RocksDB database at `path`, whose bytes may
// mean nothing. Nobody has the database open. NotFound if it has no such family.
absl::Status PutRawEntry(const std::string& path, const std::string& family, const std::string& key,
                         const std::string& value);

}  // namespace azimuth::testing
