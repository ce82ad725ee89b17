// Readers against writers of one ModuleTable, in a schedule that the bytes choose: what a reader finds is
// whole, alive and in order (testing/fuzz/versions.h), and nothing is left at the end. After each step the table has
// for each name what its owner wrote last; in the middle of a write, that or what the owner is writing.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <variant>

#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/importlock/module_table.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"
#include "pyrt/testing/fuzz/versions.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct World {
  // Setup: how many other modules there are, so that the array grows during the run.
  World(uint8_t setup, const detsched::Options& /*options*/) : others(setup % 44) {
    // Made on first use, and a thread may not be switched in the middle of that.
    static_cast<void>(None());
    static_cast<void>(Raise(ErrorType::ValueError(), "no").ok());
    interpreter.host.record = false;
    for (int i = 0; i < others; ++i) table.Set(last_other = "other" + std::to_string(i), Int::Of(i));
    for (int name = 0; name < Versions::kNames; ++name) names[name] = Versions::NameOf(name);
    detsched::Name(&table, "table");
    detsched::Name(&interpreter, "interpreter");
  }
  static void Reset() {}

  void Enter(int self) { attached[self].emplace(interpreter); }
  void Leave(int self) { attached[self].reset(); }

  // The owner of a name has written.
  void Settle(int name) { settled[name] = versions.Current(name); }

  bool Holds() const {
    for (int name = 0; name < Versions::kNames; ++name) {
      const auto* const found = static_cast<const Version*>(table.Peek(names[name]));
      if (found != nullptr && found->name() != name) return false;
      const int number = found == nullptr ? 0 : found->number();
      if (number != settled[name] && number != versions.Current(name)) return false;
    }
    return others == 0 || table.Peek(last_other) != nullptr;
  }
  void CheckEnd(detsched::Schedule& /*schedule*/) {
    for (int name = 0; name < Versions::kNames; ++name) {
      versions.Check(Versions::OwnerOf(name), name, table.Get(Versions::NameOf(name)).get());
    }
    DETSCHED_CHECK(table.size() == static_cast<size_t>(versions.Count() + others));
    DETSCHED_CHECK(table.Snapshot().size() == table.size());
    table.Clear();
    if constexpr (!kGilEnabled) {
      interpreter.delayed.Collect();
      DETSCHED_CHECK(interpreter.delayed.waiting() == 0);
    }
    DETSCHED_CHECK(Version::alive == 0);
  }

  const int others;
  TestInterpreter interpreter;
  ModuleTable& table = interpreter.importer->modules();
  std::optional<InterpreterAttached> attached[kMostThreads];
  Versions versions;
  int settled[Versions::kNames] = {};  // model: the versions that are written; 0: removed
  std::string names[Versions::kNames];
  std::string last_other;
};

struct Get {
  int name;
  std::string ToString() const { return "Get{" + std::to_string(name) + "}"; }
  void Perform(World& world, int self) const {
    world.versions.Check(self, name, world.table.Get(Versions::NameOf(name)).get());
  }
};

struct GetFinished {
  int name;
  std::string ToString() const { return "GetFinished{" + std::to_string(name) + "}"; }
  void Perform(World& world, int self) const {
    world.versions.Check(self, name, world.table.GetFinished(Versions::NameOf(name)).get());
  }
};

// Without a reference: only the reader's place in the Qsbr keeps it.
struct Peek {
  int name;
  std::string ToString() const { return "Peek{" + std::to_string(name) + "}"; }
  void Perform(World& world, int self) const {
    const Object* const found = world.table.Peek(Versions::NameOf(name));
    detsched::Point("has it");
    world.versions.Check(self, name, found);
  }
};

struct Set {
  int name;
  bool if_absent;
  std::string ToString() const {
    return "Set{" + std::to_string(name) + (if_absent ? ", true}" : ", false}");
  }
  void Perform(World& world, int self) const {
    if (Versions::OwnerOf(name) != self) return;
    if (!if_absent) {
      world.table.Set(Versions::NameOf(name), world.versions.Next(name));
    } else if (world.versions.Present(name)) {
      world.versions.Check(self, name, world.table.SetDefault(Versions::NameOf(name), Int::Of(0)).get());
    } else {
      const Ref<Version> next = world.versions.Next(name);
      DETSCHED_CHECK(world.table.SetDefault(Versions::NameOf(name), next).get() == next.get());
    }
    world.Settle(name);
  }
};

struct Remove {
  int name;
  bool if_same;
  std::string ToString() const {
    return "Remove{" + std::to_string(name) + (if_same ? ", true}" : ", false}");
  }
  void Perform(World& world, int self) const {
    if (Versions::OwnerOf(name) != self) return;
    const bool present = world.versions.Present(name);
    world.versions.Remove(name);
    if (if_same) {
      const Object* const expected = world.table.Peek(Versions::NameOf(name));
      DETSCHED_CHECK((expected != nullptr) == present);
      if (present) DETSCHED_CHECK(world.table.RemoveIf(Versions::NameOf(name), expected));
    } else {
      DETSCHED_CHECK((world.table.Remove(Versions::NameOf(name)) != nullptr) == present);
    }
    world.Settle(name);
  }
};

// Anybody: the name is never absent meanwhile.
struct MoveToEnd {
  int name;
  std::string ToString() const { return "MoveToEnd{" + std::to_string(name) + "}"; }
  void Perform(World& world, int self) const {
    world.versions.Check(self, name, world.table.MoveToEnd(Versions::NameOf(name)).get());
  }
};

struct Snapshot {
  std::string ToString() const { return "Snapshot{}"; }
  void Perform(World& world, int self) const {
    std::set<std::string> names;
    for (const auto& [name, value] : world.table.Snapshot()) {
      DETSCHED_CHECK(names.insert(name).second);
      world.versions.CheckItem(self, name, value.get());
    }
    DETSCHED_CHECK(names.size() >= static_cast<size_t>(world.others));
  }
};

struct Switch {
  std::string ToString() const { return "Switch{}"; }
  void Perform(World& world, int self) const {
    world.Leave(self);
    world.Enter(self);
  }
};

// A poll, and the retirement queue.
struct Quiet {
  bool collects;
  std::string ToString() const { return collects ? "Quiet{true}" : "Quiet{false}"; }
  void Perform(World& world, int self) const {
    world.attached[self]->Quiescent();
    if (!kGilEnabled && collects) world.interpreter.delayed.Collect();
  }
};

using Operation = std::variant<Get, GetFinished, Peek, Set, Remove, MoveToEnd, Snapshot, Switch, Quiet>;

Operation NextOperation(FuzzInput& input) {
  const int kind = input.Below(16);
  if (kind == 12) return input.Bool() ? Operation(Snapshot{}) : Operation(Switch{});
  if (kind >= 13) return Quiet{kind != 13};
  const int name = input.Below(Versions::kNames);
  switch (kind) {
    case 0:
    case 1:
      return Get{name};
    case 2:
      return GetFinished{name};
    case 3:
    case 4:
      return Peek{name};
    case 5:
    case 6:
    case 7:
      return Set{name, false};
    case 8:
      return Set{name, true};
    case 9:
      return Remove{name, false};
    case 10:
      return Remove{name, true};
    default:
      return MoveToEnd{name};
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
