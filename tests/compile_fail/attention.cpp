// Invalid attentions, norms and heads, and their errors.
// says: fathom::attention: width must be a multiple of heads, where options give no head_width
// says: fathom::attention: kv_heads must divide heads
// says: fathom::attention: a window is a number of positions, of a causal attention
// says: fathom::attention: slopes are of a causal attention: they take the distance back from a query to a key
// says: fathom::attention: expected own_context, rows_of_source<D>, or both, each once
// says: fathom::rows_of_source: a source has at least one row for every position
// says: fathom::layer_norm: epsilon must be positive
// says: fathom::rms_norm: epsilon must be positive
// says: fathom::rms_norm: the gain's offset must be 0 or 1
// says: fathom::soft_cap: a soft cap must be positive
// says: fathom::output_head: a soft cap must be positive
// MISTAKES
#include <ratio>

#include <fathom/layer/attention.hpp>
#include <fathom/layer/layer_norm.hpp>
#include <fathom/layer/output_head.hpp>
#include <fathom/layer/rms_norm.hpp>

using namespace fathom::layers;

struct three_key_heads : attention_options {
  static constexpr fathom::index kv_heads = 3;
};
struct all_in_a_window : attention_options {
  static constexpr bool causal = false;
  static constexpr fathom::index window = 8;
};
struct sloping_to_both_sides : attention_options {
  static constexpr bool causal = false;
  static constexpr auto slopes = slopes_of_heads::alibi;
};
struct of_width_eight : attention_options {
  static constexpr fathom::index head_width = 8;
};

#ifdef MISTAKES
static_assert(attention<30, 4, attention_options, own_context>::heads == 4);
static_assert(attention<32, 4, three_key_heads, own_context>::heads == 4);
static_assert(attention<32, 4, all_in_a_window, own_context>::heads == 4);
static_assert(attention<32, 4, sloping_to_both_sides, own_context>::heads == 4);
static_assert(attention<32, 4, attention_options, own_context, own_context>::heads == 4);
static_assert(attention<32, 4, attention_options>::heads == 4);
static_assert(rows_of_source<0>::source_rows == 0);
static_assert(layer_norm<8, std::ratio<0>>::width == 8);
static_assert(rms_norm<8, std::ratio<0>>::width == 8);
static_assert(rms_norm<8, std::micro, 2>::width == 8);
static_assert(fathom::soft_cap<0>::option.value == 0);
static_assert(output_head<9, 8, true, layer_norm<8>, std::ratio<-1>>::soft_cap == -1);
#endif

static_assert(attention<30, 4, of_width_eight, own_context>::head_width == 8);
static_assert(attention<30, 6, three_key_heads, own_context, rows_of_source<2>>::key_rows == 3);
static_assert(layer_norm<8, std::ratio<1, 1'000'000>>::epsilon == 1e-6);
static_assert(rms_norm<8, std::micro, 1>::epsilon == 1e-6);
static_assert(output_head<9, 8, true, layer_norm<8>, std::ratio<61, 2>>::soft_cap == 30.5);
