// The script of a page, without any framework.
#pragma once

#include <string_view>

namespace fathom::viz::detail {

inline constexpr std::string_view page_script = R"js(
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const count = data.ids.length, sources = data.sources.length, view = data.view;
const mean = data.each_head ? data.heads : 0;  // heads are 0, 1, ...; this index is their mean
const together = sources;                      // as a source: all of them
const hasNll = data.nll.length > 0;

const choices = data.each_head && data.heads > 1 ? [mean, ...Array(data.heads).keys()] : [0];
const headName = head => !data.each_head && data.heads > 1 ? `mean of ${data.heads}`
  : head === mean && choices.length > 1 ? "mean" : String(head);
const state = {query: count - 1, held: false, head: choices[0], measure: data.measure};

// ---- Weights ----------------------------------------------------------------------------------------------------

// [heads, queries, sources, keys up to the query], square roots in 16 bits, low byte first.
const packed = atob(data.weights);
const headSize = sources * count * (count + 1) / 2;

/** Adds a head's weights for a query, times scale, to row, [sources, keys up to the query]. */
function addHead(row, head, query, scale) {
  let at = 2 * (head * headSize + sources * query * (query + 1) / 2);
  for (let i = 0; i < row.length; ++i, at += 2) {
    const root = (packed.charCodeAt(at) | packed.charCodeAt(at + 1) << 8) / 65535;
    row[i] += scale * root * root;
  }
}

/** The weights of a query, [sources, keys up to the query], in one head or the mean of all. */
function attention(head, query) {
  const row = new Float64Array(sources * (query + 1));
  if (head < mean || !data.each_head) addHead(row, head, query, 1);
  else for (let h = 0; h < data.heads; ++h) addHead(row, h, query, 1 / data.heads);
  return row;
}

/** Each source's share of a query's attention. */
function sharesOf(row) {
  const keys = row.length / sources;
  return data.sources.map((_, s) => row.subarray(s * keys, (s + 1) * keys).reduce((sum, w) => sum + w, 0));
}

/** The weight of a key in one source, or summed over all. */
function weightOf(row, source, key) {
  const keys = row.length / sources;
  if (source < sources) return row[source * keys + key];
  let sum = 0;
  for (let s = 0; s < sources; ++s) sum += row[s * keys + key];
  return sum;
}

/** A weight as a multiple of even attention, which gives all visible keys the same weight. */
const relative = (weight, query, source) => weight * (query + 1) * (source < sources ? sources : 1);

function remember(make) {
  const known = new Map();
  return key => known.get(key) ?? known.set(key, make(key)).get(key);
}

/** Each source's share of every query's attention, in one head. */
const allShares = remember(head => data.ids.map((_, query) => sharesOf(attention(head, query))));

/** The value of the strongest colour, rounded up to two digits: at most 1 weight in 200 exceeds it. */
const strongestColour = remember(choice => {
  const [head, measure] = choice.split(" ");
  const every = Math.ceil(headSize / 300000);  // sample the queries of large maps
  const values = [];
  for (let query = count - 1; query >= 0; query -= every)
    for (const weight of attention(Number(head), query))
      values.push(measure === "relative" ? relative(weight, query, 0) : weight);
  const sorted = Float64Array.from(values).sort();
  const top = sorted[sorted.length - 1 - Math.floor(sorted.length / 200)] || 1;
  const unit = 10 ** (Math.floor(Math.log10(top)) - 1);
  const value = Number((unit * Math.ceil(top / unit * (1 - 1e-6))).toPrecision(2));
  return {value, exceeded: sorted[sorted.length - 1] > value};
});

// ---- Text and colours -------------------------------------------------------------------------------------------

const percent = share => (100 * share).toFixed(1) + " %";
const digits = x => String(Number(x.toPrecision(3)));
const aligned = x => x === 0 || x >= 0.001 && x < 1000 ? x.toPrecision(3) : digits(x);
const times = x => aligned(x) + "\u00d7";
const noteNames = ["C", "C\u266f", "D", "D\u266f", "E", "F", "F\u266f", "G", "G\u266f", "A", "A\u266f", "B"];
const noteName = pitch => noteNames[pitch % 12] + (Math.floor(pitch / 12) - 1);

/** A single token, with visible spaces and line breaks. */
function nameOf(i) {
  const name = data.names[i] ?? data.texts[i];
  if (name === "") return "\u2205";
  const spaced = view.kind === "text" || name.trim() === "" ? name.replace(/ /g, "\u00b7") : name;
  return spaced.replace(/\n/g, "\u00b6").replace(/\t/g, "\u00bb");
}
const cutMark = "\u25c2";
/** A token in running text. A mark stands for the rest of a character that began earlier. */
function textOf(i) {
  if (data.texts[i] === "") return data.names[i] === undefined ? "\u2205" : cutMark;
  return data.texts[i].replace(/\n/g, "\u00b6\n").replace(/\t/g, "\u00bb\t");
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const ramps = {
  light: ["#fcfcfb", "#fdecc8", "#fbc777", "#f28b33", "#cf4a18", "#8c1d0c"],
  dark: ["#15171b", "#3c2416", "#773911", "#bb5a0f", "#f09b36", "#ffe393"]
};
/** The colour of a place on the scale, 0 to 1, as [red, green, blue]. */
function colourOf(place) {
  const ramp = dark.matches ? ramps.dark : ramps.light;
  const at = Math.min(Math.max(place, 0), 1) * (ramp.length - 1), i = Math.min(Math.floor(at), ramp.length - 2);
  const channel = (hex, c) => parseInt(hex.slice(1 + 2 * c, 3 + 2 * c), 16);
  return [0, 1, 2].map(c => {
    const below = channel(ramp[i], c), above = channel(ramp[i + 1], c);
    return Math.round(below + (at - i) * (above - below));
  });
}
/** The same as CSS, and the colour of text on it. */
function colours(place) {
  const rgb = colourOf(place);
  const [r, g, b] = rgb.map(c => (c / 255) ** 2.2);
  return [`rgb(${rgb})`, 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.19 ? "#111" : "#fff"];
}
const sourceColour = source => `oklch(0.68 0.13 ${255 - 220 * source / Math.max(sources - 1, 1)})`;

function element(tag, properties = {}, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
}
const swatch = source => {
  const e = element("i", {className: "swatch"});
  e.style.background = sourceColour(source);
  return e;
};
const chip = i => element("span", {className: "chip", textContent: nameOf(i)});

// ---- Views ------------------------------------------------------------------------------------------------------

// cells[i]: every element that shows token i, with data-i and the source in data-s.
const cells = data.ids.map(() => []);
function cell(i, source, textContent = "") {
  const e = element("span", {className: "cell", textContent});
  e.dataset.i = i;
  e.dataset.s = source;
  cells[i].push(e);
  return e;
}

/** Content with names at its left. */
function lane(names, content) {
  const left = element("div", {className: "names"}, ...names.map(([text, at]) => {
    const e = element("span", {textContent: text, title: text});
    e.style.top = 100 * at + "%";
    return e;
  }));
  return element("div", {className: "lane"}, left, content);
}

/** All tokens in order, side by side. */
function tokenStrip(source) {
  return lane([["tokens", 0.5]], element("div", {className: "strip"}, ...data.ids.map((_, i) => cell(i, source))));
}

// The plot of a source: boxes over time, {token, begin, end, row}, row 0 at the top.
const plot = {music: describeNotes, speech: describeFrames}[view.kind]?.();

function describeNotes() {
  const pitches = view.notes.map(n => n[3]);
  const high = Math.max(60, ...pitches) + 1, low = Math.min(60, ...pitches) - 1;
  const begin = Math.min(...view.notes.map(n => n[1])), end = Math.max(...view.notes.map(n => n[1] + n[2]));
  const rows = high - low + 1, stripes = [], names = [];
  for (let pitch = low; pitch <= high; ++pitch) {
    if ([1, 3, 6, 8, 10].includes(pitch % 12)) stripes.push(high - pitch);
    if (pitch % 12 === 0) names.push([noteName(pitch), (high - pitch + 0.5) / rows]);
  }
  return {
    begin, end: Math.max(end, begin + 0.1), rows, stripes, names,
    rowHeight: rows > 45 ? 5 : 7, pixels: 45 * (end - begin),
    boxes: view.notes.map(([token, onset, duration, pitch]) =>
      ({token, begin: onset, end: onset + duration, row: high - pitch})),
  };
}

function describeFrames() {
  const frames = view.places.map(p => p[1]), first = Math.min(...frames), last = Math.max(...frames);
  const time = frame => view.start + frame * view.frame_seconds;
  return {
    begin: time(first), end: time(last + 1), rows: view.rows.length, stripes: [],
    rowHeight: 24, pixels: 11 * (last - first + 1),
    names: view.rows.map((name, row) => [name, (row + 0.5) / view.rows.length]),
    boxes: view.places.map(([token, frame, row]) => ({token, begin: time(frame), end: time(frame + 1), row})),
  };
}

function plotOf(source) {
  const across = time => 100 * (time - plot.begin) / (plot.end - plot.begin) + "%";
  const down = row => 100 * row / plot.rows + "%";
  const put = (e, left, width, row) => {
    Object.assign(e.style, {left, width, top: down(row), height: down(1)});
    return e;
  };
  const box = element("div", {className: view.kind === "speech" ? "box packed" : "box"});
  box.style.height = plot.rows * plot.rowHeight + "px";
  box.append(...plot.stripes.map(row => put(element("i", {className: "stripe"}), "0", "100%", row)));

  const axis = element("div", {className: "time"});
  const spans = [1, 2, 5].flatMap(d => [-3, -2, -1, 0, 1, 2, 3, 4].map(p => d * 10 ** p)).sort((a, b) => a - b);
  const most = Math.max(12, plot.pixels / 80), step = spans.find(s => (plot.end - plot.begin) / s <= most) ?? 1e5;
  for (let n = Math.ceil(plot.begin / step - 1e-9); n * step < plot.end - 0.02 * (plot.end - plot.begin); ++n) {
    const tick = element("i", {className: "tick"}), name = element("span", {textContent: digits(n * step) + " s"});
    tick.style.left = name.style.left = across(n * step);
    box.append(tick);
    axis.append(name);
  }
  for (const b of plot.boxes) {
    const width = 100 * (b.end - b.begin) / (plot.end - plot.begin) + "%";
    box.append(put(cell(b.token, source), across(b.begin), width, b.row));
  }
  return [lane(plot.names, box), lane([], axis)];
}

/** A column for each token, filled from the bottom with parts of its height, [[height, colour], ...]. */
const columns = [];
function columnStrip(names) {
  const strip = element("div", {className: "strip tall"}, ...data.ids.map((_, i) => {
    const e = element("span", {className: "column"});
    e.dataset.i = i;
    return e;
  }));
  columns.push(strip);
  return [strip, lane(names, strip)];
}
function fillColumns(strip, partsOf) {
  data.ids.forEach((_, i) => strip.children[i].replaceChildren(...partsOf(i).map(([height, background]) => {
    const e = element("i");
    Object.assign(e.style, {height: 100 * height + "%", background});
    return e;
  })));
}

const views = document.getElementById("views");
const scrolls = [];
function scroll(...content) {
  const inner = element("div", {}, ...content);
  inner.style.minWidth = Math.min(30000, 76 + Math.max(3 * count, plot?.boxes.length ? plot.pixels : 0)) + "px";
  scrolls.push(element("div", {className: "scroll panel"}, inner));
  return scrolls.at(-1);
}

/** A canvas of weights for each head: rows are sources, columns are keys. */
const headCanvases = [];
function headLanes() {
  return choices.filter(head => head < mean).map(head => {
    const canvas = element("canvas", {width: count, height: sources});
    canvas.style.height = Math.max(14, 7 * sources) + "px";
    headCanvases.push(canvas);
    const key = element("i");
    const stops = data.sources.map((_, s) => `${sourceColour(s)} ${100 * s / sources}% ${100 * (s + 1) / sources}%`);
    key.style.background = `linear-gradient(180deg, ${stops.join()}, transparent 0)`;
    const named = lane([[headName(head), 0.5]], canvas);
    named.firstChild.append(key);
    named.classList.add("close");
    return named;
  });
}
function showHeads(query, measure, top) {
  for (const [head, canvas] of headCanvases.entries()) {
    const row = attention(head, query), picture = new ImageData(count, sources);
    for (let s = 0; s < sources; ++s)
      for (let key = 0; key <= query; ++key) {
        const weight = weightOf(row, s, key), value = measure === "relative" ? relative(weight, query, s) : weight;
        picture.data.set([...colourOf(Math.sqrt(value / top.value)), 255], 4 * (s * count + key));
      }
    canvas.getContext("2d").putImageData(picture, 0, 0);
    canvas.closest(".lane").classList.toggle("chosen", head === state.head);
  }
}

let shareStrip;
function build() {
  views.className = view.kind;
  const letters = data.texts.reduce((sum, t) => sum + t.length, 0) / count;
  const placed = new Set(plot?.boxes.map(b => b.token));
  data.sources.forEach((name, s) => {
    const bar = element("span", {className: "bar"}, element("i"), element("b"));
    bar.firstChild.style.background = sourceColour(s);
    bar.lastChild.style.left = 100 / sources + "%";
    const share = element("span", {className: "share", title: "of the token's attention; the line is an even share"},
                          bar, element("span", {className: "number"}));
    const heading = element("h2", {}, swatch(s), name, share);
    let content;
    if (view.kind === "text")
      content = element("div", {className: letters > 1.5 ? "panel running words" : "panel running"},
                        ...data.ids.map((_, i) => cell(i, s, textOf(i))));
    else
      content = scroll(...(plot.boxes.length > 0 ? plotOf(s) : []), ...(placed.size < count ? [tokenStrip(s)] : []));
    const section = element("section", {}, heading, content);
    section.dataset.source = s;
    views.append(section);
  });

  const key = () => sources === 1 ? [] : data.sources.flatMap((name, s) =>
    [swatch(s), element("span", {className: "pale", textContent: name, style: "font-weight: normal"})]);
  const lanes = [];
  if (sources > 1) {
    const [strip, named] = columnStrip([["shares", 0.5]]);
    shareStrip = strip;
    lanes.push(named);
  }
  if (hasNll) {
    const top = Math.max(...data.nll.filter(x => x !== null), 1e-6);
    const [strip, named] = columnStrip([[digits(top) + " nats", 0.1], ["NLL", 0.9]]);
    fillColumns(strip, i => data.nll[i] === null ? [] : [[data.nll[i] / top, "var(--pale)"]]);
    lanes.push(named);
  }
  const section = element("section", {id: "sequence"}, element("h2", {}, "All tokens", ...key()));
  if (lanes.length > 0) section.append(scroll(...lanes));
  if (view.kind !== "text") {
    const what = "In order, coloured by attention to all sources together:";
    section.append(element("p", {className: "pale", textContent: what}),
                   element("div", {className: "panel chips"}, ...data.ids.map((_, i) => cell(i, together, nameOf(i)))));
  }
  if (section.childElementCount > 1) views.append(section);

  if (choices.length > 1) {
    const heads = element("section", {id: "every"}, element("h2", {}, "Every head", ...key()), scroll(...headLanes()));
    views.insertBefore(heads, document.getElementById("sequence"));
  }
  for (const s of scrolls)
    s.addEventListener("scroll", () => scrolls.forEach(other => other.scrollLeft = s.scrollLeft));
}

// ---- Display ----------------------------------------------------------------------------------------------------

function legend(top) {
  const stops = [...Array(25).keys()].map(i => colours(i / 24)[0]);
  document.getElementById("ramp").style.background = `linear-gradient(90deg, ${stops})`;
  const even = Math.sqrt(1 / top.value), evenIsMarked = even > 0.15 && even < 0.73;  // its label overlaps no other
  const unit = state.measure === "relative" ? (evenIsMarked ? "\u00d7" : "\u00d7 even") : "";
  const places = [[0, "0", "first"], [1, (top.exceeded ? "\u2265 " : "") + digits(top.value) + unit, "last"]];
  const candidates = [1, ...[5, 2, 1].flatMap(d => [3, 2, 1, 0, -1, -2, -3, -4].map(p => d * 10 ** p))];
  for (const value of candidates) {
    const place = Math.sqrt(value / top.value);
    if (place < 1 && places.every(([p]) => Math.abs(p - place) > (p === 1 ? 0.27 : 0.15)))
      places.push([place, state.measure === "relative" && value === 1 ? "1 = even" : digits(value), ""]);
  }
  document.getElementById("ticks").replaceChildren(...places.map(([place, textContent, className]) => {
    const e = element("span", {textContent, className});
    e.style.left = 100 * place + "%";
    return e;
  }));
}

/** Updates everything that depends on the state. */
function show() {
  const {query, head, measure} = state, row = attention(head, query), top = strongestColour(head + " " + measure);
  legend(top);
  for (let i = 0; i < count; ++i)
    for (const e of cells[i]) {
      const source = Number(e.dataset.s);
      e.classList.toggle("hidden", i > query);
      e.classList.toggle("query", i === query);
      if (i > query) continue;
      const weight = weightOf(row, source, i);
      const value = measure === "relative" ? relative(weight, query, source) : weight;
      const [ground, ink] = colours(Math.sqrt(value / top.value));
      e.style.setProperty("--c", ground);
      e.style.setProperty("--i", ink);
    }
  for (const strip of columns)
    for (const [i, e] of [...strip.children].entries()) e.classList.toggle("query", i === query);

  showHeads(query, measure, top);
  const shares = sharesOf(row);
  shares.forEach((share, s) => {
    const section = views.querySelector(`section[data-source="${s}"]`);
    section.querySelector(".bar i").style.width = 100 * share + "%";
    section.querySelector(".number").textContent = percent(share);
  });
  showToken();
  showShares();
  showStrongest(row);
}

const nllText = i => !hasNll || data.nll[i] === null ? "" : `NLL ${digits(data.nll[i])} nats`;

function aboutToken(i) {
  const about = [`token ${i + 1} of ${count}`, `id ${data.ids[i]}`, nllText(i)];
  const box = plot?.boxes.find(b => b.token === i);
  if (box && view.kind === "music") {
    const [, onset, duration, pitch] = view.notes.find(n => n[0] === i);
    about.push(`${noteName(pitch)}, at ${digits(onset)} s for ${digits(duration)} s`);
  } else if (box) {
    const [, frame, place] = view.places.find(p => p[0] === i);
    about.push(`${view.rows[place]} of frame ${frame}, at ${digits(box.begin)} s`);
  }
  return about.filter(text => text !== "").join(", ");
}

function showToken() {
  const i = state.query, section = document.getElementById("token");
  const held = element("span", {className: "pale", textContent: state.held ? "held" : ""});
  section.replaceChildren(element("h2", {}, chip(i), held),
                          element("p", {className: "pale", textContent: aboutToken(i)}));
  section.dataset.query = i;
  if (i + 1 < count)
    section.append(element("p", {}, "is followed by ", chip(i + 1), " ",
                           element("span", {className: "pale", textContent: nllText(i + 1)})));
}

function showShares() {
  const head = element("tr", {}, element("th", {textContent: "head"}),
                       ...data.sources.map((name, s) => element("th", {}, swatch(s), " ", name)));
  const rows = choices.map(h => {
    const tr = element("tr", {className: h === state.head ? "chosen" : ""}, element("td", {textContent: headName(h)}));
    allShares(h)[state.query].forEach((share, s) => {
      const td = element("td", {className: "number", textContent: percent(share)});
      const colour = `color-mix(in oklab, ${sourceColour(s)} 45%, transparent)`;
      td.style.background = `linear-gradient(90deg, ${colour} ${100 * share}%, transparent 0)`;
      tr.append(td);
    });
    tr.dataset.head = h;
    return tr;
  });
  document.getElementById("shares").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

function showStrongest(row) {
  const keys = state.query + 1;
  const order = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, 10);
  document.getElementById("strongest").replaceChildren(...order.map(at => {
    const source = Math.floor(at / keys), key = at % keys;
    const tr = element("tr", {},
      element("td", {}, chip(key), element("span", {className: "pale", textContent: " " + (key + 1)})),
      element("td", {}, swatch(source), " ", data.sources[source]),
      element("td", {className: "number", textContent: aligned(row[at])}),
      element("td", {className: "number", textContent: times(relative(row[at], state.query, source))}));
    Object.assign(tr.dataset, {source, key});
    return tr;
  }));
}

/** Updates what depends on the head but not on the query. */
function showHead() {
  if (!shareStrip) return;
  const shares = allShares(state.head);
  fillColumns(shareStrip, i => shares[i].map((share, s) => [share, sourceColour(s)]).reverse());
}

function showTip(i, event) {
  const tip = document.getElementById("tip");
  const about = element("span", {className: "pale", textContent: "  " + aboutToken(i)});
  tip.replaceChildren(element("div", {}, chip(i), about));
  if (i > state.query) tip.append(element("div", {textContent: "comes later: not visible"}));
  else if (state.held) {
    const row = attention(state.head, state.query);
    tip.append(element("table", {}, ...data.sources.map((name, s) => {
      const weight = weightOf(row, s, i);
      const tr = element("tr", {}, element("td", {}, swatch(s), " ", name),
                         element("td", {className: "number", textContent: aligned(weight)}),
                         element("td", {className: "number", textContent: times(relative(weight, state.query, s))}));
      tr.dataset.source = s;
      return tr;
    })));
  }
  tip.dataset.key = i;
  tip.hidden = false;
  const {width, height} = tip.getBoundingClientRect();
  const x = Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8)), below = event.clientY + 18;
  const y = below + height > innerHeight ? event.clientY - height - 12 : below;
  Object.assign(tip.style, {left: x + "px", top: y + "px"});
}

// ---- Input ------------------------------------------------------------------------------------------------------

function choose(change) {
  const head = state.head;
  Object.assign(state, change);
  if (state.head !== head) showHead();
  document.querySelector(`#heads input[value="${state.head}"]`).checked = true;
  document.querySelector(`#measure input[value="${state.measure}"]`).checked = true;
  show();
}

/** The token that an arrow key moves to. */
function neighbour(dx, dy) {
  const i = state.query;
  if (view.kind === "speech") {
    const here = view.places.find(p => p[0] === i);
    const next = here && view.places.find(p => p[1] === here[1] + dx && p[2] === here[2] + dy);
    if (here) return next ? next[0] : i;
  }
  if (view.kind === "music" && dy !== 0) {  // the next or previous note
    const notes = view.notes.map(n => n[0]).sort((a, b) => a - b);
    return (dy > 0 ? notes.find(n => n > i) : notes.findLast(n => n < i)) ?? i;
  }
  if (view.kind === "text" && dy !== 0) {  // the nearest token in the line above or below
    const middle = e => { const r = e.getClientRects()[0]; return [r.left + r.width / 2, r.top]; };
    const [x, y] = middle(cells[i][0]);
    let best = i, line = dy * Infinity, nearest = Infinity;
    for (let j = i + dy; j >= 0 && j < count; j += dy) {
      const [left, top] = middle(cells[j][0]);
      if (dy * (top - y) < 4) continue;
      if (line === dy * Infinity) line = top;
      if (Math.abs(top - line) > 4) break;
      if (Math.abs(left - x) < nearest) [best, nearest] = [j, Math.abs(left - x)];
    }
    return best;
  }
  return Math.min(Math.max(i + dx, 0), count - 1);
}

function radios(id, options, chosen) {
  for (const [value, text, key] of options) {
    const input = element("input", {type: "radio", name: id, value, checked: value === chosen});
    input.addEventListener("change", () => choose({[key]: key === "head" ? Number(value) : value}));
    document.getElementById(id).append(element("label", {}, input, element("span", {textContent: text})));
  }
}

function start() {
  document.title = data.title || "Attention";
  document.getElementById("title").textContent = data.title || "Attention";
  const of = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  document.getElementById("about").textContent =
    `${of(count, "token")}, ${of(data.heads, "head")}, attending to ${data.sources.join(", ")}. ` +
    `Point at a token: colour says how much it attends to each. ` +
    (hasNll ? "NLL is the loss of a token given all before it." : "");
  const [sideways, upwards] = {
    text: ["the token before or after", "the token above or below"],
    music: ["the token before or after", "the note before or after"],
    speech: ["the frame before or after", "the row above or below"],
  }[view.kind];
  document.getElementById("sideways").textContent = sideways;
  document.getElementById("upwards").textContent = upwards;
  document.getElementById("cut").hidden = view.kind !== "text" || !data.texts.some((_, i) => textOf(i) === cutMark);
  radios("heads", choices.map(h => [h, headName(h), "head"]), state.head);
  const measures = [["relative", "relative to even attention", "measure"], ["weight", "weight", "measure"]];
  radios("measure", measures, state.measure);
  build();
  showHead();
  show();
  for (const s of scrolls) s.scrollLeft = s.scrollWidth;

  const tokenAt = event => {
    if (event.target.tagName === "CANVAS")
      return Math.min(count - 1, Math.max(0, Math.floor(count * event.offsetX / event.target.clientWidth)));
    const e = event.target.closest("[data-i]");
    return e ? Number(e.dataset.i) : undefined;
  };
  views.addEventListener("pointermove", event => {
    const i = tokenAt(event);
    if (i === undefined) return void (document.getElementById("tip").hidden = true);
    if (!state.held && i !== state.query) choose({query: i});
    showTip(i, event);
  });
  views.addEventListener("pointerleave", () => document.getElementById("tip").hidden = true);
  views.addEventListener("click", event => {
    const i = tokenAt(event);
    if (i === undefined) return;
    choose({query: i, held: !(state.held && state.query === i)});
    showTip(i, event);
  });
  document.getElementById("shares").addEventListener("click", event => {
    const tr = event.target.closest("tr[data-head]");
    if (tr) choose({head: Number(tr.dataset.head)});
  });
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    const at = choices.indexOf(state.head), other = step => choices[(at + step + choices.length) % choices.length];
    const go = query => {
      event.preventDefault();
      choose({query, held: true});
      (cells[query].find(e => e.offsetParent) ?? views).scrollIntoView({block: "nearest", inline: "nearest"});
    };
    if (arrows && event.target.type !== "radio") go(neighbour(...arrows));
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(count - 1);
    else if (event.key === "Escape") choose({held: false});
    else if (event.key === "h") choose({head: other(1)});
    else if (event.key === "H") choose({head: other(-1)});
    else if (event.key === "m") choose({measure: state.measure === "relative" ? "weight" : "relative"});
  });
  dark.addEventListener("change", show);
}
start();
)js";

}  // namespace fathom::viz::detail
