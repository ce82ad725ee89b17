// Readers against writers of one sys dictionary, and audit events against hooks that are being added to the
// process and to the interpreter, in a schedule that the bytes choose. What a reader finds is whole, alive and in
// order (testing/fuzz/versions.h); an event reaches every hook that its thread knows of, once, in order, those of
// the process first.

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/audit.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"
#include "pyrt/testing/fuzz/versions.h"
#include "pyrt/tstate/thread_state.h"
#include "pyrt/tstate/tstate_schedule_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr int kMostHooks = kMostThreads * kMostOperations;

struct World;
struct Hook {
  World* world;
  int number;
  bool of_interpreter;
};

class ObjectHook final : public Object {
 public:
  explicit ObjectHook(Hook* hook) : hook_(hook) {}
  const char* TypeName() const override { return "hook"; }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view /*name*/) override { return BoolOf(true); }
  absl::StatusOr<Ref<Object>> Call(Args args) override;

 private:
  Hook* const hook_;
};

struct Member {
  ThreadState* state = nullptr;
  std::vector<int> called;  // by the event that it raises
  std::vector<int> known;   // hooks that it has added, or has seen called
  int change = 0;           // of the number of entries, by the write that it is in the middle of
};

struct World : ScheduleWorld {
  // Setup: how far the table is from growing.
  World(uint8_t setup, const detsched::Options& /*options*/) : others(setup % 8 == 0 ? 0 : 120 + setup % 8) {
    // Made on first use, and a thread may not be switched in the middle of that.
    static_cast<void>(None());
    static_cast<void>(BoolOf(true));
    static_cast<void>(Raise(ErrorType::ValueError(), "no").ok());
    for (int i = 0; i < others; ++i) dict.Set("other" + std::to_string(i), Int::Of(i));
    for (int i = 0; i < kMostHooks; ++i) hooks[i] = {this, i, false};
    detsched::Name(&dict, "dict");
    detsched::Name(&native, "native");
  }

  void Enter(int self) { members[self].state = &ScheduleWorld::Enter(); }
  void Leave(int self) { ScheduleWorld::Leave(*members[self].state); }

  // What its owner has put in and not taken out is alive. The numbers of entries and hooks differ from the model's by
  // the changes at most that are under way.
  bool Holds() const {
    int adding = 0, removing = 0;
    for (const Member& member : members) {
      adding += member.change > 0;
      removing += member.change < 0;
    }
    const int entries = static_cast<int>(dict.size());
    const int wanted = versions.Count() + others;
    const int listed[] = {static_cast<int>(native.size()), static_cast<int>(auditor.own_hooks())};
    for (const int whose : {0, 1}) {
      if (listed[whose] < added[whose] || listed[whose] > added[whose] + being_added[whose]) return false;
    }
    return Version::alive >= versions.Count() && entries >= wanted - adding && entries <= wanted + removing;
  }
  void CheckEnd(detsched::Schedule& /*schedule*/) {
    for (int name = 0; name < Versions::kNames; ++name) {
      versions.Check(Versions::OwnerOf(name), name, dict.Find(Versions::NameOf(name)).get());
    }
    DETSCHED_CHECK(dict.size() == static_cast<size_t>(versions.Count() + others));
    DETSCHED_CHECK(native.size() == static_cast<size_t>(added[0]));
    DETSCHED_CHECK(auditor.own_hooks() == static_cast<size_t>(added[1]));
    native.Clear(nullptr);
    ThreadState& thread = ScheduleWorld::Enter();
    auditor.Clear();
    dict.Clear();
    if constexpr (!kGilEnabled) {
      for (int rounds = 0; rounds < 3; ++rounds) {
        thread.ReportQuiescent();
        if (thread.data().delayed_frees.Process(threads.qsbr(), thread.qsbr_slot())) break;
      }
    }
    DETSCHED_CHECK(Version::alive == 0);
    ScheduleWorld::Leave(thread);
    CheckPristine();
  }

  const int others;
  SysDict dict;
  Versions versions;
  NativeAuditHooks native;
  Auditor auditor{native};
  Hook hooks[kMostHooks];
  Member members[kMostThreads];
  // Model; of the process and of the interpreter:
  int made = 0;
  int added[2] = {};
  int being_added[2] = {};
};

absl::StatusOr<Ref<Object>> ObjectHook::Call(Args /*args*/) {
  hook_->world->members[detsched::CurrentFiber()].called.push_back(hook_->number);
  return None();
}

struct Find {
  int name;
  std::string ToString() const { return "Find{" + std::to_string(name) + "}"; }
  void Perform(World& world, int self) const {
    world.versions.Check(self, name, world.dict.Find(Versions::NameOf(name)).get());
  }
};

struct Set {
  int name;
  std::string ToString() const { return "Set{" + std::to_string(name) + "}"; }
  void Perform(World& world, int self) const {
    if (Versions::OwnerOf(name) != self) return;
    world.members[self].change = world.versions.Present(name) ? 0 : 1;
    world.dict.Set(Versions::NameOf(name), world.versions.Next(name));
    world.members[self].change = 0;
  }
};

struct Delete {
  int name;
  std::string ToString() const { return "Delete{" + std::to_string(name) + "}"; }
  void Perform(World& world, int self) const {
    if (Versions::OwnerOf(name) != self) return;
    const bool present = world.versions.Present(name);
    world.members[self].change = present ? -1 : 0;
    world.versions.Remove(name);
    DETSCHED_CHECK(world.dict.Delete(Versions::NameOf(name)) == present);
    world.members[self].change = 0;
  }
};

struct Snapshot {
  std::string ToString() const { return "Snapshot{}"; }
  void Perform(World& world, int self) const {
    std::set<std::string> names;
    for (const auto& [name, value] : world.dict.Snapshot()) {
      DETSCHED_CHECK(names.insert(name).second);
      world.versions.CheckItem(self, name, value.get());
    }
    DETSCHED_CHECK(names.size() >= static_cast<size_t>(world.others));
  }
};

struct Switch {
  std::string ToString() const { return "Switch{}"; }
  void Perform(World& world, int self) const {
    world.members[self].state->Detach();
    world.members[self].state->Attach();
  }
};

struct Poll {
  std::string ToString() const { return "Poll{}"; }
  void Perform(World& world, int self) const {
    ThreadState& thread = *world.members[self].state;
    static_cast<void>(thread.Poll());
    thread.ReportQuiescent();
  }
};

struct AddHook {
  bool of_interpreter;
  std::string ToString() const { return of_interpreter ? "AddHook{true}" : "AddHook{false}"; }
  void Perform(World& world, int self) const {
    Hook& hook = world.hooks[world.made++];
    hook.of_interpreter = of_interpreter;
    const auto called = [](std::string_view, const Ref<Tuple>&, void* data) {
      const Hook& self_hook = *static_cast<Hook*>(data);
      self_hook.world->members[detsched::CurrentFiber()].called.push_back(self_hook.number);
      return absl::OkStatus();
    };
    world.members[self].called.clear();
    ++world.being_added[of_interpreter];
    DETSCHED_CHECK((of_interpreter ? world.auditor.AddHook(MakeRef<ObjectHook>(&hook))
                                   : world.native.Add(called, &hook, &world.auditor))
                       .value());
    --world.being_added[of_interpreter];
    ++world.added[of_interpreter];
    world.members[self].known.push_back(hook.number);
  }
};

struct Audit {
  std::string ToString() const { return "Audit{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    me.called.clear();
    DETSCHED_CHECK(world.auditor.Audit("event").ok());
    // What it knew is called in the same order as ever; then there may be more.
    DETSCHED_CHECK(me.called.size() >= me.known.size());
    const std::set<int> once(me.called.begin(), me.called.end());
    DETSCHED_CHECK(once.size() == me.called.size());
    for (const int number : me.known) DETSCHED_CHECK(once.count(number) == 1);
    for (size_t i = 1; i < me.called.size(); ++i) {
      DETSCHED_CHECK(!world.hooks[me.called[i - 1]].of_interpreter ||
                     world.hooks[me.called[i]].of_interpreter);
    }
    me.known = me.called;
  }
};

using Operation = std::variant<Find, Set, Delete, Snapshot, Switch, Poll, AddHook, Audit>;

Operation NextOperation(FuzzInput& input) {
  const uint8_t byte = input.Byte();
  const int kind = byte % 16;
  if (kind == 9) return Snapshot{};
  if (kind == 10 || kind == 11) return Switch{};
  if (kind == 12) return Poll{};
  if (kind == 13) return AddHook{byte >= 0x80};
  if (kind >= 14) return Audit{};
  const int name = input.Below(Versions::kNames);
  if (kind < 3) return Find{name};
  if (kind < 7) return Set{name};
  return Delete{name};
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
