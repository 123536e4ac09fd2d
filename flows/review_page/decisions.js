// What a person decided: saved by the server, or in this browser until it is exported.

const DATA = JSON.parse(byId("data").textContent);
const ENTRIES = new Map(DATA.entries.map((entry) => [entry.id, entry]));
const DECISIONS = {
  open: "Not looked at",
  accepted: "Accepted",
  corrected: "Corrected",
  rejected: "Rejected",
};
const STORED = "scanscribe-review:";

for (const entry of DATA.entries) {
  entry.corrections = new Map(entry.corrections.map((made) => [made.field, made]));
}
if (!DATA.served) loadStored();

function loadStored() {
  for (const entry of DATA.entries) {
    const text = storage()?.getItem(STORED + entry.id);
    for (const made of text ? JSON.parse(text) : []) {
      const known = entry.corrections.get(made.field);
      if (!known || known.at < made.at) entry.corrections.set(made.field, made);
    }
  }
}

/** null where the browser keeps nothing for files. */
function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

/** As flows/corrections.py decides. */
function decisionOf(entry) {
  const whole = entry.corrections.get("")?.verdict ?? "open";
  if (whole === "rejected") return whole;
  const corrected = [...entry.corrections.values()].some(
    (made) => made.verdict === "corrected" || (made.field && made.verdict === "rejected"),
  );
  return corrected ? "corrected" : whole;
}

/** The correction of a field, or undefined. */
function correctionOf(entry, field) {
  const made = entry.corrections.get(field);
  return made?.verdict === "corrected" ? made : undefined;
}

/** Returns whether it is saved. */
function decide(entry, field, verdict, value = null) {
  return decideAll(entry, [[field, verdict, value]]);
}

/** changes: [field, verdict, value] of each; all are saved or none. */
async function decideAll(entry, changes) {
  const at = new Date().toISOString();
  const made = changes.map(([field, verdict, value]) => ({ record: entry.id, field, verdict, value, at }));
  const before = new Map(entry.corrections);
  for (const one of made) entry.corrections.set(one.field, one);
  try {
    if (DATA.served) await send(made);
    else storage().setItem(STORED + entry.id, JSON.stringify([...entry.corrections.values()]));
  } catch (error) {
    entry.corrections = before;
    alert(`This was not saved: ${error.message}. ${DATA.served ? "Is the server still running?" : ""}`);
    return false;
  }
  return true;
}

async function send(corrections) {
  const answer = await fetch("corrections", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(corrections),
  });
  if (!answer.ok) throw new Error(await answer.text());
}

/** Everything decided here, as the file that `flows review RUN --import` takes. */
function exportCorrections() {
  const lines = DATA.entries.flatMap((entry) =>
    [...entry.corrections.values()].map((made) => `${JSON.stringify(made)}\n`),
  );
  const address = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  h("a", { href: address, download: "corrections.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  say(`${lines.length} corrections saved as corrections.jsonl`);
}
