#include "pyrt/tstate/delayed_free.h"

namespace pyrt::inline PYRT_VARIANT {

void DelayedFrees::Free(DelayedFree& item, Qsbr* domain, QsbrSlot* self) {
  if (kGilEnabled || domain == nullptr) {
    item.free(&item);
    return;
  }
  // One step of the clock serves a whole batch: the last item of it takes the step.
  item.goal = since_poll_ + 1 >= kPollEvery ? domain->Advance() : domain->SharedNext();
  item.next = nullptr;
  (last_ == nullptr ? first_ : last_->next) = &item;
  last_ = &item;
  ++size_;
  if (++since_poll_ >= kPollEvery) {
    since_poll_ = 0;
    Process(*domain, self);
  }
}

void DelayedFrees::TakeOrphans(Qsbr& domain) {
  DelayedFree* const orphans = domain.TakeOrphans();
  if (orphans == nullptr) return;
  DelayedFree* tail = orphans;
  size_t count = 1;
  for (; tail->next != nullptr; tail = tail->next) ++count;
  // In front: they are older. Their goals may be out of order with ours, which only delays them.
  tail->next = first_;
  first_ = orphans;
  if (last_ == nullptr) last_ = tail;
  size_ += count;
}

bool DelayedFrees::Process(Qsbr& domain, QsbrSlot* self) {
  TakeOrphans(domain);
  while (first_ != nullptr) {
    domain.AdvanceTo(first_->goal);
    if (!domain.Poll(first_->goal, self)) return false;
    DelayedFree* const item = first_;
    first_ = item->next;
    if (first_ == nullptr) last_ = nullptr;
    --size_;
    item->free(item);  // may come back here
  }
  return true;
}

void DelayedFrees::Abandon(Qsbr* domain) {
  if (first_ == nullptr) return;
  if (domain == nullptr) return FreeAll();
  domain->AdvanceTo(last_->goal);
  domain->AddOrphans(first_, last_);
  first_ = last_ = nullptr;
  size_ = 0;
}

void DelayedFrees::TakeFrom(DelayedFrees& other) {
  if (other.first_ == nullptr) return;
  (last_ == nullptr ? first_ : last_->next) = other.first_;
  last_ = other.last_;
  size_ += other.size_;
  other.first_ = other.last_ = nullptr;
  other.size_ = 0;
}

void DelayedFrees::FreeAll(Qsbr* domain) {
  for (;;) {
    // Each time: an item's function may end a thread, which leaves its own behind.
    if (domain != nullptr) TakeOrphans(*domain);
    if (first_ == nullptr) return;
    DelayedFree* const item = first_;
    first_ = item->next;
    if (first_ == nullptr) last_ = nullptr;
    --size_;
    item->free(item);
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
