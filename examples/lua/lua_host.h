// LuaHost: Lua 5.4 as a language on pyrt, with threads.
//
//   Runtime::Initialize(LuaHost::Options());
//   absl::StatusOr<Ref<Object>> module = ImporterOf(Interpreter::Get())->Import("script");
//
// One lua_State and its coroutines belong to an interpreter. Lua itself knows no threads, so whoever touches it holds
// the interpreter's GIL, which is on in the GIL-disabled build too; each Thread runs a coroutine of its own. A hook
// after every thousand instructions polls, so that threads take turns, signals and asynchronous exceptions arrive,
// and pending calls run.
//
// Lua sees: import(name), a module's table; spawn(function) -> thread; thread:join(); sleep(seconds), detached;
// switches(), how often the GIL has changed hands. Errors are Lua errors with the exception's text.

#ifndef PYRT_EXAMPLES_LUA_LUA_HOST_H_
#define PYRT_EXAMPLES_LUA_LUA_HOST_H_

#include <string>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/runtime.h"

struct lua_State;

namespace pyrt_lua {

class LuaHost {
 public:
  // How the runtime must be started.
  static pyrt::RuntimeOptions Options();

  // Attached to the interpreter, whose `import` then finds DIRECTORY/NAME.lua and DIRECTORY/NAME/init.lua.
  LuaHost(pyrt::Interpreter& interp, const std::string& directory);
  LuaHost(const LuaHost&) = delete;
  LuaHost& operator=(const LuaHost&) = delete;
  // After the interpreter's end: its modules hold Lua values until then.
  ~LuaHost();

  lua_State* lua() const { return lua_; }

 private:
  lua_State* const lua_;
};

}  // namespace pyrt_lua

#endif  // PYRT_EXAMPLES_LUA_LUA_HOST_H_
