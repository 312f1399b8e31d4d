// Common mistakes in training, and their errors.
// says: fathom::training has no such field: it has batch (sequences), tokens (of each), accumulate, micro_batches, bf16_gradients, steps (there are no epochs), rate, lowest_rate, warmup, schedule, cooldown, beta1, beta2, decay, clip, groups, seed, evaluate_every, evaluate_batches, checkpoint (a file), checkpoint_every, resume, extend, log, progress, threads, observer
// says: fathom::adamw_options has no such field: it has rate, beta1, beta2, eps, decay, clip
// says: fathom::trainer.fit: expected tokens, as a std::span or a std::vector of fathom::token (32 bits), or a corpus, which fathom::data::bytes(path) makes of text
// says: fathom::evaluate: expected weights and then tokens, as a std::span or a std::vector of fathom::token (32 bits)
// says: fathom::training: observer must be callable with a const fathom::progress&, and return bool or nothing
// MISTAKES
#include <string>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/data/corpus.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/trainer.hpp>

constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 2, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;

#ifdef MISTAKES
[[maybe_unused]] static void mistakes(const std::vector<fathom::token>& tokens, const std::vector<long>& longs,
                                      const std::vector<short>& shorts) {
  fathom::trainer<net> trainer({.learning_rate = 1});
  fathom::trainer<net> second({.batch_size = 16, .epochs = 3, .lr = 3e-4});
  fathom::trainer<net> third({.batch = 16, .steps = 100, .rate = 1e-3f, .weight_decay = 0.1f, .seed = 1});
  fathom::adamw<net> optimizer({.lr = 1e-3});
  fathom::adamw<net> another({.rate = 1e-3f, .betas = {0.9, 0.95}, .weight_decay = 0.1}, {});
  trainer.fit("text");
  trainer.fit(longs);
  trainer.fit(tokens, shorts);
  net::tape tape(1, 16);
  static_cast<void>(fathom::evaluate<net>(trainer.weights(), longs, tape, 1));
  fathom::trainer<net> fourth({.observer = [](int) { return true; }});
  fathom::trainer<net> fifth({.observer = [](const fathom::progress&) { return std::string(); }});
}
#endif

[[maybe_unused]] static void habits(const std::vector<fathom::token>& tokens, const fathom::data::corpus& corpus) {
  fathom::trainer<net> trainer({.batch = 16, .steps = 2000, .rate = 1e-3f, .seed = 1, .observer = [](const auto&) {}});
  fathom::trainer<net> none, empty({});
  const fathom::training options{.steps = 3};
  fathom::trainer<net> with(options);
  fathom::training more;
  more.observer = nullptr;
  more.observer = [](const fathom::progress& p) { return p.step < 3; };
  fathom::adamw<net> optimizer({.rate = 1e-3f}), plain, braces({}), where({}, {1});
  trainer.fit(tokens);
  trainer.fit(tokens, {});
  trainer.fit(tokens, tokens);
  trainer.fit(corpus.train(), corpus.validation());
  trainer.fit(corpus);
  const auto weights = fathom::copy(trainer.weights());
  net::tape tape(1, 16);
  static_cast<void>(fathom::evaluate<net>(weights, tokens, tape, 1));
  static_cast<void>(fathom::evaluate<net>(*weights, tokens, tape, 1, 16, 2));
}
