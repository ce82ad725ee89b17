// DataStack: the chunked stack on which a host's evaluation loop keeps its frames.
//
//   chunk { previous, size, top, data[...] }     at least 16 KiB, doubled until the request and
//                                                1000 more words (of a pointer's size) fit
//
// Push and Pop are a compare and an addition while they stay in a chunk. The first word of the first chunk is
// never handed out, so that popping the outermost frame does not free the chunk (TS-72). One emptied chunk is
// kept, for a loop that calls across a chunk's end (TS-74).
//
// Owned by the thread; attached or not. Freed by the destructor, not when the state is cleared (TS-75).
//
// CPython counterpart: _PyStackChunk, PyThreadState.datastack_chunk, _PyThreadState_PushFrame, _PopFrame.

#ifndef PYRT_TSTATE_DATA_STACK_H_
#define PYRT_TSTATE_DATA_STACK_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

class DataStack {
 public:
  using Word = void*;
  static constexpr size_t kMinimumChunkBytes = 16 * 1024;
  static constexpr size_t kMinimumOverhead = 1000;  // words

  constexpr DataStack() = default;
  DataStack(const DataStack&) = delete;
  DataStack& operator=(const DataStack&) = delete;
  ~DataStack() { Clear(); }

  // `words` uninitialised words; null when memory is short (nothing has changed then).
  Word* Push(size_t words) {
    if (words > static_cast<size_t>(limit_ - top_)) [[unlikely]]
      return PushSlow(words);
    Word* const frame = top_;
    top_ += words;
    return frame;
  }

  // Gives back everything from `frame` on, a value that Push returned.
  void Pop(Word* frame) {
    if (frame == ChunkStart()) [[unlikely]]
      return PopSlow(frame);
    top_ = frame;
  }

  // Frees all chunks; nothing that was pushed may be used again.
  void Clear();

  // For tests and tools.
  size_t chunks() const;
  bool has_cached_chunk() const { return cached_ != nullptr; }
  size_t top_chunk_bytes() const { return chunk_ == nullptr ? 0 : chunk_->size; }

 private:
  struct Chunk {
    Chunk* previous;
    size_t size;  // bytes, header included
    Word* top;    // of this chunk while a later one is in use
    Word data[1];
  };

  Word* ChunkStart() const { return chunk_ == nullptr ? nullptr : chunk_->data; }
  Word* PushSlow(size_t words);
  void PopSlow(Word* frame);

  Word* top_ = nullptr;
  Word* limit_ = nullptr;
  Chunk* chunk_ = nullptr;
  Chunk* cached_ = nullptr;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_DATA_STACK_H_
