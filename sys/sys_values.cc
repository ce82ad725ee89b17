#include "pyrt/sys/sys_values.h"

#include <unistd.h>

#include <bit>
#include <cfloat>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/intern_table.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/struct_sequence.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class Namespace final : public Object {
 public:
  Namespace(std::string_view kind, std::vector<std::pair<std::string, Ref<Object>>> attributes)
      : kind_(kind), attributes_(std::move(attributes)) {}

  const char* TypeName() const override { return "types.SimpleNamespace"; }
  absl::StatusOr<std::string> Repr() const override {
    std::string text = kind_ + "(";
    for (size_t i = 0; i < attributes_.size(); ++i) {
      absl::StatusOr<std::string> value = attributes_[i].second->Repr();
      if (!value.ok()) return value.status();
      text += (i > 0 ? ", " : "") + attributes_[i].first + "=" + *value;
    }
    return text + ")";
  }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
    for (const auto& [key, value] : attributes_) {
      if (key == name) return value;
    }
    return Object::GetAttr(name);
  }

 private:
  const std::string kind_;
  const std::vector<std::pair<std::string, Ref<Object>>> attributes_;
};

Ref<Object> Number(int64_t value) { return Int::Of(value); }
Ref<Object> Text(std::string_view value) { return String::Of(value); }

void MakeConstant(Object* object) {
  if (object != nullptr && !object->IsImmortal()) object->MakeImmortal();
}

// Makes what never changes immortal, with all that it holds: any number of threads and interpreters read it without
// writing a count.
template <typename T>
Ref<T> Constant(Ref<T> object) {
  MakeConstant(object.get());
  return object;
}
Ref<StructSequence> Constant(Ref<StructSequence> sequence) {
  for (size_t i = 0; i < sequence->type().fields().size(); ++i) MakeConstant((*sequence)[i].get());
  MakeConstant(sequence.get());
  return sequence;
}

// "NPTL 2.36", or None where the C library does not say.
Ref<Object> ThreadLibrary() {
  char text[64];
  const size_t size = ::confstr(_CS_GNU_LIBPTHREAD_VERSION, text, sizeof(text));
  if (size == 0 || size > sizeof(text)) return None();
  return Text(text);
}

const char* ByteOrder() { return std::endian::native == std::endian::little ? "little" : "big"; }

}  // namespace

Ref<StructSequence> MakeFlags(const RuntimeConfig& config) {
  static const Ref<StructSequenceType> type = StructSequenceType::New(
      "sys.flags",
      {"debug", "inspect", "interactive", "optimize", "dont_write_bytecode", "no_user_site", "no_site",
       "ignore_environment", "verbose", "bytes_warning", "quiet", "hash_randomization", "isolated",
       "dev_mode", "utf8_mode", "warn_default_encoding", "safe_path", "int_max_str_digits",
       // By name only.
       "gil", "thread_inherit_context", "context_aware_warnings", "lazy_imports"},
      18);
  const Ref<Object> gil = kGilEnabled                       ? Number(1)
                          : config.gil == GilMode::kDefault ? None()
                                                            : Number(static_cast<int>(config.gil));
  return type->Make({Number(config.parser_debug),
                     Number(config.inspect),
                     Number(config.interactive),
                     Number(config.optimization_level),
                     Number(!config.write_bytecode),
                     Number(!config.user_site_directory),
                     Number(!config.site_import),
                     Number(!config.use_environment),
                     Number(config.verbose),
                     Number(config.bytes_warning),
                     Number(config.quiet),
                     Number(!config.use_hash_seed.value_or(false) || config.hash_seed != 0),
                     Number(config.isolated),
                     BoolOf(config.dev_mode),
                     Number(config.utf8_mode),
                     Number(config.warn_default_encoding),
                     BoolOf(config.safe_path),
                     Number(config.int_max_str_digits),
                     gil,
                     Number(config.thread_inherit_context),
                     Number(config.context_aware_warnings),
                     Number(config.lazy_imports)});
}

Ref<StructSequence> MakeVersionInfo(const LanguageVersion& version) {
  static const Ref<StructSequenceType> type =
      StructSequenceType::New("sys.version_info", {"major", "minor", "micro", "releaselevel", "serial"}, 5);
  return type->Make({Number(version.major), Number(version.minor), Number(version.micro),
                     Text(version.release_level), Number(version.serial)});
}

Ref<StructSequence> MakeIntInfo() {
  static const Ref<StructSequenceType> type = StructSequenceType::New(
      "sys.int_info",
      {"bits_per_digit", "sizeof_digit", "default_max_str_digits", "str_digits_check_threshold"}, 4);
  static const Ref<StructSequence> value =
      Constant(type->Make({Number(30), Number(4), Number(4300), Number(640)}));
  return value;
}

Ref<StructSequence> MakeFloatInfo() {
  static const Ref<StructSequenceType> type =
      StructSequenceType::New("sys.float_info",
                              {"max", "max_exp", "max_10_exp", "min", "min_exp", "min_10_exp", "dig",
                               "mant_dig", "epsilon", "radix", "rounds"},
                              11);
  static const Ref<StructSequence> value = Constant(
      type->Make({Float::Of(DBL_MAX), Number(DBL_MAX_EXP), Number(DBL_MAX_10_EXP), Float::Of(DBL_MIN),
                  Number(DBL_MIN_EXP), Number(DBL_MIN_10_EXP), Number(DBL_DIG), Number(DBL_MANT_DIG),
                  Float::Of(DBL_EPSILON), Number(FLT_RADIX), Number(FLT_ROUNDS)}));
  return value;
}

Ref<StructSequence> MakeHashInfo() {
  static const Ref<StructSequenceType> type = StructSequenceType::New(
      "sys.hash_info",
      {"width", "modulus", "inf", "nan", "imag", "algorithm", "hash_bits", "seed_bits", "cutoff"}, 9);
  constexpr int64_t kMersennePrime61 = (int64_t{1} << 61) - 1;
  static const Ref<StructSequence> value =
      Constant(type->Make({Number(64), Number(kMersennePrime61), Number(314159), Number(0), Number(1000003),
                           Text("siphash13"), Number(64), Number(128), Number(0)}));
  return value;
}

Ref<StructSequence> MakeThreadInfo() {
  static const Ref<StructSequenceType> type =
      StructSequenceType::New("sys.thread_info", {"name", "lock", "version"}, 3);
  static const Ref<StructSequence> value =
      Constant(type->Make({Text("pthread"), Text("pymutex"), ThreadLibrary()}));
  return value;
}

Ref<Object> MakeImplementation(const RuntimeConfig& config) {
  const LanguageVersion& version = config.language;
  const std::string tag = config.implementation_name + "-" + std::to_string(version.major) +
                          std::to_string(version.minor) + AbiFlags();
  return MakeNamespace("namespace", {{"name", Text(config.implementation_name)},
                                     {"cache_tag", Text(tag)},
                                     {"version", MakeVersionInfo(version)},
                                     {"hexversion", Number(version.Hex())}});
}

Ref<Object> MakeAbiInfo() {
  static const Ref<Object> value = Constant(
      MakeNamespace("namespace", {{"pointer_bits", Constant(Number(static_cast<int64_t>(8 * sizeof(void*))))},
                                  {"free_threaded", BoolOf(!kGilEnabled)},
                                  {"debug", BoolOf(kDebug)},
                                  {"byteorder", ImmortalText(ByteOrder())}}));
  return value;
}

InternTable& ImmortalTexts() {
  // Never destroyed; as large as the number of different texts that hosts have configured.
  // With room for what ordinary hosts configure, since it is shared by interpreters that do not share a GIL.
  static InternTable* const table = new InternTable(256);
  return *table;
}

Ref<Object> ImmortalText(std::string_view text) {
  InternTable& table = ImmortalTexts();
  if (Ref<String> known = table.Find(text)) return known;
  return table.Intern(Constant(String::Of(text)));
}

Ref<Object> MakeMaxSize() {
  static const Ref<Object> value = Constant(Number(INT64_MAX));
  return value;
}
Ref<Object> MakeMaxUnicode() {
  static const Ref<Object> value = Constant(Number(0x10FFFF));
  return value;
}
Ref<Object> MakeApiVersion() {
  static const Ref<Object> value = Constant(Number(1013));
  return value;
}

std::string AbiFlags() { return std::string(kGilEnabled ? "" : "t") + (kDebug ? "d" : ""); }

Ref<Object> MakeNamespace(std::string_view kind,
                          std::vector<std::pair<std::string, Ref<Object>>> attributes) {
  return MakeRef<Namespace>(kind, std::move(attributes));
}

}  // namespace pyrt::inline PYRT_VARIANT
