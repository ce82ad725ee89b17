#include "pyrt/runtime/allocator_names.h"

#include <cstdlib>

#include "pyrt/runtime/allocator.h"
#include "pyrt/runtime/allocator_debug.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr AllocatorDomain kDomains[] = {AllocatorDomain::kRaw, AllocatorDomain::kMem,
                                        AllocatorDomain::kObject};

constexpr size_t AtLeastOne(size_t size) { return size == 0 ? 1 : size; }

constexpr Allocator kMalloc = {
    .context = nullptr,
    .malloc = [](void*, size_t size) -> void* { return std::malloc(AtLeastOne(size)); },
    .calloc = [](void*, size_t elements, size_t size) -> void* {
      return elements == 0 || size == 0 ? std::calloc(1, 1) : std::calloc(elements, size);
    },
    .realloc = [](void*, void* block, size_t size) -> void* { return std::realloc(block, AtLeastOne(size)); },
    .free = [](void*, void* block) { std::free(block); },
};

}  // namespace

absl::Status SetAllocatorsByName(std::string_view name) {
  struct Choice {
    std::string_view name;
    const Allocator* table;  // null: what is in use
    bool debug;
  };
  static const Choice kChoices[] = {
      {"default", &DefaultAllocator(), false},
      {"debug", nullptr, true},
      {"mimalloc", &DefaultAllocator(), false},
      {"mimalloc_debug", &DefaultAllocator(), true},
      {"malloc", &kMalloc, false},
      {"malloc_debug", &kMalloc, true},
  };
  for (const Choice& choice : kChoices) {
    if (choice.name != name) continue;
    if (choice.table != nullptr) {
      for (const AllocatorDomain domain : kDomains) SetAllocator(domain, *choice.table);
    }
    if (choice.debug) SetupDebugHooks();
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("PYTHONMALLOC: unknown allocator");
}

std::string_view CurrentAllocatorName() {
  const auto is = [](const Allocator& table, bool debug) {
    for (const AllocatorDomain domain : kDomains) {
      if (HasDebugHooks(domain) != debug) return false;
      if (AllocatorUnderDebugHooks(domain).malloc != table.malloc) return false;
    }
    return true;
  };
  if (is(DefaultAllocator(), false)) return "mimalloc";
  if (is(DefaultAllocator(), true)) return "mimalloc_debug";
  if (is(kMalloc, false)) return "malloc";
  if (is(kMalloc, true)) return "malloc_debug";
  return "";
}

}  // namespace pyrt::inline PYRT_VARIANT
