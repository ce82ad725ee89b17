#include "pyrt/testing/detsched/internal/fiber_local.h"

#include <cstring>

#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/detsched/internal/access.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

struct Variable {
  char* address;
  size_t size;
  size_t offset;
};

// Filled in by constructors of static objects, in any order, before main.
struct Registry {
  static constexpr size_t kVariables = 256;
  static constexpr size_t kBytes = 8192;
  Variable variables[kVariables];
  char initial[kBytes];
  size_t count;
  size_t bytes;
};
constinit Registry registry{};

}  // namespace

FiberLocal::FiberLocal(void* address, size_t size) {
  // With shared libraries the same inline variable may come more than once.
  for (size_t i = 0; i < registry.count; ++i) {
    if (registry.variables[i].address == address) return;
  }
  PYRT_CHECK(registry.count < Registry::kVariables && registry.bytes + size <= Registry::kBytes, "detsched",
             "too many PYRT_THREAD_LOCAL variables: raise the sizes of the registry");
  registry.variables[registry.count++] = {static_cast<char*>(address), size, registry.bytes};
  std::memcpy(registry.initial + registry.bytes, address, size);
  registry.bytes += size;
}

void ResetFiberLocals(std::vector<char>* locals) {
  locals->assign(registry.initial, registry.initial + registry.bytes);
}

void SwapFiberLocals(std::vector<char>* old, const std::vector<char>* next) {
  old->resize(registry.bytes);
  for (size_t i = 0; i < registry.count; ++i) {
    const Variable& variable = registry.variables[i];
    if (variable.size == sizeof(void*)) {
      std::memcpy(old->data() + variable.offset, variable.address, sizeof(void*));
      std::memcpy(variable.address, next->data() + variable.offset, sizeof(void*));
    } else {
      std::memcpy(old->data() + variable.offset, variable.address, variable.size);
      std::memcpy(variable.address, next->data() + variable.offset, variable.size);
    }
  }
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
