// Sequences of changes of an Inittab, against a list.

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "pyrt/importlock/inittab.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

void InitA(ModuleInit&) {}
void InitB(ModuleInit&) {}
ModuleInitFunction InitOf(int which) { return which == 0 ? &InitA : which == 1 ? &InitB : nullptr; }

struct State {
  Inittab inittab;
  std::vector<InittabEntry> model;
};

void Expect(bool condition, const char* what) {
  PYRT_CHECK(condition, "inittab_fuzz", "the model disagrees: %s", what);
}

// Any bytes, mostly short and equal ones.
std::string NameFrom(FuzzInput& input) {
  std::string name;
  for (int length = input.Below(4); length > 0; --length) name += static_cast<char>(input.Below(3));
  return name;
}

bool IsGood(const std::string& name) { return !name.empty() && name.find('\0') == std::string::npos; }

// A name, whose characters are below 3, in C++.
std::string Literal(const std::string& name) {
  std::string text;
  for (const char c : name) text += "\\" + std::to_string(c);
  return "std::string(\"" + text + "\", " + std::to_string(name.size()) + ")";
}

struct Append {
  std::string name;
  int init;
  std::string ToString() const { return "Append{" + Literal(name) + ", " + std::to_string(init) + "}"; }
  void Perform(State& state) const {
    Expect(state.inittab.Append(name, InitOf(init)).ok() == IsGood(name), "Append");
    if (IsGood(name)) state.model.push_back({name, InitOf(init)});
  }
};

struct Extend {
  std::string first, second;
  std::string ToString() const { return "Extend{" + Literal(first) + ", " + Literal(second) + "}"; }
  void Perform(State& state) const {
    const InittabEntry entries[] = {{first, &InitA}, {second, &InitB}};
    const bool good = IsGood(first) && IsGood(second);
    Expect(state.inittab.Extend(entries).ok() == good, "all or none");
    if (good) state.model.insert(state.model.end(), entries, entries + 2);
  }
};

struct Cycle {
  std::string ToString() const { return "Cycle{}"; }
  void Perform(State& state) const {
    const auto snapshot = state.inittab.Freeze();
    std::set<std::string> names;
    for (const InittabEntry& entry : state.model) {
      if (!names.insert(entry.name).second) continue;
      Expect(snapshot->Find(entry.name)->init == entry.init, "the first of two wins");
      Expect(snapshot->IsBuiltin(entry.name) == (entry.init == nullptr ? -1 : 1), "IsBuiltin");
    }
    Expect(snapshot->Names() == std::vector<std::string>(names.begin(), names.end()), "sorted, each once");
    state.inittab.Thaw();
  }
};

using Operation = std::variant<Append, Extend, Cycle>;

Operation NextOperation(FuzzInput& input) {
  switch (input.Below(4)) {
    case 0:
      return Cycle{};
    case 1:
      return Extend{NameFrom(input), NameFrom(input)};
    default: {
      const std::string name = NameFrom(input);
      return Append{name, input.Below(3)};
    }
  }
}

void RunOne(FuzzInput input) {
  OperationLog::Start();
  State state;
  for (int operations = 0; !input.empty() && operations < 100; ++operations) {
    PerformLogged(Operation(NextOperation(input)), state);
    Expect(state.inittab.size() == state.model.size(), "size");
  }
  PerformLogged(Operation(Cycle{}), state);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(pyrt::FuzzInput(data, size));
  return 0;
}
