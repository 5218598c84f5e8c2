#include "engine/views.h"

#include "gtest/gtest.h"

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

TEST(ViewRegistry, PinSeesWhatWasPublishedLast) {
  ViewRegistry views(Seq{7}, nullptr);
  EXPECT_EQ(views.PinNow().seq(), Seq{7});
  views.Publish(Seq{9}, nullptr);
  EXPECT_EQ(views.PinNow().seq(), Seq{9});
}

TEST(ViewRegistry, OldestPinnedIsThatOfTheOldestReader) {
  ViewRegistry views(Seq{1}, nullptr);
  auto old_reader = std::make_unique<ViewRegistry::Pin>(views.PinNow());
  views.Publish(Seq{2}, nullptr);
  const ViewRegistry::Pin new_reader = views.PinNow();
  views.Publish(Seq{3}, nullptr);
  EXPECT_EQ(views.OldestPinned(), Seq{1});
  old_reader.reset();
  EXPECT_EQ(views.OldestPinned(), Seq{2});
}

TEST(ViewRegistry, WithoutReadersOldestPinnedIsThePublished) {
  ViewRegistry views(Seq{5}, nullptr);
  EXPECT_EQ(views.OldestPinned(), Seq{5});
}

TEST(ViewRegistry, FreesOnlyAfterReadersThatMayHoldItAreGone) {
  ViewRegistry views(Seq{1}, nullptr);
  bool freed = false;
  auto before = std::make_unique<ViewRegistry::Pin>(views.PinNow());
  views.Retire([&] { freed = true; });
  const ViewRegistry::Pin after = views.PinNow();  // Cannot reach what was unlinked.
  views.Collect();
  EXPECT_FALSE(freed);
  before.reset();
  views.Collect();
  EXPECT_TRUE(freed);
}

TEST(ViewRegistry, FreesTheRestWhenItDies) {
  int freed = 0;
  {
    ViewRegistry views(Seq{1}, nullptr);
    {
      const ViewRegistry::Pin pin = views.PinNow();
      views.Retire([&] { ++freed; });
      EXPECT_EQ(freed, 0);
    }
  }
  EXPECT_EQ(freed, 1);
}

TEST(ViewRegistry, MoreReadersThanSlotsOfABlockArePinnedAtOnce) {
  ViewRegistry views(Seq{1}, nullptr);
  std::vector<ViewRegistry::Pin> pins;
  for (int i = 0; i < 200; ++i) {
    views.Publish(Seq{static_cast<uint64_t>(i) + 2}, nullptr);
    pins.push_back(views.PinNow());
  }
  EXPECT_EQ(views.OldestPinned(), Seq{2});
  pins.erase(pins.begin(), pins.begin() + 150);
  EXPECT_EQ(views.OldestPinned(), Seq{152});
}

// Goal: a reader never touches freed memory, and never sees a number below OldestPinned as the
// writer read it before. Method: the writer unlinks a cell, poisons it when it is freed, and
// readers check the cell that they reach while pinned. Under tsan and asan the race itself would be
// reported too.
TEST(ViewRegistry, ReadersNeverReachWhatIsFreed) {
  struct Cell {
    std::atomic<uint64_t> value;
  };
  ViewRegistry views(Seq{1}, nullptr);
  std::atomic<Cell*> current{std::make_unique<Cell>().release()};
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> horizon{0};
  std::atomic<int> violations{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!stop.load()) {
        const uint64_t horizon_before = horizon.load();
        const ViewRegistry::Pin pin = views.PinNow();
        if (Raw(pin.seq()) < horizon_before) violations.fetch_add(1);
        if (current.load()->value.load() == UINT64_MAX) violations.fetch_add(1);
      }
    });
  }
  for (uint64_t seq = 2; seq < 20000; ++seq) {
    Cell* old = current.exchange(std::make_unique<Cell>().release());
    views.Retire([old] {
      const std::unique_ptr<Cell> owned(old);
      owned->value.store(UINT64_MAX);
    });
    views.Publish(Seq{seq}, nullptr);
    horizon.store(Raw(views.OldestPinned()));
  }
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(violations.load(), 0);
  std::unique_ptr<Cell>(current.load()).reset();
}

}  // namespace
}  // namespace azimuth::engine
