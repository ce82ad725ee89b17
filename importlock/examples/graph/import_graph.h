// A dependency graph as something to import: each module's body imports its edges, in order.

#ifndef PYRT_IMPORTLOCK_EXAMPLES_GRAPH_IMPORT_GRAPH_H_
#define PYRT_IMPORTLOCK_EXAMPLES_GRAPH_IMPORT_GRAPH_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/module.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// What extract_graph.py prints.
struct ImportGraph {
  struct Node {
    std::string name;
    bool is_package = false;
    std::vector<std::string> imports;
    int component = -1;  // modules that import each other, directly or not, have the same
  };

  static absl::StatusOr<ImportGraph> Read(const std::string& file);

  const Node* Find(std::string_view name) const;
  size_t edges() const;
  // Modules that are part of a cycle.
  size_t cyclic() const;

  std::vector<Node> nodes;
  std::vector<std::string> completed;                        // CPython's order
  std::vector<std::pair<std::string, std::string>> partial;  // importer, what it got half-made

 private:
  void FindComponents();

  std::map<std::string, size_t, std::less<>> index_;
};

// Finds the graph's modules, and keeps account of their bodies. One per interpreter.
class GraphFinder final : public Finder {
 public:
  explicit GraphFinder(const ImportGraph& graph);

  // Whose imports the bodies call. Before the first import.
  void set_importer(Importer* importer) { importer_ = importer; }
  // Called in each body between two imports: other threads may run.
  void set_pause(std::function<void()> pause) { pause_ = std::move(pause); }

  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>* path,
                                           const Object* target) override;

  int runs(size_t node) const { return state_[node].runs.load(kRelaxed); }
  bool complete(size_t node) const { return state_[node].complete.load(kAcquire); }
  size_t IndexOf(const ImportGraph::Node& node) const {
    return static_cast<size_t>(&node - graph_.nodes.data());
  }

  // In the order in which bodies ended, and imports of modules whose body had not.
  std::vector<std::string> completed() const;
  std::vector<std::pair<std::string, std::string>> partial() const;

 private:
  class GraphLoader;
  struct State {
    Atomic<int> runs{0};
    Atomic<bool> complete{false};
  };

  absl::Status RunBody(const ImportGraph::Node& node);

  const ImportGraph& graph_;
  const std::unique_ptr<State[]> state_;
  Importer* importer_ = nullptr;
  std::function<void()> pause_;
  mutable Mutex mutex_;
  std::vector<std::string> completed_ PYRT_GUARDED_BY(mutex_);
  std::vector<std::pair<std::string, std::string>> partial_ PYRT_GUARDED_BY(mutex_);
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_EXAMPLES_GRAPH_IMPORT_GRAPH_H_
