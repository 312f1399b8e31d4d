// Groups of ranks that train together, here as threads of one process: bitwise the weights, losses, logs and checkpoints of one
// process, for any number of ranks. distributed.py tests the same with processes and MPI.
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/bf16.hpp>
#include <fathom/core/random.hpp>
#include <fathom/data/token_files.hpp>
#include <fathom/data/tokens.hpp>
#include <fathom/model/model.hpp>
#include <fathom/train/lion.hpp>
#include <fathom/train/micro_batches.hpp>
#include <fathom/train/muon.hpp>
#include <fathom/train/sgd.hpp>
#include <fathom/train/sharding.hpp>
#include <fathom/train/trainer.hpp>

#include "catch.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace {

using fathom::token;
using fathom::training;
using fathom::detail::micro_batch_plan;
using fathom::detail::tree_node;

/// A group whose ranks are threads.
class threads_group {
  struct mail {
    std::mutex mutex;
    std::condition_variable arrived;
    std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> boxes;  // by sender and receiver
    std::map<int, std::size_t> sent;                                          // bytes, by sender
    std::string failure;
    int signal = 0;
  };

 public:
  struct exchange {
    std::vector<fathom::incoming> in;
  };
  threads_group() : threads_group(std::make_shared<mail>(), 0, 1) {}
  threads_group(std::shared_ptr<mail> m, int rank, int size) : mail_(std::move(m)), rank_(rank), size_(size) {}

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::string host(int rank) const { return "host" + std::to_string(rank); }
  [[nodiscard]] exchange start(std::span<const fathom::incoming> in, std::span<const fathom::outgoing> out) const {
    const std::lock_guard lock(mail_->mutex);
    for (const fathom::outgoing& o : out) {
      mail_->boxes[{rank_, o.rank}].emplace_back(o.bytes.begin(), o.bytes.end());
      mail_->sent[rank_] += o.bytes.size();
    }
    mail_->arrived.notify_all();
    return {{in.begin(), in.end()}};
  }
  void wait(exchange& e) const {
    std::unique_lock lock(mail_->mutex);
    for (const fathom::incoming& i : e.in) {
      auto& box = mail_->boxes[{i.rank, rank_}];
      mail_->arrived.wait(lock, [&] { return !box.empty() || !mail_->failure.empty(); });
      if (box.empty()) throw fathom::error(mail_->failure);
      if (box.front().size() != i.bytes.size()) throw fathom::error("a message of another size than expected");
      if (!i.bytes.empty()) std::memcpy(i.bytes.data(), box.front().data(), i.bytes.size());
      box.pop_front();
    }
    e.in.clear();
  }
  void begin_run() const {}
  void end_run() const {}
  [[nodiscard]] int stop_signal() const { return rank_ == size_ - 1 ? mail_->signal : 0; }
  void fail(const std::string& text, int about) const {
    const std::lock_guard lock(mail_->mutex);
    if (mail_->failure.empty()) mail_->failure = "rank " + std::to_string(about) + ": " + text;
    mail_->arrived.notify_all();
    throw fathom::error(mail_->failure);
  }

  /// Calls f(group) in a thread for each rank. Returns the error that the first rank ended with.
  template <class F>
  static std::string run(int size, const F& f, std::map<int, std::size_t>* sent = nullptr) {
    const auto all = std::make_shared<mail>();
    std::vector<std::string> errors(static_cast<std::size_t>(size));
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r)
      threads.emplace_back([&, r] {
        try {
          f(threads_group(all, r, size));
        } catch (const std::exception& e) {
          errors[static_cast<std::size_t>(r)] = e.what();
          const std::lock_guard lock(all->mutex);
          if (all->failure.empty()) all->failure = e.what();
          all->arrived.notify_all();
        }
      });
    for (std::thread& thread : threads) thread.join();
    if (sent) *sent = all->sent;
    for (const auto& [who, box] : all->boxes) CHECK((box.empty() || !errors[0].empty()));
    return errors[0];
  }
  void raise_signal(int number) const { mail_->signal = number; }

 private:
  std::shared_ptr<mail> mail_;
  int rank_, size_;
};
static_assert(fathom::contract::group<threads_group>);

constexpr fathom::config tiny{.vocab = 11, .context = 8, .width = 8, .depth = 2, .heads = 2, .shortcut = {.depths = {1}}};
using net = fathom::model<tiny>;
using oracle = fathom::model<tiny, fathom::backend::reference<double>>;

std::vector<token> toy(fathom::index count, std::uint64_t seed = 5) {
  fathom::random numbers(seed, 0);
  std::vector<token> tokens(static_cast<std::size_t>(count), 1);
  for (std::size_t i = 1; i < tokens.size(); ++i)
    tokens[i] = static_cast<token>(numbers.below(10) == 0 ? numbers.below(11) : (tokens[i - 1] * 2 + 1) % 11);
  return tokens;
}
template <class Parameters>
std::string bytes_of(const Parameters& weights) {
  return {reinterpret_cast<const char*>(&weights), sizeof weights};
}
/// CHECK is for one thread only.
void demand(bool holds, const char* what) {
  if (!holds) throw fathom::error(std::string("not so: ") + what);
}
/// The cells of a log's lines.
std::vector<std::vector<std::string>> cells_of(const std::string& csv) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(csv);
  for (std::string line; std::getline(lines, line);) {
    rows.emplace_back();
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) rows.back().push_back(cell);
  }
  return rows;
}
/// The same without times: seconds, and the share of waiting.
std::vector<std::vector<std::string>> without_seconds(const std::string& csv) {
  auto rows = cells_of(csv);
  for (auto& row : rows) row.resize(std::min<std::size_t>(row.size(), 6));
  return rows;
}

}  // namespace

TEST_CASE("the tree of micro-batches depends on their number alone", "[group]") {
  // As an expression, for any number of ranks.
  const auto expression = [](fathom::index count, int ranks) {
    const micro_batch_plan plan(count, ranks);
    const auto text = [](const auto& self, tree_node n) -> std::string {
      return n.size() == 1 ? std::to_string(n.first) : "(" + self(self, n.left()) + "+" + self(self, n.right()) + ")";
    };
    std::vector<std::string> values;
    for (const tree_node& node : plan.nodes()) values.push_back(text(text, node));
    for (const auto& [to, from] : plan.additions()) values[to] = "(" + values[to] + "+" + values[from] + ")";
    return values[0];
  };
  CHECK(expression(1, 1) == "0");
  CHECK(expression(6, 1) == "(((0+1)+(2+3))+(4+5))");
  for (const fathom::index count : {2, 3, 4, 5, 6, 7, 8, 12, 13, 16})
    for (int ranks = 1; ranks <= count; ++ranks) {
      INFO(count << " micro-batches, " << ranks << " ranks");
      CHECK(expression(count, ranks) == expression(count, 1));
      const micro_batch_plan plan(count, ranks);
      fathom::index next = 0;
      for (int r = 0; r < ranks; ++r) {
        CHECK(plan.count_of(r) > 0);
        for (std::size_t n = plan.first_of(r); n < plan.first_of(r + 1); ++n) {
          CHECK(plan.nodes()[n].first == next);
          next = plan.nodes()[n].last;
        }
      }
      CHECK(next == count);
      if (count % ranks == 0 && std::has_single_bit(static_cast<std::size_t>(count))) CHECK(std::ssize(plan.nodes()) == ranks);
    }
}

TEST_CASE("shards are in order, complete and of about the same size", "[group]") {
  fathom::random numbers(3, 0);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<fathom::step_range> ranges;
    fathom::index at = 0, largest = 0, total = 0;
    for (fathom::index n = 1 + numbers.below(20); n > 0; --n) {
      const fathom::index size = 1 + numbers.below(1000);
      ranges.push_back({at, size, 0});
      at += (size + 15) / 16 * 16;
      largest = std::max(largest, size);
      total += size;
    }
    const int ranks = 1 + static_cast<int>(numbers.below(12));
    const auto shards = fathom::shards_of(ranges, ranks);
    REQUIRE(std::ssize(shards) == ranks);
    std::size_t next = 0;
    for (const fathom::shard& s : shards) {
      REQUIRE(s.first_range == next);
      next = s.last_range;
      fathom::index size = 0;
      for (std::size_t i = s.first_range; i < s.last_range; ++i) size += ranges[i].size;
      CHECK(size <= total / ranks + 1 + largest);
      if (size == 0) continue;
      CHECK(s.first == ranges[s.first_range].first);
      CHECK(s.last == ranges[s.last_range - 1].first + ranges[s.last_range - 1].size);
    }
    CHECK(next == ranges.size());
  }
}

namespace {

template <class Options>
Options a_run(const temporary_folder& folder, const std::string& name, fathom::index micro_batches, Options o) {
  o.batch = 2;
  o.tokens = 8;
  o.accumulate = 2;
  o.micro_batches = micro_batches;
  o.steps = 6;
  o.warmup = 2;
  o.groups = {{.match = fathom::glob("h.0.mlp.*"), .rate = 0.5}, {.match = fathom::glob("wpe.weight"), .frozen = true}};
  o.seed = 7;
  o.evaluate_every = 2;
  o.evaluate_batches = 3;
  o.checkpoint = folder.path() / (name + ".safetensors");
  o.checkpoint_every = 4;
  o.log = folder.path() / (name + ".csv");
  o.progress = false;
  o.threads = 1;
  return o;
}

/// Any number of ranks gives what one process does, also when another number takes over.
template <class Model, template <class> class Optimizer, class Options>
void same_for_any_number_of_ranks(const Options& own) {
  const temporary_folder folder;
  const auto data = toy(300), held_back = toy(100, 6);
  for (const fathom::index micro_batches : {8, 5}) {
    const Options o = a_run(folder, "alone", micro_batches, own);
    fathom::trainer<Model, Optimizer> alone(o);
    const auto expected = alone.fit(data, held_back);
    for (const int ranks : {1, 2, 3, 5, 8}) {
      if (ranks > micro_batches) continue;
      INFO(micro_batches << " micro-batches on " << ranks << " ranks");
      const std::string name = "on" + std::to_string(ranks);
      std::mutex mutex;
      int equal = 0;
      const auto train = [&](const threads_group& group, Options options) {
        fathom::trainer<Model, Optimizer, threads_group> trainer(std::move(options), group);
        const auto result = trainer.fit(data, held_back);
        const std::lock_guard lock(mutex);
        equal += bytes_of(trainer.weights()) == bytes_of(alone.weights()) && result.training_nll == expected.training_nll &&
                 result.validation_nll == expected.validation_nll;
      };
      CHECK(threads_group::run(ranks, [&](const threads_group& group) { train(group, a_run(folder, name, micro_batches, own)); }) == "");
      CHECK(equal == ranks);
      CHECK((folder.read(name + ".safetensors") == folder.read("alone.safetensors")));
      CHECK(without_seconds(folder.read(name + ".csv")) == without_seconds(folder.read("alone.csv")));

      // Interrupted after three steps, and resumed on another number of ranks.
      equal = 0;
      const int others = ranks == 1 ? 4 : ranks - 1;
      CHECK(threads_group::run(others, [&](const threads_group& group) {
              Options first = a_run(folder, "resumed", micro_batches, own);
              first.observer = [](const fathom::progress& p) { return p.step != 3; };
              fathom::trainer<Model, Optimizer, threads_group> trainer(std::move(first), group);
              demand(trainer.fit(data, held_back).steps == 3, "the observer ends the run");
            }) == "");
      CHECK(threads_group::run(ranks, [&](const threads_group& group) {
              Options second = a_run(folder, "resumed", micro_batches, own);
              second.resume = true;
              train(group, second);
            }) == "");
      CHECK(equal == ranks);
      CHECK((folder.read("resumed.safetensors") == folder.read("alone.safetensors")));
      CHECK(without_seconds(folder.read("resumed.csv")) == without_seconds(folder.read("alone.csv")));
    }
  }
}

}  // namespace

TEST_CASE("ranks train bitwise as one process does", "[group]") {
  SECTION("adamw") { same_for_any_number_of_ranks<net, fathom::adamw>(training{.rate = 1e-2f}); }
  SECTION("adamw, with gradients in bf16") { same_for_any_number_of_ranks<net, fathom::adamw>(training{.bf16_gradients = true, .rate = 1e-2f}); }
  SECTION("muon") { same_for_any_number_of_ranks<net, fathom::muon>(fathom::training_of<fathom::muon_options>{}); }
  SECTION("sgd, in double") {
    same_for_any_number_of_ranks<oracle, fathom::sgd>(fathom::training_of<fathom::sgd_options>{.optimizer = {.rate = 0.1f}});
  }
}

TEST_CASE("the gradients of micro-batches are those of one large batch", "[group]") {
  // In double, where the order of additions shows in the last digits only.
  const auto data = toy(300);
  const auto weights_after = [&](fathom::index accumulate, fathom::index micro_batches) {
    fathom::trainer<oracle> trainer(
        {.batch = 2, .accumulate = accumulate, .micro_batches = micro_batches, .steps = 3, .rate = 1e-2f, .progress = false});
    trainer.fit(data);
    std::vector<double> all;
    oracle::visit_tensors([&](fathom::initial, const auto& w) { all.insert(all.end(), w.span().begin(), w.span().end()); }, trainer.weights());
    return all;
  };
  const auto expected = weights_after(6, 1);
  for (const auto& [accumulate, micro_batches] : {std::pair(1, 6), std::pair(2, 3), std::pair(3, 2)}) {
    const auto found = weights_after(accumulate, micro_batches);
    double difference = 0;
    for (std::size_t i = 0; i < found.size(); ++i) difference = std::max(difference, std::abs(found[i] - expected[i]));
    CHECK(difference < 1e-10);
  }
}

TEST_CASE("gradients of micro-batches and their sums are rounded to bf16, but for the last", "[group]") {
  const auto data = toy(300);
  const auto numbers_of = [](const oracle::parameters& p) {
    std::vector<double> all;
    oracle::visit_tensors([&](fathom::initial, const auto& w) { all.insert(all.end(), w.span().begin(), w.span().end()); }, p);
    return all;
  };
  // Their mean, by hand, as the change of the weights by a step of plain gradient descent.
  const auto weights = fathom::make<oracle::parameters>();
  fathom::initialize<oracle>(*weights, 1);
  oracle::tape tape(2, 8);
  fathom::data::windows windows(data, {.batch = 2, .tokens = 8, .steps = 4, .seed = 1});
  const auto rounded = [](double x) { return static_cast<double>(static_cast<float>(fathom::bf16(static_cast<float>(x)))); };
  std::vector<std::vector<double>> gradients;
  for (fathom::index n = 0; n < 4; ++n) {
    const auto g = fathom::make<oracle::parameters>();
    oracle::forward_backward(*weights, windows.at(n), tape, *g, 0.25);
    gradients.push_back(numbers_of(*g));
  }
  const auto change_with = [&](bool rounds) {
    fathom::trainer<oracle, fathom::sgd> trainer({.batch = 2,
                                                  .micro_batches = 4,
                                                  .bf16_gradients = rounds,
                                                  .steps = 1,
                                                  .warmup = 0,
                                                  .optimizer = {.rate = 1, .momentum = 0, .decay = 0, .clip = 0},
                                                  .seed = 1,
                                                  .progress = false});
    const auto before = numbers_of(trainer.weights());
    trainer.fit(data);
    auto change = numbers_of(trainer.weights());
    for (std::size_t i = 0; i < change.size(); ++i) change[i] = before[i] - change[i];
    return change;
  };
  const auto found = change_with(true), exact = change_with(false);
  double wrong = 0, cost = 0, largest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto r = [&](int n) { return rounded(gradients[static_cast<std::size_t>(n)][i]); };
    wrong = std::max(wrong, std::abs(found[i] - (rounded(r(0) + r(1)) + rounded(r(2) + r(3)))));
    cost = std::max(cost, std::abs(found[i] - exact[i]));
    largest = std::max(largest, std::abs(exact[i]));
  }
  CHECK(wrong < 1e-12);
  CHECK(cost > 1e-4 * largest);
  CHECK(cost < 1e-2 * largest);

  // A run that rounds is another run.
  const temporary_folder folder;
  training o = a_run(folder, "run", 4, training{});
  fathom::trainer<net>(o).fit(data);
  o.bf16_gradients = o.resume = true;
  CHECK(fails_with([&] { fathom::trainer<net>(o).fit(data); }, "another run", "bf16_gradients: expected true, found false"));
}

TEST_CASE("ranks that do not fit together, and a rank that fails, end the run on all", "[group]") {
  const temporary_folder folder;
  const auto data = toy(300);
  /// The first rank's error, when rank 2 of 3 has other options, data, or weights.
  const auto error_with = [&](const auto& change, const std::vector<token>& others_data, float other_weight = 0) {
    return threads_group::run(3, [&](const threads_group& group) {
      training o = a_run(folder, "run", 4, training{});
      if (group.rank() == 2) change(o);
      fathom::trainer<net, fathom::adamw, threads_group> trainer(o, group);
      if (group.rank() == 2 && other_weight != 0) trainer.weights().out.ln_f.bias.data()[0] = other_weight;
      trainer.fit(group.rank() == 2 ? others_data : data);
    });
  };
  const auto says = [](const std::string& error, const std::vector<std::string>& pieces) {
    UNSCOPED_INFO("the error says: " << error);
    return std::all_of(pieces.begin(), pieces.end(), [&](const std::string& piece) { return error.find(piece) != error.npos; });
  };
  CHECK(error_with([](training&) {}, data) == "");
  CHECK(says(error_with([](training& o) { o.steps = 7; }, data), {"rank 2", "another run", "steps: expected 6, found 7"}));
  CHECK(says(error_with([](training& o) { o.evaluate_every = 3; }, data), {"rank 2", "evaluate_every"}));
  CHECK(says(error_with([](training&) {}, toy(300, 8)), {"rank 2", "data", "hash"}));
  CHECK(says(error_with([](training&) {}, data, 2), {"rank 2", "other initial weights"}));
  // Values that differ are found, and so is a rank whose loss is not a number.
  CHECK(says(error_with([](training& o) { o.groups.clear(); }, data), {"rank 2", "groups"}));
  CHECK(says(threads_group::run(3,
                                [&](const threads_group& group) {
                                  training o = a_run(folder, "run", 4, training{});
                                  float* weight = nullptr;
                                  if (group.rank() == 0) o.observer = [&](const fathom::progress& p) { if (p.step == 3) *weight = std::nanf(""); };
                                  fathom::trainer<net, fathom::adamw, threads_group> trainer(o, group);
                                  weight = trainer.weights().out.ln_f.bias.data();
                                  trainer.fit(data);
                                }),
             {"rank 0", "the loss is", "nan", "at step 4 of 6"}));
  // Too few micro-batches.
  CHECK(says(threads_group::run(3, [&](const threads_group& group) {
               fathom::trainer<net, fathom::adamw, threads_group>(training{.micro_batches = 2}, group);
             }),
             {"micro_batches 2 for 3 ranks"}));
  // What the first rank alone does ends the others, too.
  CHECK(says(threads_group::run(3,
                                [&](const threads_group& group) {
                                  training o = a_run(folder, "none/run", 4, training{});
                                  fathom::trainer<net, fathom::adamw, threads_group>(o, group).fit(data);
                                }),
             {"none/run", "cannot be written"}));
  // A signal on one rank ends the run on all, with a checkpoint.
  CHECK(threads_group::run(3, [&](const threads_group& group) {
          training o = a_run(folder, "signal", 4, training{});
          if (group.rank() == 0) o.observer = [&](const fathom::progress& p) { if (p.step == 3) group.raise_signal(15); };
          fathom::trainer<net, fathom::adamw, threads_group> trainer(o, group);
          const auto result = trainer.fit(data);
          demand(result.signal == 15, "the result says so");
          demand(result.steps == 3 || result.steps == 4, "the run ends soon");
        }) == "");
  CHECK(std::filesystem::exists(folder.path() / "signal.safetensors"));
}

TEST_CASE("the log of a group has the share of each step that waits", "[group]") {
  const temporary_folder folder;
  const auto data = toy(300);
  const auto train = [&](int ranks, fathom::index last) {
    const std::string error = threads_group::run(ranks, [&](const threads_group& group) {
      training o = a_run(folder, "run", 4, training{});
      o.resume = true;
      o.observer = [last](const fathom::progress& p) { return p.step < last; };
      fathom::trainer<net, fathom::adamw, threads_group>(o, group).fit(data);
    });
    CHECK(error == "");
    return cells_of(folder.read("run.csv"));
  };
  training first = a_run(folder, "run", 4, training{});
  first.observer = [](const fathom::progress& p) { return p.step < 2; };
  fathom::trainer<net>(first).fit(data);
  const auto before = cells_of(folder.read("run.csv"));
  CHECK(before[0].size() == 7);
  // A group goes on with the log of a process without one, and the other way round.
  const auto rows = train(2, 4);
  REQUIRE(rows.size() == 5);
  CHECK(rows[0].size() == 8);
  CHECK(rows[0].back() == "waiting");
  for (std::size_t i = 1; i < rows.size(); ++i) {
    REQUIRE(rows[i].size() == 8);
    if (i < 3) CHECK(std::equal(before[i].begin(), before[i].end(), rows[i].begin()));
    CHECK((i < 3 ? rows[i].back() == "0.0000" : std::stod(rows[i].back()) > 0 && std::stod(rows[i].back()) <= 1));
  }
  const auto alone = train(1, 5);
  REQUIRE(alone.size() == 6);
  CHECK(alone[4] == rows[4]);
  CHECK(alone[5].size() == 8);
  first.resume = true;
  first.observer = {};
  fathom::trainer<net>(first).fit(data);
  const auto last = cells_of(folder.read("run.csv"));
  REQUIRE(last.size() == 7);
  for (const auto& row : last) CHECK(row.size() == 7);
  CHECK(without_seconds(folder.read("run.csv"))[4] == std::vector<std::string>(rows[4].begin(), rows[4].begin() + 6));
}

TEST_CASE("the bytes of a rank are known at compile time", "[group]") {
  using trainer = fathom::trainer<net, fathom::adamw, threads_group>;
  constexpr std::size_t block = sizeof(net::parameters), tape = net::tape_bytes(2, 8);
  static_assert(trainer::bytes_per_rank(1, 1, 2, 8) == 4 * block + tape);  // weights, gradients, two moments
  static_assert(trainer::bytes_per_rank(1, 8, 2, 8) == 7 * block + tape);  // three levels of the tree
  static_assert(trainer::bytes_per_rank(2, 4, 2, 8, true) > trainer::bytes_per_rank(2, 4, 2, 8));
  static_assert(trainer::memory_of_rank(4, 4, 2, 8).gradients == block);
  // What the plan of any number of ranks needs is no more than that.
  for (fathom::index count = 1; count <= 17; ++count)
    for (int ranks = 1; ranks <= count; ++ranks) {
      const micro_batch_plan plan(count, ranks);
      for (int r = 0; r < ranks; ++r) {
        fathom::index levels = 0;
        for (std::size_t n = plan.first_of(r); n < plan.first_of(r + 1); ++n)
          levels = std::max(levels, static_cast<fathom::index>(std::bit_width(static_cast<std::size_t>(plan.nodes()[n].size() - 1))));
        INFO(count << " micro-batches, rank " << r << " of " << ranks);
        CHECK(plan.count_of(r) + levels <= fathom::detail::gradient_blocks(ranks, count));
      }
    }
}

TEST_CASE("a step moves as many bytes as a reduce-scatter and an all-gather", "[group]") {
  const auto data = toy(300);
  for (const auto& [ranks, rounds] : {std::pair(2, false), std::pair(4, false), std::pair(2, true), std::pair(4, true)}) {
    std::string summary;
    const auto bytes_of_run = [&, ranks = ranks, rounds = rounds](fathom::index steps) {
      std::map<int, std::size_t> sent;
      CHECK(threads_group::run(
                ranks,
                [&](const threads_group& group) {
                  const training o{.batch = 1, .micro_batches = 4, .bf16_gradients = rounds, .steps = steps, .warmup = 0, .progress = false, .threads = 1};
                  fathom::trainer<net, fathom::adamw, threads_group> trainer(o, group);
                  trainer.fit(data);
                  if (group.rank() == 0) summary = trainer.summary();
                },
                &sent) == "");
      std::size_t all = 0;
      for (const auto& [rank, bytes] : sent) all += bytes;
      return static_cast<double>(all);
    };
    const double step = bytes_of_run(5) - bytes_of_run(4);
    const double block = sizeof(net::parameters);
    const double passes = rounds ? 1.5 : 2;  // of the block: gradients, in half as many bytes, and weights
    INFO(ranks << " ranks, " << step << " bytes a step, parameters of " << block << "\n" << summary);
    CHECK(step < (passes + 0.2) * (ranks - 1) * block);  // with the small messages
    CHECK(step > (passes - 0.2) * (ranks - 1) * block);
    CHECK(summary.find("each of " + std::to_string(ranks) + " ranks, 4 micro-batches: ") != summary.npos);
  }
}

TEST_CASE("token files train as the same tokens in memory, on any number of ranks", "[group]") {
  const temporary_folder folder;
  const auto data = toy(3000), held_back = toy(100, 6);
  const std::span<const token> all = data;
  fathom::data::write_bin(folder.path() / "train_0.bin", all.first(700));
  fathom::data::write_npy(folder.path() / "train_1.npy", all.subspan(700, 1300));
  fathom::data::write_bin(folder.path() / "train_2.bin", all.subspan(2000));
  fathom::data::write_bin(folder.path() / "held_back.bin", held_back);
  fathom::data::write_bin(folder.path() / "whole.bin", all);
  const fathom::data::token_files train(folder.path() / "train_*", 11), validation(folder.path() / "held_back.bin", 11);

  fathom::trainer<net> alone(a_run(folder, "alone", 4, training{}));
  const auto expected = alone.fit(data, held_back);
  const auto same = [&](const std::string& name) {
    CHECK((folder.read(name + ".safetensors") == folder.read("alone.safetensors")));
    CHECK(without_seconds(folder.read(name + ".csv")) == without_seconds(folder.read("alone.csv")));
  };
  fathom::trainer<net> from_files(a_run(folder, "files", 4, training{}));
  CHECK(from_files.fit(train, validation).validation_nll == expected.validation_nll);
  same("files");
  CHECK(threads_group::run(3, [&](const threads_group& group) {
          training first = a_run(folder, "files", 4, training{});
          first.observer = [](const fathom::progress& p) { return p.step != 3; };
          fathom::trainer<net, fathom::adamw, threads_group>(first, group).fit(train, validation);
        }) == "");
  // In other files, the same tokens are the same data.
  training second = a_run(folder, "files", 4, training{});
  second.resume = true;
  const fathom::data::token_files whole(folder.path() / "whole.bin", 11);
  fathom::trainer<net> resumed(second);
  CHECK(resumed.fit(whole, held_back).training_nll == expected.training_nll);
  same("files");
  second.steps = 8;
  second.extend = true;
  CHECK(fails_with([&] { fathom::trainer<net>(second).fit(whole.part(1, 2999)); }, "data.tokens: expected 2999, found 3000"));

  CHECK(fails_with([&] { from_files.fit(fathom::data::token_files(folder.path() / "whole.bin", 12)); }, "training data", "vocabulary of 12", "the model's, 11"));
  fathom::data::write_bin(folder.path() / "wrong.bin", std::vector<token>(100, 11));
  CHECK(fails_with([&] { from_files.fit(fathom::data::token_files(folder.path() / "wrong.bin", 11)); }, "wrong.bin", "token 11 at position 0"));
}

TEST_CASE("a rank reads its own windows only", "[group]") {
  const temporary_folder folder;
  constexpr fathom::index size = fathom::index{1} << 22;
  const training options{.batch = 2, .tokens = 8, .micro_batches = 2, .steps = 3, .seed = 4, .progress = false, .threads = 1};
  // Where the windows of each rank are: those of tokens that count.
  std::vector<token> positions(size);
  for (std::size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<token>(i);
  fathom::data::windows windows(positions, {.batch = 2, .tokens = 8, .steps = 6, .seed = 4});
  std::vector<token> reads[2];
  for (fathom::index n = 0; n < 6; ++n) {
    const fathom::batch& b = windows.at(n);
    auto& to = reads[n % 2];
    to.insert(to.end(), b.inputs.begin(), b.inputs.end());
    to.insert(to.end(), b.targets.begin(), b.targets.end());
  }
  const auto data = toy(size);
  // The other rank's windows have no valid token in this rank's file; then neither has one of its own.
  for (const bool wrong : {false, true}) {
    for (int r = 0; r < 2; ++r) {
      std::vector<token> file = data;
      for (const token position : reads[1 - r]) file[static_cast<std::size_t>(position)] = 11;
      if (!wrong)
        for (const token position : reads[r]) file[static_cast<std::size_t>(position)] = data[static_cast<std::size_t>(position)];
      if (wrong && r == 1) file[static_cast<std::size_t>(reads[r][0])] = 11;
      fathom::data::write_bin(folder.path() / ("rank" + std::to_string(r) + ".bin"), file);
    }
    const std::string error = threads_group::run(2, [&](const threads_group& group) {
      const fathom::data::token_files mine(folder.path() / ("rank" + std::to_string(group.rank()) + ".bin"), 11);
      fathom::trainer<net, fathom::adamw, threads_group> trainer(options, group);
      trainer.fit(mine);
      fathom::trainer<net> alone(options);
      alone.fit(data);
      demand(bytes_of(trainer.weights()) == bytes_of(alone.weights()), "the weights are those of one process");
    });
    INFO(error);
    CHECK((wrong ? error.find("rank1.bin: token 11 at position") != error.npos : error.empty()));
  }
}

// Also a CTest entry of its own, which is listed as skipped where files cannot be sparse.
TEST_CASE("a file far larger than memory is trained on in little memory", "[group][sparse]") {
  const temporary_folder folder;
  constexpr std::uint64_t bytes = 20'000'000'000, tokens = bytes / 2;
  const auto path = folder.write("large.bin", "");
  std::error_code problem;
  std::filesystem::resize_file(path, bytes, problem);
  struct stat status {};
  if (problem || sizeof(void*) < 8 || ::stat(path.c_str(), &status) != 0 || status.st_blocks * 512 > 1'000'000) {
    std::printf("skipped: a file of 20 GB cannot be sparse here: %s\n", problem ? problem.message().c_str() : "it takes room");
    return;
  }
  // Beyond what 32 bits count, too.
  const std::vector<std::uint16_t> some{3, 1, 4, 1, 5, 9};
  for (const std::uint64_t at : {std::uint64_t{0}, tokens / 2, tokens - some.size()}) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(2 * at));
    file.write(reinterpret_cast<const char*>(some.data()), 12);
  }
  const auto peak = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;  // MiB
  };
  const long before = peak();
  const fathom::data::token_files files(path, 11);
  REQUIRE(files.size() == static_cast<fathom::index>(tokens));
  std::vector<token> read(6);
  for (const fathom::index at : {fathom::index{0}, files.size() / 2, files.size() - 6}) {
    files.read(at, read);
    CHECK(std::vector<std::uint16_t>(read.begin(), read.end()) == some);
  }
  CHECK(threads_group::run(2, [&](const threads_group& group) {
          const training o{.batch = 8, .tokens = 8, .micro_batches = 8, .steps = 40, .evaluate_every = 20, .progress = false, .threads = 1};
          fathom::trainer<net, fathom::adamw, threads_group> trainer(o, group);
          const auto result = trainer.fit(files.part(0, files.size() - 6), files.part(files.size() - 6, 6));
          demand(result.training_nll < 2, "zeros are learnt");
        }) == "");
  INFO(before << " MiB before, " << peak() << " MiB after");
  CHECK(peak() - before < 200);
}
