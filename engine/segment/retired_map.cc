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

void RetiredMap::Retire(RowId row, Seq seq) {
  PageFor(Raw(row) / kPageRows)
      .retired_seq[Raw(row) % kPageRows]
      .store(Raw(seq), std::memory_order_release);
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
    pages_.push_back(std::make_unique<Page>());  // Value-initialised: all rows live.
    page = pages_.back().get();
    directory->pages[page_index].store(page, std::memory_order_release);
  }
  return *page;
}

}  // namespace azimuth::engine
