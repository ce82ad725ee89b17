#include "pyrt/testing/detsched/internal/memory.h"

#include <cstring>

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

uint64_t ReadMemory(const void* address, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, address, size);
  return value;
}

bool AnyKnown(const Clock& first_seen, const Clock& known) {
  bool any = false;
  for (int i = 0; i < kMaxFibers; ++i) any |= first_seen.at[i] <= known.at[i];
  return any;
}

void ForgetReaders(Store& store) {
  for (uint32_t& time : store.first_seen.at) time = kNever;
}

void InitialStore(AtomicLocation& location, uint64_t value) {
  location.newest = location.oldest = 0;
  location.created = 0;
  location.creator = 0;
  location.created_at = Site{};
  Store& store = location.stores[0];
  store.value = value;
  store.sc = 0;
  store.has_released = false;
  store.first_seen.Reset();  // an event 0 of every thread: everybody knows it
}

void ResetPlain(PlainLocation& location) {
  location.writer = -1;
  location.written = 0;
  location.read.Reset();
}

}  // namespace

template <typename T>
T* AddressTable<T>::Find(const void* address) {
  for (size_t i = Bucket(address);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.generation != generation_) return nullptr;
    if (slot.address == address) return At(slot.index);
  }
}

template <typename T>
T* AddressTable<T>::FindOrAdd(const void* address, bool* added) {
  for (size_t i = Bucket(address);; i = (i + 1) & (slots_.size() - 1)) {
    Slot& slot = slots_[i];
    if (slot.generation == generation_) {
      if (slot.address != address) continue;
      *added = false;
      return At(slot.index);
    }
    if (used_ * 2 >= slots_.size()) {
      Grow();
      return FindOrAdd(address, added);
    }
    slot = {address, generation_, used_++};
    if (slot.index / kChunk == chunks_.size()) chunks_.push_back(std::make_unique<T[]>(kChunk));
    *added = true;
    return At(slot.index);
  }
}

template <typename T>
void AddressTable<T>::Grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.generation != generation_) continue;
    size_t i = Bucket(slot.address);
    while (slots_[i].generation == generation_) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = slot;
  }
}

void Memory::Clear() {
  atomics_.Clear();
  plains_.Clear();
  light_.Reset();
  heavy_.Reset();
  sc_ = 0;
}

void Memory::ConstructAtomic(int self, ThreadMemory& thread, const void* address, size_t size, Site site) {
  bool added;
  AtomicLocation& location = *atomics_.FindOrAdd(address, &added);
  InitialStore(location, ReadMemory(address, size));
  location.creator = static_cast<uint8_t>(self);
  location.created = thread.Tick(self);
  location.created_at = site;
}

void Memory::ConstructPlain(int self, ThreadMemory& thread, const void* address, Site site) {
  bool added;
  PlainLocation& location = *plains_.FindOrAdd(address, &added);
  ResetPlain(location);
  location.writer = static_cast<int8_t>(self);
  location.written = thread.Tick(self);
  location.written_at = site;
}

AtomicLocation& Memory::Locate(int self, ThreadMemory& thread, const void* address, size_t size, Race* race) {
  bool added;
  AtomicLocation& location = *atomics_.FindOrAdd(address, &added);
  if (added) {
    InitialStore(location, ReadMemory(address, size));
  } else if (location.stores[location.newest % kHistory].value != ReadMemory(address, size)) {
    // Written past us: memory that was given back and is used again without a constructor.
    InitialStore(location, ReadMemory(address, size));
  } else if (location.created > thread.known.before.at[location.creator]) {
    *race = {true, location.creator, "construction of the atomic", location.created_at};
  }
  thread.Tick(self);
  return location;
}

int Memory::Candidates(const ThreadMemory& thread, const AtomicLocation& location,
                       std::memory_order order) const {
  const bool sc = order == std::memory_order_seq_cst;
  uint32_t n = location.newest;
  for (;; --n) {
    const Store& store = location.stores[n % kHistory];
    if (n == location.oldest) break;
    if (AnyKnown(store.first_seen, thread.known.seen)) break;
    if (store.sc != 0 && (sc || store.sc <= thread.known.sc)) break;
    if (sc && AnyKnown(store.first_seen, heavy_.seen)) break;
  }
  return static_cast<int>(location.newest - n) + 1;
}

uint64_t Memory::Load(int self, ThreadMemory& thread, AtomicLocation& location, int age,
                      std::memory_order order) {
  Store& store = location.stores[(location.newest - static_cast<uint32_t>(age)) % kHistory];
  const uint32_t now = thread.known.before.at[self];
  if (store.first_seen.at[self] > now) store.first_seen.at[self] = now;
  // Whoever comes later in the total order may not read anything older.
  if (order == std::memory_order_seq_cst && store.sc == 0) store.sc = ++sc_;
  if (store.has_released) {
    if (IsAcquire(order)) {
      thread.known.Join(store.released);
    } else {
      if (!thread.has_loaded) thread.loaded.Reset();
      thread.has_loaded = true;
      thread.loaded.Join(store.released);
    }
  }
  return store.value;
}

void Memory::AppendStore(int self, ThreadMemory& thread, AtomicLocation& location, uint64_t value,
                         std::memory_order order, bool rmw) {
  const Store& previous = location.stores[location.newest % kHistory];
  ++location.newest;
  if (location.newest - location.oldest == kHistory) ++location.oldest;
  Store& store = location.stores[location.newest % kHistory];
  store.value = value;
  store.sc = order == std::memory_order_seq_cst ? ++sc_ : 0;
  store.has_released = true;
  if (IsRelease(order)) {
    store.released = thread.known;
  } else if (thread.has_released) {
    store.released = thread.released;
  } else {
    store.has_released = false;
  }
  if (rmw && previous.has_released) {
    if (store.has_released) {
      store.released.Join(previous.released);
    } else {
      store.released = previous.released;
      store.has_released = true;
    }
  }
  ForgetReaders(store);
  store.first_seen.at[self] = thread.known.before.at[self];
}

void Memory::LightFence(int self, ThreadMemory& thread) {
  thread.Tick(self);
  thread.known.JoinSeen(heavy_);
  light_.JoinSeen(thread.known);
}

void Memory::HeavyFence(int self, ThreadMemory& thread) {
  thread.Tick(self);
  if (thread.has_loaded) thread.known.Join(thread.loaded);
  thread.has_loaded = false;
  thread.known.JoinSeen(light_);
  thread.known.JoinSeen(heavy_);
  thread.known.sc = ++sc_;
  heavy_.JoinSeen(thread.known);
  thread.released = thread.known;
  thread.has_released = true;
}

Race Memory::ReadPlain(int self, ThreadMemory& thread, const void* address, Site site) {
  bool added;
  PlainLocation& location = *plains_.FindOrAdd(address, &added);
  if (added) ResetPlain(location);
  Race race;
  if (location.writer >= 0 && !thread.known.before.Covers(location.writer, location.written)) {
    race = {true, location.writer, "write", location.written_at};
  }
  location.read.at[self] = thread.Tick(self);
  location.read_at[self] = site;
  return race;
}

Race Memory::WritePlain(int self, ThreadMemory& thread, const void* address, Site site, uint32_t gone) {
  bool added;
  PlainLocation& location = *plains_.FindOrAdd(address, &added);
  if (added) ResetPlain(location);
  Race race;
  const auto alive = [gone](int fiber) { return (gone >> fiber & 1) == 0; };
  if (location.writer >= 0 && alive(location.writer) &&
      !thread.known.before.Covers(location.writer, location.written)) {
    race = {true, location.writer, "write", location.written_at};
  }
  for (int i = 0; i < kMaxFibers && !race.found; ++i) {
    if (location.read.at[i] > thread.known.before.at[i] && alive(i)) {
      race = {true, i, "read", location.read_at[i]};
    }
  }
  location.read.Reset();
  location.writer = static_cast<int8_t>(self);
  location.written = thread.Tick(self);
  location.written_at = site;
  return race;
}

void Memory::SeeAllOf(int other, const ThreadMemory& other_thread, ThreadMemory& thread) {
  uint32_t& seen = thread.known.seen.at[other];
  const uint32_t events = other_thread.known.before.at[other];
  if (seen < events) seen = events;
}

template class AddressTable<AtomicLocation>;
template class AddressTable<PlainLocation>;
template class AddressTable<uint64_t>;  // Engine::CoverageId

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
