#include "engine/query/fetch.h"

#include "base/failpoint.h"
#include "base/status.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

ValueMap ProjectFields(const Schema& schema, storage::StoredRow row, const Projection& projection) {
  ValueMap all = std::move(row.dynamic);
  for (auto& [id, value] : row.fields) {
    const auto field = std::find_if(schema.fields.begin(), schema.fields.end(),
                                    [&, wanted = id](const FieldDef& f) { return f.id == wanted; });
    if (field != schema.fields.end()) all[field->name] = std::move(value);
  }
  if (!projection.fields.has_value()) return all;
  ValueMap chosen;
  for (const std::string& name : *projection.fields) {
    if (auto node = all.extract(name); !node.empty()) chosen.insert(std::move(node));
  }
  return chosen;
}

}  // namespace

absl::Status CheckProjection(const Schema& schema, const Projection& projection) {
  for (const std::string& name : projection.vectors) {
    if (schema.FindVector(name) == nullptr) {
      return InvalidArgument("output_vectors: %s is not a vector field of the collection",
                             Quoted(name));
    }
  }
  if (!projection.fields.has_value()) return absl::OkStatus();
  for (const std::string& name : *projection.fields) {
    if (schema.FindVector(name) != nullptr) {
      return InvalidArgument("output_fields: %s is a vector field; ask for it in output_vectors",
                             Quoted(name));
    }
    if (schema.FindField(name) == nullptr && !schema.dynamic) {
      const auto closest = ClosestFieldName(schema, name);
      return InvalidArgument(
          "output_fields: unknown field %s%s", Quoted(name),
          closest ? absl::StrFormat(" (did you mean %s?)", Quoted(*closest)) : std::string());
    }
  }
  return absl::OkStatus();
}

absl::Status FetchRows(const Core& core, const Collection& collection, const View& view,
                       std::span<const RowRef> rows, const Projection& projection,
                       absl::FunctionRef<RecordOutput&(size_t i)> record) {
  AZ_FAILPOINT(kReadBeforeFetch);
  // Column by column: rows are far from each other in memory, and the processor waits for several
  // of them at a time only where little is done with each.
  for (size_t i = 0; i < rows.size(); ++i) {
    record(i).version = rows[i].segment->insert_seq(rows[i].position);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    record(i).key = rows[i].segment->key(rows[i].position).ToKey();
    record(i).expires_at_unix_us = rows[i].segment->expires_at_unix_us(rows[i].position);
  }
  if (rows.empty() || !ReadsStore(projection)) return absl::OkStatus();
  std::vector<RowId> ids(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    ids[i] = rows[i].segment->row_id(rows[i].position);
  }
  if (!projection.fields.has_value() || !projection.fields->empty()) {
    AZ_ASSIGN_OR_RETURN(auto stored,
                        core.store->GetRows(collection.row_store, ids, &view.pin.snapshot()));
    for (size_t i = 0; i < rows.size(); ++i) {
      if (!stored[i].has_value()) {
        return DataLoss("record %s: row %d is missing from the store", KeyToText(record(i).key),
                        Raw(ids[i]));
      }
      record(i).fields = ProjectFields(collection.schema, *std::move(stored[i]), projection);
    }
  }
  for (const std::string& name : projection.vectors) {
    const VectorFieldDef* field = collection.schema.FindVector(name);
    AZ_ASSIGN_OR_RETURN(auto vectors, core.store->GetVectors(collection.row_store, field->id, ids,
                                                             &view.pin.snapshot()));
    for (size_t i = 0; i < rows.size(); ++i) {
      if (!vectors[i].empty()) record(i).vectors[name] = std::move(vectors[i]);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RecordOutput>> FetchRows(const Core& core, const Collection& collection,
                                                    const View& view, std::span<const RowRef> rows,
                                                    const Projection& projection) {
  std::vector<RecordOutput> records(rows.size());
  AZ_RETURN_IF_ERROR(FetchRows(core, collection, view, rows, projection,
                               [&](size_t i) -> RecordOutput& { return records[i]; }));
  return records;
}

}  // namespace azimuth::engine
