#include "examples/lua/lua_host.h"

#include <cmath>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "lua.hpp"

#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/path_finder.h"
#include "pyrt/runtime/import_subsystem.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/sync/event.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt_lua {
namespace {

constexpr int kInstructionsPerPoll = 1000;
constexpr char kThreadType[] = "pyrt.Thread";
constexpr char kModuleValue[] = "__lua__";

// The coroutine that runs on this thread: where a module's body goes on from import().
thread_local lua_State* running = nullptr;

class RunningScope {
 public:
  explicit RunningScope(lua_State* lua) : before_(std::exchange(running, lua)) {}
  ~RunningScope() { running = before_; }

 private:
  lua_State* const before_;
};

// A value of Lua's that an object of the runtime keeps alive.
class LuaValue final : public pyrt::Object {
 public:
  // Takes the value from the top of the stack.
  explicit LuaValue(lua_State* lua) : lua_(lua), reference_(luaL_ref(lua, LUA_REGISTRYINDEX)) {}
  void Push(lua_State* lua) const { lua_rawgeti(lua, LUA_REGISTRYINDEX, reference_); }
  const char* TypeName() const override { return "LuaValue"; }

 private:
  ~LuaValue() override { luaL_unref(running != nullptr ? running : lua_, LUA_REGISTRYINDEX, reference_); }

  lua_State* const lua_;
  const int reference_;
};

// Lua raises by longjmp, which passes C++ destructors over (as it does here when Lua runs out of memory). So each function of ours is in two parts: one that may
// own things and returns a Status, and this one, which owns nothing when it raises.
template <absl::Status (*body)(lua_State* lua, int& results)>
int Function(lua_State* lua) {
  int results = 0;
  {
    const RunningScope scope(lua);
    const absl::Status status = body(lua, results);
    if (status.ok()) return results;
    lua_pushlstring(lua, status.message().data(), status.message().size());
  }
  return lua_error(lua);
}

// The error that a failed call has left on the stack.
absl::Status TakeError(lua_State* lua, const pyrt::ErrorType& type) {
  const char* const text = lua_tostring(lua, -1);
  absl::Status status = pyrt::Raise(type, "%s", text != nullptr ? text : "an error that is no string");
  lua_pop(lua, 1);
  return status;
}

absl::Status PendingError() {
  pyrt::Ref<pyrt::Error>& current = pyrt::ThreadState::Get().data().current_exception;
  return pyrt::ToStatus(std::exchange(current, nullptr));
}

absl::Status PollBody(lua_State*, int&) {
  return pyrt::ThreadState::Get().Poll() == 0 ? absl::OkStatus() : PendingError();
}
void Poll(lua_State* lua, lua_Debug*) { Function<PollBody>(lua); }

// --- Modules

// Runs `path` and keeps what it returns as the module's value.
absl::Status RunModule(const std::string& path, const pyrt::Ref<pyrt::Object>& module) {
  lua_State* const lua = running;
  if (luaL_loadfile(lua, path.c_str()) != LUA_OK || lua_pcall(lua, 0, 1, 0) != LUA_OK) {
    return TakeError(lua, pyrt::ErrorType::ImportError());
  }
  return module->SetAttr(kModuleValue, pyrt::MakeRef<LuaValue>(lua));
}

absl::Status ImportBody(lua_State* lua, int& results) {
  const char* const name = lua_tostring(lua, 1);
  if (name == nullptr) return pyrt::Raise(pyrt::ErrorType::TypeError(), "import needs a name");
  auto module = pyrt::ImporterOf(pyrt::Interpreter::Get())->Import(name);
  if (!module.ok()) return module.status();
  // A module in the middle of its own import has no value yet.
  const auto value = (*module)->GetAttr(kModuleValue);
  if (value.ok()) {
    static_cast<LuaValue&>(**value).Push(lua);
  } else {
    lua_pushnil(lua);
  }
  results = 1;
  return absl::OkStatus();
}

// --- Threads

using ThreadBox = std::optional<pyrt::Thread>;

absl::Status RunCoroutine(lua_State* coroutine, int anchor) {
  const RunningScope scope(coroutine);
  absl::Status status;
  if (lua_pcall(coroutine, 0, 0, 0) != LUA_OK) status = TakeError(coroutine, pyrt::ErrorType::RuntimeError());
  luaL_unref(coroutine, LUA_REGISTRYINDEX, anchor);  // from here on Lua may free the coroutine
  return status;
}

absl::Status StartBody(lua_State* lua, int& results) {
  if (!lua_isfunction(lua, 1)) return pyrt::Raise(pyrt::ErrorType::TypeError(), "spawn needs a function");
  auto* const box = new (lua_newuserdatauv(lua, sizeof(ThreadBox), 0)) ThreadBox;
  luaL_setmetatable(lua, kThreadType);
  lua_State* const coroutine = lua_newthread(lua);  // inherits the hook
  lua_pushvalue(lua, 1);
  lua_xmove(lua, coroutine, 1);
  const int anchor = luaL_ref(lua, LUA_REGISTRYINDEX);
  auto thread = pyrt::Thread::Start([=] { return RunCoroutine(coroutine, anchor); });
  if (!thread.ok()) {
    luaL_unref(lua, LUA_REGISTRYINDEX, anchor);
    return thread.status();
  }
  box->emplace(*std::move(thread));
  results = 1;
  return absl::OkStatus();
}

absl::Status JoinBody(lua_State* lua, int&) {
  auto* const box = static_cast<ThreadBox*>(luaL_testudata(lua, 1, kThreadType));
  if (box == nullptr) return pyrt::Raise(pyrt::ErrorType::TypeError(), "join needs a thread: thread:join()");
  return (*box)->Join();
}

int CollectThread(lua_State* lua) {
  static_cast<ThreadBox*>(lua_touserdata(lua, 1))->~ThreadBox();
  return 0;
}

// --- The rest

absl::Status SleepBody(lua_State* lua, int&) {
  const double seconds = lua_tonumber(lua, 1);
  if (!(seconds >= 0) || seconds > 1e6) {
    return pyrt::Raise(pyrt::ErrorType::ValueError(), "sleep length must be in [0, 1e6], not %g", seconds);
  }
  const pyrt::DetachedScope detached;
  pyrt::Event never;
  static_cast<void>(never.WaitTimed(static_cast<pyrt::Timeout>(std::llround(seconds * 1e9))));
  return absl::OkStatus();
}

absl::Status SwitchesBody(lua_State* lua, int& results) {
  lua_pushinteger(lua, static_cast<lua_Integer>(pyrt::Interpreter::Get().gil().switch_number()));
  results = 1;
  return absl::OkStatus();
}

void Register(lua_State* lua) {
  lua_register(lua, "import", Function<ImportBody>);
  lua_register(lua, "spawn", Function<StartBody>);
  lua_register(lua, "sleep", Function<SleepBody>);
  lua_register(lua, "switches", Function<SwitchesBody>);
  luaL_newmetatable(lua, kThreadType);
  lua_pushvalue(lua, -1);
  lua_setfield(lua, -2, "__index");
  lua_pushcfunction(lua, Function<JoinBody>);
  lua_setfield(lua, -2, "join");
  lua_pushcfunction(lua, CollectThread);
  lua_setfield(lua, -2, "__gc");
  lua_pop(lua, 1);
}

}  // namespace

pyrt::RuntimeOptions LuaHost::Options() {
  pyrt::RuntimeOptions options;
  options.enable_gil = true;  // a lua_State is no place for two threads at once
  options.install_signal_handlers = true;
  return options;
}

LuaHost::LuaHost(pyrt::Interpreter& interp, const std::string& directory) : lua_(luaL_newstate()) {
  luaL_openlibs(lua_);
  Register(lua_);
  lua_sethook(lua_, &Poll, LUA_MASKCOUNT, kInstructionsPerPoll);
  running = lua_;

  pyrt::PathFinder::Options options;
  options.suffixes = {{.suffix = ".lua", .package_file = "init.lua", .run = RunModule}};
  pyrt::Importer& importer = *pyrt::ImporterOf(interp);
  importer.set_meta_path(pyrt::List::Of(
      {pyrt::MakeRef<pyrt::PathFinder>(pyrt::List::OfStrings({directory}), std::move(options))}));
}

LuaHost::~LuaHost() {
  running = nullptr;
  lua_close(lua_);
}

}  // namespace pyrt_lua
