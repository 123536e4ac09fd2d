// A recording: player, waveform, cues. A cue that is clicked is heard.

const SVG = "http://www.w3.org/2000/svg";

function soundView(entry, sound, links) {
  const player = h("audio", { controls: true, preload: "metadata", "aria-label": `Sound of ${entry.path}` });
  if (DATA.served) loadSound(player, sound.src);
  else player.src = sound.src;
  const cues = cuesOf(entry);
  const wave = waveform(sound);
  const needle = h("span", { class: "needle", "aria-hidden": "true" });
  const parts = cues.map((cue) => cueMark(cue, sound, player));
  const board = h("div", { class: "wave", onclick: (event) => seek(event, board, player, sound) });
  board.append(wave, ...parts, needle);
  const list = h("ol", { class: "cues", "aria-label": "Cues" });
  cues.forEach((cue, at) => {
    const row = cueRow(cue, player);
    list.append(row);
    if (cue.path) links.add(cue.path, row);
    if (cue.path) links.add(cue.path, parts[at]);
  });
  player.addEventListener("timeupdate", () => {
    const now = player.currentTime;
    needle.style.left = `${(now / sound.seconds) * 100}%`;
    cues.forEach((cue, at) => {
      const here = now >= cue.start && now < cue.end;
      list.children[at].classList.toggle("playing", here);
      parts[at].classList.toggle("playing", here);
    });
  });
  return h("section", { class: "sound", "aria-label": "Recording" }, board, player, list);
}

/** A server that sends no ranges cannot be sought in; a blob can. */
async function loadSound(player, address) {
  const answer = await fetch(`media/${address}`);
  if (answer.ok) player.src = URL.createObjectURL(await answer.blob());
}

/** Segments where the output has them, else the fields with times. */
function cuesOf(entry) {
  const fields = entry.fields.filter((field) => field.span);
  const timed = (entry.segments ?? []).map((segment) => ({
    ...segment,
    path: fields.find((field) => field.span[0] === segment.start)?.path,
  }));
  if (timed.length) return timed;
  return fields.map((field) => ({
    start: field.span[0], end: field.span[1], text: String(field.value), path: field.path,
  }));
}

function waveform(sound) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${sound.bars.length} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  const strokes = sound.bars.map((bar, at) => {
    const half = Math.max(1, bar * 0.46);
    return `M${at + 0.5} ${50 - half}V${50 + half}`;
  });
  line.setAttribute("d", strokes.join(""));
  svg.append(line);
  return svg;
}

function cueMark(cue, sound, player) {
  const mark = h("span", { class: "cue-mark", "aria-hidden": "true", title: cue.text });
  mark.style.left = `${(cue.start / sound.seconds) * 100}%`;
  mark.style.width = `${((cue.end - cue.start) / sound.seconds) * 100}%`;
  return mark;
}

function cueRow(cue, player) {
  return h(
    "li",
    { class: "cue-row" },
    h(
      "button",
      { type: "button", class: "cue", onclick: () => play(player, cue) },
      h("span", { class: "time" }, `${clock(cue.start)}`),
      h("span", { dir: "auto" }, cue.text),
    ),
  );
}

/** Plays one cue and stops behind it. */
function play(player, cue) {
  player.currentTime = cue.start;
  const stop = () => {
    if (player.currentTime < cue.end) return;
    player.pause();
    player.removeEventListener("timeupdate", stop);
  };
  player.addEventListener("timeupdate", stop);
  player.play().catch(() => say("This browser cannot play the sound"));
}

function seek(event, board, player, sound) {
  const place = board.getBoundingClientRect();
  player.currentTime = ((event.clientX - place.left) / place.width) * sound.seconds;
}
