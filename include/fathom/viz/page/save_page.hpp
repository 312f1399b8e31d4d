// Saves an attention map as an interactive page.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "fathom/io/file.hpp"
#include "fathom/model/attention_map.hpp"
#include "fathom/viz/check.hpp"
#include "fathom/viz/page/data.hpp"
#include "fathom/viz/page/html.hpp"
#include "fathom/viz/page/options.hpp"
#include "fathom/viz/page/script.hpp"
#include "fathom/viz/page/style.hpp"
#include "fathom/viz/page/text.hpp"

namespace fathom::viz {

/// Writes an attention map as an interactive page. Point at a token, click it or move to it with the arrow keys to see
/// what it attends to: in each source, for each head or their mean, as numbers and colours, with the share of each
/// source. Tokens are shown as text, notes or frames of speech (`as`).
///
/// The file is self-contained and needs no network. Weights are stored in 16 bits: the error of a weight w is at most
/// sqrt(w) / 65535. Each head, source, query and visible key takes 2.7 bytes: 2.2 MB for 8 heads, 3 sources and 256
/// tokens, and at most 45 MB. Invalid UTF-8, control characters and invisible characters in names are escaped. The file
/// appears only when complete. Fails if the map is empty or has weights outside 0 to 1; if notes, places or NLLs do not
/// fit the tokens; if the page would be too large; or if the file cannot be written.
inline void save_page(const std::filesystem::path& path, const attention_weights_map& map,
                      const page_options& options = {}) {
  detail::check(map);
  const std::string title = options.title.empty() ? "Attention" : detail::characters(options.title);
  std::string numbers = detail::page_data(map, options);
  // Only "<" can end a script element or begin a comment in it. Here it occurs only in strings.
  for (std::size_t at = 0; (at = numbers.find('<', at)) != std::string::npos;) numbers.replace(at, 1, "\\u003c");
  io::atomic_file file(path);
  file.write(detail::page_begin);
  file.write("<title>" + detail::html(title) + "</title>\n<style>");
  file.write(detail::page_style);
  file.write("</style>\n</head>\n");
  file.write(detail::page_body);
  file.write("<script type=\"application/json\" id=\"data\">");
  file.write(numbers);
  file.write("</script>\n<script>");
  file.write(detail::page_script);
  file.write("</script>\n</body>\n</html>\n");
  file.commit();
}

}  // namespace fathom::viz
