// save_page: an attention map as an HTML file.
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

/// Writes a page that shows what fathom::attention_map found. Point at a token, click it or go there with the arrow
/// keys, and see what it attends to: in each source, for each head or their mean, as numbers and as colours, and which
/// share each source gets. Tokens are shown as text, as notes or as frames of speech (`as`).
///
/// The file has everything in it and asks no network for anything. Weights are in it in 16 bits: a weight w is off by
/// at most sqrt(w) / 65535. There are 2.7 bytes for each head, source, query and key that it sees: 2.2 MB for 8 heads,
/// 3 sources and 256 tokens, and at most 45 MB. Bytes of names that are not UTF-8, control characters and those that
/// cannot be seen are written out. The file appears when it is complete. Fails on a map that is empty or has weights
/// outside of 0 to 1; on notes, places or NLLs that do not fit the tokens; when the page would be too large; and when
/// the file cannot be written.
inline void save_page(const std::filesystem::path& path, const attention_weights_map& map,
                      const page_options& options = {}) {
  detail::check(map);
  const std::string title = options.title.empty() ? "Attention" : detail::characters(options.title);
  std::string numbers = detail::page_data(map, options);
  // Inside of a script element only a "<" can end it, or begin a comment. Here all are in strings.
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
