// The run as a whole: what came of it, how sure, how right, at what cost. Every picture has its numbers.

const ERRORS = {
  another: "Another value was taken",
  invented: "The value stands nowhere",
  extra: "The document has no such value",
  missed: "No value was given",
};
const STAGES = { parse: "Reading files", prefill: "Model reads", decode: "Model writes" };
const count = (number) => number.toLocaleString("en");
const seconds = (number) => `${number.toFixed(number < 10 ? 1 : 0)} s`;

function summaryView(sums) {
  return h(
    "div",
    { class: "summary" },
    h("h2", {}, "Summary of the run"),
    h("div", { class: "cards" }, outcomes(sums), surenessOfAll(sums), truth(sums.truth), cost(sums.cost)),
  );
}

function outcomes(sums) {
  const results = Object.entries(STATUSES).map(([status, name]) => [name, sums.results[status] ?? 0]);
  const parts = [card("Results", bars("Inputs by result", results.filter((row) => row[1])))];
  if (sums.problems.length) {
    const rows = sums.problems.map(([status, reason, advice, number]) =>
      [(reason || STATUSES[status]).replaceAll("_", " "), count(number), advice]);
    parts.push(card("What failed, and why", table(["Reason", "Inputs", "What to do"], rows)));
  }
  if (sums.checks.length) parts.push(card("Which checks failed", bars("Records by check", sums.checks)));
  return parts;
}

function surenessOfAll(sums) {
  const total = sums.confidence.reduce((one, two) => one + two, 0);
  if (!total) return null;
  const width = 1 / sums.confidence.length;
  const rows = sums.confidence.map((number, at) => [`${percent(at * width)} to ${percent((at + 1) * width)}`, count(number)]);
  const low = sums.confidence.slice(0, sums.confidence.length / 2).reduce((one, two) => one + two, 0);
  const places = Object.entries(STATES).map(([state, { name }]) => [name, sums.places[state] ?? 0]);
  return [
    card(
      "How sure the values are",
      columns(`${count(total)} values by confidence; ${percent(low / total)} are less than 50 % sure.`, sums.confidence, "0 %", "100 % sure"),
      numbers(["Confidence", "Values"], rows),
    ),
    card("Where the values stand", bars("Values by place", places.filter((row) => row[1]))),
  ];
}

function truth(known) {
  if (!known) {
    return card("How right it is", h("p", { class: "note" }, "Nobody knows yet. Accept and correct some records, or put an ",
      h("code", {}, "expected.jsonl"), " into the input folder; then write this page anew."));
  }
  const decided = known.records - known.labelled;
  const sources = [
    known.labelled ? `${count(known.labelled)} from expected.jsonl` : "",
    decided ? `${count(decided)} from a person's decisions` : "",
  ].filter(Boolean).join(", ");
  const parts = [`Of ${count(known.records)} records the true values are known: ${sources}.`];
  if (known.values) parts.push(` ${count(known.right)} of ${count(known.values)} values are right, ${percent(known.right / known.values)}.`);
  if (known.characters) parts.push(` Texts have ${percent(known.characters.value)} wrong characters (${percent(known.characters.low)} to ${percent(known.characters.high)}).`);
  const cards = [card("How right it is", h("p", {}, parts), known.errors.length
    ? bars("Wrong values by kind", known.errors.map(([kind, number]) => [ERRORS[kind], number])) : null)];
  if (known.values) cards.push(reliabilityCard(known.bins), thresholdCard(known));
  if (known.fields.length) {
    const rows = known.fields.map(([name, f1, low, high, records]) =>
      [name, share(f1, low, high), `${f1.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`, count(records)]);
    cards.push(card("Right by field", table(["Field", "", "F1 (95 % interval)", "Records"], rows)));
  }
  return cards;
}

function reliabilityCard(bins) {
  const points = bins.map((bin) => [bin.sure, bin.right]);
  return card(
    "Are confident values right?",
    plane("How often values of each confidence are right; on the dashed line they are as right as sure.", "sure", "right", [
      line([[0, 0], [1, 1]], "ideal"),
      ...bins.map((bin) => line([[bin.sure, bin.low], [bin.sure, bin.high]], "span")),
      line(points, "first"),
      ...points.map(([x, y]) => svg("circle", { class: "point", cx: across(x), cy: down(y), r: 3.5 })),
    ]),
    numbers(["Sure", "Right", "95 % interval", "Values"],
      bins.map((bin) => [percent(bin.sure), percent(bin.right), `${percent(bin.low)} to ${percent(bin.high)}`, count(bin.n)])),
  );
}

function thresholdCard({ threshold, suggested, target }) {
  const at = suggested;
  const kept = at === null ? null : Math.max(...threshold.filter((row) => row[0] >= at).map((row) => row[2]));
  const said = at === null
    ? `No threshold makes ${percent(target)} of the values right.`
    : `From ${at.toFixed(2)} on, ${percent(target)} are right; ${percent(kept)} of all values are kept.`;
  return card(
    "Where to cut",
    h("p", {}, said),
    h("p", { class: "note key" }, h("span", { class: "first" }, "share right"), " ", h("span", { class: "second" }, "share kept")),
    plane(`Share right and share kept above each confidence. ${said}`, "threshold", "share", [
      at === null ? null : line([[at, 0], [at, 1]], "cut"),
      line(threshold.map((row) => [row[0], row[2]]), "second"),
      line(threshold.map((row) => [row[0], row[1]]), "first"),
    ]),
    numbers(["Threshold", "Right", "Kept"], threshold.map((row) => [row[0].toFixed(2), percent(row[1]), percent(row[2])])),
  );
}

function cost(sums) {
  if (!sums.documents) return null;
  const stages = Object.entries(STAGES).map(([stage, name]) => [name, sums.seconds[stage], seconds(sums.seconds[stage])]);
  const dearest = sums.dearest.map(([time, tokens, id, path]) =>
    [ENTRIES.has(id) ? h("a", { href: `#${id}`, dir: "auto" }, path) : path, seconds(time), count(tokens)]);
  return [
    card(
      "What it cost",
      h("p", {}, `${count(sums.documents)} records, ${count(sums.pages)} pages, ${count(sums.read)} tokens read, ${count(sums.written)} written; half of the records took less than ${seconds(sums.median)}.`),
      bars("Seconds by stage, summed over records that overlap", stages),
    ),
    card("Cost by record", columns(`Seconds of each record, the dearest first: from ${seconds(sums.curve[0][0])} down to ${seconds(sums.curve.at(-1)[0])}.`,
      sums.curve.map((row) => row[0]), "dearest", "cheapest"), table(["The dearest", "Seconds", "Tokens"], dearest)),
  ];
}

// Parts.

function card(title, ...parts) {
  return h("section", { class: "card" }, h("h3", {}, title), parts);
}

/** Rows of [name, number, shown]: a table whose bars are for the eye only. */
function bars(caption, rows) {
  const most = Math.max(...rows.map((row) => row[1]), 1e-9);
  return h("table", { class: "bars" }, h("caption", {}, caption), h("tbody", {}, rows.map(([name, number, shown]) => {
    const fill = h("span", { class: "fill" });
    fill.style.width = `${(number / most) * 100}%`;
    return h("tr", {}, h("th", { scope: "row" }, name), h("td", { "aria-hidden": "true" }, fill), h("td", { class: "number" }, shown ?? count(number)));
  })));
}

function table(heads, rows) {
  const head = h("tr", {}, heads.map((name) => (name ? h("th", { scope: "col" }, name) : h("td"))));
  const body = rows.map(([name, ...cells]) => h("tr", {}, h("th", { scope: "row" }, name), cells.map((cell) => h("td", {}, cell))));
  return h("table", { class: "plain" }, h("thead", {}, head), h("tbody", {}, body));
}

function numbers(heads, rows) {
  return h("details", {}, h("summary", {}, "The numbers"), table(heads, rows));
}

/** A value between 0 and 1 with its interval, on a line. */
function share(value, low, high) {
  const [span, point] = [h("span", { class: "span" }), h("span", { class: "point" })];
  span.style.left = `${low * 100}%`;
  span.style.width = `${(high - low) * 100}%`;
  point.style.left = `${value * 100}%`;
  return h("span", { class: "share", "aria-hidden": "true" }, span, point);
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat().filter(Boolean));
  return element;
}

function columns(said, heights, first, last) {
  const most = Math.max(...heights, 1e-9);
  const step = 300 / heights.length;
  return svg("svg", { class: "drawing", viewBox: "0 0 310 120", role: "img", "aria-label": said },
    heights.map((height, at) => svg("rect", {
      x: 5 + at * step, width: Math.max(step - 1, 1), y: 95 - (height / most) * 90, height: (height / most) * 90,
    })),
    svg("text", { x: 5, y: 112 }, first), svg("text", { x: 305, y: 112, "text-anchor": "end" }, last));
}

const across = (x) => 42 + x * 258;
const down = (y) => 168 - y * 156;

/** A picture whose axes both go from 0 to 100 %. */
function plane(said, below, beside, marks) {
  const grid = [0, 0.5, 1].flatMap((at) => [
    svg("path", { class: "grid", d: `M${across(0)} ${down(at)}H${across(1)}M${across(at)} ${down(0)}V${down(1)}` }),
    svg("text", { x: 36, y: down(at) + 4, "text-anchor": "end" }, percent(at)),
    svg("text", { x: across(at), y: 184, "text-anchor": at === 1 ? "end" : "middle" }, at === 1 ? `${percent(at)} ${below}` : percent(at)),
  ]);
  const name = svg("text", { x: across(0), y: -1 }, beside);
  return svg("svg", { class: "drawing", viewBox: "0 -12 310 202", role: "img", "aria-label": said }, grid, name, marks);
}

function line(points, kind) {
  return svg("path", { class: `line ${kind}`, d: points.map(([x, y], at) => `${at ? "L" : "M"}${across(x)} ${down(y)}`).join("") });
}
