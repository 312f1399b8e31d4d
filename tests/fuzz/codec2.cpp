// Codec 2: frames as it packs them, and any tokens.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <fathom/data/codec2.hpp>

#include "fuzz.hpp"

namespace fuzz::codec2 {

void read(bytes input) {
  using fathom::data::codec2, fathom::data::codec2_shapes;
  input = input.first(std::min<std::size_t>(input.size(), 256));
  std::vector<codec2::values> frames;
  std::vector<fathom::token> tokens, shapes;
  for (std::size_t at = 0; at + 4 <= input.size(); at += 4) {
    codec2::bits bits;
    std::memcpy(bits.data(), input.data() + at, 4);
    const codec2::values frame = frames.emplace_back(codec2::unpack(bits));
    codec2::bits expected = bits;
    expected[3] &= 0xf0;
    expect(codec2::pack(frame) == expected, "a frame is packed as it was");
  }
  const auto play = [](const auto& run) {
    for (const float sample : run()) expect(std::isfinite(sample), "samples are finite");
  };
  play([&] { return codec2::play(frames); });
  for (std::size_t at = 0; at + 2 <= input.size(); at += 2) {
    std::uint16_t number = 0;
    std::memcpy(&number, input.data() + at, 2);
    tokens.push_back(number % codec2::vocab);
    shapes.push_back(number % codec2_shapes::vocab);
    static_cast<void>(codec2::name(tokens.back()) + codec2_shapes::name(shapes.back()));
  }
  play([&] { return codec2::decode(tokens); });
  play([&] { return codec2_shapes::decode(shapes); });
  if (!tokens.empty()) tokens.back() = static_cast<fathom::token>(std::to_integer<int>(input[0])) * 16 - 100;  // perhaps none
  play([&] { return codec2::decode(tokens); });
}

void make_seeds(seeds& to) {
  to.add(std::string("\x12\x34\x56\x70\xff\xff\xff\xf0\0\0\0\0\x81\x42\x24\x10", 16));
  std::string counted;
  for (int i = 0; i < 64; ++i) counted += static_cast<char>(i * 37);
  to.add(counted);
}

const harness it("codec2", read, make_seeds);

}  // namespace fuzz::codec2
