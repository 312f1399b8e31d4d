// The families of models on the cpu backend, and as architectures that are edited.
#include <ratio>
#include <type_traits>
#include <vector>

#include <fathom/backend/cpu.hpp>

#include "catch.hpp"
#include "family_models.hpp"

namespace family_models {

using namespace fathom;
using rms = rms_norm<>;
using rms_of_gemma = rms_norm<std::ratio<1, 100'000>, 1>;

/// The body of each family in the grammar, put in place of the blocks that its alias has.
template <family>
struct written;
template <>
struct written<family::llama> {
  static constexpr config c = nameless(family::llama);
  using alias = llama<c>;
  using type = edit<alias, every_block, in_place_of<"attn", pre<"attn", rms, attention<4, kv_heads<2>, head_width<8>, rotary<10'000>, no_bias>>>,
                    in_place_of<"mlp", pre<"mlp", rms, gated_mlp<20>>>>;
};
template <>
struct written<family::mistral> {
  static constexpr config c = nameless(family::mistral);
  using alias = mistral<c>;
  using type =
      edit<alias, every_block, in_place_of<"attn", pre<"attn", rms, attention<4, kv_heads<2>, head_width<8>, rotary<10'000>, no_bias, window<5>>>>,
           in_place_of<"mlp", pre<"mlp", rms, gated_mlp<20>>>>;
};
template <>
struct written<family::qwen2> {
  static constexpr config c = nameless(family::qwen2);
  using alias = qwen2<c>;
  using positions = rotary<10'000, yarn_scaling<std::ratio<4>, 8>>;
  using type = edit<alias, every_block, in_place_of<"attn", pre<"attn", rms, attention<4, kv_heads<2>, head_width<8>, positions, no_output_bias>>>,
                    in_place_of<"mlp", pre<"mlp", rms, gated_mlp<20>>>>;
};
template <>
struct written<family::qwen3> {
  static constexpr config c = nameless(family::qwen3);
  using alias = qwen3<c>;
  using type =
      edit<alias, every_block, in_place_of<"attn", pre<"attn", rms, attention<4, kv_heads<2>, head_width<8>, rotary<10'000>, no_bias, head_norms<rms>>>>,
           in_place_of<"mlp", pre<"mlp", rms, gated_mlp<20>>>>;
};
template <>
struct written<family::olmo2> {
  static constexpr config c = nameless(family::olmo2);
  using alias = olmo2<c>;
  using type = edit<alias, every_block,
                    in_place_of<"attn", post<"attn", attention<4, kv_heads<2>, head_width<8>, rotary<10'000>, no_bias, query_key_norms<rms>>, rms>>,
                    in_place_of<"mlp", post<"mlp", gated_mlp<20>, rms>>>;
};
template <>
struct written<family::gemma3> {  // a window in blocks 0 and 2
  static constexpr config c = nameless(family::gemma3);
  using alias = gemma3<c>;
  template <class... Options>
  using attends =
      sandwich<"attn", rms_of_gemma, attention<4, kv_heads<2>, head_width<8>, rotary<10'000>, no_bias, head_norms<rms_of_gemma>, Options...>, rms_of_gemma>;
  using type = edit<edit<alias, every_block, in_place_of<"attn", attends<window<5>, score_width<6>>>,
                         in_place_of<"mlp", sandwich<"mlp", rms_of_gemma, gated_mlp<20, gelu_tanh>, rms_of_gemma>>>,
                    blocks<1>, in_place_of<"attn", attends<score_width<6>>>>;
};
template <>
struct written<family::gpt_neox> {
  static constexpr config c = nameless(family::gpt_neox);
  using alias = gpt_neox<c>;
  using type = edit<alias, every_block,
                    in_place_of<"parallel", parallel<pre<"attn", layer_norm<>, attention<4, head_width<6>, rotary<10'000, rotary_width<2>>>>,
                                                     pre<"mlp", layer_norm<>, mlp<20, gelu_erf>>>>>;
};
/// The config's shortcut, as an edit of the alias.
struct written_shortcut {
  using cross = pre<"/shortcut", rms, look_back<4, initial::residual, kv_heads<2>, head_width<8>, rotary<10'000>, no_bias>,
                    features<depths<1, 2>, normed_features<rms, linear_features>>>;
  using type = edit<written<family::mistral>::alias, last_block, insert_after<"attn", cross>>;
};

/// The logits after a prompt and after one token more.
template <class Net>
std::vector<float> logits_of(const std::vector<token>& tokens) {
  auto weights = fathom::make<typename Net::parameters>();
  fill(*weights);
  const auto ready = fathom::pack<float>(*weights);
  typename Net::cache cache(1);
  std::vector<float> all;
  const auto add = [&](std::span<const float> logits) { all.insert(all.end(), logits.begin(), logits.end()); };
  add(Net::prefill(*ready, std::span(tokens).first(12), cache));
  add(Net::decode(*ready, tokens[12], cache));
  return all;
}
template <config C, class Written>
void is_the_same_model() {
  using net = fathom::model<C>;
  using own = fathom::transformer<Written, fathom::backend::cpu<float>>;
  static_assert(!std::is_same_v<net, own> && net::parameter_count == own::parameter_count);
  const std::vector<token> tokens = tokens_of();
  CHECK(logits_of<net>(tokens) == logits_of<own>(tokens));
  CHECK(gradients_of<net>(tokens) == gradients_of<own>(tokens));
}

TEMPLATE_TEST_CASE_SIG("a config's model is that of its alias, with its blocks written out, bit for bit", "[families]", ((family Family), Family),
                       family::llama, family::mistral, family::qwen2, family::qwen3, family::olmo2, family::gemma3, family::gpt_neox) {
  static_assert(std::is_same_v<transformer<typename written<Family>::alias>, fathom::model<of(Family)>>);
  is_the_same_model<of(Family), typename written<Family>::type>();
}
TEST_CASE("a config's shortcut is an edit of the family's alias", "[families]") {
  is_the_same_model<mistral_after::c, written_shortcut::type>();
}

TEMPLATE_TEST_CASE("families train and decode on the cpu backend as in the reference backend", "[families]", FATHOM_FAMILY_MODELS) {
  using cpu = fathom::backend::cpu<float>;
  using net = fathom::model<TestType::c, cpu>;
  meets_reference<TestType::c, cpu>([](const auto& check) {
    typename net::cache cache(1);
    check(cache);
  });
}

}  // namespace family_models
