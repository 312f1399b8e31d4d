// The HTML of a page.
#pragma once

#include <string_view>

namespace fathom::viz::detail {

// The policy blocks all network requests.
inline constexpr std::string_view page_begin = R"html(<!DOCTYPE html>
<html lang="en" translate="no">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
)html";

inline constexpr std::string_view page_body = R"html(<body>
<noscript>This page needs JavaScript.</noscript>
<header>
  <h1 id="title"></h1>
  <p id="about" class="pale"></p>
</header>
<div id="controls">
  <div class="choice" id="heads" role="radiogroup" aria-label="Head"><b>Head</b></div>
  <div class="choice" id="measure" role="radiogroup" aria-label="Colour"><b>Colour</b></div>
  <div id="legend"><div id="ramp"></div><div id="ticks"></div></div>
</div>
<div id="columns">
  <main id="views" tabindex="0" aria-label="Tokens, coloured by attention"></main>
  <aside>
    <section id="token" aria-live="polite"></section>
    <section><h2>Shares of its attention</h2><div class="scroll"><table id="shares"></table></div></section>
    <section><h2>Attends most to</h2><table id="strongest"></table></section>
    <section id="help" class="pale">
      <p><kbd>click</kbd> holds a token, and the pointer then reads its attention; <kbd>Esc</kbd> releases it</p>
      <p><kbd>&larr;</kbd> <kbd>&rarr;</kbd> <span id="sideways"></span></p>
      <p><kbd>&uarr;</kbd> <kbd>&darr;</kbd> <span id="upwards"></span></p>
      <p><kbd>Home</kbd> <kbd>End</kbd> the first and last token</p>
      <p><kbd>h</kbd> <kbd>H</kbd> next and previous head, <kbd>m</kbd> the other measure</p>
      <p id="cut">&#9666; the rest of a character that began in an earlier token</p>
      <p>Weights w are rounded to within &radic;w/65535.</p>
    </section>
  </aside>
</div>
<div id="tip" hidden></div>
)html";

}  // namespace fathom::viz::detail
