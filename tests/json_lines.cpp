// For json_python.py: reads lines of hexadecimal digits, each the bytes of a text, parses each with fathom::json, and writes
// the value back, or "no JSON".
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>

#include <fathom/core/json.hpp>

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::string text;
    for (std::size_t i = 0; i + 1 < line.size(); i += 2) text += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    const std::optional<fathom::json> value = fathom::json::parse(text);
    std::puts(value ? value->dump().c_str() : "no JSON");
  }
}
