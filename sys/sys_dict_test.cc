#include "pyrt/sys/sys_dict.h"

#include <gtest/gtest.h>

#include <atomic>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/qsbr.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class Tracked final : public Object {
 public:
  explicit Tracked(std::atomic<int>* alive) : alive_(alive) { ++*alive_; }
  ~Tracked() override { --*alive_; }
  const char* TypeName() const override { return "Tracked"; }

 private:
  std::atomic<int>* const alive_;
};

std::string Message(const absl::Status& status) { return ErrorFromStatus(status)->Repr().value(); }

TEST(SysDictTest, B119_GetSetDeleteMatrix) {
  SysDict dict;
  EXPECT_EQ(SysGetObject(&dict, "x"), nullptr);
  EXPECT_EQ(SysGetOptionalAttr(&dict, "x").value(), nullptr);
  EXPECT_EQ(Message(SysGetAttr(&dict, "x").status()), "RuntimeError('lost sys.x')");
  ASSERT_TRUE(SysSetObject(&dict, "x", Int::Of(1)).ok());
  EXPECT_EQ(SysGetObject(&dict, "x"), Int::Of(1));
  EXPECT_EQ(SysGetOptionalAttr(&dict, "x").value(), Int::Of(1));
  EXPECT_EQ(SysGetAttr(&dict, "x").value(), Int::Of(1));
  ASSERT_TRUE(SysSetObject(&dict, "x", nullptr).ok()) << "null deletes";
  EXPECT_EQ(SysGetObject(&dict, "x"), nullptr);
  ASSERT_TRUE(SysDelObject(&dict, "x").ok()) << "deleting a missing one is success";
}

TEST(SysDictTest, B119_NoSysModule) {
  EXPECT_EQ(SysGetObject(nullptr, "x"), nullptr);
  EXPECT_EQ(SysGetOptionalAttr(nullptr, "x").value(), nullptr);
  EXPECT_EQ(Message(SysGetAttr(nullptr, "x").status()), "RuntimeError('no sys module')");
  EXPECT_EQ(Message(SysSetObject(nullptr, "x", None())), "RuntimeError('no sys module')");
  EXPECT_EQ(Message(SysDelObject(nullptr, "x")), "RuntimeError('no sys module')");
}

TEST(SysDictTest, B119_NamesMustBeStrings) {
  SysDict dict;
  dict.Set("x", None());
  EXPECT_TRUE(IsNone(SysGetAttr(&dict, Ref<Object>(String::Of("x"))).value()));
  const char* const text = "TypeError(\"attribute name must be string, not 'int'\")";
  EXPECT_EQ(Message(SysGetAttr(&dict, Ref<Object>(Int::Of(1))).status()), text);
  EXPECT_EQ(Message(SysGetOptionalAttr(&dict, Ref<Object>(Int::Of(1))).status()), text);
}

TEST(SysDictTest, HashOfAConstantIsTheHashAtRunTime) {
  static constexpr SysName kNames[] = {"",       "a",       "ab",       "abc",         "argv",
                                       "stdout", "modules", "platform", "version_info"};
  for (const SysName& name : kNames) {
    const std::string copy(name.text());
    EXPECT_EQ(SysName(copy).hash(), name.hash()) << copy;
  }
}

TEST(SysDictTest, ShortNamesAreTheirHashAndLength) {
  // What lets FindEntry skip the comparison: no two names of the same length below eight letters share a hash.
  constexpr char kLetters[] = {'a', 'b', 'z', '_', '0', '\x01', '\x7f', '\x80', '\xff'};
  for (size_t length = 0; length < 8; ++length) {
    std::map<uint64_t, std::string> seen;
    std::string name(length, '\0');
    uint64_t state = length;
    for (int i = 0; i < 20000; ++i) {
      for (char& letter : name) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        letter = kLetters[(state >> 33) % std::size(kLetters)];
      }
      const auto [at, fresh] = seen.emplace(SysName(name).hash(), name);
      ASSERT_TRUE(fresh || at->second == name) << at->second << " and " << name;
    }
  }
}

TEST(SysDictTest, AKeyIsHashedOnceAndFindsWhatItsTextFinds) {
  SysDict dict;
  for (const char* name : {"", "a", "argv", "stdout", "path_hooks", "path_importer_cache"}) {
    const SysKey key(String::Of(name));
    EXPECT_EQ(dict.Find(key), nullptr);
    dict.Set(key, Int::Of(1000));
    EXPECT_EQ(dict.Find(key), dict.Find(name));
    EXPECT_EQ(dict.Borrow(key), dict.Find(name).get());
    const SysKey copy = key;
    EXPECT_TRUE(dict.Delete(copy));
    EXPECT_EQ(dict.Borrow(name), nullptr);
  }
}

TEST(SysDictTest, GrowsAndForgetsDeletedNames) {
  SysDict dict;
  for (int i = 0; i < 5000; ++i) {
    dict.Set("name" + std::to_string(i), Int::Of(i));
    if (i % 2 == 1) {
      EXPECT_TRUE(dict.Delete("name" + std::to_string(i - 1)));
    }
  }
  EXPECT_EQ(dict.size(), 2500u);
  for (int i = 0; i < 5000; ++i) EXPECT_EQ(dict.Contains("name" + std::to_string(i)), i % 2 == 1) << i;
  const auto snapshot = dict.Snapshot();
  ASSERT_EQ(snapshot.size(), 2500u);
  EXPECT_EQ(snapshot.front().first, "name1");
  EXPECT_EQ(snapshot.back().first, "name4999");
}

TEST(SysDictTest, NamesThatComeAndGoTakeNoRoom) {
  SysDict dict;
  for (int i = 0; i < 50; ++i) dict.Set("stays" + std::to_string(i), Int::Of(i));
  const size_t capacity = dict.capacity();
  for (int i = 0; i < 20000; ++i) {
    const std::string name = "passes" + std::to_string(i);
    dict.Set(name, None());
    ASSERT_TRUE(dict.Delete(name));
  }
  EXPECT_EQ(dict.capacity(), capacity);
  EXPECT_EQ(dict.size(), 50u);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(dict.Contains("stays" + std::to_string(i))) << i;

  // Room for many is given back when they are gone and the table is full of what they left.
  for (int i = 0; i < 5000; ++i) dict.Set("many" + std::to_string(i), None());
  EXPECT_GT(dict.capacity(), 10000u);
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(dict.Delete("many" + std::to_string(i)));
  for (int i = 0; i < 20000; ++i) {
    dict.Set("passes" + std::to_string(i), None());
    ASSERT_TRUE(dict.Delete("passes" + std::to_string(i)));
  }
  EXPECT_EQ(dict.capacity(), capacity);
}

TEST(SysDictTest, OrderIsThatOfFirstSetting) {
  SysDict dict;
  for (const char* name : {"c", "a", "b"}) dict.Set(name, None());
  dict.Set("c", True());
  dict.Delete("a");
  dict.Set("a", None());
  std::string order;
  for (const auto& [name, value] : dict.Snapshot()) order += name;
  EXPECT_EQ(order, "cba");
}

TEST(SysDictDeathTest, NullValueIsMisuse) {
  SysDict dict;
  EXPECT_DEATH(dict.Set("x", nullptr), "SysDict::Set: the value for \"x\" is null");
}

// Several threads of one interpreter.
class SysDictThreadsTest : public ::testing::Test {
 protected:
  class Thread {
   public:
    Thread(SysDictThreadsTest& test, uint64_t id)
        : state_(test.link_, Whence::kUnknown, id, kGilEnabled ? nullptr : test.qsbr_.Reserve()) {
      state_.Bind();
      state_.Attach();
    }
    ~Thread() {
      state_.data().delayed_frees.Abandon(state_.link().qsbr);
      state_.Detach();
      state_.UnbindGilState();
    }
    ThreadState& state() { return state_; }

   private:
    ThreadState state_;
  };

  Gil gil_;
  Qsbr qsbr_;
  InterpreterLink link_{.gil = &gil_, .qsbr = kGilEnabled ? nullptr : &qsbr_};
};

TEST_F(SysDictThreadsTest, B120_ReplacedValueDiesAfterItsReaders) {
  Thread main(*this, 1);
  std::atomic<int> alive{0};
  SysDict dict;
  dict.Set("stdout", MakeRef<Tracked>(&alive));
  Ref<Object> read = dict.Find("stdout");
  dict.Set("stdout", None());
  EXPECT_EQ(alive, 1) << "the reader owns it";
  read = nullptr;
  main.state().ReportQuiescent();
  if constexpr (!kGilEnabled) main.state().data().delayed_frees.Process(qsbr_, main.state().qsbr_slot());
  EXPECT_EQ(alive, 0);
}

TEST_F(SysDictThreadsTest, B120_ABorrowedValueLivesUntilItsReaderIsQuiescent) {
  Thread main(*this, 1);
  std::atomic<int> alive{0};
  SysDict dict;
  dict.Set("stdout", MakeRef<Tracked>(&alive));
  Object* const borrowed = dict.Borrow("stdout");
  EXPECT_EQ(borrowed->RefCount(), 1) << "no reference was taken";
  const auto replace = [&] {
    Thread other(*this, 2);
    dict.Set("stdout", None());
    if constexpr (!kGilEnabled) {
      other.state().ReportQuiescent();
      other.state().data().delayed_frees.Process(qsbr_, other.state().qsbr_slot());
      EXPECT_EQ(alive, 1) << "main has neither polled nor detached";
      EXPECT_STREQ(borrowed->TypeName(), "Tracked");
    }
  };
  if constexpr (kGilEnabled) {
    // The other thread cannot run before this one detaches, which is where the loan ends.
    DetachedScope detached(main.state());
    std::thread(replace).join();
  } else {
    std::thread(replace).join();
    EXPECT_EQ(alive, 1);
    main.state().ReportQuiescent();
    EXPECT_TRUE(main.state().data().delayed_frees.Process(qsbr_, main.state().qsbr_slot()));
  }
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(dict.Borrow("stdout"), None().get());
}

// The destructor of a replaced value assigns again: no lock is held, and the newest assignment stays.
TEST_F(SysDictThreadsTest, DestructorMayChangeTheDictionary) {
  struct Resetter final : Object {
    explicit Resetter(SysDict* dict) : dict(dict) {}
    ~Resetter() override { dict->Set("seen", True()); }
    const char* TypeName() const override { return "Resetter"; }
    SysDict* const dict;
  };
  Thread main(*this, 1);
  SysDict dict;
  dict.Set("x", MakeRef<Resetter>(&dict));
  dict.Set("x", None());
  main.state().ReportQuiescent();
  if constexpr (!kGilEnabled) main.state().data().delayed_frees.Process(qsbr_, main.state().qsbr_slot());
  EXPECT_EQ(dict.Find("seen"), True());
}

TEST_F(SysDictThreadsTest, B120_ReadersSeeOldOrNewNeverGarbage) {
  constexpr int kReaders = 3;
  constexpr int kWrites = 3000;
  std::atomic<int> alive{0};
  std::atomic<bool> done{false};
  {
    SysDict dict;
    std::atomic<uint64_t> reads{0};
    std::vector<std::thread> threads;
    {
      Thread writer(*this, 1);
      dict.Set("stdout", MakeRef<Tracked>(&alive));
      writer.state().Detach();
      for (int r = 0; r < kReaders; ++r) {
        threads.emplace_back([&, r] {
          Thread reader(*this, 2 + static_cast<uint64_t>(r));
          while (!done.load(std::memory_order_relaxed)) {
            Ref<Object> value = dict.Find("stdout");
            if (value) {
              ASSERT_STREQ(value->TypeName(), "Tracked");
              reads.fetch_add(1, std::memory_order_relaxed);
            }
            value = nullptr;
            // Touches the object without owning it.
            if (Object* const borrowed = dict.Borrow("stdout")) {
              ASSERT_STREQ(borrowed->TypeName(), "Tracked");
            }
            reader.state().ReportQuiescent();
            DetachedScope detached(reader.state());
          }
        });
      }
      writer.state().Attach();
      for (int i = 0; i < kWrites; ++i) {
        dict.Set("stdout", MakeRef<Tracked>(&alive));
        if (i % 7 == 0) dict.Delete("stdout");
        if (i % 5 == 0) dict.Set("n" + std::to_string(i), MakeRef<Tracked>(&alive));
        if (i % 15 == 0) dict.Delete("n" + std::to_string(i));
        writer.state().ReportQuiescent();
        if (i % 16 == 0) DetachedScope detached(writer.state());
      }
      while (reads.load() < 1000) {
        DetachedScope detached(writer.state());
        std::this_thread::yield();
      }
      done = true;
      writer.state().Detach();
      for (std::thread& thread : threads) thread.join();
      writer.state().Attach();
      writer.state().ReportQuiescent();
      dict.Clear();
      if constexpr (!kGilEnabled) {
        writer.state().ReportQuiescent();
        EXPECT_TRUE(writer.state().data().delayed_frees.Process(qsbr_, writer.state().qsbr_slot()));
      }
    }
  }
  EXPECT_EQ(alive, 0) << "every value was released exactly once";
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
