#include "pyrt/runtime/allocator_debug.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr size_t kWord = 8;
constexpr size_t kFront = 2 * kWord;           // size; domain and fence
constexpr size_t kExtra = kFront + 2 * kWord;  // and behind: fence, number
constexpr size_t kKeptBlocks = 64;
constexpr size_t kKeptBytes = 4096;

// One per call of SetupDebugHooks and domain; lives for ever, as the tables do.
struct DebugDomain {
  Allocator under;
  char id;
  Atomic<size_t> live{0};
  // The ring of freed blocks. Without a lock, so that a forked child cannot find it held.
  Atomic<size_t> next{0};
  Atomic<unsigned char*> kept[kKeptBlocks] = {};
};

Atomic<uint64_t> serial{0};

size_t SizeOf(const unsigned char* block) {
  size_t size;
  std::memcpy(&size, block - kFront, sizeof(size));
  return size;
}

bool AllAre(const unsigned char* bytes, size_t count, unsigned char wanted) {
  for (size_t i = 0; i < count; ++i) {
    if (bytes[i] != wanted) return false;
  }
  return true;
}

void DumpFence(const unsigned char* fence, size_t count, const char* where) {
  if (AllAre(fence, count, kForbiddenByte)) {
    std::fprintf(stderr, "    The %zu pad bytes at %s are FORBIDDENBYTE, as expected.\n", count, where);
    return;
  }
  std::fprintf(stderr, "    The %zu pad bytes at %s are not all FORBIDDENBYTE (0x%02x):\n", count, where,
               kForbiddenByte);
  for (size_t i = 0; i < count; ++i) {
    std::fprintf(stderr, "        at %s+%zu: 0x%02x%s\n", where, i, fence[i],
                 fence[i] == kForbiddenByte ? "" : " *** OUCH");
  }
}

// CPython: _PyObject_DebugDumpAddress.
void Dump(const unsigned char* block) {
  const size_t size = SizeOf(block);
  const unsigned char id = block[-static_cast<ptrdiff_t>(kWord)];
  std::fprintf(stderr, "Debug memory block at address p=%p: API '%c'\n", static_cast<const void*>(block), id);
  std::fprintf(stderr, "    %zu bytes originally requested\n", size);
  DumpFence(block - kWord + 1, kWord - 1, "p-7");
  if (!AllAre(block - kWord + 1, kWord - 1, kForbiddenByte)) {
    std::fputs(
        "    Because memory is corrupted at the start, the count of bytes requested\n"
        "       may be bogus, so that what lies behind is not shown.\n",
        stderr);
    return;
  }
  if (id == kDeadByte) return;
  DumpFence(block + size, kWord, "tail");
  uint64_t number;
  std::memcpy(&number, block + size + kWord, sizeof(number));
  std::fprintf(stderr, "    The block was made by call #%llu to debug malloc/realloc.\n",
               static_cast<unsigned long long>(number));
  std::fputs("    Data at p:", stderr);
  for (size_t i = 0; i < size && i < 16; ++i) std::fprintf(stderr, " %02x", block[i]);
  std::fputs(size > 16 ? " ...\n" : "\n", stderr);
}

[[noreturn]] void Bad(const char* function, const unsigned char* block, const char* what) {
  Dump(block);
  Fatal(function, "%s", what);
}

// CPython: _PyMem_DebugCheckAddress.
void Check(const char* function, const DebugDomain& domain, const unsigned char* block) {
  const unsigned char id = block[-static_cast<ptrdiff_t>(kWord)];
  if (id != static_cast<unsigned char>(domain.id)) {
    Dump(block);
    if (id == kDeadByte) {
      Fatal(function, "bad ID: Allocated using API '\\xdd', verified using API '%c' (freed already)",
            domain.id);
    }
    Fatal(function, "bad ID: Allocated using API '%c', verified using API '%c'", id, domain.id);
  }
  if (!AllAre(block - kWord + 1, kWord - 1, kForbiddenByte)) Bad(function, block, "bad leading pad byte");
  if (!AllAre(block + SizeOf(block), kWord, kForbiddenByte)) Bad(function, block, "bad trailing pad byte");
}

// CPython: _PyMem_DebugCheckGIL. The raw domain asks for nothing.
void CheckAttached(const char* function, const DebugDomain& domain) {
  if (domain.id == 'r' || ThreadState::Current() != nullptr) return;
  if constexpr (kGilEnabled) {
    Fatal(function, "Python memory allocator called without holding the GIL");
  } else {
    Fatal(
        function,
        "Python memory allocator called without an active thread state. Are you trying to call it inside of "
        "a Py_BEGIN_ALLOW_THREADS block?");
  }
}

unsigned char* Make(DebugDomain& domain, size_t size, bool zeroed) {
  if (size > static_cast<size_t>(PTRDIFF_MAX) - kExtra) return nullptr;
  void* const memory = zeroed ? domain.under.calloc(domain.under.context, 1, size + kExtra)
                              : domain.under.malloc(domain.under.context, size + kExtra);
  if (memory == nullptr) return nullptr;
  unsigned char* const block = static_cast<unsigned char*>(memory) + kFront;
  std::memcpy(block - kFront, &size, sizeof(size));
  block[-static_cast<ptrdiff_t>(kWord)] = static_cast<unsigned char>(domain.id);
  std::memset(block - kWord + 1, kForbiddenByte, kWord - 1);
  if (!zeroed) std::memset(block, kCleanByte, size);
  std::memset(block + size, kForbiddenByte, kWord);
  const uint64_t number = serial.fetch_add(1, kRelaxed) + 1;
  std::memcpy(block + size + kWord, &number, sizeof(number));
  domain.live.fetch_add(1, kRelaxed);
  return block;
}

// A block that has been kept back goes where it came from.
void Leave(DebugDomain& domain, unsigned char* block) {
  if (!AllAre(block, SizeOf(block), kDeadByte)) {
    Bad("_PyMem_DebugRawFree", block, "freed block was written to");
  }
  domain.under.free(domain.under.context, block - kFront);
}

void Release(DebugDomain& domain, unsigned char* block) {
  const size_t size = SizeOf(block);
  block[-static_cast<ptrdiff_t>(kWord)] = kDeadByte;
  std::memset(block, kDeadByte, size);
  domain.live.fetch_sub(1, kRelaxed);
  if (size > kKeptBytes) {
    domain.under.free(domain.under.context, block - kFront);
    return;
  }
  Atomic<unsigned char*>& place = domain.kept[domain.next.fetch_add(1, kRelaxed) % kKeptBlocks];
  // Acquire and release: what is written to the block from here on is ordered by whoever takes it out.
  if (unsigned char* const oldest = place.exchange(block, kAcqRel)) Leave(domain, oldest);
}

DebugDomain& Of(void* context) { return *static_cast<DebugDomain*>(context); }

void* DebugMalloc(void* context, size_t size) {
  CheckAttached("_PyMem_DebugMalloc", Of(context));
  return Make(Of(context), size, /*zeroed=*/false);
}

void* DebugCalloc(void* context, size_t elements, size_t size) {
  CheckAttached("_PyMem_DebugCalloc", Of(context));
  return Make(Of(context), elements * size, /*zeroed=*/true);  // the caller has looked for an overflow
}

void DebugFree(void* context, void* memory) {
  CheckAttached("_PyMem_DebugFree", Of(context));
  if (memory == nullptr) return;
  unsigned char* const block = static_cast<unsigned char*>(memory);
  Check("_PyMem_DebugRawFree", Of(context), block);
  Release(Of(context), block);
}

// Moves always, so that a pointer to the old place is found out.
void* DebugRealloc(void* context, void* memory, size_t size) {
  CheckAttached("_PyMem_DebugRealloc", Of(context));
  DebugDomain& domain = Of(context);
  if (memory == nullptr) return Make(domain, size, /*zeroed=*/false);
  unsigned char* const block = static_cast<unsigned char*>(memory);
  Check("_PyMem_DebugRawRealloc", domain, block);
  unsigned char* const moved = Make(domain, size, /*zeroed=*/false);
  if (moved == nullptr) return nullptr;
  const size_t before = SizeOf(block);
  std::memcpy(moved, block, before < size ? before : size);
  Release(domain, block);
  return moved;
}

constexpr char kIds[kAllocatorDomains] = {'r', 'm', 'o'};

}  // namespace

void SetupDebugHooks() {
  for (int i = 0; i < kAllocatorDomains; ++i) {
    const auto domain = static_cast<AllocatorDomain>(i);
    if (HasDebugHooks(domain)) continue;
    auto* const hooks = new DebugDomain{.under = GetAllocator(domain), .id = kIds[i]};
    SetAllocator(domain, {.context = hooks,
                          .malloc = &DebugMalloc,
                          .calloc = &DebugCalloc,
                          .realloc = &DebugRealloc,
                          .free = &DebugFree});
  }
}

bool HasDebugHooks(AllocatorDomain domain) { return GetAllocator(domain).malloc == &DebugMalloc; }

Allocator AllocatorUnderDebugHooks(AllocatorDomain domain) {
  const Allocator table = GetAllocator(domain);
  return table.malloc == &DebugMalloc ? Of(table.context).under : table;
}

size_t DebugLiveBlocks(AllocatorDomain domain) {
  const Allocator table = GetAllocator(domain);
  return table.malloc == &DebugMalloc ? Of(table.context).live.load(kRelaxed) : 0;
}

}  // namespace pyrt::inline PYRT_VARIANT
