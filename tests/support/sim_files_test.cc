#include "tests/support/sim_files.h"

#include "storage/data_dir.h"
#include "storage/segment_file.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::testing {
namespace {

using storage::Files;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// A new file with `synced` and then, not synced, `tail`. Its name is not synced either.
void WriteFile(Files& files, const std::string& path, std::string_view synced,
               std::string_view tail) {
  ASSERT_OK_AND_ASSIGN(const auto file, files.Create(path));
  ASSERT_OK(file->Append(Bytes(synced)));
  ASSERT_OK(file->Sync());
  ASSERT_OK(file->Append(Bytes(tail)));
  ASSERT_OK(file->Close());
}

// The content, or "<none>".
std::string Content(Files& files, const std::string& path) {
  return files.ReadSmall(path).value_or("<none>");
}

// What `make` and then a power failure leave of `path`, over many seeds.
template <typename Make>
std::set<std::string> LeftOver(const std::string& path, const Make& make) {
  std::set<std::string> contents;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimFiles disk(seed);
    make(disk.process());
    disk.Crash(seed);
    contents.insert(Content(disk.process(), path));
  }
  return contents;
}

TEST(SimFiles, WorkAsAFileSystemDoes) {
  SimFiles disk(1);
  Files& files = disk.process();
  ASSERT_OK(files.MakeDir("/d"));
  ASSERT_OK(files.MakeDir("/d/"));
  WriteFile(files, "/d/b", "one", " two");
  WriteFile(files, "/d//a", "", "");
  EXPECT_EQ(Content(files, "/d/b"), "one two");
  EXPECT_THAT(files.Size("/d/b").value_or(0), 7u);
  EXPECT_THAT(files.List("/d").value(), ElementsAre("a", "b"));
  EXPECT_THAT(files.List("/").value(), ElementsAre("d"));
  EXPECT_THAT(files.Create("/d/b"), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(files.MakeDir("/d/b"), StatusIs(absl::StatusCode::kFailedPrecondition));
  const auto not_there = StatusIs(absl::StatusCode::kNotFound, HasSubstr("/x/y"));
  EXPECT_THAT(files.Create("/x/y"), not_there);
  EXPECT_THAT(files.ReadSmall("/x/y"), not_there);
  EXPECT_THAT(files.Remove("/x/y"), not_there);
  EXPECT_THAT(files.Rename("/x/y", "/z"), not_there);
  EXPECT_THAT(files.SyncDir("/x/y"), not_there);
  EXPECT_THAT(files.List("/x/y"), not_there);
  EXPECT_THAT(files.Map("/x/y"), not_there);
  ASSERT_OK(files.Rename("/d/b", "/d/a"));
  EXPECT_EQ(Content(files, "/d/a"), "one two");
  ASSERT_OK(files.Remove("/d/a"));
  EXPECT_THAT(files.List("/d").value(), IsEmpty());
}

TEST(SimFiles, MapBytesThatStayAsTheyWereAtAPageBoundary) {
  SimFiles disk(1);
  ASSERT_OK_AND_ASSIGN(const auto file, disk.process().Create("/a"));
  ASSERT_OK(file->Append(Bytes("first")));
  ASSERT_OK_AND_ASSIGN(const auto first, disk.process().Map("/a"));
  ASSERT_OK(file->Append(Bytes(" second")));
  ASSERT_OK_AND_ASSIGN(const auto second, disk.process().Map("/a"));
  disk.Crash(1);
  const auto text = [](const storage::MappedFile& mapped) {
    return std::string(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
  };
  EXPECT_EQ(text(*first), "first");
  EXPECT_EQ(text(*second), "first second");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first->bytes().data()) % 4096, 0u);
}

TEST(SimFiles, KeepWhatWasSyncedAndMayLoseAnyPartOfTheRest) {
  const auto left = LeftOver("/a", [](Files& files) {
    WriteFile(files, "/a", "synced", "123");
    ASSERT_OK(files.SyncDir("/"));
  });
  EXPECT_THAT(left, ElementsAre("synced", "synced1", "synced12", "synced123"));
}

TEST(SimFiles, MayTearWhatIsReplacedInPlaceUntilItIsSynced) {
  const auto make = [](Files& files, bool sync) {
    WriteFile(files, "/a", "abcdef", "");
    ASSERT_OK(files.SyncDir("/"));
    ASSERT_OK_AND_ASSIGN(const auto file, files.OpenForUpdate("/a"));
    ASSERT_OK(file->WriteAt(1, Bytes("123")));
    EXPECT_EQ(Content(files, "/a"), "a123ef");
    if (sync) {
      ASSERT_OK(file->Sync());
    }
  };
  EXPECT_THAT(LeftOver("/a", [&](Files& files) { make(files, false); }),
              ElementsAre("a123ef", "a12def", "a1cdef", "abcdef"));
  EXPECT_THAT(LeftOver("/a", [&](Files& files) { make(files, true); }), ElementsAre("a123ef"));
  SimFiles disk(1);
  make(disk.process(), false);
  disk.KillProcess();
  EXPECT_EQ(Content(disk.process(), "/a"), "a123ef");
}

TEST(SimFiles, KeepUnsyncedWritesOverTheSameBytesInAnyCombination) {
  const auto left = LeftOver("/a", [](Files& files) {
    WriteFile(files, "/a", "ab", "");
    ASSERT_OK(files.SyncDir("/"));
    ASSERT_OK_AND_ASSIGN(const auto file, files.OpenForUpdate("/a"));
    ASSERT_OK(file->WriteAt(0, Bytes("1")));
    ASSERT_OK(file->WriteAt(0, Bytes("2")));
    // Over the end: what is new may be lost, too.
    ASSERT_OK(file->WriteAt(1, Bytes("xy")));
  });
  EXPECT_THAT(left, ElementsAre("1b", "1by", "1x", "1xy", "2b", "2by", "2x", "2xy", "ab", "aby",
                                "ax", "axy"));
}

TEST(SimFiles, FillGapsWithZerosAndMapWhatWasReplaced) {
  SimFiles disk(1);
  Files& files = disk.process();
  ASSERT_OK_AND_ASSIGN(const auto file, files.OpenForUpdate("/a"));
  ASSERT_OK(file->WriteAt(2, Bytes("x")));
  EXPECT_EQ(Content(files, "/a"), std::string("\0\0x", 3));
  ASSERT_OK(files.Map("/a"));
  ASSERT_OK(file->WriteAt(0, Bytes("y")));
  ASSERT_OK_AND_ASSIGN(const auto mapped, files.Map("/a"));
  EXPECT_EQ(mapped->bytes()[0], std::byte{'y'});
}

TEST(SimFiles, RefuseWhatDoesNotFitOnTheDiskUntilThereIsRoom) {
  SimFiles disk(1);
  Files& files = disk.process();
  EXPECT_FALSE(files.Space("/").value().network);
  disk.SetNetwork(true);
  EXPECT_TRUE(files.Space("/").value().network);
  EXPECT_THAT(files.Space("/none"), StatusIs(absl::StatusCode::kNotFound));
  disk.SetCapacity(10);
  const auto full = StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("No space left"));
  ASSERT_OK_AND_ASSIGN(const auto file, files.Create("/a"));
  ASSERT_OK(file->Append(Bytes("0123456")));
  EXPECT_EQ(files.Space("/").value().capacity_bytes, 10u);
  EXPECT_EQ(files.Space("/").value().free_bytes, 3u);
  // What fits is written.
  EXPECT_THAT(file->Append(Bytes("abcdef")), full);
  EXPECT_EQ(Content(files, "/a"), "0123456abc");
  EXPECT_EQ(files.Space("/").value().free_bytes, 0u);
  EXPECT_THAT(file->Append(Bytes("x")), full);
  EXPECT_THAT(files.Create("/b"), full);
  EXPECT_THAT(files.OpenForUpdate("/b"), full);
  EXPECT_THAT(files.MakeDir("/d"), full);
  EXPECT_THAT(files.Lock("/LOCK"), full);
  EXPECT_THAT(files.Allocate("/b", 1), full);
  ASSERT_OK_AND_ASSIGN(const auto update, files.OpenForUpdate("/a"));
  ASSERT_OK(update->WriteAt(7, Bytes("789")));
  EXPECT_THAT(update->WriteAt(8, Bytes("xyz")), full);
  EXPECT_EQ(Content(files, "/a"), "01234567xy");
  ASSERT_OK(file->Sync());
  ASSERT_OK(files.Rename("/a", "/c"));
  ASSERT_OK(files.SyncDir("/"));
  EXPECT_FALSE(disk.failed());
  // The other ones are refused, and nothing of them is left.
  disk.SetFree(5);
  EXPECT_THAT(files.Allocate("/b", 6), full);
  EXPECT_THAT(files.List("/").value(), ElementsAre("c"));
  ASSERT_OK(files.Allocate("/b", 5));
  EXPECT_THAT(files.Allocate("/b", 6), full);
  ASSERT_OK(files.Allocate("/b", 5));
  ASSERT_OK(files.Allocate("/b", 2));
  EXPECT_EQ(files.Space("/").value().free_bytes, 3u);
  ASSERT_OK(files.Remove("/c"));
  EXPECT_EQ(files.Space("/").value().free_bytes, 13u);
}

TEST(SimFiles, MayLoseANameThatWasNotSynced) {
  const auto left = LeftOver("/a", [](Files& files) { WriteFile(files, "/a", "synced", ""); });
  EXPECT_THAT(left, ElementsAre("<none>", "synced"));
}

TEST(SimFiles, UndoARenameThatWasNotSyncedAsAWhole) {
  const auto make = [](Files& files) {
    WriteFile(files, "/a", "old", "");
    WriteFile(files, "/a.tmp", "new", "");
    ASSERT_OK(files.SyncDir("/"));
    ASSERT_OK(files.Rename("/a.tmp", "/a"));
  };
  EXPECT_THAT(LeftOver("/a", make), ElementsAre("new", "old"));
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimFiles disk(seed);
    make(disk.process());
    disk.Crash(seed);
    const bool undone = Content(disk.process(), "/a") == "old";
    EXPECT_EQ(Content(disk.process(), "/a.tmp"), undone ? "new" : "<none>") << seed;
  }
  const auto synced = [&](Files& files) {
    make(files);
    ASSERT_OK(files.SyncDir("/"));
  };
  EXPECT_THAT(LeftOver("/a", synced), ElementsAre("new"));
}

TEST(SimFiles, MayBringBackAFileWhoseRemovalWasNotSynced) {
  const auto make = [](Files& files) {
    WriteFile(files, "/a", "old", "");
    ASSERT_OK(files.SyncDir("/"));
    ASSERT_OK(files.Remove("/a"));
  };
  EXPECT_THAT(LeftOver("/a", make), ElementsAre("<none>", "old"));
  const auto again = [&](Files& files) {
    make(files);
    WriteFile(files, "/a", "new", "");
  };
  EXPECT_THAT(LeftOver("/a", again), ElementsAre("<none>", "new", "old"));
}

TEST(SimFiles, RenameADirectoryWithAllThatLiesInIt) {
  const auto make = [](Files& files) {
    ASSERT_OK(files.MakeDir("/old"));
    ASSERT_OK(files.MakeDir("/old/sub"));
    WriteFile(files, "/old/sub/a", "a", "");
    ASSERT_OK(files.SyncDir("/old/sub"));
    ASSERT_OK(files.SyncDir("/old"));
    ASSERT_OK(files.SyncDir("/"));
    WriteFile(files, "/old/b", "b", "");
    ASSERT_OK(files.Rename("/old", "/new"));
    EXPECT_EQ(Content(files, "/new/sub/a"), "a");
    EXPECT_EQ(Content(files, "/new/b"), "b");
    EXPECT_EQ(Content(files, "/old/b"), "<none>");
  };
  EXPECT_THAT(LeftOver("/new/sub/a", make), ElementsAre("<none>", "a"));
  EXPECT_THAT(LeftOver("/old/sub/a", make), ElementsAre("<none>", "a"));
  const auto make_synced = [&](Files& files) {
    make(files);
    ASSERT_OK(files.SyncDir("/"));
  };
  EXPECT_THAT(LeftOver("/new/sub/a", make_synced), ElementsAre("a"));
  EXPECT_THAT(LeftOver("/old/sub/a", make_synced), ElementsAre("<none>"));
  // Its own name in the directory was not synced.
  EXPECT_THAT(LeftOver("/new/b", make_synced), ElementsAre("<none>", "b"));
}

TEST(SimFiles, GiveAFileASecondNameThatLeadsToTheSameBytes) {
  const auto make = [](Files& files) {
    WriteFile(files, "/a", "bytes", "");
    ASSERT_OK(files.SyncDir("/"));
    ASSERT_OK(files.Link("/a", "/b"));
    EXPECT_THAT(files.Link("/a", "/b"), StatusIs(absl::StatusCode::kAlreadyExists));
    ASSERT_OK(files.Remove("/a"));
    EXPECT_EQ(Content(files, "/b"), "bytes");
  };
  EXPECT_THAT(LeftOver("/b", make), ElementsAre("<none>", "bytes"));
}

TEST(SimFiles, LoseWhatLiesInADirectoryThatIsLost) {
  const auto make = [](Files& files) {
    ASSERT_OK(files.MakeDir("/d"));
    WriteFile(files, "/d/a", "synced", "");
    ASSERT_OK(files.SyncDir("/d"));
  };
  EXPECT_THAT(LeftOver("/d/a", make), ElementsAre("<none>", "synced"));
}

TEST(SimFiles, KeepEverythingWhenOnlyTheProcessDies) {
  SimFiles disk(1);
  WriteFile(disk.process(), "/a", "synced", " and not");
  ASSERT_OK_AND_ASSIGN(const auto lock, disk.process().Lock("/LOCK"));
  EXPECT_THAT(disk.process().Lock("/LOCK"), StatusIs(absl::StatusCode::kFailedPrecondition));
  disk.KillProcess();
  EXPECT_EQ(Content(disk.process(), "/a"), "synced and not");
  EXPECT_OK(disk.process().Lock("/LOCK"));
}

TEST(SimFiles, RefuseEverythingToADeadProcess) {
  for (const bool power : {false, true}) {
    SimFiles disk(1);
    Files& old = disk.process();
    ASSERT_OK_AND_ASSIGN(const auto file, old.Create("/a"));
    ASSERT_OK_AND_ASSIGN(auto old_lock, old.Lock("/LOCK"));
    ASSERT_OK(old.SyncDir("/"));
    power ? disk.Crash(1) : disk.KillProcess();
    Files& files = disk.process();
    ASSERT_OK_AND_ASSIGN(const auto lock, files.Lock("/LOCK"));
    const auto dead = StatusIs(absl::StatusCode::kUnavailable, HasSubstr("dead"));
    EXPECT_THAT(file->Append(Bytes("x")), dead);
    EXPECT_THAT(file->Sync(), dead);
    EXPECT_THAT(file->Close(), dead);
    EXPECT_THAT(old.Create("/b"), dead);
    EXPECT_THAT(old.Remove("/a"), dead);
    EXPECT_THAT(old.Rename("/a", "/b"), dead);
    EXPECT_THAT(old.SyncDir("/"), dead);
    EXPECT_THAT(old.MakeDir("/d"), dead);
    EXPECT_THAT(old.List("/"), dead);
    EXPECT_THAT(old.ReadSmall("/a"), dead);
    EXPECT_THAT(old.Lock("/LOCK2"), dead);
    EXPECT_THAT(old.OpenForUpdate("/a"), dead);
    EXPECT_THAT(old.Allocate("/a", 1), dead);
    EXPECT_THAT(old.Space("/"), dead);
    // Its lock is not that of the new process.
    old_lock.reset();
    EXPECT_THAT(files.Lock("/LOCK"), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_EQ(Content(files, "/a"), "");
    EXPECT_THAT(files.List("/").value(), ElementsAre("LOCK", "a"));
  }
}

TEST(SimFiles, FailFromTheChosenOperationOnUntilTheNextProcess) {
  SimFiles disk(1);
  Files& files = disk.process();
  ASSERT_OK_AND_ASSIGN(const auto file, files.Create("/a"));
  const uint64_t before = disk.operations();
  disk.FailAfter(3);
  ASSERT_OK(file->Append(Bytes("x")));
  ASSERT_OK(file->Sync());
  EXPECT_FALSE(disk.failed());
  EXPECT_THAT(file->Append(Bytes("0123456789")),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("/a")));
  EXPECT_TRUE(disk.failed());
  EXPECT_FALSE(file->Sync().ok());
  EXPECT_FALSE(files.Create("/b").ok());
  EXPECT_FALSE(files.SyncDir("/").ok());
  EXPECT_EQ(disk.operations(), before + 6);
  // Reads go on, and a part of the write may be there.
  const std::string content = Content(files, "/a");
  EXPECT_TRUE(std::string_view("x0123456789").starts_with(content)) << content;
  EXPECT_FALSE(content.empty());
  disk.KillProcess();
  EXPECT_FALSE(disk.failed());
  EXPECT_OK(disk.process().SyncDir("/"));
  EXPECT_EQ(Content(disk.process(), "/a"), content);
}

TEST(SimFiles, GiveTheSameDiskForTheSameSeeds) {
  const auto run = [](uint64_t seed) {
    SimFiles disk(seed);
    Files& files = disk.process();
    for (int i = 0; i < 20; ++i) {
      WriteFile(files, "/" + std::to_string(i), "synced", "a tail of some bytes");
    }
    disk.Crash(seed);
    std::map<std::string, std::string> left;
    const std::vector<std::string> names = disk.process().List("/").value();
    for (const std::string& name : names) {
      left[name] = Content(disk.process(), "/" + name);
    }
    return left;
  };
  std::set<std::map<std::string, std::string>> different;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(run(seed), run(seed)) << seed;
    different.insert(run(seed));
  }
  EXPECT_GT(different.size(), 10u);
}

// Data directories.

TEST(SimFiles, FindADataDirectoryWholeAfterAFailureAtAnyOperationOfItsMaking) {
  int failures = 0;
  for (uint64_t n = 1;; ++n) {
    SimFiles disk(n);
    disk.FailAfter(n);
    const auto random = [] { return uint64_t{5}; };
    const bool made = storage::DataDir::Open("/data", disk.process(), random).ok();
    const bool failed = disk.failed();
    EXPECT_NE(made, failed) << n;
    n % 2 == 0 ? disk.Crash(n) : disk.KillProcess();
    ASSERT_OK_AND_ASSIGN(const auto dir, storage::DataDir::Open("/data", disk.process(), random));
    EXPECT_EQ(dir.incarnation(), 5u);
    EXPECT_THAT(disk.process().List("/data").value(),
                AllOf(Contains("FORMAT"), Contains("segments"), Not(Contains("FORMAT.tmp"))));
    if (!failed) break;
    ++failures;
  }
  EXPECT_GT(failures, 5);
}

TEST(SimFiles, FindADataDirectoryUpgradedAfterAFailureAtAnyOperationOfTheUpgrade) {
  const std::string old_format =
      "azimuth data directory, format 1\nincarnation 0123456789abcdef\ncrc32c 7ada7f8a\n";
  int failures = 0;
  std::set<bool> was_old;
  for (uint64_t n = 1; n < 60; ++n) {
    SimFiles disk(n);
    Files& files = disk.process();
    ASSERT_OK(files.MakeDir("/data"));
    WriteFile(files, "/data/FORMAT", old_format, "");
    ASSERT_OK(files.SyncDir("/data"));
    ASSERT_OK(files.SyncDir("/"));
    disk.FailAfter(1 + n % 20);
    const bool upgraded = storage::DataDir::Open("/data", files).ok();
    failures += disk.failed() ? 1 : 0;
    n % 2 == 0 ? disk.Crash(n) : disk.KillProcess();
    const std::string between = Content(disk.process(), "/data/FORMAT");
    was_old.insert(between == old_format);
    EXPECT_TRUE(between == old_format || between.find("format 4\n") != std::string::npos);
    if (upgraded) {
      EXPECT_NE(between, old_format) << n;
    }
    ASSERT_OK_AND_ASSIGN(const auto dir, storage::DataDir::Open("/data", disk.process()));
    EXPECT_EQ(dir.incarnation(), 0x0123456789abcdefu);
    EXPECT_THAT(Content(disk.process(), "/data/FORMAT"), HasSubstr("format 4\n"));
  }
  EXPECT_GT(failures, 10);
  EXPECT_EQ(was_old.size(), 2u);
}

TEST(SimFiles, FindASegmentFileWholeOrNotAtAllAfterAFailureAtAnyOperation) {
  const std::string body(300'000, 's');
  int whole = 0;
  int missing = 0;
  for (uint64_t n = 1; n < 40; ++n) {
    SimFiles disk(n);
    Files& files = disk.process();
    disk.FailAfter(1 + n % 10);
    const bool written = [&] {
      auto writer = storage::SegmentWriter::Create("/s", {.row_count = 3}, files);
      return writer.ok() &&
             (*writer)->BeginSection({.kind = storage::SectionKind::kExpiries}).ok() &&
             (*writer)->Append(Bytes(body)).ok() && (*writer)->Finish().ok();
    }();
    disk.Crash(n);
    const auto file = storage::SegmentFile::Open("/s", disk.process());
    if (absl::IsNotFound(file.status())) {
      EXPECT_FALSE(written) << n;
      ++missing;
      continue;
    }
    ASSERT_OK(file);
    EXPECT_OK((*file)->VerifySections(CancelToken()));
    ++whole;
  }
  EXPECT_GT(whole, 2);
  EXPECT_GT(missing, 2);
}

}  // namespace
}  // namespace azimuth::testing
