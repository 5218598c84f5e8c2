// Records as they come in and go out of the engine: the engine's own types, so that every wire
// protocol is one more thin adapter.
//
// Thread safety: plain values. Views (string_view, span) in inputs belong to the caller and need
// only live until the call that takes them returns.
#pragma once

#include "base/ids.h"
#include "base/value.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

struct FieldInput {
  std::string_view name;
  Value value;
};

struct VectorInput {
  std::string_view name;
  std::span<const float> values;
};

// One record to write, as a client gave it: nothing of it is checked yet. A field or vector that is
// not named is absent.
struct RecordInput {
  std::optional<Key> key = {};  // Not given: the server makes it (Schema::auto_id).
  std::vector<FieldInput> fields = {};
  std::vector<VectorInput> vectors = {};
  // When the record ends; 0 for never. Not given: by the collection's ttl (a new record), as it was
  // (an update).
  std::optional<int64_t> expires_at_unix_us = {};
  // The version that the record must have now; zero: it must not exist.
  std::optional<Seq> if_version = {};
};

// One record read.
struct RecordOutput {
  Key key;
  Seq version{};                   // The sequence number that wrote it.
  int64_t expires_at_unix_us = 0;  // 0: never.
  ValueMap fields;
  std::map<std::string, std::vector<float>> vectors;  // Only those asked for and present.
};

}  // namespace azimuth::engine
