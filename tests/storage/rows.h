// Random rows and their comparison, for the tests of storage.
//
// Thread safety: functions only; the generator has one user.
#pragma once

#include "storage/row.h"

#include <cstdint>
#include <random>
#include <string>

namespace azimuth::storage {

inline std::string RandomText(std::mt19937_64& random, size_t length_max) {
  std::string text(random() % (length_max + 1), '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// No NaN, which equals nothing.
inline Value RandomValue(std::mt19937_64& random, int depth_left) {
  switch (random() % (depth_left > 0 ? 7 : 5)) {
    case 0:
      return Value{};
    case 1:
      return Value{random() % 2 == 0};
    case 2:
      return Value{static_cast<int64_t>(random())};
    case 3:
      return Value{static_cast<double>(static_cast<int64_t>(random())) / 1e6};
    case 4:
      return Value{RandomText(random, 20)};
    case 5: {
      ValueList list;
      for (uint64_t i = random() % 4; i > 0; --i) {
        list.push_back(RandomValue(random, depth_left - 1));
      }
      return Value{std::move(list)};
    }
    default: {
      ValueMap map;
      for (uint64_t i = random() % 4; i > 0; --i) {
        map.insert_or_assign(RandomText(random, 5), RandomValue(random, depth_left - 1));
      }
      return Value{std::move(map)};
    }
  }
}

inline Key RandomKey(std::mt19937_64& random) {
  if (random() % 2 == 0) return static_cast<int64_t>(random());
  return "k" + RandomText(random, 12);
}

inline StoredRow RandomRow(std::mt19937_64& random) {
  StoredRow row;
  row.insert_seq = Seq{random()};
  row.partition = PartitionId{static_cast<uint32_t>(random())};
  row.expires_at_unix_us = static_cast<int64_t>(random());
  row.key = RandomKey(random);
  uint32_t id = 0;
  for (uint64_t i = random() % 5; i > 0; --i) {
    id += 1 + static_cast<uint32_t>(random() % 100);
    row.fields.emplace_back(FieldId{id}, RandomValue(random, 3));
  }
  for (uint64_t i = random() % 4; i > 0; --i) {
    row.dynamic.insert_or_assign(RandomText(random, 8), RandomValue(random, 3));
  }
  return row;
}

inline bool SameRow(const StoredRow& a, const StoredRow& b) {
  return a.insert_seq == b.insert_seq && a.partition == b.partition &&
         a.expires_at_unix_us == b.expires_at_unix_us && a.key == b.key && a.fields == b.fields &&
         a.dynamic == b.dynamic;
}

}  // namespace azimuth::storage
