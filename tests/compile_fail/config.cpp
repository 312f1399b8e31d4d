// Invalid configs. Errors show the values.
// says: fathom::config: vocab must be positive
// shows: vocab_is_positive<0>
// shows: vocab_is_positive<-1>
// says: fathom::config: context must be positive
// shows: context_is_positive<0>
// shows: context_is_positive<-1>
// says: fathom::config: width must be positive
// shows: width_is_positive<0>
// shows: width_is_positive<-1>
// says: fathom::config: depth must be positive
// shows: depth_is_positive<0>
// shows: depth_is_positive<-1>
// says: fathom::config: heads must be positive
// shows: heads_is_positive<0>
// shows: heads_is_positive<-1>
// says: fathom::config: width must be a multiple of heads
// shows: width_is_a_multiple_of_heads<32, 5>
// shows: width_is_a_multiple_of_heads<32, 64>
// says: fathom::config: hidden must be positive, or 0 for 4 * width
// shows: hidden_is_not_negative<-5>
// says: fathom::config: all_depths needs a depth of 2 to 64 blocks
// shows: all_depths_has_2_to_64_blocks<1, false>
// shows: all_depths_has_2_to_64_blocks<65, false>
// says: fathom::config: a shortcut depth must be smaller than depth, the number of blocks: the last block's own output is not an intermediate layer
// shows: shortcut_depth_is_below_blocks<4, 4, false>
// shows: shortcut_depth_is_below_blocks<63, 4, false>
// says: fathom::config: a shortcut depth must lie between 0 and 63
// shows: shortcut_depth_is_in_0_to_63<-1, false>
// shows: shortcut_depth_is_in_0_to_63<64, false>
// shows: shortcut_depth_is_in_0_to_63<4294967297, false>
// says: fathom::config: a shortcut depth must be listed once
// shows: shortcut_depth_is_listed_once<2, false>
// shows: shortcut_depth_is_listed_once<0, false>
// says: fathom::config: shortcut.hidden must be positive, or 0 for width
// shows: shortcut_hidden_is_not_negative<-7, false>
// says: fathom::config: zero_init zeroes shortcut.attn.c_proj, which placement::joint and own_values do not have
// says: fathom::config: shortcut.blocks must lie between 1 and depth, or be all_blocks
// shows: shortcut_blocks_are_in_the_body<5, 4, false>
// shows: shortcut_blocks_are_in_the_body<0, 4, false>
// says: fathom::config: with shortcut.blocks, the first block that looks back has none of the depths below it: its input is depth (number of blocks - shortcut.blocks)
// shows: first_block_that_looks_back_has_a_depth<3, 2, 4, false>
// says: fathom::config: shortcut.rotary is a base above 1, or 0 for none, and needs heads of an even width of at most 256
// shows: shortcut_rotary_has_a_base_and_even_heads<1, 32, 4, false>
// says: fathom::config: in gemma3, whose blocks differ, the placements joint and own_values are for the last block only
// says: fathom::config: shortcut_source::values needs placement::own_values and depths above 0, and is not for gemma3
// says: fathom::config: shortcut_source::tokens needs placement::own_values, and 0 as the only depth
// says: fathom::config: shortcut_source::values and tokens need values of all key-value heads that are together at most as wide as the model
// shows: values_fit_into_the_width<4, 16, 32, false>
// says: fathom::config: shortcut_source::own_input needs at most 64 blocks, as depths above 63 cannot be read
// shows: own_input_is_of_at_most_64_blocks<65, false>
// says: fathom::config: shortcut.depth_bias is of scores, which depths do not have in placement::own_values
// says: fathom::config: shortcut.head_norms is not for placement::joint and own_values in olmo2, whose queries and keys have other norms
// MISTAKES
#include <fathom/backend/reference.hpp>
#include <fathom/model/model.hpp>

/// A model of a config with one changed field of its own or its shortcut's.
template <auto Change>
constexpr fathom::config changed = [] {
  fathom::config c{.vocab = 61, .context = 16, .width = 32, .depth = 4, .heads = 4};
  Change(c);
  return c;
}();
template <auto Change>
using net = fathom::model<changed<Change>, fathom::backend::reference<float>>;
#define CHANGED(field, ...) net<[](fathom::config& c) { c.field = __VA_ARGS__; }>::parameter_count > 0

#if defined(MISTAKES)
static_assert(CHANGED(vocab, 0));
static_assert(CHANGED(vocab, -1));
static_assert(CHANGED(context, 0));
static_assert(CHANGED(context, -1));
static_assert(CHANGED(width, 0));
static_assert(CHANGED(width, -1));
static_assert(CHANGED(depth, 0));
static_assert(CHANGED(depth, -1));
static_assert(CHANGED(heads, 0));
static_assert(CHANGED(heads, -1));
static_assert(CHANGED(heads, 5));
static_assert(CHANGED(heads, 64));
static_assert(CHANGED(hidden, -5));
static_assert(CHANGED(shortcut, {.depths = fathom::all_depths}, c.depth = 1));
static_assert(CHANGED(shortcut, {.depths = fathom::all_depths}, c.depth = 65));
static_assert(CHANGED(shortcut.depths, {4}));
static_assert(CHANGED(shortcut.depths, {1, 63}));
static_assert(CHANGED(shortcut.depths, {-1}));
static_assert(CHANGED(shortcut.depths, {2, 64}));
static_assert(CHANGED(shortcut.depths, {4294967297}));
static_assert(CHANGED(shortcut.depths, {2, 2}));
static_assert(CHANGED(shortcut.depths, {0, 3, 0}));
static_assert(CHANGED(shortcut, {.depths = {2}, .hidden = -7}));
static_assert(CHANGED(shortcut, {.depths = {2}, .placement = fathom::placement::joint, .zero_init = true}));
static_assert(CHANGED(shortcut, {.depths = {0}, .blocks = 5}));
static_assert(CHANGED(shortcut, {.depths = {0}, .blocks = 0}));
static_assert(CHANGED(shortcut, {.depths = {2, 3}, .blocks = 3}));
static_assert(CHANGED(shortcut, {.depths = {0}, .rotary = 1}));
static_assert(CHANGED(shortcut, {.depths = {1}, .placement = fathom::placement::own_values, .zero_init = true}));
static_assert(CHANGED(shortcut, {.depths = {0}, .placement = fathom::placement::joint, .blocks = 2}, c.family = fathom::family::gemma3));
static_assert(CHANGED(shortcut, {.depths = {1}, .source = fathom::shortcut_source::values}));
static_assert(CHANGED(shortcut, {.depths = {0}, .placement = fathom::placement::own_values, .source = fathom::shortcut_source::values}));
static_assert(CHANGED(shortcut, {.depths = {1}, .placement = fathom::placement::own_values, .source = fathom::shortcut_source::values},
                      c.family = fathom::family::llama, c.head_width = 16));
static_assert(CHANGED(shortcut, {.depths = {1}, .placement = fathom::placement::own_values, .source = fathom::shortcut_source::tokens}));
static_assert(CHANGED(shortcut, {.depths = {1}, .source = fathom::shortcut_source::own_input}, c.depth = 65));
static_assert(CHANGED(shortcut, {.depths = {1}, .placement = fathom::placement::own_values, .depth_bias = true}));
static_assert(CHANGED(shortcut, {.depths = {1}, .placement = fathom::placement::joint, .head_norms = true}, c.family = fathom::family::olmo2));
#endif

static_assert(CHANGED(vocab, 1));
static_assert(CHANGED(context, 1));
static_assert(CHANGED(depth, 1));
static_assert(CHANGED(heads, 32));
static_assert(CHANGED(hidden, 1));
static_assert(CHANGED(shortcut.depths, fathom::all_depths));
static_assert(CHANGED(shortcut, {.depths = {0, 63}}, c.depth = 64));
static_assert(CHANGED(shortcut.depths, {1, 3}));
static_assert(CHANGED(shortcut, {.depths = {2}, .hidden = 1}));
static_assert(CHANGED(shortcut, {.depths = {2}, .placement = fathom::placement::joint}));
static_assert(CHANGED(shortcut, {.depths = {2}, .zero_init = true}));
