#include "examples/lua/lua_host.h"

#include <memory>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "lua.hpp"

#include "pyrt/importlock/importer.h"
#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/import_subsystem.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/tstate/thread_registry.h"

namespace pyrt_lua {
namespace {

class LuaHostTest : public testing::Test {
 public:
  static void SetUpTestSuite() { pyrt::Runtime::AddSubsystem(pyrt::ImportSubsystem()); }

  LuaHostTest() {
    EXPECT_TRUE(pyrt::Runtime::Initialize(LuaHost::Options()).ok());
    host_ = std::make_unique<LuaHost>(pyrt::Interpreter::Get(), "examples/lua/demo");
  }
  ~LuaHostTest() override { pyrt::Runtime::Finalize(); }  // before the host

  // What the chunk returns; an error as text.
  std::string Run(const std::string& chunk) {
    lua_State* const lua = host_->lua();
    static_cast<void>(luaL_loadstring(lua, chunk.c_str()) || lua_pcall(lua, 0, 1, 0));
    const char* const text = luaL_tolstring(lua, -1, nullptr);
    std::string result = text;
    lua_settop(lua, 0);
    return result;
  }

 private:
  std::unique_ptr<LuaHost> host_;
};

TEST_F(LuaHostTest, ThreadsShareTheInterpreterAndItsModules) {
  EXPECT_EQ(Run("demo = import('main') return loaded"), "1");
  for (const char* i : {"1", "2", "3", "4"})
    EXPECT_EQ(Run(std::string("return demo.sums[") + i + "]"), "650013");
  EXPECT_EQ(Run("return demo.message"), "No module named 'no'");
  EXPECT_GE(pyrt::Interpreter::Get().gil().switch_number(), 5u);
}

TEST_F(LuaHostTest, ErrorsOfLuaAreErrorsOfTheImport) {
  EXPECT_NE(Run("local ok, text = pcall(import, 'broken') return text").find("deliberate"),
            std::string::npos);
  EXPECT_NE(Run("return import(nil)").find("import needs a name"), std::string::npos);
  EXPECT_NE(Run("return sleep(-1)").find("sleep length"), std::string::npos);
}

// A loop of Lua's without a call in it is interrupted by its poll.
TEST_F(LuaHostTest, AnAsynchronousExceptionEndsAnEndlessLoop) {
  pyrt::Interpreter& interp = pyrt::Interpreter::Get();
  const uint64_t ident = pyrt::ThreadState::Get().thread_id();
  std::thread other([&] {
    pyrt::ThreadState* const self = interp.threads().NewBound();
    self->Attach();
    EXPECT_TRUE(interp.threads().SetAsyncException(
        ident, pyrt::Error::New(pyrt::ErrorType::KeyboardInterrupt(), "enough")));
    pyrt::InterpreterThreads::Clear(*self);
    pyrt::InterpreterThreads::DeleteCurrent();
  });
  EXPECT_NE(Run("while true do end").find("enough"), std::string::npos);
  other.join();
}

}  // namespace
}  // namespace pyrt_lua
