#include "pyrt/tstate/data_stack.h"

#include <cstdlib>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {

DataStack::Word* DataStack::PushSlow(size_t words) {
  constexpr size_t kLargest = SIZE_MAX / 4 / sizeof(Word);
  if (words > kLargest) return nullptr;
  size_t bytes = kMinimumChunkBytes;
  while (bytes < (words + kMinimumOverhead) * sizeof(Word)) bytes *= 2;

  Chunk* chunk = nullptr;
  if (cached_ != nullptr && cached_->size >= bytes) {
    chunk = cached_;
    cached_ = nullptr;
  } else {
    chunk = static_cast<Chunk*>(std::malloc(bytes));
    if (chunk == nullptr) return nullptr;
    chunk->size = bytes;
  }
  const bool first = chunk_ == nullptr;
  if (!first) chunk_->top = top_;
  chunk->previous = chunk_;
  chunk->top = chunk->data;
  chunk_ = chunk;
  limit_ = reinterpret_cast<Word*>(reinterpret_cast<char*>(chunk) + chunk->size);
  Word* const frame = first ? chunk->data + 1 : chunk->data;
  top_ = frame + words;
  return frame;
}

void DataStack::PopSlow(Word* frame) {
  Chunk* const chunk = chunk_;
  PYRT_CHECK(frame != nullptr && chunk->previous != nullptr, "DataStack::Pop",
             "frame %p is not on this data stack", static_cast<void*>(frame));
  chunk_ = chunk->previous;
  top_ = chunk_->top;
  limit_ = reinterpret_cast<Word*>(reinterpret_cast<char*>(chunk_) + chunk_->size);
  std::free(cached_);
  cached_ = chunk;
}

void DataStack::Clear() {
  while (chunk_ != nullptr) {
    Chunk* const previous = chunk_->previous;
    std::free(chunk_);
    chunk_ = previous;
  }
  std::free(cached_);
  cached_ = nullptr;
  top_ = limit_ = nullptr;
}

size_t DataStack::chunks() const {
  size_t count = 0;
  for (const Chunk* chunk = chunk_; chunk != nullptr; chunk = chunk->previous) ++count;
  return count;
}

}  // namespace pyrt::inline PYRT_VARIANT
