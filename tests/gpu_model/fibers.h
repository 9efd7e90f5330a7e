// Cooperative threads: each has a stack and runs until it waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace segma::gpu {

#if defined(__x86_64__)
using Context = void*;  // the stack pointer

// Registers that a call must keep go to the stack; the rest is the compiler's.
__attribute__((naked, noinline)) inline void switch_context(Context*, Context*) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq (%rsi), %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}

inline void make_context(Context* context, char* stack, size_t size, void (*entry)()) {
  auto** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + size) & ~uintptr_t(15));
  *--top = nullptr;  // where entry would return to; it never does
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  *context = top;
}
#else
using Context = ucontext_t;

inline void switch_context(Context* from, Context* to) {
  swapcontext(from, to);
}

inline void make_context(Context* context, char* stack, size_t size, void (*entry)()) {
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = size;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
}
#endif

struct Fiber {
  Context context;
  const uint64_t* waits_for = nullptr;
  uint64_t seen = 0;
  bool done = false;
};

struct Scheduler {
  static constexpr size_t STACK = 128 << 10;
  Context own;
  std::vector<Fiber> fibers;
  std::vector<std::unique_ptr<char[]>> stacks;
  const std::function<void()>* body = nullptr;
  int current = 0;
  std::string error;
};

inline thread_local Scheduler scheduler;

inline int current_fiber() {
  return scheduler.current;
}

inline void leave() {
  switch_context(&scheduler.fibers[scheduler.current].context, &scheduler.own);
}

inline void wait_for_change(const uint64_t* counter, uint64_t seen) {
  if (*counter != seen) return;
  Fiber& fiber = scheduler.fibers[scheduler.current];
  fiber.waits_for = counter;
  fiber.seen = seen;
  leave();
}

// Ends the grid: the fibers are left where they are.
[[noreturn]] inline void fail(const std::string& message) {
  scheduler.error = message + " (thread " + std::to_string(scheduler.current) + ")";
  leave();
  std::abort();
}

inline void enter_fiber() {
  (*scheduler.body)();
  scheduler.fibers[scheduler.current].done = true;
  leave();
}

// Runs `body` in `count` fibers; `when_idle` may make one go on, and says whether it did anything.
template <class Idle>
void run_fibers(int count, bool last_first, const std::function<void()>& body, Idle when_idle) {
  Scheduler& all = scheduler;
  all.fibers.assign(count, Fiber{});
  all.body = &body;
  all.error.clear();
  while (all.stacks.size() < size_t(count)) all.stacks.emplace_back(new char[Scheduler::STACK]);
  for (int i = 0; i < count; ++i) {
    make_context(&all.fibers[i].context, all.stacks[i].get(), Scheduler::STACK, &enter_fiber);
  }
  for (int left = count; left > 0;) {
    bool moved = false;
    for (int i = 0; i < count; ++i) {
      all.current = last_first ? count - 1 - i : i;
      Fiber& fiber = all.fibers[all.current];
      if (fiber.done || (fiber.waits_for != nullptr && *fiber.waits_for == fiber.seen)) continue;
      fiber.waits_for = nullptr;
      moved = true;
      switch_context(&all.own, &fiber.context);
      if (!all.error.empty()) throw std::runtime_error(all.error);
      left -= fiber.done;
    }
    if (!moved && !when_idle()) throw std::runtime_error("all threads of a block wait for each other");
  }
}

}  // namespace segma::gpu
