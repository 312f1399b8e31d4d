// Common mistakes with weights, and their errors.
// says: fathom: weights are copied by fathom::copy(from, to)
// says: fathom: weights are copied by fathom::copy(from), into a new block, or fathom::copy(from, to)
// says: fathom::copy: from and to must be weights of one model, and of one kind
// says: fathom::copy: the weights to copy to are const
// says: fathom::load: the weights are const, expected weights to write to
// says: fathom::load: expected a path and weights: *weights, weights or trainer.weights()
// says: fathom::save: expected a path and weights: *weights, weights or trainer.weights()
// says: fathom::save: packed weights are not saved, but save<P>(path, parameters) writes what packing as P holds
// says: weights are saved as float, fathom::bf16, std::int8_t, fathom::int4, symmetric_int4 or grouped_int8
// says: fathom::save_transformers: transformers has no GPT-2 with shortcuts
// says: fathom::save_transformers: expected a folder and weights: *weights, weights or trainer.weights()
// says: fathom::make: the numbers of a const block would be zero for ever
// MISTAKES
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/io/weights.hpp>
#include <fathom/model/model.hpp>

constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 2, .heads = 4, .shortcut = {.depths = {1}}};
constexpr fathom::config d{.vocab = 61, .context = 16, .width = 32, .depth = 2, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;
using other_net = fathom::model<d, fathom::backend::reference<float>>;

#ifdef MISTAKES
[[maybe_unused]] static void mistakes(fathom::owned<net::parameters>& best, const net::parameters& weights, net::parameters& some,
                                      net::packed<float>& packed, other_net::parameters& other, std::vector<float>& numbers) {
  *best = weights;
  *best = some;
  packed = *fathom::make<net::packed<float>>();
  [[maybe_unused]] auto mine = weights;
  [[maybe_unused]] const net::parameters copied(some);
  fathom::copy(weights, other);
  fathom::copy(weights, packed);
  fathom::copy(best, weights);
  fathom::load("file", weights);
  fathom::load("file", &weights);
  fathom::load("file", numbers);
  fathom::save("file", numbers);
  fathom::save("file", packed);
  fathom::save<double>("file", weights);
  fathom::save_transformers("folder", weights);
  fathom::save_transformers("folder", numbers);
  [[maybe_unused]] auto zero = fathom::make<const net::parameters>();
}
#endif

[[maybe_unused]] static void habits(fathom::owned<net::parameters>& best, const net::parameters& weights, net::parameters& some,
                                    net::packed<float>& packed, other_net::parameters& other) {
  best = fathom::copy(weights);
  fathom::copy(best, some);
  fathom::copy(&some, best);
  auto ready = fathom::copy(packed);
  fathom::copy(*ready, packed);
  const fathom::owned<net::parameters> fixed = fathom::copy(best);
  fathom::save("file", best);
  fathom::save<fathom::bf16>("file", fixed);
  fathom::save("file", &weights);
  fathom::load("file", best);
  fathom::load("file", fixed);
  fathom::load("file", ready);
  fathom::load("file", other, {.missing = fathom::missing::keep});
  fathom::save_transformers("folder", other);
}
