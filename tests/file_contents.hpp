// Safetensors files, taken apart and put together without the library.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "catch.hpp"

struct entry {
  std::string type;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

inline std::string with_length(const std::string& header, const std::string& data, std::uint64_t length) {
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}
/// A file of this header and these bytes, whatever they are.
inline std::string raw(const std::string& header, const std::string& data = "") {
  return with_length(header, data, header.size());
}

/// The same object of JSON with its keys in the reverse order.
inline std::string backwards(const std::string& object) {
  const auto from = nlohmann::ordered_json::parse(object);
  auto to = nlohmann::ordered_json::object();
  for (auto item = from.end(); item != from.begin();) {
    --item;
    to[item.key()] = item.value();
  }
  return to.dump();
}

struct contents {
  using json = nlohmann::ordered_json;
  std::map<std::string, entry> tensors;
  std::map<std::string, std::string> metadata;

  contents() = default;
  explicit contents(const std::string& file) {
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    const json header = json::parse(file.substr(8, length));
    const std::string data = file.substr(8 + length);
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        metadata = value.get<std::map<std::string, std::string>>();
        continue;
      }
      const std::size_t begin = value["data_offsets"][0], end = value["data_offsets"][1];
      REQUIRE(end <= data.size());
      tensors[name] = {value["dtype"], value["shape"], data.substr(begin, end - begin)};
    }
  }
  [[nodiscard]] std::string file() const {
    json header = json::object();
    if (!metadata.empty()) header["__metadata__"] = metadata;
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      header[name] = {{"dtype", tensor.type},
                      {"shape", tensor.shape},
                      {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
      data += tensor.bytes;
    }
    return raw(header.dump(), data);
  }
  /// Gives a tensor another name.
  void rename(const std::string& from, const std::string& to) {
    auto tensor = tensors.extract(from);
    REQUIRE(tensor);
    tensor.key() = to;
    tensors.insert(std::move(tensor));
  }
  /// One key of the saved config with another value.
  void set_config(const std::string& pointer, const json& value) {
    auto config = json::parse(metadata.at("fathom.config"));
    config[json::json_pointer(pointer)] = value;
    metadata["fathom.config"] = config.dump();
  }
};
