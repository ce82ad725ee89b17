// The rows of testdata/cases.tsv on the system's CPython and on pyrt: same values, same types of errors, same texts.
//
// A row is "kind TAB payload", and two more columns where pyrt means to differ: its result, and why. The first half of
// this file understands the payloads (Python literals), the second runs them.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/utf8.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/exit_status.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/struct_sequence.h"
#include "pyrt/sys/sys_test_world.h"
#include "pyrt/sys/sys_values.h"
#include "pyrt/sys/text_codec.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// The version whose answers cases.tsv knows.
constexpr char kPython[] = "/usr/bin/python3.11";
constexpr char kCases[] = "sys/testdata/cases.tsv";
constexpr char kDriver[] = "sys/testdata/run_cases.py";

// Comma-separated literals: numbers, strings, bytes, None, True, False, nan, inf, tuples, lists, Error('...').
class Literals {
 public:
  explicit Literals(std::string_view text) : text_(text) {}
  std::vector<Ref<Object>> All() { return Until('\0'); }

 private:
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void SkipBlanks() {
    while (Peek() == ' ') ++at_;
  }
  std::vector<Ref<Object>> Until(char closing) {
    std::vector<Ref<Object>> items;
    for (SkipBlanks(); at_ < text_.size() && Peek() != closing; SkipBlanks()) {
      items.push_back(One());
      SkipBlanks();
      if (Peek() == ',') ++at_;
    }
    ++at_;
    return items;
  }
  Ref<Object> One() {
    const char c = Peek();
    if (c == '\'' || c == '"') return String::Of(Quoted());
    if (c == 'b' && at_ + 1 < text_.size() && (text_[at_ + 1] == '\'' || text_[at_ + 1] == '"')) {
      ++at_;
      bytes_ = true;
      Ref<Object> bytes = Bytes::Of(Quoted());
      bytes_ = false;
      return bytes;
    }
    if (c == '(') {
      ++at_;
      return Tuple::Of(Until(')'));
    }
    if (c == '[') {
      ++at_;
      return List::Of(Until(']'));
    }
    const size_t begin = at_;
    while (at_ < text_.size() && std::string_view(",)] (").find(text_[at_]) == std::string_view::npos) ++at_;
    const std::string word(text_.substr(begin, at_ - begin));
    if (Peek() == '(') {
      ++at_;
      return Error::New(*ErrorType::Find(word), Until(')'));
    }
    if (word == "None") return None();
    if (word == "True") return True();
    if (word == "False") return False();
    if (word == "nan") return Float::Of(std::numeric_limits<double>::quiet_NaN());
    if (word == "inf") return Float::Of(std::numeric_limits<double>::infinity());
    if (word == "-inf") return Float::Of(-std::numeric_limits<double>::infinity());
    if (word.find_first_of(".e") != std::string::npos) return Float::Of(std::strtod(word.c_str(), nullptr));
    return Int::FromDecimal(word).value();
  }
  std::string Quoted() {
    const char quote = text_[at_++];
    std::string out;
    while (Peek() != quote) {
      char c = text_[at_++];
      if (c != '\\') {
        out += c;
        continue;
      }
      c = text_[at_++];
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
      if (digits > 0) {
        const uint32_t code =
            static_cast<uint32_t>(std::stoul(std::string(text_.substr(at_, digits)), nullptr, 16));
        at_ += digits;
        if (bytes_) {
          out += static_cast<char>(code);
        } else {
          AppendCodePoint(out, code);
        }
      } else {
        out += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
      }
    }
    ++at_;
    return out;
  }

  const std::string_view text_;
  size_t at_ = 0;
  bool bytes_ = false;
};

std::string Shown(const absl::StatusOr<Ref<Object>>& result) { return SysTestWorld::Shown(result); }

std::string ShownBytes(const absl::StatusOr<std::string>& result) {
  return Shown(result.ok() ? absl::StatusOr<Ref<Object>>(Bytes::Of(*result)) : result.status());
}

std::pair<std::string, std::string> SplitWord(const std::string& text) {
  const size_t blank = text.find(' ');
  if (blank == std::string::npos) return {text, ""};
  return {text.substr(0, blank), text.substr(blank + 1)};
}

std::string RunConfig(SysTestWorld& outer, const std::string& payload) {
  DetachedScope detached(outer.thread());  // the world below attaches its own thread
  std::vector<std::pair<std::string, std::string>> variables = {{"LANG", "C.UTF-8"}};
  std::vector<std::string> words = {kPython};
  std::istringstream stream(payload);
  for (std::string word; stream >> word;) {
    const size_t equals = word.find('=');
    if (words.size() == 1 && word[0] != '-' && equals != std::string::npos) {
      variables.emplace_back(word.substr(0, equals), word.substr(equals + 1));
    } else {
      words.push_back(word);
    }
  }
  words.insert(words.end(), {"-c", "program"});
  RuntimeConfig config;
  config.utf8_mode = false;  // 3.11's default
  const ConfigStatus status = ReadConfig(EnvironmentView(variables), words, &config);
  if (!status.ok()) {
    const std::string text = status.Text();
    return std::to_string(status.exit_code()) + " " + text.substr(0, text.find('\n'));
  }
  SysTestWorld world(config);
  Ref<Object> flags = world.dict().Find("flags");
  std::vector<Ref<Object>> fields;
  for (size_t i = 0; i < 17; ++i) fields.push_back((*As<StructSequence>(flags))[i]);
  std::string text = "0 " + Tuple::Of(fields)->Repr().value();
  for (const char* name : {"_xoptions", "warnoptions", "argv"})
    text += " " + world.dict().Find(name)->Repr().value();
  return text + " " + config.stdio_encoding.value() + " " + config.stdio_errors.value() + " backslashreplace";
}

std::string RunExit(SysTestWorld& world, const std::string& payload) {
  Ref<Error> exit = ErrorFromStatus(world.Call("exit", Literals(payload).All()).status());
  const ExitRequest request = ExitRequestOf(*exit);
  const std::string printed = request.message ? request.message->Str().value() + "\n" : "";
  return std::to_string(request.os_status()) + " " + ReprOfString(printed);
}

std::string RunRow(SysTestWorld& world, const std::string& kind, const std::string& payload) {
  const auto [first, rest] = SplitWord(payload);
  if (kind == "call") return world.Shown(first.c_str(), Literals(rest).All());
  if (kind == "repr") return Literals(payload).All().at(0)->Repr().value();
  if (kind == "exit") return RunExit(world, payload);
  if (kind == "config") return RunConfig(world, payload);
  if (kind == "attr") {
    absl::StatusOr<Ref<Object>> value = Ref<Object>::Share(&world.sys());
    std::istringstream names(payload);
    for (std::string name; value.ok() && std::getline(names, name, '.');) value = (*value)->GetAttr(name);
    return Shown(value);
  }
  if (kind == "error") {
    Ref<Error> error = Error::New(*ErrorType::Find(first), Literals(rest).All());
    return error->Repr().value() + " | " + error->Message();
  }
  const auto [errors, literal] = SplitWord(rest);
  const TextEncoding encoding = FindEncoding(first).value();
  Ref<Object> value = Literals(literal).All().at(0);
  if (kind == "encode") {
    return ShownBytes(EncodeText(As<String>(value)->value(), encoding, FindErrors(errors).value()));
  }
  return ShownBytes(DecodeText(As<Bytes>(value)->value(), encoding, FindErrors(errors).value()));
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '\\' ? "\\\\" : c == '\n' ? "\\n" : std::string(1, c);
  return out;
}

std::vector<std::string> Split(const std::string& line, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(line);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

TEST(SysDifferentialTest, RowsAgreeWithTheSystemsCPython) {
  if (::access(kPython, X_OK) != 0) GTEST_SKIP() << "no " << kPython << " to compare with";
  const std::string command = std::string("env -i ") + kPython + " -I " + kDriver + " " + kCases;
  FILE* const pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string output;
  char chunk[4096];
  for (size_t n; (n = std::fread(chunk, 1, sizeof(chunk), pipe)) > 0;) output.append(chunk, n);
  ASSERT_EQ(::pclose(pipe), 0) << "the driver failed";
  const std::vector<std::string> theirs = Split(output, '\n');

  SysTestWorld world;
  std::ifstream cases(kCases);
  ASSERT_TRUE(cases) << kCases;
  size_t row = 0;
  size_t different = 0;
  for (std::string line; std::getline(cases, line);) {
    if (line.empty() || line[0] == '#') continue;
    ASSERT_LT(row, theirs.size()) << "the driver stopped early";
    std::vector<std::string> columns = Split(line, '\t');
    columns.resize(std::max<size_t>(columns.size(), 2));
    const std::string ours = Escaped(RunRow(world, columns[0], columns[1]));
    if (columns.size() > 2) {
      ASSERT_EQ(columns.size(), 4u) << "a difference needs its reason: " << line;
      EXPECT_EQ(ours, Escaped(columns[2])) << line;
      EXPECT_NE(ours, theirs[row]) << "no longer a difference: " << line;
      ++different;
    } else {
      EXPECT_EQ(ours, theirs[row]) << line;
    }
    ++row;
  }
  EXPECT_EQ(row, theirs.size());
  EXPECT_GE(row, 300u);
  RecordProperty("rows", static_cast<int>(row));
  RecordProperty("rows_that_differ", static_cast<int>(different));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
