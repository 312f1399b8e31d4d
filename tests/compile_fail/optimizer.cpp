// Types that are not optimisers, and misplaced options.
// says: fathom::trainer: this is not an optimiser of the model; train/optimizer.hpp says what one is
// says: fathom::optimizer_of: this is not the rule of an optimiser; train/optimizer.hpp says what one has
// says: fathom::training_of has no such field: it has batch (sequences), tokens (of each), accumulate, micro_batches, bf16_gradients, steps (there are no epochs), lowest_rate, warmup, schedule, cooldown, optimizer (with the rate and all that is the optimiser's own), groups, seed, evaluate_every, evaluate_batches, checkpoint (a file), checkpoint_every, resume, extend, log, progress, threads, observer
// shows: takes_weight_gradient_and_each_state
// MISTAKES
#include <array>
#include <string_view>
#include <vector>

#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/lion.hpp>
#include <fathom/train/muon.hpp>
#include <fathom/train/sgd.hpp>
#include <fathom/train/trainer.hpp>

constexpr fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 2, .heads = 4};
using net = fathom::model<c, fathom::backend::reference<float>>;

struct own_options {
  float rate = 1e-3f, clip = 1;
};
template <int States>
struct own_rule {
  using options = own_options;
  static constexpr std::string_view name = "own";
  static constexpr std::array<std::string_view, States> states{};
  template <class F>
  static void visit(const F& f, const options& o) {
    f("rate", o.rate), f("clip", o.clip);
  }
  static bool is_valid(const options&) { return true; }
  static constexpr std::string_view expected = "nothing";
  template <class T>
  struct formula {
    T rate;
    template <class V>
    FATHOM_ANYWHERE void operator()(V& w, const V& g) const {
      w = w - V(rate) * g;
    }
  };
  template <class T>
  static formula<T> formula_of(const options&, const fathom::step_settings& s) {
    return {static_cast<T>(s.rate)};
  }
};
template <class Model>
using own = fathom::optimizer_of<Model, own_rule<0>>;

#ifdef MISTAKES
template <class>
struct none {};
template <class Model>
using one_state_too_many = fathom::optimizer_of<Model, own_rule<1>>;

[[maybe_unused]] static void mistakes(const std::vector<fathom::token>& tokens) {
  fathom::trainer<net, none> trainer({.steps = 3});
  trainer.fit(tokens);
  one_state_too_many<net> optimizer({.rate = 1});
  fathom::trainer<net, fathom::lion> second({.batch = 16, .max_steps = 100});
}
#endif

[[maybe_unused]] static void habits(const std::vector<fathom::token>& tokens) {
  fathom::trainer<net, fathom::muon> trainer({.steps = 1000, .optimizer = {.rate = 0.02f}});
  fathom::trainer<net, fathom::lion> none, empty({}), only({.optimizer = {.rate = 1e-4f}}), zeros({.batch = 0, .tokens = 0});
  const fathom::training_of<fathom::sgd_options> options{.optimizer = {.nesterov = true}};
  fathom::trainer<net, fathom::sgd> with(options);
  fathom::trainer<net, own> of_own({.optimizer = {.rate = 1, .clip = 0}});
  fathom::trainer<net> groups({.groups = {{.match = fathom::glob("h.*"), .rate = 0.1, .decay = 0, .frozen = true}}});
  fathom::sgd<net> by_hand({.rate = 0, .momentum = 0}), plain, braces({}), where({}, {1});
  trainer.fit(tokens);
}
