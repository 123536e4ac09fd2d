// The record on show, its decision, and the way from one to the next.

let current = null;

/** Marks what is on show in the list. entry: null for the summary. */
function turnTo(entry, title) {
  current?.row.querySelector("a").removeAttribute("aria-current");
  byId("summary-link").setAttribute("aria-current", entry ? "false" : "page");
  current = entry;
  document.title = `${title} - review`;
  openList(false);
}

function showSummary() {
  turnTo(null, "Summary");
  byId("record").replaceChildren(summaryView(DATA.summary));
  byId("record").scrollTop = 0;
}

async function show(entry) {
  turnTo(entry, entry.path);
  const link = entry.row.querySelector("a");
  link.setAttribute("aria-current", "true");
  entry.row.scrollIntoView({ block: "nearest" });
  const main = byId("record");
  main.replaceChildren(head(entry), h("p", { class: "notice" }, "Loading the source..."));
  const media = await mediaOf(entry);
  if (current !== entry) return; // somebody was faster
  main.replaceChildren(head(entry), entry.subtask ? body(entry, media) : failure(entry));
  main.scrollTop = 0;
}

function body(entry, media) {
  const links = makeLinks();
  const source = h("section", { class: "source", "aria-label": "Source", tabindex: 0 });
  if (media.pieces) source.append(differenceView(media.pieces));
  source.append(...evidence(entry, media, links));
  const side = h("section", { class: "side", "aria-label": "Record" });
  const refresh = (path) => {
    side.replaceChildren(...sideParts(entry, links, refresh));
    refreshAll(entry);
    side.querySelector(`[data-path="${CSS.escape(path)}"] .edit, .output .edit`)?.focus();
  };
  side.append(...sideParts(entry, links, refresh));
  return h("div", { class: source.children.length ? "columns" : "columns alone" }, source, side);
}

function sideParts(entry, links, refresh) {
  const lines = entry.edit === "text";
  return [
    entry.status === "failed" ? failure(entry) : null,
    lines ? textView(entry, refresh) : null,
    entry.edit === "label" ? labelList(entry) : null,
    entry.calls ? callList(entry) : null,
    lines ? partsView(entry, links) : fieldList(entry, links, refresh),
    entry.edits ? editList(entry.edits) : null,
    checkList(entry),
    thoughtList(entry.thoughts),
    about(entry),
  ].filter(Boolean);
}

/** Lines, pages or cues of a text: how sure and where, folded away. */
function partsView(entry, links) {
  if (entry.fields.length < 2) return null; // the text itself says it
  return h(
    "details",
    { class: "parts", open: entry.subtask === "transcribe" && entry.fields.length <= 80 },
    h("summary", {}, `${entry.fields.length} parts`),
    fieldList(entry, links, () => {}),
  );
}

function head(entry) {
  const decision = decisionOf(entry);
  const facts = [entry.subtask, entry.schema, entry.pages > 1 ? `${entry.pages} pages` : ""].filter(Boolean);
  return h(
    "header",
    { class: "head" },
    h("div", { class: "title" }, h("h2", { dir: "auto" }, entry.path), h("p", {}, statusView(entry.status), " ", facts.join(" \u00b7 "))),
    h(
      "div",
      { class: "actions", role: "group", "aria-label": "Decision" },
      button("Previous", () => step(-1), { class: "quiet", title: "k" }),
      button("Next", () => step(1), { class: "quiet", title: "j" }),
      entry.edit ? [
        choice(entry, "accepted", "Accept", "a", decision === "accepted"),
        choice(entry, "rejected", "Reject", "r", decision === "rejected"),
      ] : null,
      decision === "corrected" ? h("span", { class: "decided" }, "Corrected") : null,
    ),
  );
}

function choice(entry, verdict, text, key, on) {
  return button(text, () => judge(on ? "open" : verdict), { class: `choice ${verdict}`, "aria-pressed": on, title: key });
}

function failure(entry) {
  return h(
    "section",
    { class: "failure", "aria-label": "Why there is no record" },
    h("h3", {}, entry.status === "pending" ? "Not reached yet" : `No record: ${entry.reason.replaceAll("_", " ")}`),
    entry.message ? h("p", { dir: "auto" }, entry.message) : null,
    entry.advice ? h("p", { class: "advice" }, h("strong", {}, "What to do: "), entry.advice) : null,
  );
}

function about(entry) {
  const { model, timing } = entry;
  const rows = [
    ["Record", entry.id],
    ["Model", `${model.bundle.slice(0, 12)}, ${model.provider}, ${model.prompt_version}`],
  ];
  if (timing.new_tokens !== undefined) {
    const seconds = timing.parse_seconds + timing.prefill_seconds + timing.decode_seconds;
    rows.push(["Cost", `${seconds.toFixed(1)} s, ${timing.prompt_tokens} tokens read, ${timing.new_tokens} written`]);
  }
  if (timing.thought_tokens) {
    rows.push(["Thought", `${timing.thought_tokens} tokens before the answers`]);
  }
  return h("details", { class: "about" }, h("summary", {}, "How it was made"),
    h("dl", {}, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}

function refreshAll(entry) {
  refreshRow(entry);
  refreshProgress();
  if (entry === current) byId("record").querySelector(".head").replaceWith(head(entry));
}

/** Decides about the record on show. Accepting or rejecting goes on to the next. */
async function judge(verdict) {
  const entry = current;
  if (!entry?.edit || !(await decide(entry, "", verdict))) return;
  refreshAll(entry);
  say(`${verdict === "open" ? "Decision taken back" : DECISIONS[verdict]}: ${entry.path}`);
  if (verdict !== "open") step(1);
}

function step(by) {
  if (!visible.length) return;
  const at = visible.indexOf(current);
  const next = visible[Math.min(Math.max(at + by, 0), visible.length - 1)];
  if (next !== current) location.hash = next.id;
}

function editLeastSure() {
  const focused = document.activeElement?.closest(".field")?.querySelector(".edit");
  const fields = [...(current?.fields ?? [])].sort((one, two) => one.sure - two.sure);
  const least = fields.length ? byId("record").querySelector(`[data-path="${CSS.escape(fields[0].path)}"] .edit`) : null;
  (focused ?? least ?? byId("record").querySelector(".edit"))?.click();
}

function openList(open) {
  byId("list").classList.toggle("open", open);
  byId("list-open").setAttribute("aria-expanded", open);
}

function showFromAddress() {
  if (location.hash === "#summary") return showSummary();
  const entry = ENTRIES.get(location.hash.slice(1)) ?? visible[0];
  if (entry && entry !== current) show(entry);
}

makeFilters();
makeRows();
makeHelp();
listenToKeys();
DATA.entries.forEach(refreshRow);
refreshProgress();
change({});
byId("export").addEventListener("click", exportCorrections);
byId("list-open").addEventListener("click", () => openList(!byId("list").classList.contains("open")));
addEventListener("hashchange", showFromAddress);
showFromAddress();
if (!DATA.entries.length) byId("record").append(h("p", { class: "notice" }, "This run has no inputs."));
