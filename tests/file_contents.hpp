// Safetensors files, parsed and written without the library.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "json.hpp"

struct entry {
  std::string type;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

inline std::string with_length(const std::string& header, const std::string& data, std::uint64_t length) {
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}
/// A file with this header and these bytes, valid or not.
inline std::string raw(const std::string& header, const std::string& data = "") {
  return with_length(header, data, header.size());
}

/// The same JSON object with its keys in reverse order.
inline std::string backwards(const std::string& object) {
  std::string text;
  const fathom::json value = parsed(object);
  for (const auto& [key, member] : value.members())
    text = fathom::json(key).dump() + ":" + member.dump() + (text.empty() ? "" : ",") + text;
  return "{" + text + "}";
}

struct contents {
  std::map<std::string, entry> tensors;
  std::map<std::string, std::string> metadata;

  contents() = default;
  explicit contents(const std::string& file) {
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    const fathom::json header = parsed(file.substr(8, length));
    const std::string data = file.substr(8 + length);
    for (const auto& [name, value] : header.members()) {
      if (name == "__metadata__") {
        for (const auto& [key, text] : value.members()) metadata[key] = text.text();
        continue;
      }
      const auto begin = value["data_offsets"][0].as<std::size_t>(), end = value["data_offsets"][1].as<std::size_t>();
      REQUIRE(end <= data.size());
      entry& tensor = tensors[name];
      tensor = {value["dtype"].text(), {}, data.substr(begin, end - begin)};
      for (const fathom::json& extent : value["shape"].elements()) tensor.shape.push_back(extent.as<std::uint64_t>());
    }
  }
  [[nodiscard]] std::string file() const {
    fathom::json header = fathom::json::object();
    for (const auto& [key, text] : metadata) header["__metadata__"][key] = text;
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      fathom::json shape = fathom::json::array();
      for (const std::uint64_t extent : tensor.shape) shape.push_back(extent);
      header[name] = fathom::json::object({{"dtype", tensor.type},
                                           {"shape", shape},
                                           {"data_offsets", fathom::json::array({data.size(), data.size() + tensor.bytes.size()})}});
      data += tensor.bytes;
    }
    return raw(header.dump(), data);
  }
  /// Renames a tensor.
  void rename(const std::string& from, const std::string& to) {
    auto tensor = tensors.extract(from);
    REQUIRE(tensor);
    tensor.key() = to;
    tensors.insert(std::move(tensor));
  }
  /// Changes one value of the saved config.
  void set_config(const std::string& place, const fathom::json& value) {
    fathom::json config = parsed(metadata.at("fathom.config"));
    at(config, place) = value;
    metadata["fathom.config"] = config.dump();
  }
};
