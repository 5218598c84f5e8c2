#include "bench/lib/vector_file.h"

#include "base/status.h"
#include "base/strings.h"

#include "absl/strings/numbers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <string_view>

namespace azimuth::bench {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kDimMax = 1 << 16;

bool ReadBytes(std::ifstream& file, void* out, size_t count) {
  file.read(static_cast<char*>(out), static_cast<std::streamsize>(count));
  return file.good();
}

// The bytes from where `file` stands to its end.
uint64_t BytesLeft(std::ifstream& file) {
  const auto here = file.tellg();
  file.seekg(0, std::ios::end);
  const auto end = file.tellg();
  file.seekg(here);
  return static_cast<uint64_t>(end - here);
}

// Numbers of "'shape': (3, 4), ...": rows, then columns.
absl::StatusOr<std::array<uint64_t, 2>> ShapeOf(std::string_view header) {
  constexpr std::string_view kShape = "'shape': (";
  const size_t at = header.find(kShape);
  if (at == std::string_view::npos) return InvalidArgument("no shape in its header");
  std::string_view rest = header.substr(at + kShape.size());
  rest = rest.substr(0, rest.find(')'));
  const size_t comma = rest.find(',');
  std::array<uint64_t, 2> shape{};
  if (comma == std::string_view::npos ||
      !absl::SimpleAtoi(ToAbsl(rest.substr(0, comma)), &shape[0]) ||
      !absl::SimpleAtoi(ToAbsl(rest.substr(comma + 1)), &shape[1])) {
    return InvalidArgument("shape (%s); expected two dimensions", ToAbsl(rest));
  }
  return shape;
}

absl::Status ReadBare(std::ifstream& file, uint64_t dim, uint64_t rows, Vectors& out) {
  if (dim == 0 || dim > kDimMax) {
    return InvalidArgument("dimension %d; allowed are 1 to %d", dim, kDimMax);
  }
  out.dim = static_cast<uint32_t>(dim);
  out.rows = rows;
  out.values.resize(rows * dim);
  if (!ReadBytes(file, out.values.data(), out.values.size() * sizeof(float))) {
    return InvalidArgument("it is shorter than its %d rows", rows);
  }
  return absl::OkStatus();
}

absl::Status ReadNpy(std::ifstream& file, size_t rows_max, Vectors& out) {
  std::array<char, 8> magic{};
  if (!ReadBytes(file, magic.data(), magic.size()) ||
      std::memcmp(magic.data(), "\x93NUMPY", 6) != 0) {
    return InvalidArgument("it is no .npy file");
  }
  uint32_t length = 0;
  const size_t length_bytes = magic[6] == 1 ? 2 : 4;
  if (!ReadBytes(file, &length, length_bytes) || length > BytesLeft(file)) {
    return InvalidArgument("its header is cut");
  }
  std::string header(length, '\0');
  ReadBytes(file, header.data(), header.size());
  if (header.find("'descr': '<f4'") == std::string::npos ||
      header.find("'fortran_order': False") == std::string::npos) {
    return InvalidArgument("expected '<f4' in C order, and its header is %s", header);
  }
  AZ_ASSIGN_OR_RETURN(const auto shape, ShapeOf(header));
  return ReadBare(file, shape[1], std::min<uint64_t>(shape[0], rows_max), out);
}

absl::Status ReadFvecs(std::ifstream& file, size_t rows_max, Vectors& out) {
  int32_t dim = 0;
  if (!ReadBytes(file, &dim, sizeof(dim)) || dim <= 0 || dim > static_cast<int32_t>(kDimMax)) {
    return InvalidArgument("dimension %d; allowed are 1 to %d", dim, kDimMax);
  }
  file.seekg(0);
  const uint64_t row_bytes = sizeof(dim) + static_cast<uint64_t>(dim) * sizeof(float);
  out.dim = static_cast<uint32_t>(dim);
  out.rows = std::min<uint64_t>(BytesLeft(file) / row_bytes, rows_max);
  out.values.resize(out.rows * out.dim);
  for (size_t i = 0; i < out.rows; ++i) {
    int32_t of_row = 0;
    if (!ReadBytes(file, &of_row, sizeof(of_row)) || of_row != dim ||
        !ReadBytes(file, &out.values[i * out.dim], out.dim * sizeof(float))) {
      return InvalidArgument("row %d: dimension %d after rows of %d", i, of_row, dim);
    }
  }
  return absl::OkStatus();
}

absl::Status Read(const std::string& path, uint32_t dim, size_t rows_max, Vectors& out) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return InvalidArgument("it cannot be opened");
  if (path.ends_with(".npy")) return ReadNpy(file, rows_max, out);
  if (path.ends_with(".fvecs")) return ReadFvecs(file, rows_max, out);
  if (dim == 0) return InvalidArgument("it is neither .npy nor .fvecs: name its dimension");
  const uint64_t rows = BytesLeft(file) / (uint64_t{dim} * sizeof(float));
  return ReadBare(file, dim, std::min<uint64_t>(rows, rows_max), out);
}

}  // namespace

absl::StatusOr<Vectors> ReadVectors(const std::string& path, uint32_t dim, size_t rows_max) {
  Vectors vectors;
  if (const absl::Status status = Read(path, dim, rows_max, vectors); !status.ok()) {
    return AtPlace(path, status);
  }
  if (vectors.rows == 0) return InvalidArgument("%s: it has no rows", path);
  return vectors;
}

}  // namespace azimuth::bench
