#include "pyrt/importlock/examples/graph/import_graph.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace pyrt::inline PYRT_VARIANT {

absl::StatusOr<ImportGraph> ImportGraph::Read(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) return absl::NotFoundError(absl::StrCat("no graph in '", file, "': run extract_graph.py"));
  ImportGraph graph;
  std::string line;
  while (std::getline(stream, line)) {
    std::istringstream words(line);
    std::string kind, name, word;
    words >> kind >> name;
    if (kind == "module") {
      Node node;
      node.name = name;
      words >> word;
      node.is_package = word == "package";
      while (words >> word) node.imports.push_back(word);
      graph.index_[name] = graph.nodes.size();
      graph.nodes.push_back(std::move(node));
    } else if (kind == "completed") {
      graph.completed.push_back(name);
    } else if (kind == "partial" && words >> word) {
      graph.partial.emplace_back(name, word);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("cannot read '", line, "' in '", file, "'"));
    }
  }
  graph.FindComponents();
  return graph;
}

const ImportGraph::Node* ImportGraph::Find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &nodes[found->second];
}

size_t ImportGraph::edges() const {
  size_t sum = 0;
  for (const Node& node : nodes) sum += node.imports.size();
  return sum;
}

size_t ImportGraph::cyclic() const {
  std::map<int, size_t> sizes;
  for (const Node& node : nodes) ++sizes[node.component];
  size_t sum = 0;
  for (const auto& [component, size] : sizes) sum += size > 1 ? size : 0;
  return sum;
}

// Tarjan's strongly connected components. A module needs its imports and, before them, its package.
void ImportGraph::FindComponents() {
  std::vector<int> number(nodes.size(), -1), low(nodes.size(), 0);
  std::vector<bool> on_stack(nodes.size(), false);
  std::vector<size_t> stack;
  int next = 0, components = 0;
  std::function<void(size_t)> visit = [&](size_t at) {
    number[at] = low[at] = next++;
    stack.push_back(at);
    on_stack[at] = true;
    std::vector<std::string> needed = nodes[at].imports;
    if (const std::string_view parent = ParentOf(nodes[at].name); !parent.empty())
      needed.emplace_back(parent);
    for (const std::string& name : needed) {
      const auto found = index_.find(name);
      if (found == index_.end()) continue;
      const size_t to = found->second;
      if (number[to] < 0) {
        visit(to);
        low[at] = std::min(low[at], low[to]);
      } else if (on_stack[to]) {
        low[at] = std::min(low[at], number[to]);
      }
    }
    if (low[at] != number[at]) return;
    size_t member;
    do {
      member = stack.back();
      stack.pop_back();
      on_stack[member] = false;
      nodes[member].component = components;
    } while (member != at);
    ++components;
  };
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (number[i] < 0) visit(i);
  }
}

class GraphFinder::GraphLoader final : public Loader {
 public:
  GraphLoader(GraphFinder& finder, const ImportGraph::Node& node) : finder_(finder), node_(node) {}
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>&) override { return finder_.RunBody(node_); }

 private:
  GraphFinder& finder_;
  const ImportGraph::Node& node_;
};

GraphFinder::GraphFinder(const ImportGraph& graph) : graph_(graph), state_(new State[graph.nodes.size()]) {}

absl::StatusOr<Ref<ModuleSpec>> GraphFinder::FindSpec(std::string_view name, const std::vector<std::string>*,
                                                      const Object*) {
  const ImportGraph::Node* const node = graph_.Find(name);
  if (node == nullptr) return Ref<ModuleSpec>();
  ModuleSpec::Options options;
  options.loader = MakeRef<GraphLoader>(*this, *node);
  options.is_package = node->is_package;
  return ModuleSpec::New(name, std::move(options));
}

absl::Status GraphFinder::RunBody(const ImportGraph::Node& node) {
  State& state = state_[IndexOf(node)];
  state.runs.fetch_add(1, kRelaxed);
  for (const std::string& name : node.imports) {
    const absl::StatusOr<Ref<Object>> module = importer_->Import(name);
    if (!module.ok()) return module.status();
    if (!complete(IndexOf(*graph_.Find(name)))) {
      const MutexLock lock(mutex_);
      partial_.emplace_back(node.name, name);
    }
    if (pause_) pause_();
  }
  state.complete.store(true, kRelease);
  const MutexLock lock(mutex_);
  completed_.push_back(node.name);
  return absl::OkStatus();
}

std::vector<std::string> GraphFinder::completed() const {
  const MutexLock lock(mutex_);
  return completed_;
}

std::vector<std::pair<std::string, std::string>> GraphFinder::partial() const {
  const MutexLock lock(mutex_);
  return partial_;
}

}  // namespace pyrt::inline PYRT_VARIANT
