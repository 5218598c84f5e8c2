// Golden files: tables of inputs and expected outputs, kept as text beside the tests.
//
//   # A comment.
//   ? price < 10
//   = (price < 10)
//
// A case is one or more lines that begin with "? " (joined by line breaks) and the lines after them
// that begin with "= ". With AZIMUTH_UPDATE_GOLDEN=1 in the environment a check rewrites the file
// with what it found; everything else in it stays. Read the difference before you commit it.
#pragma once

#include "gtest/gtest.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::testing {

// tests/golden/`name`, wherever the test is run.
inline std::filesystem::path GoldenPath(const std::string& name) {
  return std::filesystem::canonical(__FILE__).parent_path().parent_path() / "golden" / name;
}

namespace internal {

// `text`, each of its lines after `prefix`.
inline std::string WithPrefix(std::string_view text, char prefix) {
  if (text.empty()) return std::string(1, prefix) + '\n';
  std::string out;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    out += prefix;
    if (!line.empty()) out += " " + line;
    out += '\n';
  }
  return out;
}

inline bool HasPrefix(const std::string& line, char prefix) {
  return !line.empty() && line[0] == prefix;
}

// Moves past the lines from `at` on that begin with `prefix`; returns them without it.
inline std::string TakeBlock(const std::vector<std::string>& lines, char prefix, size_t& at) {
  std::string block;
  for (const size_t first = at; at < lines.size() && HasPrefix(lines[at], prefix); ++at) {
    if (at > first) block += '\n';
    block += lines[at].size() > 2 ? lines[at].substr(2) : "";
  }
  return block;
}

}  // namespace internal

// Runs `answer` on each input of tests/golden/`name` and compares with the output there.
inline void CheckGolden(const std::string& name,
                        const std::function<std::string(const std::string& input)>& answer) {
  const std::filesystem::path path = GoldenPath(name);
  std::vector<std::string> lines;
  std::ifstream file(path);
  ASSERT_TRUE(file.is_open()) << path;
  for (std::string line; std::getline(file, line);) lines.push_back(line);

  std::string updated;
  size_t cases = 0;
  for (size_t at = 0; at < lines.size();) {
    if (!internal::HasPrefix(lines[at], '?')) {
      ASSERT_FALSE(internal::HasPrefix(lines[at], '=')) << path << ":" << at + 1 << ": no input";
      updated += lines[at++] + '\n';
      continue;
    }
    const size_t line = at + 1;
    const std::string input = internal::TakeBlock(lines, '?', at);
    const std::string expected = internal::TakeBlock(lines, '=', at);
    const std::string found = answer(input);
    updated += internal::WithPrefix(input, '?') + internal::WithPrefix(found, '=');
    ++cases;
    if (std::getenv("AZIMUTH_UPDATE_GOLDEN") == nullptr) {
      EXPECT_EQ(found, expected) << path << ":" << line << ": " << input
                                 << "\nAZIMUTH_UPDATE_GOLDEN=1 accepts what was found.";
    }
  }
  EXPECT_GT(cases, 0u) << path;
  if (std::getenv("AZIMUTH_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << updated;
}

}  // namespace azimuth::testing
