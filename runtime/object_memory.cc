#include "pyrt/runtime/object_memory.h"

#include <string>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/thread_registry.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// An interpreter's own allocator. Made before its first thread runs and gone after its last.
struct OwnMemory {
  Allocator allocator;
  Atomic<int64_t> blocks{0};

  static void* operator new(size_t size) noexcept {
    return ThreadRegistry::AllocateState(size, alignof(OwnMemory));
  }
  static void operator delete(void* memory, size_t size) {
    ThreadRegistry::DeallocateState(memory, size, alignof(OwnMemory));
  }
};

constinit Atomic<int64_t> leaked{0};

OwnMemory* Of(const Interpreter& interp) { return static_cast<OwnMemory*>(interp.object_memory()); }

OwnMemory* OfCurrent(const char* function) { return Of(*ThreadState::Get(function).interp()); }

absl::Status Init(void*, Interpreter& interp) {
  if (interp.features().Has(FeatureFlags::kUseMainObmalloc)) return absl::OkStatus();
  auto* const own = new OwnMemory{.allocator = GetAllocator(AllocatorDomain::kObject)};
  if (own == nullptr) return absl::ResourceExhaustedError("memory allocation failed");
  interp.set_object_memory(own);
  return absl::OkStatus();
}

// The first subsystem that comes up goes down last: the others have given back what they had. What hosts have put into
// the tables goes here, for it may have its memory from us.
void Clear(void*, Interpreter& interp) {
  OwnMemory* const own = Of(interp);
  if (own == nullptr) return;
  using Table = Interpreter::Table;
  for (const Table table : {Table::kImporter, Table::kModules, Table::kSysDict, Table::kBuiltins}) {
    const Ref<Object> released = interp.set_table(table, nullptr);
  }
  leaked.fetch_add(own->blocks.load(kRelaxed), kRelaxed);
  interp.set_object_memory(nullptr);
  delete own;
}

}  // namespace

Subsystem ObjectMemory::AsSubsystem() {
  return {.name = "object memory", .init_core = &Init, .clear_interpreter = &Clear};
}

void* ObjectMemory::Allocate(size_t size) {
  OwnMemory* const own = OfCurrent("PyObject_Malloc");
  if (own == nullptr) return pyrt::Allocate(AllocatorDomain::kObject, size);
  if (size > static_cast<size_t>(PTRDIFF_MAX)) return nullptr;
  void* const block = own->allocator.malloc(own->allocator.context, size);
  if (block != nullptr) own->blocks.fetch_add(1, kRelaxed);
  return block;
}

void* ObjectMemory::Reallocate(void* block, size_t size) {
  OwnMemory* const own = OfCurrent("PyObject_Realloc");
  if (own == nullptr) return pyrt::Reallocate(AllocatorDomain::kObject, block, size);
  if (size > static_cast<size_t>(PTRDIFF_MAX)) return nullptr;
  void* const moved = own->allocator.realloc(own->allocator.context, block, size);
  if (block == nullptr && moved != nullptr) own->blocks.fetch_add(1, kRelaxed);
  return moved;
}

void ObjectMemory::Free(void* block) {
  OwnMemory* const own = OfCurrent("PyObject_Free");
  if (own == nullptr) return pyrt::Free(AllocatorDomain::kObject, block);
  if (block != nullptr) own->blocks.fetch_sub(1, kRelaxed);
  own->allocator.free(own->allocator.context, block);
}

absl::Status ObjectMemory::SetAllocator(Interpreter& interp, const Allocator& allocator) {
  OwnMemory* const own = Of(interp);
  if (own == nullptr) {
    return absl::FailedPreconditionError("interpreter " + std::to_string(interp.id()) +
                                         " uses the main interpreter's object allocator");
  }
  PYRT_CHECK(own->blocks.load(kRelaxed) == 0, "PyMem_SetAllocator",
             "interpreter %lld has %lld live blocks of its object allocator",
             static_cast<long long>(interp.id()), static_cast<long long>(own->blocks.load(kRelaxed)));
  own->allocator = allocator;
  return absl::OkStatus();
}

int64_t ObjectMemory::Blocks(const Interpreter& interp) {
  const OwnMemory* const own = Of(interp);
  return own == nullptr ? 0 : own->blocks.load(kRelaxed);
}

int64_t ObjectMemory::Leaked() { return leaked.load(kRelaxed); }

}  // namespace pyrt::inline PYRT_VARIANT
