// BuildAuditArguments over any format and any arguments: never crashes, and either fails with SystemError or gives a tuple
// whose repr can be made.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/audit_format.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

void RunOne(std::string_view format) {
  // Arguments follow the format's letters, but every fifth is of another kind.
  std::vector<AuditArgument> arguments;
  const Ref<Object> object = None();
  for (size_t i = 0; i < format.size(); ++i) {
    const char unit = format[i];
    if (i % 5 == 4) {
      arguments.emplace_back(i % 2 == 0 ? AuditArgument("text") : AuditArgument(nullptr));
    } else if (std::string_view("szUy").find(unit) != std::string_view::npos) {
      arguments.emplace_back(format);
    } else if (std::string_view("df").find(unit) != std::string_view::npos) {
      arguments.emplace_back(0.5);
    } else if (std::string_view("OS").find(unit) != std::string_view::npos) {
      arguments.emplace_back(object);
    } else if (std::string_view("iIbBhHlkLKnqcCp").find(unit) != std::string_view::npos) {
      arguments.emplace_back(static_cast<int64_t>(i) - 3);
    }
  }
  absl::StatusOr<Ref<Tuple>> built = BuildAuditArguments(format, arguments);
  if (built.ok()) {
    PYRT_CHECK((*built)->Repr().ok(), "audit_format_fuzz", "a result does not print");
  } else {
    PYRT_CHECK(IsError(built.status(), ErrorType::SystemError()), "audit_format_fuzz",
               "not a SystemError: %s", built.status().ToString().c_str());
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
