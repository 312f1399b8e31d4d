// Repeated decoding of tokens: by a token program (token_program.cuh) if possible, else by a CUDA graph (runtime.cuh).
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "fathom/backend/cuda/runtime.cuh"
#include "fathom/backend/cuda/token_notes.cuh"
#include "fathom/backend/cuda/token_program.cuh"
#include "fathom/core/error.hpp"

namespace fathom::cuda {

/// The work repeated for every token (backend/backend.hpp): one kernel if that is possible and the weights are few,
/// else a CUDA graph.
class token_recording {
 public:
  template <class Executor, class F>
  void run(const Executor& where, std::initializer_list<std::uint64_t> key, const F& f) {
    if (!(where.on == on_ && std::equal(key.begin(), key.end(), key_.begin(), key_.end()))) {
      auto program = std::make_unique<token_program>();
      const auto note = [&] { where.run([&](const auto& on) { f(token_notes(on, *program)); }); };
      bool is_all = false;  // whether all of it was noted down
      try {
        is_all = where.on->tells_nothing(note);
      } catch (const error&) {  // it also needed memory; the graph will report any other error
      }
      if (!is_all || program->weight_bytes() > where.one_kernel) program->give_up();
      if (program->is_possible()) program->finish(*where.on);
      program_ = program->is_possible() ? std::move(program) : nullptr;
      on_ = where.on;
      key_ = key;
    }
    if (program_)
      program_->launch_on(*where.on);
    else
      graph_.run(where, key, f);
  }
  /// The program, or null if there is none.
  [[nodiscard]] const token_program* program() const { return program_.get(); }

 private:
  std::shared_ptr<gpu> on_;
  std::vector<std::uint64_t> key_;
  std::unique_ptr<token_program> program_;
  recording graph_;
};

}  // namespace fathom::cuda
