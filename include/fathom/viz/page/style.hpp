// The style sheet of a page.
#pragma once

#include <string_view>

namespace fathom::viz::detail {

inline constexpr std::string_view page_style = R"css(
:root {
  color-scheme: light dark;
  --page: #fcfcfb; --card: #f3f3f1; --line: #d9d9d4; --stripe: #f3f3f0;
  --ink: #1b1c1e; --pale: #63666c; --mark: #1557d0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171b; --card: #1f2227; --line: #3a3e45; --stripe: #1b1e23;
    --ink: #e9eaec; --pale: #9aa0a8; --mark: #7db2ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 20px 24px 48px; max-width: 1720px;
  background: var(--page); color: var(--ink); font: 14px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif;
}
h1 { margin: 0; font-size: 22px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 8px; font-size: 14px; display: flex; align-items: center; gap: 8px; }
p { margin: 2px 0; }
.pale { color: var(--pale); }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }

#controls {
  position: sticky; top: 0; z-index: 3; display: flex; flex-wrap: wrap; gap: 10px 32px; align-items: flex-start;
  margin: 12px -24px 16px; padding: 10px 24px; background: var(--page); border-bottom: 1px solid var(--line);
}
.choice { display: flex; flex-wrap: wrap; align-items: center; gap: 4px; }
.choice > b { margin-right: 6px; }
.choice label { position: relative; }
.choice input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer; }
.choice span { display: block; padding: 3px 10px; border: 1px solid var(--line); border-radius: 6px; }
.choice input:checked + span { background: var(--ink); color: var(--page); border-color: var(--ink); }
.choice input:focus-visible + span { outline: 2px solid var(--mark); outline-offset: 2px; }
#legend { width: 300px; margin-left: auto; }
#ramp { height: 12px; border: 1px solid var(--line); border-radius: 3px; }
#ticks { position: relative; height: 17px; font-size: 11px; }
#ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
#ticks span.first { transform: none; }
#ticks span.last { transform: translateX(-100%); }

#columns { display: grid; grid-template-columns: minmax(0, 1fr) 340px; gap: 28px; align-items: start; }
#views { display: grid; grid-template-columns: minmax(0, 1fr); gap: 18px; outline: none; }
#views:focus-visible h2 { color: var(--mark); }
aside { position: sticky; top: 70px; max-height: calc(100vh - 80px); overflow-y: auto; display: grid; gap: 14px; }
#help { font-size: 12.5px; }
aside section, .panel { background: var(--card); border-radius: 8px; padding: 12px 14px; }
@media (max-width: 1000px) {
  #columns { grid-template-columns: minmax(0, 1fr); }
  aside { position: static; max-height: none; }
}

.swatch { display: inline-block; flex: none; width: 11px; height: 11px; border-radius: 3px; }
.share { margin-left: auto; display: flex; align-items: center; gap: 8px; font-weight: normal; }
.bar { position: relative; width: 120px; height: 10px; border-radius: 3px; background: var(--line); overflow: hidden; }
.bar i { position: absolute; inset: 0 auto 0 0; }
.bar b { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: var(--page); }

/* A token in any view. --c is the colour of its attention, --i the colour of text on it. */
.cell {
  background: var(--c, transparent); color: var(--i, inherit); cursor: pointer; scroll-margin: 90px 20px 20px 96px;
}
.cell.hidden { background: none; color: var(--pale); opacity: .55; }
.cell.query { outline: 2px solid var(--mark); outline-offset: 0; position: relative; z-index: 2; opacity: 1; }
.cell:hover { box-shadow: inset 0 0 0 1px var(--mark); }
.mono, .running, .chips .cell, .chip { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.running { white-space: break-spaces; overflow-wrap: anywhere; font-size: 16px; line-height: 1.8; }
.running .cell { padding: 2px 0; border-radius: 2px; }
.running.words .cell { border-right: 1px solid var(--card); border-radius: 4px; }
.chips { display: flex; flex-wrap: wrap; gap: 3px; font-size: 11.5px; }
.chips .cell { padding: 0 5px; border: 1px solid var(--line); border-radius: 4px; white-space: pre; }
.chip {
  padding: 0 5px; border: 1px solid var(--line); border-radius: 4px; background: var(--page); white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 13px;
}

/* Plots: names on the left, a box with cells on the right. */
.scroll { overflow-x: auto; }
.scroll.panel { padding-left: 0; }
.lane { display: grid; grid-template-columns: 76px minmax(0, 1fr); }
.lane > div { position: relative; min-height: 16px; }
.lane + .lane { margin-top: 7px; }
.lane > .names { position: sticky; left: 0; z-index: 3; background: var(--card); }
.names span {
  position: absolute; right: 8px; max-width: 58px; transform: translateY(-50%); overflow: hidden;
  color: var(--pale); font-size: 11px; line-height: 1.1; text-overflow: ellipsis; white-space: nowrap;
}
.box { border: 1px solid var(--line); border-radius: 3px; background: var(--page); }
.box .stripe { position: absolute; left: 0; right: 0; background: var(--stripe); }
.box .tick { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--line); }
.box .cell { position: absolute; min-width: 4px; border: 1px solid var(--pale); border-radius: 2px; }
.box .cell.hidden { border-color: var(--line); }
.box.packed .cell { border-color: var(--line); border-radius: 1px; }
.time { height: 16px; font-size: 11px; color: var(--pale); }
.time span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.time span:first-child { transform: none; }
.strip { display: flex; height: 18px; border: 1px solid var(--line); border-radius: 3px; background: var(--page); }
.strip .cell { flex: 1 1 0; min-width: 0; border-right: 1px solid var(--stripe); }
.strip .cell:last-child { border-right: 0; }
.strip .cell.hidden { opacity: 1; }
.strip.tall { height: 56px; }
.strip .column {
  flex: 1 1 0; min-width: 0; display: flex; flex-direction: column; justify-content: flex-end; cursor: pointer;
}
.strip .column i { display: block; }
.strip .column.query { outline: 2px solid var(--mark); position: relative; z-index: 2; }
.strip .column:hover { background: var(--stripe); }
.lane canvas {
  display: block; width: 100%; border: 1px solid var(--line); image-rendering: pixelated; cursor: pointer;
}
.names > i { position: absolute; right: 0; width: 7px; height: 100%; }
.lane.chosen .names span { color: var(--ink); font-weight: 600; }
.lane.close + .lane.close { margin-top: 3px; }
.lane.close .names span { right: 14px; }
#sequence p { margin: 10px 0 6px; }

table { border-collapse: collapse; width: 100%; }
td, th { padding: 2px 4px; text-align: right; font-weight: normal; }
td:first-child, th:first-child { text-align: left; }
th { color: var(--pale); font-size: 12px; }
#shares tbody tr { cursor: pointer; }
#shares tbody tr:hover { background: var(--line); }
#shares tbody tr.chosen { box-shadow: inset 3px 0 0 var(--mark); font-weight: 600; }
#shares tbody td:first-child { padding-left: 9px; }
#strongest td { max-width: 96px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#strongest td:first-child { max-width: 124px; }
#strongest .chip {
  display: inline-block; max-width: 84px; overflow: hidden; text-overflow: ellipsis; white-space: pre;
  vertical-align: bottom;
}
kbd { padding: 0 4px; border: 1px solid var(--line); border-radius: 4px; font: inherit; font-size: 12px; }
#tip {
  position: fixed; z-index: 5; pointer-events: none; max-width: 340px; padding: 8px 10px; border: 1px solid var(--line);
  border-radius: 8px; background: var(--card); box-shadow: 0 4px 16px #0004; font-size: 13px;
}
#tip table { width: auto; }
[hidden] { display: none !important; }
)css";

}  // namespace fathom::viz::detail
