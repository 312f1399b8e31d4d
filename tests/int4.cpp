// Weights in groups of four and eight bits: rounding, blocks of GGUF files taken over exactly, products against sums in double
// of the stored numbers, and models.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <fathom/core/grouped.hpp>
#include <fathom/fathom.hpp>
#include <fathom/io/gguf.hpp>

#include "backend_operands.hpp"
#include "fails_with.hpp"
#include "temporary_folder.hpp"

namespace fathom::test {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

// ---- Rounding --------------------------------------------------------------------------------------------------------

TEST_CASE("to_f16 rounds to the nearest, ties to even", "[grouped]") {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const f16 half{static_cast<std::uint16_t>(bits)};
    const auto value = static_cast<float>(half);
    if (value != value) {
      const auto again = static_cast<float>(to_f16(value));
      REQUIRE(again != again);
      continue;
    }
    REQUIRE(to_f16(value).bits == half.bits);
    if ((bits & 0x7fffu) >= 0x7bffu) continue;
    // Halfway to the next, and just below and above that.
    const float middle = (value + static_cast<float>(f16{static_cast<std::uint16_t>(bits + 1)})) / 2;
    REQUIRE(to_f16(middle).bits == (bits % 2 == 0 ? bits : bits + 1));
    REQUIRE(to_f16(std::nextafter(middle, value)).bits == bits);
    REQUIRE(to_f16(std::nextafter(middle, value < 0 || bits >= 0x8000u ? -infinity : infinity)).bits == bits + 1);
  }
  CHECK(to_f16(65519.99f).bits == 0x7bffu);
  CHECK(to_f16(65520.f).bits == 0x7c00u);
  CHECK(to_f16(-infinity).bits == 0xfc00u);
}

/// The squared error of rounding by the range alone: the step of the definition, rounded to f16, and the nearest integers.
template <class P>
double error_without_search(std::span<const float> x) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const float extreme = -*low > *high ? *low : *high;
  const double step = P::has_offset ? (*high - *low) / 15.0 : P::bits == 4 ? extreme / -8.0 : std::abs(extreme) / 127.0;
  const double s = static_cast<double>(static_cast<float>(to_f16(static_cast<float>(step))));
  const double o = P::has_offset ? static_cast<double>(static_cast<float>(to_f16(*low))) : 0;
  const double least = P::has_offset ? 0 : P::bits == 4 ? -8 : -127, most = P::has_offset ? 15 : P::bits == 4 ? 7 : 127;
  double error = 0;
  for (const float number : x) {
    const double q = s == 0 ? 0 : std::clamp(std::nearbyint((number - o) / s), least, most);
    error += std::pow(number - (q * s + o), 2);
  }
  return error;
}
template <class P>
double error_of(const group<P>& g, std::span<const float> x) {
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) error += std::pow(static_cast<double>(x[i]) - static_cast<double>(g.at(static_cast<index>(i))), 2);
  return error;
}

TEMPLATE_TEST_CASE("rounding a group is at least as good as its range alone", "[grouped]", int4, symmetric_int4, grouped_int8) {
  using P = TestType;
  random draw(3, 0);
  double ratios = 0, groups = 0;
  for (int n = 0; n < 400; ++n) {
    std::array<float, 32> x;
    const double scale = std::exp(6 * draw.normal() - 4), middle = n % 3 == 0 ? 3 * scale : 0;
    if (scale > 100) continue;
    for (float& number : x) number = static_cast<float>(scale * draw.normal() + middle);
    if (n % 5 == 0) x[static_cast<std::size_t>(n % 32)] *= 20;  // an outlier
    const double found = error_of(round_group<P>(x.data(), 32), x), without = error_without_search<P>(x);
    INFO("group " << n);
    REQUIRE(found <= without * (1 + 1e-5) + 1e-30);
    ratios += without > 0 ? found / without : 1;
    groups += 1;
  }
  if (P::bits == 4) CHECK(ratios < 0.95 * groups);  // on average, the search pays
}

TEMPLATE_TEST_CASE("what a group can hold is rounded to itself", "[grouped]", int4, symmetric_int4, grouped_int8) {
  using P = TestType;
  random draw(4, 0);
  const auto steps = P::bits == 4 ? 16 : 255;  // eight bits: -127 to 127
  for (int n = 0; n < 200; ++n) {
    group<P> g;
    g.scale = to_f16(static_cast<float>(std::exp(draw.normal() - 4)));
    if (P::has_offset) g.offset = to_f16(static_cast<float>(draw.normal()));
    for (auto& q : g.q) q = static_cast<std::uint8_t>(draw.below(steps) + (P::bits == 8));
    g.q[3] = P::bits == 4 ? 0 : 1;
    g.q[30] = P::bits == 4 ? 15 : 255;
    std::array<float, 32> x;
    for (index i = 0; i < 32; ++i) x[static_cast<std::size_t>(i)] = g.at(i);
    const group<P> again = round_group<P>(x.data(), 32);
    for (index i = 0; i < 32; ++i) REQUIRE(again.at(i) == x[static_cast<std::size_t>(i)]);
  }
}

TEMPLATE_TEST_CASE("groups of zeros, of one number, of extremes and of what is not finite", "[grouped]", int4, symmetric_int4, grouped_int8) {
  using P = TestType;
  std::array<float, 32> x{};
  const auto each = [&](index count, const auto& test) {
    const group<P> g = round_group<P>(x.data(), count);
    for (index i = 0; i < count; ++i) {
      INFO("number " << i << ": " << g.at(i));
      CHECK(test(g.at(i)));
    }
  };
  each(32, [](float y) { return y == 0; });
  for (const float constant : {0.3f, -17.f, 1e-3f}) {
    x.fill(constant);
    each(32, [&](float y) { return std::abs(y - constant) <= std::abs(constant) * 0x1p-10f; });
    each(1, [&](float y) { return std::abs(y - constant) <= std::abs(constant) * 0x1p-10f; });
  }
  x.fill(1e-12f);  // below f16
  each(32, [](float y) { return y == 0; });
  x.fill(1e-39f);
  each(7, [](float y) { return y == 0; });
  for (const float large : {1e6f, 3e38f}) {  // beyond f16: clipped, but finite
    x.fill(-large);
    x[5] = large;
    each(32, [](float y) { return std::abs(y) < 1e9f; });
  }
  for (const float bad : {nan, infinity, -infinity}) {
    x.fill(1);
    x[7] = bad;
    each(32, [](float y) { return y != y; });
  }
}

// ---- Blocks of files -------------------------------------------------------------------------------------------------

/// A block of random bits, with a finite scale and minimum.
template <class Block>
Block random_block(random& draw) {
  Block block;
  auto* const bytes = reinterpret_cast<std::uint8_t*>(&block);
  for (std::size_t i = 0; i < sizeof block; ++i) bytes[i] = static_cast<std::uint8_t>(draw.below(256));
  block.scale_bytes[1] = static_cast<std::uint8_t>((block.scale_bytes[1] & 0x87) | draw.below(15) << 3);  // not the largest exponent
  if constexpr (requires { block.minimum_bytes; })
    block.minimum_bytes[1] = static_cast<std::uint8_t>((block.minimum_bytes[1] & 0x87) | draw.below(15) << 3);
  return block;
}
/// Groups of P have the numbers of a block, bit for bit, also in a packed matrix.
template <class P, class Block>
void check_taken_over() {
  random draw(5, static_cast<std::uint64_t>(Block::type));
  auto packed = make<cpu::packed_matrix<P, 96, 70>>();
  const auto to = packed->writable_view();
  static_assert(takes_blocks_of<P>(Block::type));
  std::vector<float> expected(96 * 70);
  for (index j = 0; j < 70; ++j)
    for (index g = 0; g < 3; ++g) {
      const auto block = random_block<Block>(draw);
      float* const numbers = expected.data() + j * 96 + g * 32;
      ggml::dequantize(block, numbers);
      const group<P> taken = group_of_block<P>(Block::type, reinterpret_cast<const std::byte*>(&block));
      for (index i = 0; i < 32; ++i) REQUIRE(taken.at(i) == numbers[i]);
      to.put(g, j, taken);
    }
  for (index j = 0; j < 70; ++j)
    for (index k = 0; k < 96; ++k) {
      REQUIRE(packed->view().at(k, j) == expected[static_cast<std::size_t>(j * 96 + k)]);
      REQUIRE(packed->view().get(k / 32, j).at(k % 32) == expected[static_cast<std::size_t>(j * 96 + k)]);
    }
  auto block = random_block<Block>(draw);  // an infinite scale
  block.scale_bytes[0] = 0;
  block.scale_bytes[1] = 0x7c;
  const group<P> bad = group_of_block<P>(Block::type, reinterpret_cast<const std::byte*>(&block));
  for (index i = 0; i < 32; ++i) CHECK(bad.at(i) != bad.at(i));
}
TEST_CASE("blocks of files are taken over exactly", "[grouped]") {
  check_taken_over<int4, ggml::block_q4_1>();
  check_taken_over<symmetric_int4, ggml::block_q4_0>();
  check_taken_over<grouped_int8, ggml::block_q8_0>();
  check_taken_over<grouped_int8, ggml::block_q5_0>();
  check_taken_over<grouped_int8, ggml::block_q4_0>();
}
TEST_CASE("Q4_0 is an int4 with an offset, as far as f16 goes", "[grouped]") {
  random draw(6, 0);
  for (int n = 0; n < 300; ++n) {
    const auto block = random_block<ggml::block_q4_0>(draw);
    const group<int4> taken = group_of_block<int4>(block.type, reinterpret_cast<const std::byte*>(&block));
    float expected[32];
    ggml::dequantize(block, expected);
    for (index i = 0; i < 32; ++i) {
      if (std::abs(block.scale()) < 8188)
        REQUIRE(taken.at(i) == expected[i]);
      else
        REQUIRE(taken.at(i) != taken.at(i));
    }
  }
}

// ---- Products --------------------------------------------------------------------------------------------------------

/// A product with weights in groups of P against sums in double of the stored numbers. Rows of x may be rounded in groups, to
/// 1/254 of the largest magnitude of each.
template <class Backend, class P, index In, index Out, bool AsHead>
void check_grouped() {
  using packed = typename Backend::template packed<P>;
  random numbers(4, static_cast<std::uint64_t>(In * 1000 + Out));
  auto plain = make<tensor<float, AsHead ? Out : In, AsHead ? In : Out>>();
  for (float& number : plain->span()) number = static_cast<float>(numbers.normal());
  const auto ready = [&] {
    if constexpr (AsHead) {
      auto to = make<typename packed::template head<Out, In>>();
      Backend::template pack_tensor<P>(*plain, *to);
      return to;
    } else {
      auto to = make<typename packed::template matrix<In, Out>>();
      Backend::template pack_tensor<P>(*plain, *to);
      return to;
    }
  }();
  const auto weight = [&](index k, index j) {
    if constexpr (AsHead)
      return static_cast<double>(ready->transposed.view().at(k, j));
    else
      return static_cast<double>(ready->view().at(k, j));
  };
  const auto multiply = [&](const auto& on, matrix<const float> x, matrix<float> y, const auto& e) {
    if constexpr (AsHead)
      matmul_nt(on, x, *ready, y, e);
    else
      matmul(on, x, *ready, y, e);
  };
  INFO((AsHead ? "head" : "matrix") << " [" << In << ", " << Out << "], " << P::bits << " bits");
  for (index j = 0; j < Out; ++j) {  // the weights are what round_group makes of each column
    for (index k = 0; k < In; k += 32) {
      const index count = std::min<index>(32, In - k);
      float column[32];
      for (index i = 0; i < count; ++i) column[i] = AsHead ? plain->view()(j, k + i) : plain->view()(k + i, j);
      using stored = std::conditional_t<AsHead, head_type<P>, P>;
      const auto expected = round_group<stored>(column, count);
      for (index i = 0; i < count; ++i) REQUIRE(weight(k + i, j) == static_cast<double>(expected.at(i)));
    }
  }

  std::size_t turn = 0;
  for (const index rows : {1, 2, 3, 4, 5, 8, 9, 33, 131}) {
    ++turn;
    INFO(rows << " rows");
    const framed<float> x = framed<float>(rows, In, layouts[turn % 3]).fill(numbers);
    const framed<float> bias = framed<float>(1, Out).fill(numbers), residual = framed<float>(rows, Out, layouts[turn / 3 % 3]).fill(numbers);
    using results = std::array<framed<float>, 1>;
    const results found = on_any_number_of_threads<Backend>(
        results{framed<float>(rows, Out, layouts[turn / 2 % 3])}, [&](const auto& on, results& y) {
          multiply(on, x.view(), y[0].view(), epilogue::bias_add{bias.data(), residual.view()});
        });
    framed<double> expected(rows, Out), bound(rows, Out);
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < Out; ++j) {
        double sum = static_cast<double>(bias.data()[j]) + static_cast<double>(residual.view()(i, j)), allowed = 0, magnitude = std::abs(sum);
        for (index first = 0; first < In; first += 32) {
          double largest = 0, weights = 0;
          for (index k = first; k < std::min(first + 32, In); ++k) {
            const double number = static_cast<double>(x.view()(i, k));
            sum += number * weight(k, j);
            largest = std::max(largest, std::abs(number));
            weights += std::abs(weight(k, j));
          }
          allowed += largest * weights / 254;
          magnitude += 8 * largest * weights;
        }
        expected.view()(i, j) = sum;
        bound.view()(i, j) = allowed * 1.001 + static_cast<double>(In + 8) * eps<float> * magnitude;
      }
    check_close("product", found[0], expected, [&](index i, index j) { return bound.view()(i, j); });

    // A row gives the same bits alone.
    framed<float> alone(1, Out);
    typename Backend::executor{1}.run([&](const auto& on) {
      multiply(on, x.view().rows_from(rows - 1, 1), alone.view(),
               epilogue::bias_add{bias.data(), residual.view().rows_from(rows - 1, 1)});
    });
    for (index j = 0; j < Out; ++j) REQUIRE(alone.view()(0, j) == found[0].view()(rows - 1, j));
  }

  // A number that is not finite spoils its row, and no other.
  framed<float> x = framed<float>(3, In).fill(numbers), y(3, Out);
  x.view()(1, In / 2) = infinity;
  typename Backend::executor{2}.run([&](const auto& on) { multiply(on, x.view(), y.view(), epilogue::none{}); });
  for (index j = 0; j < Out; ++j) {
    CHECK(std::isfinite(y.view()(0, j)));
    CHECK(!std::isfinite(y.view()(1, j)));
    CHECK(std::isfinite(y.view()(2, j)));
  }
}
template <class Backend, class P>
void check_grouped_shapes() {
  check_grouped<Backend, P, 1, 1, false>();
  check_grouped<Backend, P, 33, 100, false>();
  check_grouped<Backend, P, 64, 47, true>();
  check_grouped<Backend, P, 515, 17, false>();
}
TEMPLATE_TEST_CASE("products with weights in groups", "[grouped]", int4, symmetric_int4, grouped_int8) {
  check_grouped_shapes<backend::cpu<float>, TestType>();
  check_grouped<backend::cpu<bf16>, TestType, 33, 100, false>();
}
TEST_CASE("a depth for which a workspace holds few rows", "[grouped]") { check_grouped<backend::cpu<float>, int4, 40000, 3, false>(); }

TEMPLATE_TEST_CASE("a column that is not finite spoils its own results", "[grouped]", int4, symmetric_int4, grouped_int8) {
  auto plain = make<tensor<float, 64, 40>>();
  for (float& number : plain->span()) number = 1;
  plain->view()(40, 17) = nan;
  auto ready = make<cpu::packed_matrix<TestType, 64, 40>>();
  cpu::pack_tensor(*plain, *ready);
  std::vector<float> x(64, 1.f), y(40);
  backend::cpu<float>::executor{1}.run([&](const auto& on) {
    matmul(on, matrix<const float>(x.data(), 1, 64), *ready, matrix<float>(y.data(), 1, 40), epilogue::none{});
  });
  for (std::size_t j = 0; j < 40; ++j) CHECK((j == 17 ? y[j] != y[j] : std::abs(y[j] - 64) < 0.1f));
}

// ---- Models ----------------------------------------------------------------------------------------------------------

constexpr config llama{.vocab = 61, .context = 64, .width = 64, .depth = 2, .heads = 4, .hidden = 96, .tied = true, .shortcut = {},
                       .family = family::llama, .kv_heads = 2, .rotary = {.base = 10'000}};
constexpr config gpt2_untied{.vocab = 61, .context = 64, .width = 48, .depth = 2, .heads = 3, .tied = false, .shortcut = {.depths = {1}}};

std::vector<token> some_tokens(index count, index vocab) {
  random draw(9, 0);
  std::vector<token> tokens;
  while (std::ssize(tokens) < count) tokens.push_back(static_cast<token>(draw.below(vocab)));
  return tokens;
}
/// The largest difference, in parts of the largest magnitude.
double difference(std::span<const float> a, std::span<const float> b) {
  double off = 0, most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    off = std::max(off, std::abs(static_cast<double>(a[i] - b[i])));
    most = std::max(most, std::abs(static_cast<double>(b[i])));
  }
  return off / most;
}
template <class Net, class W>
std::vector<float> logits_of(const W& weights, std::span<const token> tokens, std::size_t prompt) {
  typename Net::cache cache(1);
  auto logits = Net::prefill(weights, tokens.first(prompt), cache);
  for (const token t : tokens.subspan(prompt)) logits = Net::decode(weights, t, cache);
  return {logits.begin(), logits.end()};
}

template <config C, class P>
void check_model() {
  using net = model<C>;
  using oracle_net = model<C, backend::reference<float>>;
  auto weights = make<typename net::parameters>();
  initialize<net>(*weights, 1);
  auto same = make<typename oracle_net::parameters>();
  std::memcpy(static_cast<void*>(&*same), static_cast<const void*>(&*weights), sizeof *weights);
  const auto packed = pack<P>(weights);
  const auto rounded = pack<P>(same);  // the same numbers, in plain loops
  const auto tokens = some_tokens(30, C.vocab);
  const auto found = logits_of<net>(*packed, tokens, 21), by_token = logits_of<net>(*packed, tokens, 1);
  CHECK(difference(by_token, found) < 1e-4);
  CHECK(difference(found, logits_of<oracle_net>(*rounded, tokens, 21)) < 0.03);  // the rounding of activations
  CHECK(difference(found, logits_of<oracle_net>(*pack<float>(same), tokens, 21)) < 0.3);
  // Several sequences at a time.
  typename net::cache several(3);
  const std::vector<token> next{1, 2, 3};
  const auto together = net::decode(*packed, next, several);
  const std::vector<float> all(together.begin(), together.end());
  CHECK(difference(std::span(all).subspan(61, 61), logits_of<net>(*packed, std::span(next).subspan(1, 1), 1)) < 1e-4);
}
TEMPLATE_TEST_CASE("models with weights in groups decode as their rounded weights do", "[grouped]", int4, symmetric_int4, grouped_int8) {
  check_model<llama, TestType>();
  check_model<gpt2_untied, TestType>();
}

/// A GGUF file with a llama of random blocks.
class llama_file {
 public:
  explicit llama_file(const std::filesystem::path& path) {
    const auto type_of = [&](int block, std::string_view name) {
      if (name == "attn_k" || (block == 1 && name == "ffn_up")) return ggml::type::q4_0;
      if (name == "attn_v") return block == 0 ? ggml::type::q8_0 : ggml::type::q5_0;
      if (name == "ffn_down") return block == 0 ? ggml::type::f32 : ggml::type::f16;
      return ggml::type::q4_1;
    };
    add("token_embd.weight", ggml::type::q8_0, {64, 61});
    add("output_norm.weight", ggml::type::f32, {64});
    for (int b = 0; b < 2; ++b) {
      const auto named = [&](std::string_view name, std::vector<index> dimensions) {
        add("blk." + std::to_string(b) + "." + std::string(name) + ".weight", dimensions.size() == 1 ? ggml::type::f32 : type_of(b, name), dimensions);
      };
      named("attn_norm", {64});
      named("ffn_norm", {64});
      named("attn_q", {64, 64});
      named("attn_k", {64, 32});
      named("attn_v", {64, 32});
      named("attn_output", {64, 64});
      named("ffn_gate", {64, 96});
      named("ffn_up", {64, 96});
      named("ffn_down", {96, 64});
    }
    io::write_gguf(path,
                   {{"general.architecture", "llama"},
                    {"llama.context_length", std::uint32_t{64}},
                    {"llama.embedding_length", std::uint32_t{64}},
                    {"llama.block_count", std::uint32_t{2}},
                    {"llama.feed_forward_length", std::uint32_t{96}},
                    {"llama.attention.head_count", std::uint32_t{4}},
                    {"llama.attention.head_count_kv", std::uint32_t{2}},
                    {"llama.attention.layer_norm_rms_epsilon", 1e-5f},
                    {"llama.rope.freq_base", 10000.f},
                    {"llama.rope.dimension_count", std::uint32_t{16}}},
                   tensors_);
  }

 private:
  void add(const std::string& name, ggml::type type, const std::vector<index>& dimensions) {
    const ggml::block_facts& facts = *ggml::find_type(type);
    index numbers = 1;
    for (const index d : dimensions) numbers *= d;
    auto& bytes = bytes_.emplace_back(static_cast<std::size_t>(numbers / facts.numbers * facts.bytes));
    for (index n = 0; n < numbers / facts.numbers; ++n) {
      std::byte* const to = bytes.data() + n * facts.bytes;
      if (facts.numbers == 1) {
        const auto number = static_cast<float>(dimensions.size() == 1 ? 1 : 0.1 * draw_.normal());
        const std::uint16_t half = to_f16(number).bits;
        std::memcpy(to, facts.bytes == 4 ? static_cast<const void*>(&number) : &half, static_cast<std::size_t>(facts.bytes));
        continue;
      }
      for (index i = 0; i < facts.bytes; ++i) to[i] = static_cast<std::byte>(draw_.below(256));
      const auto put = [&](index at, double number) {
        const std::uint16_t half = to_f16(static_cast<float>(number)).bits;
        std::memcpy(to + at, &half, 2);
      };
      const double scale = (0.5 + draw_.uniform()) * (type == ggml::type::q8_0 ? 0.002 : 0.02);
      put(0, scale);
      if (type == ggml::type::q4_1) put(2, -7.5 * scale);
    }
    tensors_.push_back({name, type, dimensions, bytes});
  }

  random draw_{11, 0};
  std::list<std::vector<std::byte>> bytes_;
  std::vector<io::gguf_tensor_to_write> tensors_;
};

/// Number (k, j) of a packed matrix or head, whichever backend it is of, against the floats.
struct stored_numbers {
  index same = 0, other = 0;
  double off = 0, size = 0;
  void compare(float stored, float expected) {
    ++(stored == expected ? same : other);
    off += std::pow(static_cast<double>(stored - expected), 2);
    size += std::pow(static_cast<double>(expected), 2);
  }
  template <class P, index In, index Out>
  void add(const cpu::packed_matrix<P, In, Out>& packed, const tensor<float, In, Out>& numbers) {
    for (index k = 0; k < In; ++k)
      for (index j = 0; j < Out; ++j) compare(packed.view().at(k, j), numbers.view()(k, j));
  }
  template <class P, index Rows, index Width>
  void add(const cpu::packed_head<P, Rows, Width>& packed, const tensor<float, Rows, Width>& numbers) {
    for (index k = 0; k < Rows; ++k)
      for (index j = 0; j < Width; ++j) compare(packed.transposed.view().at(j, k), numbers.view()(k, j));
  }
  template <index... E>
  void add(const tensor<float, E...>& packed, const tensor<float, E...>& numbers) {
    for (index i = 0; i < numbers.size; ++i) compare(packed.data()[i], numbers.data()[i]);
  }
};
/// The tensors of a file, packed as P, of which those in `exact` are taken over bit for bit.
template <class P>
void check_loaded(const std::filesystem::path& file, std::initializer_list<std::string_view> exact) {
  using net = model<llama>;
  using oracle_net = model<llama, backend::reference<float>>;
  auto numbers = make<typename net::parameters>();
  load(file, numbers);
  auto packed = make<typename net::template packed<P>>();
  load(file, packed);
  auto oracle = make<typename oracle_net::template packed<P>>();
  load(file, *oracle);
  net::visit(
      [&](std::string_view name, initial, const auto& full, const auto& ready, const auto& plain) {
        INFO(name);
        stored_numbers found, found_plain;
        found.add(ready, full);
        for (index i = 0; i < full.size; ++i) found_plain.compare(plain.data()[i], full.data()[i]);
        CHECK(found.same == found_plain.same);  // both backends hold the same
        CHECK(found.off <= 0.02 * found.size);
        if (full.rank == 1 || std::find(exact.begin(), exact.end(), name) != exact.end()) CHECK(found.other == 0);
      },
      *numbers, *packed, *oracle);
  const auto tokens = some_tokens(20, llama.vocab);
  CHECK(difference(logits_of<net>(*packed, tokens, 9), logits_of<oracle_net>(*oracle, tokens, 9)) < 0.03);
}
TEST_CASE("weights are loaded from a GGUF file, and groups are taken over", "[grouped]") {
  const temporary_folder folder;
  const auto file = folder.path() / "model.gguf";
  const llama_file written(file);
  check_loaded<int4>(file, {"wte.weight", "h.0.attn.c_proj.weight", "h.1.attn.c_proj.weight", "h.0.mlp.gate_proj.weight",
                            "h.0.mlp.up_proj.weight", "h.1.mlp.up_proj.weight"});
  check_loaded<symmetric_int4>(file, {"wte.weight", "h.1.mlp.up_proj.weight"});
  check_loaded<grouped_int8>(file, {"wte.weight", "h.1.mlp.up_proj.weight"});
}

// ---- Files of our own ------------------------------------------------------------------------------------------------

template <config C, class P>
void check_saved() {
  using net = model<C>;
  const temporary_folder folder;
  const auto file = folder.path() / "saved.safetensors";
  auto weights = make<typename net::parameters>();
  initialize<net>(*weights, 2);
  save<P>(file, weights);
  const auto packed = pack<P>(weights);
  auto loaded = make<typename net::template packed<P>>();
  load(file, loaded);
  CHECK(std::memcmp(static_cast<const void*>(&*loaded), static_cast<const void*>(&*packed), sizeof *packed) == 0);
  // As floats, and from them as another type.
  auto numbers = make<typename net::parameters>();
  load(file, numbers);
  net::visit(
      [&](std::string_view name, initial, const auto& full, const auto& ready) {
        INFO(name);
        stored_numbers found;
        if constexpr (requires { found.add(ready, full); })
          found.add(ready, full);
        else
          for (index i = 0; i < full.size; ++i) found.compare(static_cast<float>(ready.data()[i]), full.data()[i]);
        CHECK(found.other == 0);
      },
      *numbers, *packed);
  auto as_bf16 = make<typename net::template packed<bf16>>();
  load(file, as_bf16);
  CHECK(std::memcmp(static_cast<const void*>(&*as_bf16), static_cast<const void*>(&*pack<bf16>(numbers)), sizeof *as_bf16) == 0);
}
TEMPLATE_TEST_CASE("weights saved in groups are those that packing makes", "[grouped]", int4, symmetric_int4, grouped_int8) {
  check_saved<llama, TestType>();
  check_saved<gpt2_untied, TestType>();
}

TEST_CASE("files with groups that do not fit are refused", "[grouped]") {
  using net = model<gpt2_untied>;
  const temporary_folder folder;
  const auto file = folder.path() / "saved.safetensors";
  auto weights = make<net::parameters>();
  initialize<net>(*weights, 2);
  const tensor_table table = table_of<net>(*weights);
  const auto refuses = [&](const auto& spoil, const auto&... says) {
    io::tensors_to_write all;
    all.add(io::numbers_of<net>(table, *weights), "", io::written_as::int4);
    for (std::size_t i = 0; i < all.tensors.size(); ++i)
      if (spoil(all.tensors[i])) {
        all.tensors.erase(all.tensors.begin() + static_cast<std::ptrdiff_t>(i));
        break;
      }
    io::write_weights(file, all, "");
    CHECK(fails_with([&] { return load(file, weights), 0; }, says...));
    auto packed = make<net::packed<int4>>();
    CHECK(fails_with([&] { return load(file, packed), 0; }, says...));
  };
  const std::string name = "h.0.mlp.c_fc.weight";
  refuses([&](io::tensor_to_write& t) { return t.name == name + ".scale"; }, name + ".scale: missing; expected F16 [2, 192], because");
  refuses([&](io::tensor_to_write& t) { return t.name == "lm_head.weight.scale"; }, "lm_head.weight.scale: missing");
  refuses(
      [&](io::tensor_to_write& t) {
        if (t.name == name) t.shape = {16, 384};
        return false;
      },
      name + ": expected U8 [32, 192], found U8 [16, 384]");
  refuses(
      [&](io::tensor_to_write& t) {
        if (t.name == name + ".offset") t.shape = {192, 2};
        return false;
      },
      name + ".offset: expected F16 [2, 192], found F16 [192, 2]");
  std::vector<std::byte> infinite;
  refuses(
      [&](io::tensor_to_write& t) {
        if (t.name != name + ".scale") return false;
        infinite.assign(t.from.begin(), t.from.end());
        infinite[10] = std::byte{0};
        infinite[11] = std::byte{0x7c};
        t.from = infinite;
        return false;
      },
      name + ".scale: has inf at 5; expected finite numbers");

  weights->out.lm_head.view()(3, 5) = nan;
  CHECK(fails_with([&] { return save<int4>(file, weights), 0; }, "lm_head.weight has nan at [3, 5]; in groups of 8 bits, all numbers must be finite"));
}

}  // namespace
}  // namespace fathom::test
