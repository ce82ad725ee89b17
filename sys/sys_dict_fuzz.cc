// Sequences of operations on one sys dictionary, and on none, against a list in the order of first setting.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// What is stored; counts itself, so that nothing leaks or dies early.
class Value final : public Object {
 public:
  explicit Value(int number) : number_(number) { ++alive; }
  ~Value() override { --alive; }
  int number() const { return number_; }
  const char* TypeName() const override { return "value"; }
  static inline size_t alive = 0;

 private:
  const int number_;
};

struct State {
  SysDict dict;
  std::vector<std::pair<std::string, int>> model;
  int next = 0;

  auto At(const std::string& name) {
    return std::find_if(model.begin(), model.end(), [&](const auto& item) { return item.first == name; });
  }
};

void Expect(bool condition, const char* what) {
  PYRT_CHECK(condition, "sys_dict_fuzz", "the model disagrees: %s", what);
}
void ExpectRaised(const absl::Status& status, const ErrorType& type, const std::string& message) {
  Expect(IsError(status, type) && ErrorFromStatus(status)->Message() == message, message.c_str());
}

std::string NameOf(int number) { return "name" + std::to_string(number); }

// 0: SysDict, 1: SysSetObject.
struct Set {
  int name;
  int how;
  std::string ToString() const { return "Set{" + std::to_string(name) + ", " + std::to_string(how) + "}"; }
  void Perform(State& state) const {
    const std::string text = NameOf(name);
    const int number = state.next++;
    if (how == 0) state.dict.Set(text, MakeRef<Value>(number));
    if (how == 1) Expect(SysSetObject(&state.dict, text, MakeRef<Value>(number)).ok(), "SysSetObject");
    const auto at = state.At(text);
    if (at == state.model.end()) {
      state.model.emplace_back(text, number);
    } else {
      at->second = number;
    }
  }
};

// 0: SysDict, 1: SysDelObject, 2: SysSetObject of null.
struct Delete {
  int name;
  int how;
  std::string ToString() const { return "Delete{" + std::to_string(name) + ", " + std::to_string(how) + "}"; }
  void Perform(State& state) const {
    const std::string text = NameOf(name);
    const auto at = state.At(text);
    const bool present = at != state.model.end();
    if (how == 0) Expect(state.dict.Delete(text) == present, "Delete says whether there was one");
    if (how == 1) Expect(SysDelObject(&state.dict, text).ok(), "a missing one is deleted too");
    if (how == 2) Expect(SysSetObject(&state.dict, text, nullptr).ok(), "null deletes");
    if (present) state.model.erase(at);
  }
};

struct Get {
  int name;
  std::string ToString() const { return "Get{" + std::to_string(name) + "}"; }
  void Perform(State& state) const {
    const std::string text = NameOf(name);
    const auto at = state.At(text);
    const Ref<Object> found = state.dict.Find(text);
    Expect((found != nullptr) == (at != state.model.end()), "Find");
    Expect(found == SysGetObject(&state.dict, text), "SysGetObject");
    Expect(found == SysGetOptionalAttr(&state.dict, text).value(), "SysGetOptionalAttr");
    Expect(found == SysGetOptionalAttr(&state.dict, Ref<Object>(String::Of(text))).value(), "by an object");
    Expect(state.dict.Contains(text) == (found != nullptr), "Contains");
    const absl::StatusOr<Ref<Object>> attribute = SysGetAttr(&state.dict, text);
    if (found) {
      Expect(static_cast<const Value&>(*found).number() == at->second, "the value");
      Expect(attribute.ok() && *attribute == found, "SysGetAttr");
    } else {
      ExpectRaised(attribute.status(), ErrorType::RuntimeError(), "lost sys." + text);
    }
  }
};

// The same calls where there is no dictionary, and with a name that is none.
struct Misuse {
  int name;
  std::string ToString() const { return "Misuse{" + std::to_string(name) + "}"; }
  void Perform(State& state) const {
    const std::string text = NameOf(name);
    Expect(SysGetObject(nullptr, text) == nullptr, "no dictionary, no error");
    Expect(SysGetOptionalAttr(nullptr, text).value() == nullptr, "no dictionary, no error");
    ExpectRaised(SysGetAttr(nullptr, text).status(), ErrorType::RuntimeError(), "no sys module");
    ExpectRaised(SysSetObject(nullptr, text, MakeRef<Value>(0)), ErrorType::RuntimeError(), "no sys module");
    ExpectRaised(SysDelObject(nullptr, text), ErrorType::RuntimeError(), "no sys module");
    const Ref<Object> number = Int::Of(name);
    ExpectRaised(SysGetAttr(&state.dict, number).status(), ErrorType::TypeError(),
                 "attribute name must be string, not 'int'");
    ExpectRaised(SysGetOptionalAttr(&state.dict, number).status(), ErrorType::TypeError(),
                 "attribute name must be string, not 'int'");
  }
};

struct Clear {
  std::string ToString() const { return "Clear{}"; }
  void Perform(State& state) const {
    state.dict.Clear();
    state.model.clear();
  }
};

using Operation = std::variant<Set, Delete, Get, Misuse, Clear>;

Operation NextOperation(FuzzInput& input) {
  const uint8_t kind = input.Byte();
  if (kind == 255) return Clear{};
  const int name = input.Byte();
  switch (kind & 7) {
    case 0:
    case 1:
    case 2:
    case 3:
      return Set{name, kind >> 3 & 1};
    case 4:
    case 5:
      return Delete{name, (kind >> 3) % 3};
    case 6:
      return Get{name};
    default:
      return Misuse{name};
  }
}

void CheckAll(State& state) {
  const auto items = state.dict.Snapshot();
  Expect(items.size() == state.model.size(), "Snapshot's size");
  for (size_t i = 0; i < items.size(); ++i) {
    Expect(items[i].first == state.model[i].first, "Snapshot's order");
    Expect(static_cast<const Value&>(*items[i].second).number() == state.model[i].second, "its values");
  }
}

void RunOne(FuzzInput input) {
  OperationLog::Start();
  Value::alive = 0;
  {
    State state;
    for (int operations = 0; !input.empty() && operations < 500; ++operations) {
      PerformLogged(Operation(NextOperation(input)), state);
      Expect(state.dict.size() == state.model.size(), "size()");
      Expect(Value::alive == state.model.size(), "nothing leaks, nothing dies early");
      if (operations % 64 == 0) CheckAll(state);
    }
    CheckAll(state);
  }
  Expect(Value::alive == 0, "all die with the dictionary");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(pyrt::FuzzInput(data, size));
  return 0;
}
