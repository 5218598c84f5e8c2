#include "engine/segment/retired_map.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {

Seq RetiredMap::RetiredAt(RowId row) const {
  const Directory* directory = directory_.load(std::memory_order_acquire);
  const uint64_t page_index = Raw(row) / kPageRows;
  if (directory == nullptr || page_index >= directory->pages.size()) return kSeqMax;
  const Page* page = directory->pages[page_index].load(std::memory_order_acquire);
  if (page == nullptr) return kSeqMax;
  const uint64_t seq = page->retired_seq[Raw(row) % kPageRows].load(std::memory_order_acquire);
  return seq == 0 ? kSeqMax : Seq{seq};
}

RetiredMap::~RetiredMap() {
  const Directory* directory = directory_.load(std::memory_order_relaxed);
  if (directory == nullptr) return;
  for (const std::atomic<Page*>& page : directory->pages) {
    std::unique_ptr<Page>(page.load(std::memory_order_relaxed)).reset();
  }
}

void RetiredMap::Retire(RowId row, Seq seq) {
  Page& page = PageFor(Raw(row) / kPageRows);
  std::atomic<uint64_t>& entry = page.retired_seq[Raw(row) % kPageRows];
  if (entry.load(std::memory_order_relaxed) == 0) ++page.used;
  entry.store(Raw(seq), std::memory_order_release);
}

std::function<void()> RetiredMap::Forget(std::span<const RowId> rows) {
  Directory* directory = directory_.load(std::memory_order_relaxed);
  std::vector<std::shared_ptr<Page>> empty;
  for (const RowId row : rows) {
    const uint64_t page_index = Raw(row) / kPageRows;
    if (directory == nullptr || page_index >= directory->pages.size()) continue;
    Page* page = directory->pages[page_index].load(std::memory_order_relaxed);
    if (page == nullptr) continue;
    std::atomic<uint64_t>& entry = page->retired_seq[Raw(row) % kPageRows];
    if (entry.load(std::memory_order_relaxed) == 0) continue;
    entry.store(0, std::memory_order_relaxed);
    if (--page->used > 0) continue;
    directory->pages[page_index].store(nullptr, std::memory_order_release);
    page_count_.fetch_sub(1, std::memory_order_relaxed);
    empty.emplace_back(page);
  }
  if (empty.empty()) return nullptr;
  return [pages = std::move(empty)]() mutable { pages.clear(); };
}

RetiredMap::Page& RetiredMap::PageFor(uint64_t page_index) {
  Directory* directory = directory_.load(std::memory_order_relaxed);
  const size_t size = directory == nullptr ? 0 : directory->pages.size();
  if (page_index >= size) {
    auto larger = std::make_unique<Directory>(std::max<size_t>(page_index + 1, size * 2));
    for (size_t i = 0; i < size; ++i) {
      larger->pages[i].store(directory->pages[i].load(std::memory_order_relaxed),
                             std::memory_order_relaxed);
    }
    directory = larger.get();
    directories_.push_back(std::move(larger));
    directory_.store(directory, std::memory_order_release);
  }
  Page* page = directory->pages[page_index].load(std::memory_order_relaxed);
  if (page == nullptr) {
    page = std::make_unique<Page>().release();  // Value-initialised: all rows live.
    page_count_.fetch_add(1, std::memory_order_relaxed);
    directory->pages[page_index].store(page, std::memory_order_release);
  }
  return *page;
}

}  // namespace azimuth::engine
