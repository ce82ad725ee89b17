// Runs a Lua program with pyrt's threads: lua_main DIRECTORY MODULE.

#include <cstdio>

#include "examples/lua/lua_host.h"

#include "pyrt/importlock/importer.h"
#include "pyrt/runtime/import_subsystem.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s DIRECTORY MODULE\n", argv[0]);
    return 2;
  }
  pyrt::Runtime::AddSubsystem(pyrt::ImportSubsystem());
  const auto runtime = pyrt::Runtime::Initialize(pyrt_lua::LuaHost::Options());
  if (!runtime.ok()) {
    std::fprintf(stderr, "%s: %s\n", argv[0], std::string(runtime.status().message()).c_str());
    return 1;
  }
  const pyrt_lua::LuaHost host(pyrt::Interpreter::Get(), argv[1]);
  const auto module = pyrt::ImporterOf(pyrt::Interpreter::Get())->Import(argv[2]);
  if (!module.ok()) std::fprintf(stderr, "%s\n", std::string(module.status().message()).c_str());
  // Joins the program's threads, and lets go of its modules before the host closes Lua.
  const int flushed = pyrt::Runtime::Finalize();
  return !module.ok() ? 1 : flushed < 0 ? 120 : 0;
}
