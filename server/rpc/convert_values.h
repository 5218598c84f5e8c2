// Keys, values, vectors, filters and field selections between the wire and the engine: what the
// conversions of all services share.
//
// Here a message is held to what the wire contract says of its form (a case is set, lengths go
// together, enum numbers are known). Limits, names and types are the engine's to check.
// Errors: InvalidArgument; the message says what is wrong within the converted message, and callers
// put its place before it (AtPlace).
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/types.pb.h"
#include "base/value.h"
#include "engine/query/request.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include <cstddef>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::server {

namespace pb = ::azimuth::v1;

// `fields["price"]` and `records[3]`, for messages.
std::string Place(std::string_view list, std::string_view name);
std::string Place(std::string_view list, size_t index);

// "`field`: 17 is unknown; `allowed`", for enum numbers that the contract does not have.
absl::Status UnknownEnum(std::string_view field, int number, std::string_view allowed);

absl::StatusOr<Key> FromWire(const pb::Key& key);
absl::StatusOr<std::vector<Key>> FromWire(const pb::KeyList& keys);
void ToWire(const Key& key, pb::Key& out);
// `out` gets the case of the first key, and no case when there is none. REQUIRES: all keys have one
// type.
void ToWire(std::span<const Key> keys, pb::KeyList& out);

// Refuses values without a case, and lists and maps of more than kValueDepthMax levels.
absl::StatusOr<Value> FromWire(const pb::Value& value);
void ToWire(Value&& value, pb::Value& out);

// Floats that were copied because the message has them where no float may be read: of hardly any
// message, and unlike others an empty list takes no memory.
using FloatStore = std::list<std::vector<float>>;

// The floats that `bytes` holds, a view into them or into what was added to `store`. Its length
// must be a multiple of four.
std::span<const float> FloatsOf(std::string_view bytes, FloatStore& store);
// The view is into `vector` or into what was added to `store`.
absl::StatusOr<std::span<const float>> FromWire(const pb::Vector& vector, FloatStore& store);
// Little-endian bytes.
void AppendFloats(std::span<const float> floats, std::string& out);

absl::StatusOr<engine::FilterText> FromWire(const pb::Filter& filter);

// All scalar fields if there is no selection.
engine::Projection ToProjection(const pb::FieldSelection* fields,
                                const google::protobuf::RepeatedPtrField<std::string>& vectors);

}  // namespace azimuth::server
