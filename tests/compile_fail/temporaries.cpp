// A view does not accept a temporary, which would be destroyed before use.
// says: deleted 
// shows: batches
// shows: windows
// shows: consecutive
// shows: train
// shows: skipped
// shows: bytes
// MISTAKES
#include <span>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/data/batches.hpp>
#include <fathom/data/corpus.hpp>
#include <fathom/generate/generator.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/trainer.hpp>

constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 2, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;

std::vector<fathom::token> tokens();
const std::vector<fathom::token> more_tokens();
fathom::data::corpus corpus();
fathom::owned<net::packed<float>> packed();
fathom::owned<net::parameters> weights();

#if defined(MISTAKES)
[[maybe_unused]] static void mistakes() {
  for (const auto& batch : fathom::data::batches(tokens(), {.batch = 1, .tokens = 1, .steps = 10})) static_cast<void>(batch);
  for (const auto& batch : fathom::data::batches(more_tokens(), {.batch = 1, .tokens = 1, .steps = 10})) static_cast<void>(batch);
  const fathom::data::windows windows(tokens(), {.batch = 1, .tokens = 1, .steps = 10});
  const fathom::data::consecutive consecutive(tokens(), 1, 1);
  static_cast<void>(corpus().train());
  static_cast<void>(corpus().skipped());
  static_cast<void>(fathom::buffer(1024).bytes());
}
#endif

[[maybe_unused]] static void habits(const std::vector<fathom::token>& named) {
  for (const auto& batch : fathom::data::batches(std::span(named), {.batch = 1, .tokens = 1, .steps = 10})) static_cast<void>(batch);
  for (const auto& batch : fathom::data::batches(named, {.batch = 1, .tokens = 1, .steps = 10})) static_cast<void>(batch);
  // An argument that is read before the call returns may be a temporary, such as weights that are packed or moved.
  fathom::generator<net> writer(weights()), other(packed()), from_block(*weights());
  writer.write(tokens(), 10, [](fathom::token) {});
  fathom::trainer<net> trainer;
  trainer.fit(tokens());
  trainer.fit(tokens(), tokens());
  trainer.fit(corpus());
  net::tape tape(1, 16);
  static_cast<void>(fathom::evaluate<net>(weights(), tokens(), tape, 1));
}
