"use strict";
// Page to try the champion: calls /predict, shows the answer, and sends the right label as feedback.

const TOP = 10; // number of classes that are shown
const find = (id) => document.getElementById(id);
let pairs = false;
let last = null; // last row and its answer

function create(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function percent(share) {
  return (share * 100).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1) + " %";
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const key = find("key").value.trim();
  if (key) headers["X-API-Key"] = key;
  let response;
  try {
    response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(value.error || `The server answered ${response.status}.`);
  return value;
}

async function refresh() {
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

function currentRow() {
  const row = { text: find("text").value };
  if (pairs) row.second = find("second").value;
  return row;
}

// spans of the text, or of the second text of a pair, that the details of an answer name
function spansOf(details) {
  const lists = Object.values(details).filter(Array.isArray).flat();
  const spans = lists.filter((item) => item && Number.isInteger(item.start) && Number.isInteger(item.end));
  if (!spans.length && Number.isInteger(details.start) && details.end > details.start) {
    return [{ start: details.start, end: details.end, label: "" }];
  }
  return spans.sort((one, other) => one.start - other.start);
}

function mark(element, text, spans) {
  const characters = Array.from(text); // spans count code points, strings UTF-16 units
  let done = 0;
  element.replaceChildren();
  for (const span of spans) {
    if (span.start < done || span.end > characters.length) continue;
    element.append(characters.slice(done, span.start).join(""));
    const marked = create("mark", "", characters.slice(span.start, span.end).join(""));
    if (span.label) marked.append(create("small", "", span.label));
    element.append(marked);
    done = span.end;
  }
  element.append(characters.slice(done).join(""));
}

// the label of an answer in readable form
function readable(answer) {
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
  const label = readable(answer);
  find("label").textContent = label;
  find("label").hidden = !label;
  find("label").classList.toggle("long", label.length > 60);

  const classes = Object.entries(answer.scores).sort((one, other) => other[1] - one[1]);
  const isNumber = !classes.length && !Object.keys(answer.details).length;
  find("sure").hidden = isNumber;
  find("sure").querySelector("i").style.width = `${answer.score * 100}%`;
  find("sure").querySelector("b").textContent = percent(answer.score);

  const spans = spansOf(answer.details);
  find("marked").hidden = !spans.length;
  mark(find("marked"), pairs ? row.second : row.text, spans);

  const chosen = new Set(answer.details.labels || [answer.label]);
  find("scores-part").hidden = !classes.length;
  find("scores").replaceChildren(
    ...classes.slice(0, TOP).map(([name, score]) => {
      const line = create("li", chosen.has(name) ? "chosen" : "");
      const bar = create("span", "bar");
      bar.setAttribute("aria-hidden", "true");
      bar.append(create("i"));
      bar.firstChild.style.width = `${score * 100}%`;
      line.append(create("span", "name", name), bar, create("span", "value", percent(score)));
      return line;
    }),
  );
  const left = classes.length - TOP;
  find("more").textContent = left > 0 ? `and ${left} more` : "";
  find("by").textContent = `${answer.version} · ${milliseconds} ms · request ${answer.id}`;
  addFeedbackField(classes, label);
}

// a list to choose the right label from, or a field to write it
function addFeedbackField(classes, label) {
  const several = Array.isArray(last.answer.details.labels);
  const title = create("label", "", several ? "Right labels, with commas between them" : "Right label");
  title.htmlFor = "right";
  let field;
  if (classes.length && !several) {
    field = create("select");
    const names = classes.map(([name]) => name).sort();
    field.append(...names.map((name) => new Option(name, name, false, name === last.answer.label)));
  } else {
    field = create("input");
    field.required = true;
    const listed = Array.isArray(last.answer.details.entities) || label === "no answer" || !label;
    field.value = several ? last.answer.details.labels.join(", ") : listed ? last.answer.label : label;
  }
  field.id = "right";
  find("right-field").replaceChildren(title, field);
  find("consent").checked = false;
  find("feedback-status").textContent = "";
}

find("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const row = currentRow();
  find("problem").hidden = true;
  find("send").disabled = true;
  const started = performance.now();
  try {
    const answer = await post("/predict", row);
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
  const status = find("feedback-status");
  const { row, answer } = last;
  const right = find("right").value;
  const label = Array.isArray(answer.details.labels) && !right.trim() ? "[]" : right;
  const consent = find("consent").checked;
  try {
    await post("/feedback", { ...row, label, consent, id: answer.id, version: answer.version });
    status.className = "good";
    status.textContent = consent ? "Thank you: text and label are stored." : "Thank you: the label is stored, the text is not.";
  } catch (error) {
    status.className = "bad";
    status.textContent = error.message;
  }
});

document.addEventListener("keydown", (event) => {
  const inText = event.target === find("text") || event.target === find("second");
  if (inText && event.key === "Enter" && (event.ctrlKey || event.metaKey) && !find("send").disabled) {
    find("ask").requestSubmit();
  }
});

find("ask").addEventListener("input", () => {
  const number = Object.values(currentRow()).reduce((sum, text) => sum + Array.from(text).length, 0);
  find("count").textContent = number ? `${number.toLocaleString("en")} characters` : "";
});

find("key").value = sessionStorage.getItem("bertline key") || "";
find("key").addEventListener("input", () => sessionStorage.setItem("bertline key", find("key").value.trim()));

refresh();
setInterval(() => document.hidden || refresh(), 5000);
