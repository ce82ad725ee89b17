// Sequences of operations on one ModuleTable, against a list in the order of completion.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "pyrt/importlock/module_table.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct State {
  ImmediateReclaimer reclaimer;
  ModuleTable table{reclaimer};
  std::vector<std::pair<std::string, int64_t>> model;
  int64_t next = 0;

  auto Find(const std::string& name) {
    return std::find_if(model.begin(), model.end(), [&](const auto& item) { return item.first == name; });
  }
};

void Expect(bool condition, const char* what) {
  PYRT_CHECK(condition, "module_table_fuzz", "the model disagrees: %s", what);
}

std::string NameOf(int number) { return "m" + std::to_string(number); }

struct Set {
  int name;
  std::string ToString() const { return "Set{" + std::to_string(name) + "}"; }
  void Perform(State& state) const {
    const int64_t value = state.next++;
    state.table.Set(NameOf(name), Int::Of(value));
    const auto found = state.Find(NameOf(name));
    if (found == state.model.end()) {
      state.model.emplace_back(NameOf(name), value);
    } else {
      found->second = value;
    }
  }
};

struct SetDefault {
  int name;
  std::string ToString() const { return "SetDefault{" + std::to_string(name) + "}"; }
  void Perform(State& state) const {
    const int64_t value = state.next++;
    const Ref<Object> result = state.table.SetDefault(NameOf(name), Int::Of(value));
    auto found = state.Find(NameOf(name));
    if (found == state.model.end()) found = state.model.insert(found, {NameOf(name), value});
    Expect(As<Int>(result)->value() == found->second, "SetDefault gives what is there");
  }
};

struct Remove {
  int name;
  std::string ToString() const { return "Remove{" + std::to_string(name) + "}"; }
  void Perform(State& state) const {
    const auto found = state.Find(NameOf(name));
    Expect((state.table.Remove(NameOf(name)) != nullptr) == (found != state.model.end()), "Remove");
    if (found != state.model.end()) state.model.erase(found);
  }
};

struct MoveToEnd {
  int name;
  std::string ToString() const { return "MoveToEnd{" + std::to_string(name) + "}"; }
  void Perform(State& state) const {
    const auto found = state.Find(NameOf(name));
    Expect((state.table.MoveToEnd(NameOf(name)) != nullptr) == (found != state.model.end()), "MoveToEnd");
    if (found != state.model.end()) std::rotate(found, found + 1, state.model.end());
  }
};

using Operation = std::variant<Set, SetDefault, Remove, MoveToEnd>;

Operation NextOperation(FuzzInput& input) {
  const int kind = input.Below(7);
  const int name = input.Below(256);
  if (kind < 3) return Set{name};
  if (kind == 3) return SetDefault{name};
  if (kind == 4) return MoveToEnd{name};
  return Remove{name};
}

void RunOne(FuzzInput input) {
  OperationLog::Start();
  State state;
  for (int operations = 0; !input.empty() && operations < 400; ++operations) {
    PerformLogged(Operation(NextOperation(input)), state);
    const std::string name = NameOf(operations % 256);
    const Ref<Object> found = state.table.Get(name);
    const auto expected = state.Find(name);
    Expect((found != nullptr) == (expected != state.model.end()), "Get");
    if (found) Expect(As<Int>(found)->value() == expected->second, "the value");
  }
  const std::vector<ModuleTable::Item> items = state.table.Snapshot();
  Expect(items.size() == state.model.size(), "size");
  for (size_t i = 0; i < items.size(); ++i) Expect(items[i].first == state.model[i].first, "order");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(pyrt::FuzzInput(data, size));
  return 0;
}
