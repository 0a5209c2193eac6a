"use strict";
// Tries the champion: asks /predict, shows what it says, and sends the right label back.

const TOP = 10; // classes that are shown
const find = (id) => document.getElementById(id);
let pairs = false;
let last = null; // what was asked, and its answer

function made(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function percent(share) {
  return (share * 100).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1) + " %";
}

async function asked(path, body) {
  const headers = { "Content-Type": "application/json" };
  const key = find("key").value.trim();
  if (key) headers["X-API-Key"] = key;
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error || `The server answered ${answer.status}.`);
  return value;
}

async function look() {
  const state = find("state");
  try {
    const now = await (await fetch("/readyz")).json();
    const name = now.version || "";
    const cut = name.lastIndexOf("/");
    if (name) {
      find("recipe").textContent = name.slice(0, cut);
      document.title = `${name.slice(0, cut)} · bertline`;
    }
    state.className = now.ready ? "quiet ready" : "quiet";
    state.textContent = name ? `Version ${name.slice(cut + 1)} answers` : "No version answers yet";
    if (name && !now.ready) state.textContent += ", the registry has not confirmed it yet";
    pairs = now.texts === 2;
    find("second-field").hidden = !pairs;
    find("text-label").textContent = pairs ? "First text" : "Text";
    find("text").rows = pairs ? 4 : 9;
    find("key-field").hidden = !now.key;
  } catch {
    state.className = "quiet away";
    state.textContent = "The server cannot be reached";
  }
}

function rowAsked() {
  const row = { text: find("text").value };
  if (pairs) row.second = find("second").value;
  return row;
}

// where details name pieces of a text: of the second one, where there are two
function spansOf(details) {
  const lists = Object.values(details).filter(Array.isArray).flat();
  const spans = lists.filter((item) => item && Number.isInteger(item.start) && Number.isInteger(item.end));
  if (!spans.length && Number.isInteger(details.start) && details.end > details.start) {
    return [{ start: details.start, end: details.end, label: "" }];
  }
  return spans.sort((one, other) => one.start - other.start);
}

function mark(place, text, spans) {
  const letters = Array.from(text); // places count code points, and strings UTF-16
  let done = 0;
  place.replaceChildren();
  for (const span of spans) {
    if (span.start < done || span.end > letters.length) continue;
    place.append(letters.slice(done, span.start).join(""));
    const piece = made("mark", "", letters.slice(span.start, span.end).join(""));
    if (span.label) piece.append(made("small", "", span.label));
    place.append(piece);
    done = span.end;
  }
  place.append(letters.slice(done).join(""));
}

// a label as a person reads it
function plain(answer) {
  const { details } = answer;
  if (Array.isArray(details.labels)) return details.labels.join(", ") || "none";
  if (typeof details.answer === "string") return details.answer || "no answer";
  if (Array.isArray(details.entities)) return details.entities.length ? "" : "nothing found";
  return answer.label;
}

function show(row, answer, milliseconds) {
  last = { row, answer };
  find("nothing").hidden = true;
  find("answer").hidden = false;
  const label = plain(answer);
  find("label").textContent = label;
  find("label").hidden = !label;
  find("label").classList.toggle("long", label.length > 60);

  const classes = Object.entries(answer.scores).sort((one, other) => other[1] - one[1]);
  const bare = !classes.length && !Object.keys(answer.details).length; // the label is a number
  find("sure").hidden = bare;
  find("sure").querySelector("i").style.width = `${answer.score * 100}%`;
  find("sure").querySelector("b").textContent = percent(answer.score);

  const spans = spansOf(answer.details);
  find("marked").hidden = !spans.length;
  mark(find("marked"), pairs ? row.second : row.text, spans);

  const chosen = new Set(answer.details.labels || [answer.label]);
  find("scores-part").hidden = !classes.length;
  find("scores").replaceChildren(
    ...classes.slice(0, TOP).map(([name, score]) => {
      const line = made("li", chosen.has(name) ? "chosen" : "");
      const bar = made("span", "bar");
      bar.setAttribute("aria-hidden", "true");
      bar.append(made("i"));
      bar.firstChild.style.width = `${score * 100}%`;
      line.append(made("span", "name", name), bar, made("span", "value", percent(score)));
      return line;
    }),
  );
  const left = classes.length - TOP;
  find("more").textContent = left > 0 ? `and ${left} more` : "";
  find("by").textContent = `${answer.version} · ${milliseconds} ms · request ${answer.id}`;
  offer(classes, label);
}

// how the right label is chosen or written
function offer(classes, label) {
  const several = Array.isArray(last.answer.details.labels);
  const title = made("label", "", several ? "Right labels, with commas between them" : "Right label");
  title.htmlFor = "right";
  let field;
  if (classes.length && !several) {
    field = made("select");
    const names = classes.map(([name]) => name).sort();
    field.append(...names.map((name) => new Option(name, name, false, name === last.answer.label)));
  } else {
    field = made("input");
    field.required = true;
    const listed = Array.isArray(last.answer.details.entities) || label === "no answer" || !label;
    field.value = several ? last.answer.details.labels.join(", ") : listed ? last.answer.label : label;
  }
  field.id = "right";
  find("right-field").replaceChildren(title, field);
  find("consent").checked = false;
  find("told").textContent = "";
}

find("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const row = rowAsked();
  find("problem").hidden = true;
  find("send").disabled = true;
  const started = performance.now();
  try {
    const answer = await asked("/predict", row);
    show(row, answer, Math.round(performance.now() - started));
  } catch (error) {
    find("problem").textContent = error.message;
    find("problem").hidden = false;
  } finally {
    find("send").disabled = false;
  }
});

find("feedback").addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = find("told");
  const { row, answer } = last;
  const right = find("right").value;
  const label = Array.isArray(answer.details.labels) && !right.trim() ? "[]" : right;
  const consent = find("consent").checked;
  try {
    await asked("/feedback", { ...row, label, consent, id: answer.id, version: answer.version });
    told.className = "good";
    told.textContent = consent ? "Thank you: text and label are kept." : "Thank you: the label is kept, the text is not.";
  } catch (error) {
    told.className = "bad";
    told.textContent = error.message;
  }
});

document.addEventListener("keydown", (event) => {
  const inText = event.target === find("text") || event.target === find("second");
  if (inText && event.key === "Enter" && (event.ctrlKey || event.metaKey) && !find("send").disabled) {
    find("ask").requestSubmit();
  }
});

find("ask").addEventListener("input", () => {
  const number = Object.values(rowAsked()).reduce((sum, text) => sum + Array.from(text).length, 0);
  find("count").textContent = number ? `${number.toLocaleString("en")} characters` : "";
});

find("key").value = sessionStorage.getItem("bertline key") || "";
find("key").addEventListener("input", () => sessionStorage.setItem("bertline key", find("key").value.trim()));

look();
setInterval(() => document.hidden || look(), 5000);
