// Sequences of hooks and events against two lists: who is called, in which order, with what traced and what
// pending, and what the outcome is. Hooks refuse events, may or may not be traced, and add hooks while they
// run.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/audit.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr const char* kEvents[] = {"sys.addaudithook", "open", "import", kAuditClearAuditHooks};
constexpr int kRefusesNone = 4;
constexpr size_t kMostHooks = 64;

const ErrorType& TypeOf(int number) {
  const ErrorType* const types[] = {&ErrorType::RuntimeError(), &ErrorType::RecursionError(),
                                    &ErrorType::ValueError(), &ErrorType::KeyboardInterrupt()};
  return *types[number];
}

void Expect(bool condition, const char* what) {
  PYRT_CHECK(condition, "audit_fuzz", "the model disagrees: %s", what);
}

// What a hook does, and how one is written down.
struct Behaviour {
  int refuses;   // an event's number, or kRefusesNone
  int error;     // TypeOf
  int cantrace;  // of objects: 0 no attribute, 1 true, 2 false, 3 the lookup fails
  bool adds;     // a harmless native hook, the first time that it is called
  std::string ToString() const {
    return "{" + std::to_string(refuses) + ", " + std::to_string(error) + ", " + std::to_string(cantrace) +
           (adds ? ", true}" : ", false}");
  }
};
constexpr Behaviour kHarmless{kRefusesNone, 0, 0, false};

struct State;
struct Hook {
  State* state;
  int number;
  Behaviour behaviour;
  bool has_added = false;
};

class ObjectHook final : public Object {
 public:
  explicit ObjectHook(Hook* hook) : hook_(hook) {}
  const char* TypeName() const override { return "hook"; }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
    if (name != "__cantrace__" || hook_->behaviour.cantrace == 0) return Object::GetAttr(name);
    if (hook_->behaviour.cantrace == 3) return Raise(ErrorType::ValueError(), "__cantrace__");
    return BoolOf(hook_->behaviour.cantrace == 1);
  }
  absl::StatusOr<Ref<Object>> Call(Args args) override;

 private:
  Hook* const hook_;
};

struct State {
  State() {
    thread.Bind();
    thread.Attach();
  }
  ~State() {
    thread.data().current_exception = nullptr;
    thread.Detach();
    thread.UnbindGilState();
  }

  Hook& Make(const Behaviour& behaviour) {
    hooks.push_back({this, static_cast<int>(hooks.size()), behaviour});
    return hooks.back();
  }

  // A hook is called: what really happens.
  absl::Status Called(Hook& hook, std::string_view event, bool native_hook) {
    called.push_back(hook.number);
    Expect(thread.data().current_exception == nullptr, "a hook is called as if nothing had been raised");
    const bool traced = native_hook || hook.behaviour.cantrace == 1;
    Expect(thread.data().tracing == (traced ? 0 : 1), "tracing is off while hooks of the interpreter run");
    if (hook.behaviour.adds && !std::exchange(hook.has_added, true)) {
      Expect(native.Add(&Run, &Make(kHarmless), nullptr).value(), "without an auditor nobody is asked");
    }
    if (hook.behaviour.refuses != kRefusesNone && event == kEvents[hook.behaviour.refuses]) {
      return Raise(TypeOf(hook.behaviour.error), "refused");
    }
    return absl::OkStatus();
  }
  static absl::Status Run(std::string_view event, const Ref<Tuple>& /*arguments*/, void* data) {
    Hook& hook = *static_cast<Hook*>(data);
    return hook.state->Called(hook, event, /*native_hook=*/true);
  }

  // What is to happen. Null: all agree.
  const ErrorType* Predict(int event) {
    expected.clear();
    std::vector<bool> added(hooks.size());
    for (size_t i = 0; i < hooks.size(); ++i) added[i] = hooks[i].has_added;
    int next = static_cast<int>(hooks.size());
    const auto call = [&](const std::vector<int>& list, size_t at, bool native_hook) -> const ErrorType* {
      const int number = list[at];
      const Behaviour behaviour =
          number < static_cast<int>(hooks.size()) ? hooks[static_cast<size_t>(number)].behaviour : kHarmless;
      if (!native_hook && behaviour.cantrace == 3) return &ErrorType::ValueError();
      expected.push_back(number);
      if (behaviour.adds && !added[static_cast<size_t>(number)]) {
        added[static_cast<size_t>(number)] = true;
        model_native.push_back(next++);
      }
      return behaviour.refuses == event ? &TypeOf(behaviour.error) : nullptr;
    };
    for (size_t i = 0; i < model_native.size(); ++i) {  // which grows
      if (const ErrorType* const error = call(model_native, i, true)) return error;
    }
    for (size_t i = 0; i < model_own.size(); ++i) {
      if (const ErrorType* const error = call(model_own, i, false)) return error;
    }
    return nullptr;
  }
  void CheckCalls() {
    Expect(called == expected, "who is called, and in which order");
    called.clear();
    Expect(thread.data().tracing == 0, "tracing is on again");
  }

  Gil gil;
  InterpreterLink link{.gil = &gil};
  ThreadState thread{link, Whence::kUnknown, 1};
  NativeAuditHooks native;
  Auditor auditor{native};
  std::deque<Hook> hooks;
  std::vector<int> called;
  std::vector<int> expected;
  std::vector<int> model_native;
  std::vector<int> model_own;
};

absl::StatusOr<Ref<Object>> ObjectHook::Call(Args args) {
  const absl::Status status = hook_->state->Called(*hook_, As<String>(args[0])->value(), false);
  if (!status.ok()) return status;
  return None();
}

// 0: before initialization, nobody is asked; 1: with the auditor.
struct AddNative {
  Behaviour behaviour;
  bool asks;
  std::string ToString() const {
    return "AddNative{" + behaviour.ToString() + (asks ? ", true}" : ", false}");
  }
  void Perform(State& state) const {
    if (state.hooks.size() >= kMostHooks) return;
    Hook& hook = state.Make(behaviour);
    const ErrorType* const error = asks ? state.Predict(0) : nullptr;
    const absl::StatusOr<bool> added = state.native.Add(&State::Run, &hook, asks ? &state.auditor : nullptr);
    if (asks) state.CheckCalls();
    if (error == nullptr) state.model_native.push_back(hook.number);
    if (error == nullptr || error->IsSubtypeOf(ErrorType::RuntimeError())) {
      Expect(added.ok() && *added == (error == nullptr), "RuntimeError means no");
    } else {
      Expect(IsError(added.status(), *error), "another error is returned");
    }
  }
};

struct AddObject {
  Behaviour behaviour;
  std::string ToString() const { return "AddObject{" + behaviour.ToString() + "}"; }
  void Perform(State& state) const {
    if (state.hooks.size() >= kMostHooks) return;
    Hook& hook = state.Make(behaviour);
    const ErrorType* const error = state.Predict(0);
    const absl::StatusOr<bool> added = state.auditor.AddHook(MakeRef<ObjectHook>(&hook));
    state.CheckCalls();
    if (error == nullptr) state.model_own.push_back(hook.number);
    if (error == nullptr || error->IsSubtypeOf(ErrorType::Exception())) {
      Expect(added.ok() && *added == (error == nullptr), "any Exception means no");
    } else {
      Expect(IsError(added.status(), *error), "what is no Exception is returned");
    }
  }
};

// 0: Audit, 1: AuditTuple without arguments, 2: with a tuple, 3: with what is none.
struct Raised {
  int event;
  int how;
  bool pending;  // an exception is, when the event is raised
  std::string ToString() const {
    return "Raised{" + std::to_string(event) + ", " + std::to_string(how) +
           (pending ? ", true}" : ", false}");
  }
  void Perform(State& state) const {
    Ref<Error>& current = state.thread.data().current_exception;
    if (pending) current = Error::New(ErrorType::KeyError(), "pending");
    const Ref<Error> before = current;
    absl::Status status;
    if (how == 3) {
      status = state.auditor.AuditTuple(kEvents[event], Int::Of(1));
      Expect(!status.ok(), "what is no tuple is refused, whether or not anybody would see it");
      Expect(ErrorFromStatus(status)->Message() == "args must be tuple, got int", "its text");
      Expect(current == before, "nothing was raised");
    } else {
      const ErrorType* const error = state.Predict(event);
      if (how == 0) status = state.auditor.Audit(kEvents[event], "si", "text", event);
      if (how == 1) status = state.auditor.AuditTuple(kEvents[event], nullptr);
      if (how == 2) status = state.auditor.AuditTuple(kEvents[event], Tuple::Of({Int::Of(event)}));
      state.CheckCalls();
      Expect(error == nullptr ? status.ok() : IsError(status, *error), "the outcome");
      Expect(current == (error == nullptr ? before : nullptr), "what was pending is put back, or dropped");
    }
    current = nullptr;
  }
};

// On a detached thread an event is dropped.
struct Detached {
  int event;
  std::string ToString() const { return "Detached{" + std::to_string(event) + "}"; }
  void Perform(State& state) const {
    state.thread.Detach();
    const bool ok =
        state.auditor.Audit(kEvents[event]).ok() && state.auditor.AuditTuple(kEvents[event], nullptr).ok();
    state.thread.Attach();
    Expect(ok && state.called.empty(), "nobody is called");
  }
};

// The end of the runtime or of the interpreter.
struct Clear {
  bool of_process;
  std::string ToString() const { return of_process ? "Clear{true}" : "Clear{false}"; }
  void Perform(State& state) const {
    if (of_process) {
      state.Predict(3);
      state.native.Clear(&state.auditor);
      state.CheckCalls();
      state.model_native.clear();
    } else {
      state.auditor.Clear();
      state.model_own.clear();
    }
  }
};

using Operation = std::variant<AddNative, AddObject, Raised, Detached, Clear>;

Behaviour NextBehaviour(FuzzInput& input) {
  const uint8_t byte = input.Byte();
  Behaviour behaviour = kHarmless;
  if ((byte & 3) == 0) behaviour.refuses = byte >> 2 & 3;
  behaviour.error = byte >> 4 & 3;
  if ((byte & 3) == 1) behaviour.cantrace = byte >> 2 & 3;
  behaviour.adds = (byte & 0xc0) == 0xc0;
  return behaviour;
}

Operation NextOperation(FuzzInput& input) {
  const uint8_t byte = input.Byte();
  switch (byte & 7) {
    case 0:
    case 1:
      return AddNative{NextBehaviour(input), (byte & 8) != 0};
    case 2:
    case 3:
      return AddObject{NextBehaviour(input)};
    case 4:
      if (byte >= 0xf0) return Clear{(byte & 8) != 0};
      return Detached{byte >> 3 & 3};
    default:
      return Raised{byte >> 3 & 3, byte >> 5 & 3, byte >= 0x80};
  }
}

void RunOne(FuzzInput input) {
  OperationLog::Start();
  State state;
  for (int operations = 0; !input.empty() && operations < 200; ++operations) {
    PerformLogged(Operation(NextOperation(input)), state);
    Expect(state.native.size() == state.model_native.size(), "the process's hooks");
    Expect(state.auditor.own_hooks() == state.model_own.size(), "the interpreter's hooks");
    Expect(state.auditor.ShouldAudit() == (!state.model_native.empty() || !state.model_own.empty()),
           "ShouldAudit()");
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(pyrt::FuzzInput(data, size));
  return 0;
}
